"""The async face of the SDK, and the source from which `agentkeeper.client.sync` is made.

What a face does is to hand calls to the core on the I/O thread and to wait for them without
blocking anybody. `concurrency` is what differs between the two faces, written once for each.
"""
