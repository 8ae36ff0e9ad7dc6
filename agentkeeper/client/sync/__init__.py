"""The sync face of the SDK: made from `agentkeeper.client.aio` by tools/make_sync.py.

Only `concurrency` is written by hand.
"""
