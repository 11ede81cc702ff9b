"""The open transaction of one session, which may span several tablets."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Transaction:
    """`begin` is the client's BEGIN, None outside an explicit transaction; it is sent to a tablet when first used.

    `touched` are the ``keyspace.table`` names that statements of the transaction used, `statements` how many succeeded.
    `savepoints` are replayed on tablets that join later. `isolation` is a SET TRANSACTION for the next transaction.
    """

    begin: bytes | None = None
    touched: set[str] = field(default_factory=set)
    statements: int = 0
    savepoints: list[bytes] = field(default_factory=list)
    isolation: bytes | None = None

    def end(self) -> None:
        """Forgets the transaction."""
        self.begin = None
        self.statements = 0
        self.isolation = None
        if self.touched:
            self.touched = set()
        if self.savepoints:
            self.savepoints = []

    def start(self, begin: bytes) -> None:
        """A new explicit transaction; an isolation set for it stays."""
        isolation = self.isolation
        self.end()
        self.begin, self.isolation = begin, isolation
