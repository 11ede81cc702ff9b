"""Positions of MariaDB: one GTID per domain. Pure values.

A position such as ``0-1-100,1-2-5`` says: everything up to sequence 100 of domain 0 and 5 of domain 1. The server id
is the one that wrote that last transaction; within a domain the sequence alone orders the transactions
(``gtid_strict_mode``).

A list cannot leave a transaction out, as a prepared XA transaction must be until it is decided. So a position of ours
may go on with `` held 0-1-57 after 0-1-56``: everything up to the list but 0-1-57. A stream that starts there asks the
server for everything after 0-1-56, and drops what it had already.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from executor.errors import MovetablesError

_GTID = re.compile(r"([0-9]{1,10})-([0-9]{1,10})-([0-9]{1,20})", re.ASCII)
_HELD, _AFTER = " held ", " after "


class BadPosition(MovetablesError):
    """A text that is no GTID position."""


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
class GtidList:
    """How far a stream has come, per domain. `gtids` is sorted by domain and holds each domain once.

    `held` has the transactions that are left out, each with the one before it in its domain (None: it was the first),
    in order.
    """

    gtids: tuple[GtidId, ...] = ()
    held: tuple[tuple[GtidId, GtidId | None], ...] = ()

    @property
    def text(self) -> str:
        """As MariaDB writes it, sorted by domain, and what is held: ``0-1-100,1-2-5 held 0-1-57 after 0-1-56``."""
        text = ",".join(gtid.text for gtid in self.gtids)
        for gtid, before in self.held:
            text += f"{_HELD}{gtid.text}{_AFTER}{before.text if before else ''}"
        return text

    def __str__(self) -> str:
        return self.text

    def __bool__(self) -> bool:
        return bool(self.gtids)

    @property
    def resume(self) -> GtidList:
        """Where a server must start sending so that what is held comes again."""
        found: dict[int, GtidId | None] = dict(self._by_domain())
        for gtid, before in reversed(self.held):
            found[gtid.domain] = before
        return GtidList(tuple(sorted(gtid for gtid in found.values() if gtid is not None)))

    def sequence(self, domain: int) -> int | None:
        """The last sequence number of `domain`, or None when the position does not reach into that domain."""
        found = self._by_domain().get(domain)
        return found.sequence if found else None

    def has(self, gtid: GtidId) -> bool:
        """True when the transaction is covered by this position."""
        last = self.sequence(gtid.domain)
        return last is not None and gtid.sequence <= last and not self._holds(gtid)

    def contains(self, other: GtidList | object) -> bool:
        """True when everything up to `other` is also covered by this position; the empty position is in every one."""
        if not isinstance(other, GtidList):
            return not other
        mine, theirs = self._by_domain(), other._by_domain()
        if any(d not in mine or gtid.sequence > mine[d].sequence for d, gtid in theirs.items()):
            return False
        return not any(other.has(gtid) for gtid, _ in self.held)

    def with_gtid(self, gtid: GtidId) -> GtidList:
        """This position after the transaction `gtid`: it replaces that domain's entry, or is no longer held."""
        if self._holds(gtid):
            return GtidList(self.gtids, tuple(pair for pair in self.held if pair[0] != gtid))
        return GtidList(_sorted({**self._by_domain(), gtid.domain: gtid}), self.held)

    def holding(self, gtid: GtidId) -> GtidList:
        """This position after `gtid`, with `gtid` itself left out."""
        if self._holds(gtid):
            return self
        before = self._by_domain().get(gtid.domain)
        return GtidList(self.with_gtid(gtid).gtids, (*self.held, (gtid, before)))

    def merge(self, other: GtidList | object) -> GtidList:
        """The smallest position that contains both. `other` is MariaDB's too, or empty."""
        if not isinstance(other, GtidList):
            return self
        merged = self._by_domain()
        for domain, gtid in other._by_domain().items():
            if domain not in merged or merged[domain].sequence < gtid.sequence:
                merged[domain] = gtid
        held = {pair for pair in (*self.held, *other.held) if not self.has(pair[0]) and not other.has(pair[0])}
        return GtidList(_sorted(merged), tuple(sorted(held, key=lambda pair: pair[0].sequence)))

    def _by_domain(self) -> dict[int, GtidId]:
        return {gtid.domain: gtid for gtid in self.gtids}

    def _holds(self, gtid: GtidId) -> bool:
        return any(held == gtid for held, _ in self.held)


def _sorted(gtids: Mapping[int, GtidId]) -> tuple[GtidId, ...]:
    return tuple(sorted(gtids.values()))


def parse_gtid(text: str) -> GtidId:
    """One GTID such as ``0-1-100``. Raises BadPosition."""
    match = _GTID.fullmatch(text.strip())
    if match is None:
        raise BadPosition(
            f"{text!r} is no GTID of MariaDB (domain-server-sequence, such as 0-1-100) nor a GTID set of MySQL "
            "(uuid:1-100)",
            "SELECT @@global.gtid_binlog_pos is a MariaDB server's position, @@global.gtid_executed a MySQL server's",
        )
    domain, server, sequence = (int(part) for part in match.groups())
    if domain >= 1 << 32 or server >= 1 << 32 or sequence >= 1 << 64:
        raise BadPosition(f"{text!r} is no MariaDB GTID: a number is too large")
    return GtidId(domain, server, sequence)


def parse_gtid_list(text: str) -> GtidList:
    """The position that `text` names, see `GtidList.text`. Raises BadPosition, also for a domain that comes twice."""
    if not text.strip():
        return GtidList()
    listed, *held = text.split(_HELD)
    gtids = [parse_gtid(part) for part in listed.split(",")]
    domains = {gtid.domain: gtid for gtid in gtids}
    if len(domains) != len(gtids):
        raise BadPosition(f"{text!r} names a replication domain twice: a position has one GTID per domain")
    return GtidList(_sorted(domains), tuple(_pairs(held)))


def _pairs(held: Iterable[str]) -> Iterable[tuple[GtidId, GtidId | None]]:
    for part in held:
        gtid, _, before = part.partition(_AFTER)
        yield parse_gtid(gtid), parse_gtid(before) if before.strip() else None
