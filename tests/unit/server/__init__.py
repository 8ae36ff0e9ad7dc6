"""Parts of the daemon, one by one, without processes."""
