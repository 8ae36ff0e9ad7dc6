"""The daemon: services over gRPC and HTTP around the state machine and its engine.

What it is for: validating requests, turning them into commands, getting those into the log, and
answering from the applied state. What it is not: no rule of the product is decided here; those
live in `agentkeeper.core`, and consensus behind `agentkeeper.consensus`.
"""
