"""The binlog as a stream of transactions, in pieces: a transaction may be larger than memory.

Rows of tables that nobody wants are not decoded, not even parsed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from executor.native.binlog import events as e
from executor.native.binlog.events import Event, EventType, Gtid, Malformed, Rows, RowsKind, Unsupported
from executor.native.binlog.positions import GtidId
from executor.native.binlog.rows import TableVersion
from executor.native.binlog.statements import StatementKind as StatementKind
from executor.native.binlog.statements import first_words, kind_of
from executor.native.binlog.table_map import parse_name, parse_table_map
from executor.native.binlog.wire import BinlogClient

_DUMMY_TABLE = 0xFFFFFF
_VERSIONS_KEPT = 4096
_HARMLESS = frozenset(
    {
        EventType.STOP,
        EventType.ROTATE,
        EventType.ANNOTATE_ROWS,
        EventType.BINLOG_CHECKPOINT,
        EventType.GTID_LIST,
        # These come before the statement that uses them, which is reported itself.
        EventType.INTVAR,
        EventType.RAND,
        EventType.USER_VAR,
        EventType.BEGIN_LOAD_QUERY,
        EventType.APPEND_BLOCK,
        EventType.DELETE_FILE,
    }
)


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

    `complete` is True when the log says ROLLBACK: the position moves past it. False when the transaction just stops,
    because the source crashed while it wrote it: the position stays.
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
    """The source's heartbeat: everything that it had written has been delivered.

    `timestamp` in Unix seconds of this machine's clock, because MariaDB's heartbeats carry none.
    """

    timestamp: int


Piece = Begin | RowsChange | Statement | Commit | Rollback | Idle


class TransactionReader:
    """Turns raw events into pieces of transactions. `wanted(database, table)` is asked once per statement and table.

    An XA transaction that was prepared before the stream's first position, and committed behind it, leaves no rows in
    the stream: whoever starts a stream must see that ``XA RECOVER`` is empty after the position was read.
    """

    def __init__(self, client: BinlogClient, wanted: Callable[[str, str], bool]) -> None:
        self._client = client
        self._wanted = wanted
        self._ready: deque[Piece] = deque()
        self._open: Gtid | None = None
        self._changed: list[str] = []  # wanted tables, once for each change of the open transaction
        self._savepoints: dict[str, int] = {}  # how many of those changes came before
        self._tables: dict[int, TableVersion | None] = {}
        self._versions: dict[bytes, TableVersion] = {}

    def pending(self) -> bool:
        """True when `next` will not wait for long."""
        return bool(self._ready) or self._client.pending()

    def next(self) -> Piece:
        """The next piece; blocks.

        Raises what `BinlogClient.read` raises; UnknownEvent; Unsupported for what cannot be carried over: rows of a
        wanted table that are not complete or have no column names, in an XA transaction, or undone by ROLLBACK TO
        SAVEPOINT.
        """
        while not self._ready:
            self._take(self._client.read())
        return self._ready.popleft()

    def _take(self, event: Event) -> None:
        kind = event.type
        if kind in e.ROWS:
            self._rows(event)
        elif kind == EventType.TABLE_MAP:
            self._table_map(event)
        elif kind == EventType.GTID:
            self._gtid(event)
        elif kind == EventType.XID:
            self._commit(event)
        elif kind in (EventType.QUERY, EventType.QUERY_COMPRESSED, EventType.EXECUTE_LOAD_QUERY):
            self._query(event)
        elif kind == EventType.HEARTBEAT:
            self._ready.append(Idle(int(time.time())))
        elif kind == EventType.FORMAT:
            self._format(event)
        elif kind == EventType.XA_PREPARE:
            self._commit(event)
        elif kind == EventType.INCIDENT:
            raise Unsupported(
                f"the source reports an incident in {e.where(event)}: changes are missing in its binlog",
                "the tables must be copied again from the present state of the source",
            )
        elif kind not in _HARMLESS:
            raise e.unknown(event)

    def _format(self, event: Event) -> None:
        if self._open is not None and not event.flags & e.ARTIFICIAL:
            self._ready.append(Rollback(self._open.id, event.timestamp, complete=False))
            self._close()

    def _gtid(self, event: Event) -> None:
        if self._open is not None:
            raise Malformed(f"{e.where(event)} begins a transaction before {self._open.id.text} has ended")
        self._open = e.parse_gtid(event)
        self._tables.clear()
        self._ready.append(Begin(self._open.id, event.timestamp, event.server_id))

    def _close(self) -> None:
        self._open = None
        self._changed.clear()
        self._savepoints.clear()

    def _gtid_of(self, event: Event) -> Gtid:
        if self._open is None:
            raise Malformed(f"{e.where(event)} is not part of any transaction; was it written without GTIDs?")
        return self._open

    def _commit(self, event: Event) -> None:
        self._ready.append(Commit(self._gtid_of(event).id, event.timestamp))
        self._close()

    def _table_map(self, event: Event) -> None:
        table_id, database, table = parse_name(event)
        if not self._wanted(database, table):
            self._tables[table_id] = None
            return
        shape = event.body[6:]
        version = self._versions.get(shape)
        if version is None:
            if len(self._versions) >= _VERSIONS_KEPT:
                self._versions.clear()
            version = self._versions[shape] = TableVersion.of(parse_table_map(event))
        self._tables[table_id] = version

    def _rows(self, event: Event) -> None:
        gtid = self._gtid_of(event)
        table_id = int.from_bytes(event.body[:6], "little")
        if table_id == _DUMMY_TABLE:
            return
        try:
            table = self._tables[table_id]
        except KeyError as error:
            raise Malformed(f"{e.where(event)} has rows of a table that the transaction did not describe") from error
        if table is None:
            return
        name = f"{table.database}.{table.table}"
        if gtid.xa_prepared:
            raise Unsupported(
                f"XA transaction {gtid.xa_prepared} (GTID {gtid.id.text}) changes {name}; XA transactions are not "
                "supported on tables that are being moved",
                "finish it with XA COMMIT or XA ROLLBACK, keep XA transactions off the table, and copy the table again",
            )
        rows = e.parse_rows(event)
        if rows.width != len(table.columns):
            raise Malformed(f"{e.where(event)} has {rows.width} columns of {name}, which has {len(table.columns)}")
        if not rows.full:
            raise Unsupported(
                f"{name} was changed without logging complete rows (GTID {gtid.id.text}, server id {event.server_id})",
                "on the source: SET GLOBAL binlog_row_image=FULL (sessions can set it too: let none do so); then the "
                "table must be copied again",
            )
        self._changed.append(name)
        self._ready.append(RowsChange(table, rows))

    def _query(self, event: Event) -> None:
        gtid = self._gtid_of(event)
        query = e.parse_query(event)
        sql = query.text
        words = first_words(sql)
        match words[:2]:
            case ["COMMIT"]:
                self._commit(event)
                return
            case ["ROLLBACK"]:
                self._ready.append(Rollback(gtid.id, event.timestamp, complete=True))
                self._close()
                return
            case ["ROLLBACK", _]:
                self._rollback_to(gtid, sql)
            case ["SAVEPOINT", *_]:
                self._savepoints[sql.split(None, 1)[1]] = len(self._changed)
            case ["BEGIN"] | ["START", "TRANSACTION"] | ["RELEASE", _] | ["XA", _]:
                pass
            case _ if gtid.alter not in ("start", "rollback"):  # the ALTER counts once its second half says so
                kind = StatementKind.DML if event.type == EventType.EXECUTE_LOAD_QUERY else kind_of(sql)
                self._ready.append(Statement(query.database, sql, kind, query.sql, query.sql_mode, query.charset))
        if gtid.standalone:
            self._commit(event)

    def _rollback_to(self, gtid: Gtid, sql: str) -> None:
        undone = self._changed[self._savepoints.get(sql.split(None, 2)[-1], 0) :]
        if undone:
            raise Unsupported(
                f"transaction {gtid.id.text} changes {undone[0]} and then says {sql}, which undoes a part; "
                "that is only logged when a table without transactions is changed too, and is not supported",
                "convert such tables to InnoDB, then copy the table again",
            )
