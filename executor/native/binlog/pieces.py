"""What a stream of transactions consists of."""

from __future__ import annotations

from dataclasses import dataclass

from executor.native.binlog.events import Rows, RowsKind
from executor.native.binlog.positions import AnyGtid, Position, advanced, held_back
from executor.native.binlog.rows import TableVersion
from executor.native.binlog.statements import StatementKind


@dataclass(frozen=True, slots=True)
class Begin:
    """A transaction, or a statement that stands alone, begins. `timestamp` in Unix seconds, of the source's clock."""

    gtid: AnyGtid
    timestamp: int
    server_id: int

    @property
    def gtid_text(self) -> str:
        """As the server writes it."""
        return self.gtid.text


@dataclass(frozen=True, slots=True)
class RowsChange:
    """Rows of a wanted table, not decoded: ``change.table.decoder(columns, key)(change.rows)`` decodes them."""

    table: TableVersion
    rows: Rows

    @property
    def kind(self) -> RowsKind:
        """INSERT, UPDATE or DELETE."""
        return self.rows.kind


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement in the log. `database` is the session's default database ('' for none).

    `raw` is the text in the client's character set `charset` (a collation number, None when the log does not say);
    `sql_mode` is the session's, as a number.
    """

    database: str
    sql: str
    kind: StatementKind
    raw: bytes
    sql_mode: int | None
    charset: int | None


@dataclass(frozen=True, slots=True)
class Commit:
    """The transaction is complete and counts. `timestamp` as in Begin.

    `held` tells that it is the first part of an XA transaction whose rows are kept back until they are decided upon:
    a stream that starts anew must read it again. `settles` is the GTID of that first part when this is the second.
    """

    gtid: AnyGtid
    timestamp: int
    held: bool = False
    settles: AnyGtid | None = None

    @property
    def gtid_text(self) -> str:
        """As the server writes it."""
        return self.gtid.text

    def after(self, position: Position) -> Position:
        """`position` after this transaction."""
        if self.held:
            return held_back(position, self.gtid)
        if self.settles is not None:
            position = advanced(position, self.settles)
        return advanced(position, self.gtid)


@dataclass(frozen=True, slots=True)
class Rollback:
    """What came since Begin does not count.

    `complete` is True when the log says ROLLBACK: the position moves past it. False when the transaction just stops,
    because the source crashed while it wrote it: the position stays.
    """

    gtid: AnyGtid
    timestamp: int
    complete: bool

    @property
    def gtid_text(self) -> str:
        """As the server writes it."""
        return self.gtid.text

    def after(self, position: Position) -> Position:
        """`position` after this transaction."""
        return advanced(position, self.gtid) if self.complete else position


@dataclass(frozen=True, slots=True)
class Idle:
    """The source's heartbeat: everything that it had written has been delivered.

    `timestamp` in Unix seconds of this machine's clock, because heartbeats carry none.
    """

    timestamp: int


Piece = Begin | RowsChange | Statement | Commit | Rollback | Idle
