"""Keeps target tables equal to source tables: copy, then follow the binlog."""
