"""Applies the source's binlog to the target in order, until a marker or for as long as the stream runs.

The marker is a row that we committed on the source. When its COMMIT had returned, everything before it in the binlog
was visible to readers of the source, so a chunk that is read while the applier stands at the marker misses nothing
that the applier will not replay.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence

from executor.errors import MovetablesError
from executor.native import sidecar
from executor.native.binlog import positions
from executor.native.binlog.events import RowsKind
from executor.native.binlog.rows import Decoder, TableVersion
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
from executor.native.servers import ServerError
from executor.native.stream.apply import Applier
from executor.native.stream.ddl import Effect, effect_of, names_in
from executor.native.stream.layout import TableLayout
from executor.native.stream.reach import clock_offset, differing, lacks, logs_cascades, reaches_further
from executor.native.stream.repeat import Repeater
from executor.native.stream.silence import Silence
from planner.document import OnDdl

BATCH_BYTES = 4_000_000
BATCH_SECONDS = 0.2
IDLE_WRITE_SECONDS = 0.5
MARKER = "marker"
COPY_AGAIN = "the table must be copied again: set the move to state absent, apply, set it back and apply"
_MARKER_KEY = ("keyspace", "workflow", "purpose")
_SHOWN = 200
_HARMLESS_KEPT = 10_000
_DECODERS_KEPT = 4096
_CASCADING = re.compile(r"\bON\s+(?:DELETE|UPDATE)\s+(?:CASCADE|SET\s+(?:NULL|DEFAULT))\b", re.IGNORECASE)


class StopAtDdl(MovetablesError):
    """`on_ddl: STOP` met DDL on a moved table; the position is already past it."""


class Altered(MovetablesError):
    """DDL was repeated in mid-copy: what was planned with the old definitions must be planned again."""


class Follower:
    """Reads transactions from `client` and hands their rows to `applier`.

    `record` names the workflow whose markers count. `describe` returns the layouts of the target's tables as they are
    now (for EXEC and EXEC_IGNORE). Row events of the tables in `left_out` are dropped: a snapshot that is taken later
    holds what they did. `went_on` is called when a commit is known to have succeeded, unless a marker is awaited:
    then it is for who awaits it to say.
    """

    def __init__(
        self,
        client: BinlogClient,
        applier: Applier,
        record: sidecar.StreamRecord,
        layouts: Sequence[TableLayout],
        stopping: Callable[[], bool],
        describe: Callable[[], Sequence[TableLayout]],
        went_on: Callable[[], None] = lambda: None,
    ) -> None:
        self._source = client.login
        lacking = lacks(client.login, applier.position, stopping)
        if lacking and not stopping():
            raise self._another_history(f"lacks transactions that were applied already: {lacking}")
        self._ahead = clock_offset(client.login)
        self._applier = applier
        self.left_out: set[str] = set()
        self._record = record
        self._stopping = stopping
        self._describe = describe
        self._went_on = went_on
        self._repeater = Repeater(applier.connection, record)
        self._layouts: Mapping[str, TableLayout] = {layout.name: layout for layout in layouts}
        self._reader = TransactionReader(client, self._wanted)
        self._position = positions.parse(applier.position)
        self._silence = Silence(client.login, record.keyspace, record.workflow)
        self._last_commit = time.monotonic()
        self._awaited: str | None = None
        self._marked = self._follows = False
        self._stop_after: StopAtDdl | None = None
        self._begin: Begin | None = None
        self._decoders: dict[TableVersion, Decoder] = {}
        self._harmless: set[frozenset[str]] = set()  # names of statements that were looked into
        self._altered = False

    def follow(self, token: str | None = None) -> None:
        """Applies until the marker `token` is applied and committed; without a token until the stream is stopped.

        Raises StreamStopped when the stream's record was changed by somebody else, StopAtDdl, Altered when DDL was
        repeated before the marker, and MovetablesError for anything in the log that cannot be carried over faithfully.
        The committed position is always that of whole transactions. Nothing uses the applier's connection afterwards.
        """
        try:
            self._follow(token)
        except BaseException:
            self._applier.rest()
            raise
        self._applier.settle()

    def _follow(self, token: str | None) -> None:
        self._awaited = token
        self._follows = token is None
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
                self._commit_if_due(piece.timestamp)
                if self._stop_after is not None:
                    self._commit(piece.timestamp)
                    raise self._stop_after
                if self._altered and token is not None:
                    raise Altered("a table was altered while it was copied; the copy goes on with its new definition")
            elif isinstance(piece, Rollback):
                self._roll_back(piece)
            elif isinstance(piece, Idle):
                self._idle()
            elif isinstance(piece, Begin):
                self._begin = piece
            else:
                raise MovetablesError(f"the binlog reader gave a {type(piece).__name__}, which is unknown here")

    def _wanted(self, database: str, table: str) -> bool:
        if database == self._record.source_db_name:
            return table in self._layouts
        return database == sidecar.SCHEMA and table == MARKER

    def _rows(self, change: RowsChange) -> None:
        if change.table.database == sidecar.SCHEMA:
            self._marker(change)
            return
        if change.table.table in self.left_out:
            return
        layout = self._layouts[change.table.table]
        decode = self._decoders.get(change.table)
        if decode is None:
            if len(self._decoders) >= _DECODERS_KEPT:
                self._decoders.clear()
            decode = self._decoders[change.table] = self._decoder(change.table, layout)
        self._applier.take(change, decode, self._reader.format if self._follows else None)
        self._applier.spill_if_large()

    def _decoder(self, table: TableVersion, layout: TableLayout) -> Decoder:
        """Gives the copied columns as rows, and the key's, or all of a table without one, as keys."""
        names = [column.name for column in layout.columns]
        different = set(names) ^ (set(table.columns) - set(layout.generated))
        if different:
            raise MovetablesError(
                f"the columns of {table.table} differ between source and target: {', '.join(sorted(different))}",
                "make both definitions equal, then set the move's state to created and to running again",
            )
        return table.decoder(names, [column.name for column in layout.key] or names, False)

    def _marker(self, change: RowsChange) -> None:
        if change.kind is RowsKind.DELETE:
            return
        decode = change.table.decoder(["token"], _MARKER_KEY)
        mine = tuple(name.encode() for name in (self._record.keyspace, self._record.workflow))
        for images in decode(change.rows):
            key, row = images[-1]
            if tuple(_text(literal) for literal in key[:2]) == mine:
                self._marked = True
                token = _text(row[1:-1]).decode()
                self._silence.heard(token)
                if token == self._awaited:
                    self._awaited = None

    def _statement(self, statement: Statement) -> None:
        if statement.kind is StatementKind.OTHER:
            return
        effect = effect_of(
            statement.sql, statement.database, self._record.source_db_name, self._layouts.keys(), statement.sql_mode
        )
        if statement.kind is StatementKind.DML:
            self._logged_change(statement, effect)
            return
        self._harmless.clear()  # it may have made a view or a trigger
        if effect is not Effect.NONE:
            self._ddl(statement, effect)

    def _logged_change(self, statement: Statement, effect: Effect) -> None:
        hint = f"set binlog_format=ROW for every client; {COPY_AGAIN}"
        if effect is not Effect.NONE:
            raise MovetablesError(
                f"a change of a moved table was logged as a statement, not as rows ({self._where}): "
                f"{statement.sql[:_SHOWN]}",
                hint,
            )
        names = frozenset(name for name in names_in(statement.sql, statement.sql_mode) if not name.isdigit())
        if names in self._harmless:
            return
        further = reaches_further(self._source, names)
        if further:
            raise MovetablesError(
                f"a change was logged as a statement, not as rows, and may have changed moved tables through {further} "
                f"({self._where}): {statement.sql[:_SHOWN]}",
                hint,
            )
        if len(self._harmless) < _HARMLESS_KEPT:
            self._harmless.add(names)

    @property
    def _where(self) -> str:
        return f"GTID {self._begin.gtid_text}, server id {self._begin.server_id}" if self._begin else "no GTID"

    def _ddl(self, statement: Statement, effect: Effect) -> None:
        mode = self._record.on_ddl
        shown = f"{statement.sql[:_SHOWN]} ({self._where})"
        if mode is OnDdl.STOP:
            self._stop_after = StopAtDdl(f"stopped at DDL: {shown}")
        elif effect is Effect.REPLACED:
            raise MovetablesError(
                f"a moved table was dropped, renamed or replaced without row events: {shown}",
                f"if it is still to be moved: {COPY_AGAIN}; if it is gone: take it out of the move",
            )
        elif _CASCADING.search(statement.sql) and not logs_cascades(self._source):
            raise MovetablesError(
                f"a foreign key will change rows of moved tables, which the source does not log: {shown}",
                f"drop it, or make it again with RESTRICT; {COPY_AGAIN}",
            )
        elif mode is OnDdl.IGNORE and effect is Effect.ROWS:
            raise MovetablesError(
                f"rows of a moved table went without row events: {shown}", f"{COPY_AGAIN}, or use on_ddl: EXEC"
            )
        elif mode is OnDdl.IGNORE:
            self._pass_over(shown)
        else:
            self._run(statement, effect, mode)

    def _pass_over(self, shown: str) -> None:
        """A definition may change as long as the bytes of a row mean the same on both sides."""
        why = differing(self._source, self._record.source_db_name, tuple(self._layouts.values()))
        if why:
            raise MovetablesError(f"{why}, after DDL that was not repeated on the target: {shown}", COPY_AGAIN)

    def _run(self, statement: Statement, effect: Effect, mode: OnDdl) -> None:
        self._commit(0)
        begin = self._begin
        try:
            self._repeater.run(statement, begin.gtid_text if begin else "", begin.timestamp if begin else 0)
            layouts = self._describe()
        except ServerError:
            raise
        except MovetablesError as error:
            # A definition that stayed as it was shows with the next row; rows that stayed never would.
            if mode is OnDdl.EXEC or effect is Effect.ROWS:
                raise MovetablesError(
                    f"DDL could not be repeated on the target ({self._where}): {error.message}", error.hint
                ) from error
            self._pass_over(f"{statement.sql[:_SHOWN]} ({self._where})")
            return
        self._layouts = {layout.name: layout for layout in layouts}
        self._decoders.clear()
        self._applier.replace_layouts(layouts)
        self._altered = True

    def _commit_if_due(self, timestamp: int) -> None:
        more = self._reader.pending()
        if (
            self._marked
            or self._altered
            or self._due(BATCH_SECONDS)
            or self._applier.pending_bytes > BATCH_BYTES
            or (not more and (self._applier.pending_bytes > 0 or self._due(IDLE_WRITE_SECONDS / 10)))
        ):
            self._commit(timestamp, wait=self._marked or self._altered or not more)

    def _due(self, seconds: float) -> bool:
        return time.monotonic() - self._last_commit > seconds

    def _commit(self, timestamp: int, *, known: float = 0.0, wait: bool = True) -> None:
        before = self._applier.position
        self._applier.commit(timestamp + self._ahead if timestamp else 0.0, known, wait=wait)
        if self._follows and (wait or self._applier.position != before):
            self._went_on()
        self._marked = False
        self._last_commit = time.monotonic()

    def _idle(self) -> None:
        # A heartbeat that was sent long ago, with changes behind it, says nothing of now.
        if self._reader.pending():
            return
        if wrong := self._silence.wrong(self._position):
            raise self._another_history(wrong)
        if self._applier.ahead or self._due(IDLE_WRITE_SECONDS):
            self._commit(0, known=time.time())

    def _another_history(self, wrong: str) -> MovetablesError:
        return MovetablesError(
            f"{self._source.name} ({self._source.address}) {wrong}",
            f"was its history begun anew (RESET), or another server made the source? {COPY_AGAIN}",
        )

    def _roll_back(self, rollback: Rollback) -> None:
        self._applier.discard()
        if rollback.complete:
            self._position = rollback.after(self._position)
            self._applier.seal(self._position.text)


def _text(literal: bytes) -> bytes:
    """The bytes of a string literal as the decoder writes it: ``X'6162'`` or ``''``."""
    return bytes.fromhex(literal[2:-1].decode()) if literal[:1] == b"X" else literal[1:-1]
