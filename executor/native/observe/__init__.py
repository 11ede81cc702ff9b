"""Live servers -> planner.cluster.Cluster. Read-only."""
