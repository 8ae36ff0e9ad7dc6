"""HTTP beside gRPC: is this replica alive, is it ready, its metrics."""
