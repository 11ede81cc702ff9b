"""The binlog as a stream of transactions, in pieces: a transaction may be larger than memory.

Rows of tables that nobody wants are not decoded, not even parsed. Rows that may yet be undone are put aside, in memory
or on disk, until that is known: those of a prepared XA transaction until it is committed, those behind a SAVEPOINT
until the transaction ends.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from executor.native.binlog import events as e
from executor.native.binlog.events import Event, EventType, Malformed, Unsupported
from executor.native.binlog.gtid_events import Gtid, parse_gtid_event
from executor.native.binlog.held import HeldEvents
from executor.native.binlog.partial import made_whole
from executor.native.binlog.payload import inner_events
from executor.native.binlog.pieces import Begin as Begin
from executor.native.binlog.pieces import Commit as Commit
from executor.native.binlog.pieces import Idle as Idle
from executor.native.binlog.pieces import Piece as Piece
from executor.native.binlog.pieces import Rollback as Rollback
from executor.native.binlog.pieces import RowsChange as RowsChange
from executor.native.binlog.pieces import Statement as Statement
from executor.native.binlog.positions import AnyGtid, GtidId, GtidList, advanced
from executor.native.binlog.rows import TableVersion
from executor.native.binlog.statements import StatementKind as StatementKind
from executor.native.binlog.statements import first_words, kind_of
from executor.native.binlog.table_map import parse_name, parse_table_map
from executor.native.binlog.wire import BinlogClient

_DUMMY_TABLE = 0xFFFFFF
_VERSIONS_KEPT = 4096
_GTIDS = frozenset({EventType.GTID, EventType.GTID_LOG, EventType.GTID_TAGGED})
_QUERIES = frozenset({EventType.QUERY, EventType.QUERY_COMPRESSED, EventType.EXECUTE_LOAD_QUERY})
_HARMLESS = frozenset(
    {
        EventType.STOP,
        EventType.ROTATE,
        EventType.ANNOTATE_ROWS,
        EventType.BINLOG_CHECKPOINT,
        EventType.GTID_LIST,
        EventType.IGNORABLE,
        EventType.ROWS_QUERY,
        EventType.PREVIOUS_GTIDS,
        EventType.TRANSACTION_CONTEXT,
        EventType.VIEW_CHANGE,
        # These come before the statement that uses them, which is reported itself.
        EventType.INTVAR,
        EventType.RAND,
        EventType.USER_VAR,
        EventType.BEGIN_LOAD_QUERY,
        EventType.APPEND_BLOCK,
        EventType.DELETE_FILE,
    }
)


@dataclass
class _Open:
    """The transaction that is being read. `started` once its first statement or row was seen.

    `skipped` is True for one that was taken before and comes again, see `GtidList`.
    """

    gtid: Gtid
    skipped: bool
    started: bool = False


@dataclass(frozen=True)
class _Prepared:
    """An XA transaction that was prepared and not yet decided."""

    gtid: AnyGtid
    events: HeldEvents


class TransactionReader:
    """Turns raw events into pieces of transactions. `wanted(database, table)` is asked once per statement and table.

    An XA transaction that was prepared before the stream's first position, and committed behind it, leaves no rows in
    the stream: whoever starts a stream must see that ``XA RECOVER`` is empty after the position was read.
    """

    def __init__(self, client: BinlogClient, wanted: Callable[[str, str], bool]) -> None:
        self._client = client
        self._wanted = wanted
        self._ready: deque[Piece] = deque()
        self._within: list[tuple[Iterator[Event], Callable[[], None] | None]] = []  # events inside of events
        self._open: _Open | None = None
        self._aside: HeldEvents | None = None  # the open transaction's events that may yet be undone
        self._changed: list[str] = []  # wanted tables whose rows of the open transaction were handed out
        self._savepoints: dict[str, int] = {}  # sizes of `_aside`
        self._prepared: dict[str, _Prepared] = {}
        self._tables: dict[int, TableVersion | None] = {}
        self._versions: dict[bytes, TableVersion] = {}
        start = client.position
        self._again = start if isinstance(start, GtidList) and start.held else None
        self._behind = client.written  # until everything of it was read; None then
        self._read = start
        self.format: e.Format | None = None
        """The last format event."""

    def pending(self) -> bool:
        """True when `next` will not wait for long."""
        return bool(self._ready or self._within) or self._client.pending()

    def next(self) -> Piece:
        """The next piece; blocks.

        Raises what `BinlogClient.read` raises; UnknownEvent; Unsupported for what cannot be carried over: rows of a
        wanted table that are not complete or have no column names.
        """
        while not self._ready:
            if not self._within:
                self._take(self._client.read())
                continue
            events, at_end = self._within[-1]
            event = next(events, None)
            if event is not None:
                self._take(event)
                continue
            self._within.pop()
            if at_end is not None:
                at_end()
        return self._ready.popleft()

    def _take(self, event: Event) -> None:
        kind = event.type
        if kind in e.ROWS:
            self._rows(event)
        elif kind == EventType.TABLE_MAP:
            self._table_map(event)
        elif kind in _GTIDS:
            self._gtid(event)
        elif kind == EventType.XID:
            self._finish(event)
        elif kind in _QUERIES:
            self._query(event)
        elif kind in (EventType.HEARTBEAT, EventType.HEARTBEAT_V2):
            self._heartbeat()
        elif kind == EventType.TRANSACTION_PAYLOAD:
            self._within.append((inner_events(event), None))
        elif kind == EventType.FORMAT:
            self._format(event)
        elif kind == EventType.XA_PREPARE:
            self._xa_prepare(event)
        elif kind == EventType.INCIDENT:
            raise Unsupported(
                f"the source reports an incident in {e.where(event)}: changes are missing in its binlog",
                "the tables must be copied again from the present state of the source",
            )
        elif kind == EventType.ANONYMOUS_GTID:
            raise Unsupported(
                f"the source wrote a transaction without a GTID ({e.where(event)})",
                "on the source: SET GLOBAL gtid_mode=ON and enforce_gtid_consistency=ON; then the tables must be "
                "copied again",
            )
        elif kind not in _HARMLESS and not event.flags & e.IGNORABLE:
            raise e.unknown(event)

    def _heartbeat(self) -> None:
        if self._behind is not None and self._read.contains(self._behind):
            self._behind = None
        if self._behind is None:
            self._ready.append(Idle(int(time.time())))

    def _format(self, event: Event) -> None:
        if self._open is not None and not event.flags & e.ARTIFICIAL:
            if not self._open.skipped:
                self._ready.append(Rollback(self._open.gtid.id, event.timestamp, complete=False))
            self._close()
        if event.body:
            self.format = e.parse_format(event.body)

    def _gtid(self, event: Event) -> None:
        if self._open is not None:
            raise Malformed(f"{e.where(event)} begins a transaction before {self._open.gtid.id.text} has ended")
        gtid = parse_gtid_event(event)
        self._tables.clear()
        skipped = isinstance(gtid.id, GtidId) and self._again is not None and self._again.has(gtid.id)
        self._open = _Open(gtid, skipped)
        if self._behind is not None:
            self._read = advanced(self._read, gtid.id)
        if gtid.xa_prepared and not skipped:
            self._put_aside()
        if not skipped:
            self._ready.append(Begin(gtid.id, event.timestamp, event.server_id))

    def _close(self) -> None:
        self._open = None
        self._changed.clear()
        self._savepoints.clear()
        if self._aside is not None:
            self._aside.close()
            self._aside = None

    def _transaction(self, event: Event) -> _Open:
        if self._open is None:
            raise Malformed(f"{e.where(event)} is not part of any transaction; was it written without GTIDs?")
        return self._open

    def _put_aside(self) -> HeldEvents:
        if self._aside is None:
            self._aside = HeldEvents()
        return self._aside

    def _finish(self, event: Event, settles: AnyGtid | None = None) -> None:
        """The transaction counts: hands out what was put aside, then its end."""
        transaction = self._transaction(event)
        aside, self._aside = self._aside, None

        def commit() -> None:
            if not transaction.skipped:
                self._ready.append(Commit(transaction.gtid.id, event.timestamp, settles=settles))
            self._close()

        if aside is None:
            commit()
        else:
            self._within.append((aside.replay(), commit))

    def _xa_prepare(self, event: Event) -> None:
        transaction = self._transaction(event)
        prepare = e.parse_xa_prepare(event)
        if prepare.one_phase or self._aside is None or self._aside.size == 0:
            self._finish(event)
            return
        aside, self._aside = self._aside, None
        self._prepared[prepare.name] = _Prepared(transaction.gtid.id, aside)
        self._ready.append(Commit(transaction.gtid.id, event.timestamp, held=True))
        self._close()

    def _xa_decided(self, event: Event, name: str, *, commits: bool) -> None:
        """The second part of an XA transaction: its rows count now, or not at all."""
        prepared = self._prepared.pop(name, None)
        if prepared is None:
            self._finish(event)
            return
        if commits:
            self._aside = prepared.events
        else:
            prepared.events.close()
        self._finish(event, prepared.gtid)

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
            if self.format is None:
                raise Malformed(f"{e.where(event)} comes before any format event")
            version = self._versions[shape] = TableVersion.of(parse_table_map(event, self.format.mariadb))
        self._tables[table_id] = version
        if self._aside is not None:
            self._aside.append(event)

    def _rows(self, event: Event) -> None:
        transaction = self._transaction(event)
        table_id = int.from_bytes(event.body[:6], "little")
        if table_id == _DUMMY_TABLE:
            return
        try:
            table = self._tables[table_id]
        except KeyError as error:
            raise Malformed(f"{e.where(event)} has rows of a table that the transaction did not describe") from error
        transaction.started = True
        if table is None or transaction.skipped:
            return
        name = f"{table.database}.{table.table}"
        rows = e.parse_rows(event)
        if rows.width != len(table.columns):
            raise Malformed(f"{e.where(event)} has {rows.width} columns of {name}, which has {len(table.columns)}")
        if not rows.full:
            raise Unsupported(
                f"{name} was changed without logging complete rows (GTID {transaction.gtid.id.text}, "
                f"server id {event.server_id})",
                "on the source: SET GLOBAL binlog_row_image=FULL (sessions can set it too: let none do so); then the "
                "table must be copied again",
            )
        if self._aside is not None:
            self._aside.append(event)
            return
        self._changed.append(name)
        if event.type == EventType.PARTIAL_UPDATE_ROWS:
            rows = made_whole(table, rows)
        self._ready.append(RowsChange(table, rows))

    def _query(self, event: Event) -> None:
        transaction = self._transaction(event)
        first, transaction.started = not transaction.started, True
        query = e.parse_query(event)
        sql = query.text
        words = first_words(sql)
        # Only MariaDB's GTID event says which statements have no end of their own; elsewhere the first one tells.
        alone = transaction.gtid.standalone if transaction.gtid.standalone is not None else first
        match words[:2]:
            case ["BEGIN"] | ["START", "TRANSACTION"]:
                return
            case ["XA", "START" | "BEGIN"]:
                self._put_aside()
                return
            case ["XA", "COMMIT" | "ROLLBACK" as decision]:
                self._xa_decided(event, sql.split(None, 2)[2], commits=decision == "COMMIT")
                return
            case ["COMMIT"]:
                self._finish(event)
                return
            case ["ROLLBACK"]:
                if not transaction.skipped:
                    self._ready.append(Rollback(transaction.gtid.id, event.timestamp, complete=True))
                self._close()
                return
            case ["ROLLBACK", _]:
                self._rollback_to(transaction, sql)
            case ["SAVEPOINT", *_]:
                self._savepoints[_savepoint(sql.split(None, 1)[1])] = self._put_aside().size
            case ["RELEASE", _] | ["XA", _]:
                pass
            case _ if not transaction.skipped and transaction.gtid.alter not in ("start", "rollback"):
                # A two-phase ALTER counts once its second half says so.
                kind = StatementKind.DML if event.type == EventType.EXECUTE_LOAD_QUERY else kind_of(sql)
                self._ready.append(Statement(query.database, sql, kind, query.sql, query.sql_mode, query.charset))
        if alone:
            self._finish(event)

    def _rollback_to(self, transaction: _Open, sql: str) -> None:
        size = self._savepoints.get(_savepoint(sql.split(None, 2)[-1]))
        if size is None and self._changed:
            raise Malformed(
                f"transaction {transaction.gtid.id.text} changes {self._changed[0]} and then says {sql}, a savepoint "
                "that is not in the binlog"
            )
        if self._aside is not None:
            self._aside.truncate(size or 0)


def _savepoint(name: str) -> str:
    """A savepoint's name for comparison: without its quotes, capitals do not matter."""
    return name.strip().removeprefix("SAVEPOINT ").strip("`").casefold()
