"""The binlog as a stream of transactions, in pieces: a transaction may be larger than memory."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from executor.native.binlog.events import Rows, RowsKind
from executor.native.binlog.positions import GtidId
from executor.native.binlog.rows import TableVersion
from executor.native.binlog.wire import BinlogClient


class StatementKind(enum.Enum):
    """What a logged statement does."""

    DDL = "ddl"
    """CREATE, ALTER, DROP, RENAME, TRUNCATE."""
    DML = "dml"
    """A change of rows logged as a statement, or any statement within a transaction that is not known to be harmless."""
    OTHER = "other"
    """Changes neither rows nor tables of users: GRANT, FLUSH, ANALYZE and the like."""


@dataclass(frozen=True, slots=True)
class Begin:
    """A transaction, or a statement that stands alone, begins. `timestamp` in Unix seconds, of the source's clock."""

    gtid: GtidId
    timestamp: int
    server_id: int

    @property
    def gtid_text(self) -> str:
        """``domain-server-sequence``."""
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
    """The transaction is complete and counts. `timestamp` as in Begin."""

    gtid: GtidId
    timestamp: int

    @property
    def gtid_text(self) -> str:
        """``domain-server-sequence``."""
        return self.gtid.text


@dataclass(frozen=True, slots=True)
class Rollback:
    """What came since Begin does not count.

    `complete` is True when the log says ROLLBACK: the position moves past it. False when the transaction just stops, because
    the source crashed while it wrote it: the position stays.
    """

    gtid: GtidId
    timestamp: int
    complete: bool

    @property
    def gtid_text(self) -> str:
        """``domain-server-sequence``."""
        return self.gtid.text


@dataclass(frozen=True, slots=True)
class Idle:
    """The source's heartbeat: everything that it has written so far has been delivered. `timestamp` in Unix seconds."""

    timestamp: int


Piece = Begin | RowsChange | Statement | Commit | Rollback | Idle


class TransactionReader:
    """Turns raw events into pieces of transactions. `wanted(database, table)` is asked once per statement and table."""

    def __init__(self, client: BinlogClient, wanted: Callable[[str, str], bool]) -> None:
        self.client = client
        self.wanted = wanted

    def next(self) -> Piece:
        """The next piece; blocks. Raises what `BinlogClient.read` raises, UnknownEvent and Unsupported."""
        raise NotImplementedError
