"""Draws a Plan. Each module is one format and computes nothing."""
