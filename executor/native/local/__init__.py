"""The embedded cluster and the long-running process."""
