"""Writes source changes to the target: coalesced per key, atomic with the position that covers them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from executor.crashpoints import reached
from executor.native import sidecar
from executor.native.binlog.events import Format
from executor.native.binlog.pieces import RowsChange
from executor.native.binlog.rows import Decoder
from executor.native.servers import Connection, ServerError
from executor.native.stream.changes import Changes, RowEvents, TableChanges
from executor.native.stream.layout import TableLayout
from executor.native.stream.reach import offset_of
from executor.native.stream.row_events import RowEventWriter
from executor.native.stream.write import TableWriter
from planner.cluster import StreamState

SPILL_BYTES = 16_000_000

FOLLOWING = (StreamState.RUNNING.value, StreamState.COPYING.value)


class StreamStopped(Exception):
    """The stream's record was stopped, deleted or moved on by somebody else; nothing was written."""


@dataclass(frozen=True)
class _Batch:
    """Complete transactions, to be committed with the position that covers them. Times as in `Applier.commit`."""

    changes: dict[str, TableChanges]
    position: str
    applied: float
    known: float


class Applier:
    """Collects the changes of whole source transactions and commits them with their last position.

    The position is compared and set: a second applier of the same stream, or one that was told to stop, changes
    nothing and raises StreamStopped. Several transactions become one as long as their commits are collected, never
    half of one. The transaction being read is kept apart from those that are complete until `seal`, so that `discard`
    takes back nothing else.

    A commit may go on in a thread while the next transactions are read; there is never more than one, and `settle`
    must be called before `connection` is used by anybody else.
    """

    def __init__(self, connection: Connection, record: sidecar.StreamRecord, layouts: Sequence[TableLayout]) -> None:
        self.connection = connection
        self.stream_id = record.id
        self.position = record.pos
        self._sealed_position = record.pos
        self._ahead = offset_of(connection)
        self._writers: dict[str, TableWriter] = {}
        self._events = RowEventWriter(connection)
        self._current: dict[str, TableChanges] = {}
        self._sealed: dict[str, TableChanges] = {}
        self.replace_layouts(layouts)
        self._current_bytes = self._sealed_bytes = 0
        self._open = False
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @property
    def pending_bytes(self) -> int:
        """About the bytes of memory of complete transactions that `commit` was not yet told to write."""
        return self._sealed_bytes

    @property
    def ahead(self) -> bool:
        """True when complete transactions wait for `commit`, even if they changed nothing of ours."""
        return self._sealed_position != self.position

    def replace_layouts(self, layouts: Sequence[TableLayout]) -> None:
        """From now on the tables look like this. Only when nothing is collected."""
        self._writers = {layout.name: TableWriter(self.connection, layout) for layout in layouts}
        self._current = {layout.name: TableChanges(layout) for layout in layouts}
        self._sealed = {layout.name: TableChanges(layout) for layout in layouts}
        self._events.forget()

    def take(self, change: RowsChange, decode: Decoder, source_format: Format | None) -> None:
        """Takes the rows of one event of the transaction being read.

        `decode` decodes them; `source_format` is the source's format event where events may be handed on as they
        are, None while rows are still being copied, when changes meet rows that are there already or not yet.
        """
        changes = self._current[change.table.table]
        before = changes.size
        if source_format and self._events.wanted(change, changes.layout, source_format, follows=changes.ends_in_events):
            changes.keep(change, decode, source_format)
        else:
            changes.decode(change, decode)
        self._current_bytes += changes.size - before

    def spill_if_large(self) -> None:
        """Writes the transaction being read into the open target transaction when it would take too much memory.

        Complete transactions before it are committed first, so that `discard` can still take it back alone.
        """
        if self._current_bytes > SPILL_BYTES:
            self.settle()
            if not self._open:
                if self.ahead:
                    self.commit()
                self._begin(self._current)
            self._write(self._current)
            self._current_bytes = 0
            reached("stream:spilled")

    def seal(self, position: str) -> None:
        """The transaction being read is complete; `position` covers it."""
        for table, changes in self._current.items():
            if changes.parts:
                self._sealed[table].add(changes)
        self._sealed_bytes += self._current_bytes
        self._current_bytes = 0
        self._sealed_position = position

    def discard(self) -> None:
        """Forgets the transaction being read: it was rolled back."""
        self.settle()
        for changes in self._current.values():
            changes.clear()
        self._current_bytes = 0
        if self._open:
            self._open = False
            self.connection.execute("ROLLBACK")

    def commit(self, applied: float = 0.0, known: float = 0.0, *, wait: bool = True) -> None:
        """Commits everything sealed, and its position with it; without `wait` in a thread, see `settle`.

        `applied` is when the source committed the last of it, `known` a moment at which we had everything that the
        source had, both in seconds since the epoch, 0 if unknown. Raises StreamStopped when the record was changed by
        somebody else, ServerError when the server failed, MovetablesError when the target did not take a row; the
        record tells what was committed.
        """
        self.settle()
        batch = _Batch(self._sealed, self._sealed_position, applied, known)
        self._sealed = {name: TableChanges(changes.layout) for name, changes in self._sealed.items()}
        self._sealed_bytes = 0
        if wait:
            self._commit(batch)
        else:
            self._thread = threading.Thread(target=self._commit_aside, args=(batch,), name="commit", daemon=True)
            self._thread.start()

    def settle(self) -> None:
        """Waits for the commit that goes on in a thread, if any, and raises what it raised."""
        self.rest()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def rest(self) -> None:
        """Waits for the commit that goes on in a thread, whatever comes of it."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _commit_aside(self, batch: _Batch) -> None:
        try:
            self._commit(batch)
        except BaseException as error:  # noqa: BLE001 - raised again by `settle`, in the thread that asked for it
            self._failure = error

    def _commit(self, batch: _Batch) -> None:
        try:
            if self._open or any(changes.parts for changes in batch.changes.values()):
                self._begin(batch.changes)
                self._write(batch.changes)
                self._record(batch)
                reached("stream:batch_written")
                self.connection.execute("COMMIT")
                reached("stream:batch_committed")
            else:
                self._record(batch)
        except BaseException:
            self._roll_back()
            raise
        self._open = False
        self.position = batch.position

    def _record(self, batch: _Batch) -> None:
        # In the target's clock, because whoever looks at the lag asks there what time it is.
        now, applied, known = (moment and moment - self._ahead for moment in (time.time(), batch.applied, batch.known))
        changed = self.connection.execute(
            f"UPDATE {sidecar.SCHEMA}.vreplication SET pos=%s, time_updated=%s, "
            "transaction_timestamp=IF(%s>0,%s,transaction_timestamp), time_heartbeat=IF(%s>0,%s,time_heartbeat) "
            "WHERE id=%s AND pos=%s AND state IN %s",
            [batch.position, now, applied, applied, known, known, self.stream_id, self.position, FOLLOWING],
        )
        if changed != 1:
            raise StreamStopped(self.stream_id)

    def _begin(self, collected: dict[str, TableChanges]) -> None:
        if self._open:
            return
        for changes in collected.values():
            for part in changes.parts:
                if isinstance(part, RowEvents):
                    self._events.prepare(part.format)
        self.connection.execute("START TRANSACTION")
        self._open = True
        row = self.connection.one(
            f"SELECT pos, state FROM {sidecar.SCHEMA}.vreplication WHERE id=%s FOR UPDATE", [self.stream_id]
        )
        if row is None or row["pos"] != self.position or row["state"] not in FOLLOWING:
            self._roll_back()
            raise StreamStopped(self.stream_id)

    def _roll_back(self) -> None:
        if self._open and self.connection.open:
            try:
                self.connection.execute("ROLLBACK")
            except ServerError:
                self.connection.close()  # the server rolls back a connection that goes away
        self._open = False

    def _write(self, collected: dict[str, TableChanges]) -> None:
        for name, changes in collected.items():
            for part in changes.parts:
                if isinstance(part, Changes):
                    self._writers[name].write(part)
                elif not self._events.write(part, changes.layout):
                    self._writers[name].write(part.decoded(changes.layout))
            changes.clear()
