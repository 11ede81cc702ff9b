"""Compares the tables of both sides while they change."""
