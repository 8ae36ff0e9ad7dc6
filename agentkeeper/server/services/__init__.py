"""The services: one module per service of the public API, each method a plain coroutine.

`handle(request, caller) -> response`: no gRPC here, so unary calls, streams and tests all use the
same functions. A watch prepares, and returns the iterator of encoded events once it is live.
"""
