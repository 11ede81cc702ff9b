"""Positions in a MariaDB replication stream: one GTID per domain. Pure values.

A position such as ``0-1-100,1-2-5`` says: everything up to sequence 100 of domain 0 and 5 of domain 1. The server id
is the one that wrote that last transaction; within a domain the sequence alone orders the transactions
(``gtid_strict_mode``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from executor.errors import MovetablesError

_GTID = re.compile(r"([0-9]{1,10})-([0-9]{1,10})-([0-9]{1,20})", re.ASCII)


class BadPosition(MovetablesError):
    """A text that is no MariaDB GTID position."""


class GtidId(NamedTuple):
    """The name of one transaction: replication domain, the server that wrote it, its number within the domain."""

    domain: int
    server: int
    sequence: int

    @property
    def text(self) -> str:
        """As MariaDB writes it: ``domain-server-sequence``."""
        return f"{self.domain}-{self.server}-{self.sequence}"


@dataclass(frozen=True)
class Position:
    """How far a stream has come, per domain. `gtids` is sorted by domain and holds each domain once."""

    gtids: tuple[GtidId, ...] = ()

    @property
    def text(self) -> str:
        """As MariaDB writes it, sorted by domain: ``0-1-100,1-2-5``."""
        return ",".join(gtid.text for gtid in self.gtids)

    def __str__(self) -> str:
        return self.text

    def __bool__(self) -> bool:
        return bool(self.gtids)

    def sequence(self, domain: int) -> int | None:
        """The last sequence number of `domain`, or None when the position does not reach into that domain."""
        return next((gtid.sequence for gtid in self.gtids if gtid.domain == domain), None)

    def contains(self, other: Position) -> bool:
        """True when everything up to `other` is also covered by this position; the empty position is in every one."""
        mine = {gtid.domain: gtid.sequence for gtid in self.gtids}
        return all(gtid.sequence <= mine.get(gtid.domain, -1) for gtid in other.gtids)

    def with_gtid(self, domain: int, server: int, sequence: int) -> Position:
        """This position after the transaction `domain`-`server`-`sequence`: it replaces that domain's entry."""
        rest = [gtid for gtid in self.gtids if gtid.domain != domain]
        return _sorted([*rest, GtidId(domain, server, sequence)])

    def merge(self, other: Position) -> Position:
        """The smallest position that contains both."""
        merged = {gtid.domain: gtid for gtid in self.gtids}
        for gtid in other.gtids:
            if gtid.domain not in merged or merged[gtid.domain].sequence < gtid.sequence:
                merged[gtid.domain] = gtid
        return _sorted(merged.values())


def _sorted(gtids: Iterable[GtidId]) -> Position:
    return Position(tuple(sorted(gtids)))


def parse_gtid(text: str) -> GtidId:
    """One GTID such as ``0-1-100``. Raises BadPosition."""
    match = _GTID.fullmatch(text.strip())
    if match is None:
        raise BadPosition(
            f"{text!r} is no MariaDB GTID: expected domain-server-sequence, such as 0-1-100",
            "SELECT @@global.gtid_binlog_pos shows the server's position",
        )
    domain, server, sequence = (int(part) for part in match.groups())
    if domain >= 1 << 32 or server >= 1 << 32 or sequence >= 1 << 64:
        raise BadPosition(f"{text!r} is no MariaDB GTID: a number is too large")
    return GtidId(domain, server, sequence)


def parse(text: str) -> Position:
    """The position that `text` names; blanks and line breaks around commas are allowed, '' is the empty position.

    Raises BadPosition for any other form, and when a domain is named twice.
    """
    if not text.strip():
        return Position()
    gtids = [parse_gtid(part) for part in text.split(",")]
    domains = [gtid.domain for gtid in gtids]
    if len(set(domains)) != len(domains):
        raise BadPosition(f"{text!r} names a replication domain twice: a position has one GTID per domain")
    return _sorted(gtids)
