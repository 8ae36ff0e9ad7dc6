"""The processes that work through the SDK during a run, and those that only crowd the cluster."""
