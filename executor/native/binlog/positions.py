"""Positions in a replication stream, of either flavour, behind one interface. Pure values.

MariaDB's is a list of GTIDs, one per domain (`gtid_list.py`), MySQL's a set of GTIDs (`gtid_set.py`). The text tells
which: only MySQL's has colons. The empty position is both, and lies in every other.
"""

from __future__ import annotations

from executor.native.binlog.gtid_list import BadPosition as BadPosition
from executor.native.binlog.gtid_list import GtidId as GtidId
from executor.native.binlog.gtid_list import GtidList as GtidList
from executor.native.binlog.gtid_list import parse_gtid_list
from executor.native.binlog.gtid_set import GtidSet as GtidSet
from executor.native.binlog.gtid_set import MysqlGtid as MysqlGtid
from executor.native.binlog.gtid_set import parse_gtid_set

AnyGtid = GtidId | MysqlGtid
"""The name of one transaction, of either flavour; `text` is how its server writes it."""

Position = GtidList | GtidSet
"""`text`, `contains(position)`, `merge(position)`, `has(gtid)`, `with_gtid(gtid)`, `resume`; false if empty."""


def parse(text: str) -> Position:
    """The position that `text` names; blanks and line breaks around commas are allowed, '' is the empty position.

    Raises BadPosition for any other form.
    """
    return parse_gtid_set(text) if ":" in text else parse_gtid_list(text)


def advanced(position: Position, gtid: AnyGtid) -> Position:
    """`position` after the transaction `gtid`. Raises BadPosition when they are of different flavours."""
    return _same(position, gtid).with_gtid(gtid)  # type: ignore[arg-type]


def held_back(position: Position, gtid: AnyGtid) -> Position:
    """`position` after everything up to `gtid`, which is read but not settled: its XA transaction is only prepared.

    A stream that starts there is sent `gtid` again, and no other transaction twice. Raises BadPosition as `advanced`.
    """
    position = _same(position, gtid)
    if isinstance(position, GtidList) and isinstance(gtid, GtidId):
        return position.holding(gtid)
    return position  # a set just leaves it out


def _same(position: Position, gtid: AnyGtid) -> Position:
    wanted = GtidList if isinstance(gtid, GtidId) else GtidSet
    if isinstance(position, wanted):
        return position
    if position:
        raise BadPosition(
            f"transaction {gtid.text} cannot follow position {position.text}: one is MariaDB's, the other MySQL's",
            "was the source replaced by a server of another kind? cancel the move and create it again",
        )
    return wanted()
