"""Settles cutovers that a killed apply left unfinished, without waiting for somebody to apply again."""

from __future__ import annotations

from executor.native.access import Access
from executor.native.cutover.switch import settle


def recover(access: Access, keyspace: str, workflow: str) -> None:
    """Finishes or undoes the unfinished cutover of that workflow. Only for a caller who holds the keyspaces' locks."""
    settle(access, keyspace, workflow)
