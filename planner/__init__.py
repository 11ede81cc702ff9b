"""Decides: values in, values out. No socket, no clock, no randomness, no driver."""
