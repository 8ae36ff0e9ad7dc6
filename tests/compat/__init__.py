"""What clients of 0.1.x rely on, shown with a client built from their wire contract alone."""
