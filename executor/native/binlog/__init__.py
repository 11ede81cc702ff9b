"""The replication stream of a server, decoded as raw bytes."""
