"""The MySQL-protocol door that applications connect to."""
