"""Positions of MySQL: a set of GTIDs, as intervals of numbers per source. Pure values.

``3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7:tagged:1-3`` says: transactions 1 to 5 and 7 of that server, and 1 to 3
of those that it wrote with the tag ``tagged`` (MySQL 8.3 and later). A set may have holes; what is not in it is sent
again.
"""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from executor.native.binlog.gtid_list import BadPosition

_TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}", re.ASCII)
_INTERVAL = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?", re.ASCII)
_LAST = (1 << 63) - 1
_TAGGED_FORMAT = 1

Intervals = tuple[tuple[int, int], ...]
"""First and last number of each, ascending, neither touching nor overlapping."""


class MysqlGtid(NamedTuple):
    """The name of one transaction: the server that wrote it (a UUID in small letters), a tag or '', its number."""

    source: str
    tag: str
    number: int

    @property
    def text(self) -> str:
        """As MySQL writes it: ``uuid:number`` or ``uuid:tag:number``."""
        return f"{self.source}:{self.tag}:{self.number}" if self.tag else f"{self.source}:{self.number}"


@dataclass(frozen=True)
class _Source:
    """The numbers of one server and tag. The text of all but one is kept as the set grows."""

    uuid: str
    tag: str
    intervals: Intervals

    @property
    def name(self) -> tuple[str, str]:
        return self.uuid, self.tag

    @cached_property
    def text(self) -> str:
        numbers = ":".join(str(a) if a == b else f"{a}-{b}" for a, b in self.intervals)
        return f"{self.tag}:{numbers}" if self.tag else numbers

    def with_number(self, number: int) -> _Source:
        first, last = self.intervals[-1]
        if number == last + 1:  # the usual case, at no cost however many holes lie before
            return _Source(self.uuid, self.tag, (*self.intervals[:-1], (first, number)))
        return _Source(self.uuid, self.tag, _joined((*self.intervals, (number, number))))


@dataclass(frozen=True)
class GtidSet:
    """Which transactions a stream has taken. `sources` is sorted by server and tag, none is empty."""

    sources: tuple[_Source, ...] = ()

    @property
    def text(self) -> str:
        """As MySQL writes it: ``uuid:1-5:7:tag:1-3,uuid:1``, sorted."""
        parts: list[str] = []
        last = ""
        for source in self.sources:
            parts.append(":" if source.uuid == last else f",{source.uuid}:" if last else f"{source.uuid}:")
            parts.append(source.text)
            last = source.uuid
        return "".join(parts)

    def __str__(self) -> str:
        return self.text

    def __bool__(self) -> bool:
        return bool(self.sources)

    def has(self, gtid: MysqlGtid) -> bool:
        """True when the transaction is in the set."""
        intervals = self._by_name().get((gtid.source, gtid.tag), ())
        return any(a <= gtid.number <= b for a, b in intervals)

    def contains(self, other: GtidSet | object) -> bool:
        """True when every transaction of `other` is in this set; the empty position is in every one."""
        if not isinstance(other, GtidSet):
            return not other
        mine = self._by_name()
        return all(
            any(a <= first and last <= b for a, b in mine.get(source.name, ()))
            for source in other.sources
            for first, last in source.intervals
        )

    def with_gtid(self, gtid: MysqlGtid) -> GtidSet:
        """This position after the transaction `gtid`."""
        name = (gtid.source, gtid.tag)
        for i, source in enumerate(self.sources):
            if source.name == name:
                return GtidSet((*self.sources[:i], source.with_number(gtid.number), *self.sources[i + 1 :]))
        return _set({**self._by_name(), name: ((gtid.number, gtid.number),)})

    @property
    def resume(self) -> GtidSet:
        """Where a server must start sending: it sends whatever is not in the set."""
        return self

    def merge(self, other: GtidSet | object) -> GtidSet:
        """The smallest position that contains both. `other` is MySQL's too, or empty."""
        if not isinstance(other, GtidSet):
            return self
        merged = self._by_name()
        for source in other.sources:
            merged[source.name] = _joined((*merged.get(source.name, ()), *source.intervals))
        return _set(merged)

    def _by_name(self) -> dict[tuple[str, str], Intervals]:
        return {source.name: source.intervals for source in self.sources}

    @property
    def encoded(self) -> bytes:
        """As COM_BINLOG_DUMP_GTID takes it; the form with tags (8.3 and later) only when there are any.

        Layout of ``Gtid_set::encode`` in ``sql/rpl_gtid_set.cc``; the ends of intervals are exclusive there.
        """
        tagged = any(source.tag for source in self.sources)
        count = len(self.sources)
        parts = [struct.pack("<Q", count)]
        if tagged:
            parts = [bytes([_TAGGED_FORMAT]), count.to_bytes(6, "little"), bytes([_TAGGED_FORMAT])]
        for source in self.sources:
            parts.append(uuid.UUID(source.uuid).bytes)
            if tagged:
                parts += [bytes([len(source.tag) << 1]), source.tag.encode()]
            parts.append(struct.pack("<Q", len(source.intervals)))
            parts += [struct.pack("<QQ", a, b + 1) for a, b in source.intervals]
        return b"".join(parts)


def _set(sources: dict[tuple[str, str], Intervals]) -> GtidSet:
    return GtidSet(tuple(_Source(*name, intervals) for name, intervals in sorted(sources.items())))


def _joined(intervals: Iterable[tuple[int, int]]) -> Intervals:
    """`intervals` in any order as ascending ones that do not touch."""
    result: list[tuple[int, int]] = []
    for first, last in sorted(intervals):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return tuple(result)


def parse_gtid_set(text: str) -> GtidSet:
    """The set that `text` names, in any order, with blanks and line breaks around its parts. Raises BadPosition."""
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        server, *rest = (piece.strip().lower() for piece in part.split(":"))
        try:
            server = str(uuid.UUID(server))
        except ValueError as error:
            raise _bad(text, f"{server!r} is no UUID") from error
        tag = ""
        for piece in rest:
            if _TAG.fullmatch(piece):
                tag = piece
                continue
            match = _INTERVAL.fullmatch(piece)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
            if not 1 <= first <= last <= _LAST:
                raise _bad(text, f"{piece!r} is neither a number, an interval nor a tag")
            found.setdefault((server, tag), []).append((first, last))
    return _set({name: _joined(intervals) for name, intervals in found.items()})


def _bad(text: str, why: str) -> BadPosition:
    return BadPosition(
        f"{text[:200]!r} is no GTID set of MySQL: {why}",
        "SELECT @@global.gtid_executed shows the server's position",
    )
