"""Moves writes from source to target, or changes nothing."""
