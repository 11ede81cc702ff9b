"""Applies the source's binlog to the target in order, until a marker or for as long as the stream runs.

The marker is a row that we committed on the source. When its COMMIT had returned, everything before it in the binlog
was visible to readers of the source, so a chunk that is read while the applier stands at the marker misses nothing
that the applier will not replay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from executor.errors import MovetablesError
from executor.native import sidecar
from executor.native.binlog import positions
from executor.native.binlog.events import RowsKind
from executor.native.binlog.transactions import (
    Begin,
    Commit,
    Idle,
    Rollback,
    RowsChange,
    Statement,
    StatementKind,
    TransactionReader,
)
from executor.native.binlog.wire import BinlogClient
from executor.native.stream.apply import Applier
from executor.native.stream.ddl import Effect, effect_of, without_database
from executor.native.stream.layout import TableLayout
from planner.document import OnDdl

BATCH_BYTES = 1_000_000
BATCH_SECONDS = 0.2
IDLE_WRITE_SECONDS = 0.5
MARKER = "marker"
_MARKER_KEY = ("keyspace", "workflow", "purpose")


class StopAtDdl(MovetablesError):
    """`on_ddl: STOP` met DDL on a moved table; the position is already past it."""


class Follower:
    """Reads transactions from `client` and hands their rows to `applier`.

    `record` names the workflow whose markers count. `run_ddl` runs a DDL statement's text on the target database and
    returns the new layouts (for EXEC and EXEC_IGNORE).
    """

    def __init__(
        self,
        client: BinlogClient,
        applier: Applier,
        record: sidecar.StreamRecord,
        layouts: Sequence[TableLayout],
        stopping: Callable[[], bool],
        run_ddl: Callable[[str], Sequence[TableLayout]],
    ) -> None:
        self._applier = applier
        self._record = record
        self._stopping = stopping
        self._run_ddl = run_ddl
        self._layouts: Mapping[str, TableLayout] = {layout.name: layout for layout in layouts}
        self._reader = TransactionReader(client, self._wanted)
        self._position = positions.parse(applier.position)
        self._last_commit = time.monotonic()
        self._awaited: str | None = None
        self._marked = False
        self._stop_after: StopAtDdl | None = None

    def follow(self, token: str | None = None) -> None:
        """Applies until the marker `token` is applied and committed; without a token until the stream is stopped.

        Raises StreamStopped when the stream's record was changed by somebody else, StopAtDdl, and MovetablesError for
        anything in the log that cannot be carried over faithfully. The committed position is always that of whole
        transactions.
        """
        self._awaited = token
        while not self._stopping():
            if token is not None and self._awaited is None and not self._marked:
                return
            piece = self._reader.next()
            if isinstance(piece, RowsChange):
                self._rows(piece)
            elif isinstance(piece, Statement):
                self._statement(piece)
            elif isinstance(piece, Commit):
                self._position = piece.after(self._position)
                self._applier.seal(self._position.text)
                self._commit_if_due(float(piece.timestamp))
                if self._stop_after is not None:
                    self._commit(float(piece.timestamp), caught_up=False)
                    raise self._stop_after
            elif isinstance(piece, Rollback):
                self._roll_back(piece)
            elif isinstance(piece, Idle):
                self._idle()
            elif not isinstance(piece, Begin):
                raise MovetablesError(f"the binlog reader gave a {type(piece).__name__}, which is unknown here")

    def _wanted(self, database: str, table: str) -> bool:
        if database == self._record.source_db_name:
            return table in self._layouts
        return database == sidecar.SCHEMA and table == MARKER

    def _rows(self, change: RowsChange) -> None:
        if change.table.database == sidecar.SCHEMA:
            self._marker(change)
            return
        layout = self._layouts[change.table.table]
        missing = {column.name for column in layout.columns} ^ self._copied_columns(change, layout)
        if missing:
            raise MovetablesError(
                f"the columns of {change.table.table} differ between source and target: {', '.join(sorted(missing))}",
                "make both definitions equal, then set the move's state to created and to running again",
            )
        decode = change.table.decoder([c.name for c in layout.columns], [c.name for c in layout.key], False)
        if change.kind is RowsKind.INSERT:
            for (after,) in decode(change.rows):
                self._applier.put(layout.name, *after)
        elif change.kind is RowsKind.DELETE:
            for (before,) in decode(change.rows):
                self._applier.delete(layout.name, before[0])
        elif change.kind is RowsKind.UPDATE:
            for before, after in decode(change.rows):
                if before[0] != after[0]:
                    self._applier.delete(layout.name, before[0])
                self._applier.put(layout.name, *after)
        self._applier.spill_if_large()

    def _copied_columns(self, change: RowsChange, layout: TableLayout) -> set[str]:
        return set(change.table.columns) - set(layout.generated)

    def _marker(self, change: RowsChange) -> None:
        if change.kind is RowsKind.DELETE:
            return
        decode = change.table.decoder(["token"], _MARKER_KEY)
        mine = tuple(name.encode() for name in (self._record.keyspace, self._record.workflow))
        for images in decode(change.rows):
            key, row = images[-1]
            if tuple(_text(literal) for literal in key[:2]) == mine:
                self._marked = True
                if _text(row[1:-1]).decode() == self._awaited:
                    self._awaited = None

    def _statement(self, statement: Statement) -> None:
        if statement.kind is StatementKind.OTHER:
            return
        tables = self._layouts.keys()
        if statement.kind is StatementKind.DML:
            if effect_of(statement.sql, statement.database, self._record.source_db_name, tables) is not Effect.NONE:
                raise MovetablesError(
                    f"a change of a moved table was logged as a statement, not as rows: {statement.sql[:200]}",
                    "set binlog_format=ROW for every client, cancel the move and create it again",
                )
            return
        effect = effect_of(statement.sql, statement.database, self._record.source_db_name, tables)
        if effect is Effect.NONE:
            return
        mode = self._record.on_ddl
        if mode is OnDdl.IGNORE and effect is Effect.DEFINITION:
            return
        if mode is OnDdl.IGNORE:
            raise MovetablesError(
                f"rows of a moved table went without row events: {statement.sql[:200]}",
                "cancel the move and create it again, or use on_ddl: EXEC",
            )
        if mode is OnDdl.STOP:
            self._stop_after = StopAtDdl(f"stopped at DDL: {statement.sql[:200]}")
            return
        self._run(statement, mode)

    def _run(self, statement: Statement, mode: OnDdl) -> None:
        self._commit(0.0, caught_up=False)
        try:
            # Left qualified, it would be done to the source once more on a server that holds both databases.
            layouts = self._run_ddl(without_database(statement.sql, self._record.source_db_name))
        except MovetablesError as error:
            if mode is OnDdl.EXEC:
                raise MovetablesError(
                    f"DDL could not be repeated on the target: {error.message}", error.hint
                ) from error
            return
        self._layouts = {layout.name: layout for layout in layouts}
        self._applier.replace_layouts(layouts)

    def _commit_if_due(self, timestamp: float) -> None:
        caught_up = not self._reader.pending()
        due = (
            (caught_up and (self._applier.pending_bytes > 0 or self._due(IDLE_WRITE_SECONDS / 10)))
            or self._marked
            or self._applier.pending_bytes > BATCH_BYTES
            or self._due(BATCH_SECONDS)
        )
        if due:
            self._commit(timestamp, caught_up=caught_up)

    def _due(self, seconds: float) -> bool:
        return time.monotonic() - self._last_commit > seconds

    def _commit(self, timestamp: float, *, caught_up: bool) -> None:
        self._applier.commit(timestamp, caught_up=caught_up)
        self._marked = False
        self._last_commit = time.monotonic()

    def _idle(self) -> None:
        if self._applier.ahead or self._due(IDLE_WRITE_SECONDS):
            self._commit(0.0, caught_up=True)

    def _roll_back(self, rollback: Rollback) -> None:
        self._applier.discard()
        if rollback.complete:
            self._position = rollback.after(self._position)
            self._applier.seal(self._position.text)


def _text(literal: bytes) -> bytes:
    """The bytes of a string literal as the decoder writes it: ``X'6162'`` or ``''``."""
    return bytes.fromhex(literal[2:-1].decode()) if literal[:1] == b"X" else literal[1:-1]
