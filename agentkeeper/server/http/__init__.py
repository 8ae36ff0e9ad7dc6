"""HTTP beside gRPC: is this replica alive, is it ready, its metrics, and the dashboard.

What it is for: letting a person look. It reads this replica's own state, which may be a moment
behind, and changes nothing. What it is not: an API for agents, which is gRPC's part.
"""
