"""The copy phase of a stream: batches of chunks, each while the applier stands at a marker, until all is copied."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from executor.crashpoints import reached
from executor.native import sidecar
from executor.native.servers import Connection, Login, connect
from executor.native.stream import copy, copy_progress
from executor.native.stream.copy import Copier, CopyState, read_copy_states
from executor.native.stream.copy_progress import CopyProgress, RowCounts
from executor.native.stream.deferred_keys import DeferredKeys
from executor.native.stream.follow import Follower
from executor.native.stream.keyless import KeylessCopier
from executor.native.stream.layout import TableLayout, describe_tables
from executor.native.stream.throttle import Throttle

MAX_BATCH_SECONDS = 4.0
"""A batch holds the applier up for as long as it takes, so this bounds the lag that copying causes."""
SHORT_STALL = 0.1
"""Batches become longer while catching up takes less than this part of them."""
WAIT_SECONDS = 0.3


class Copying:
    """Copies what is not copied yet, then adds the keys that were deferred.

    `layouts` are the target's, `follower` applies the source's log, `stopping` tells that the stream shall end.
    `source` and `target` are connections to the primaries for this thread. `went_on` is called after every batch.
    """

    def __init__(
        self,
        record: sidecar.StreamRecord,
        layouts: Sequence[TableLayout],
        logins: tuple[Login, Login],
        source: Connection,
        target: Connection,
        follower: Follower,
        stopping: Callable[[], bool],
        throttle: Throttle,
        workers: int,
        went_on: Callable[[], None] = lambda: None,
    ) -> None:
        self._record = record
        self._layouts = tuple(layouts)
        self._logins = logins
        self._source = source
        self._target = target
        self._follower = follower
        self._stopping = stopping
        self._throttle = throttle
        self._workers = workers
        self._went_on = went_on
        self._keys = DeferredKeys(lambda: connect(logins[1], apply=True), record.id, record.db_name)

    def run(self) -> None:
        """Returns when everything is copied, or `stopping` answers True. Raises what copying raises."""
        states = read_copy_states(self._target, self._record.id)
        with ExitStack() as stack:
            stack.callback(self._throttle.close)
            stack.callback(self._keys.close)
            self._leave_out(states)
            progress = self._first_progress(states)
            if any(not state.done for state in states):
                states = self._copy(states, progress, stack)
            self._finish_keys(states, progress)
            if not self._stopping():
                # Past everything that the last chunks may have seen, so that the tables are equal when this returns.
                self._stall()

    def _connect_target(self) -> Connection:
        return connect(self._logins[1], database=self._record.db_name, apply=True, local_files=True)

    def _stall(self) -> None:
        token = sidecar.write_marker(self._source, self._record.keyspace, self._record.workflow, "copy")
        self._follower.follow(token)

    def _copy(self, states: list[CopyState], progress: CopyProgress, stack: ExitStack) -> list[CopyState]:
        layouts = [replace(layout, database=self._record.source_db_name) for layout in self._layouts]
        unfinished = {state.table for state in states if not state.done}
        counts = RowCounts(lambda: connect(self._logins[0]), [la for la in layouts if la.name in unfinished])
        stack.callback(counts.close)
        if self._follower.left_out:
            self._copy_keyless(layouts, progress, counts)
            states = read_copy_states(self._target, self._record.id)
        if self._stopping() or all(state.done for state in states):
            return states
        copier = Copier(
            self._record.id,
            [layout for layout in layouts if layout.key],
            self._record.db_name,
            lambda: connect(self._logins[0]),
            self._connect_target,
            self._workers,
        )
        stack.callback(copier.close)
        return self._copy_batches(copier, states, progress, counts)

    def _leave_out(self, states: Sequence[CopyState]) -> None:
        unfinished = {state.table for state in states if not state.done}
        self._follower.left_out = {la.name for la in self._layouts if not la.key and la.name in unfinished}

    def _copy_keyless(self, layouts: Sequence[TableLayout], progress: CopyProgress, counts: RowCounts) -> None:
        keyless = KeylessCopier(
            self._record,
            lambda: connect(self._logins[0]),
            self._connect_target,
            self._follower.follow,
            self._stopping,
            lambda: self._show(progress, read_copy_states(self._target, self._record.id), counts),
        )
        for layout in layouts:
            if layout.name in self._follower.left_out:
                while (reason := self._throttle.reason()) and not self._stopping():
                    self._stall()
                    self._hold(reason, progress)
                if self._stopping() or not keyless.copy(layout, self._target):
                    return
                self._follower.left_out.discard(layout.name)

    def _copy_batches(
        self, copier: Copier, states: list[CopyState], progress: CopyProgress, counts: RowCounts
    ) -> list[CopyState]:
        seconds = copy.BATCH_SECONDS
        while any(not state.done for state in states) and not self._stopping():
            began = time.monotonic()
            if not self._keys.standing:
                self._stall()
            if self._stopping():
                return states  # not at the marker: what a chunk would read now may be older than what was applied
            if reason := self._keys.standing or self._throttle.reason():
                self._hold(reason, progress)
                continue
            stalled = time.monotonic() - began
            states = copier.copy_batch(states, self._target, seconds)
            self._throttle.wrote(copier.recorded_at)
            self._show(progress, states, counts)
            reached("stream:chunks_copied")
            self._begin_keys(states)
            quick = stalled < SHORT_STALL * seconds
            seconds = min(MAX_BATCH_SECONDS, seconds * 1.5) if quick else copy.BATCH_SECONDS
        return states

    def _first_progress(self, states: Sequence[CopyState]) -> CopyProgress:
        tables = describe_tables(self._source, self._record.source_db_name, self._record.tables)
        for table in tables:
            self._target.execute(
                f"UPDATE {sidecar.SCHEMA}.copy_state SET rows_total=%s "
                "WHERE vrepl_id=%s AND table_name=%s AND rows_total=0",
                [table.rows, self._record.id, table.name],
            )
        progress = CopyProgress(
            self._record.id,
            {table.name: table.rows for table in tables},
            {table.name: table.data_length / max(1, table.rows) for table in tables},
        )
        progress.sample(time.time(), states, {})
        return progress

    def _show(self, progress: CopyProgress, states: Sequence[CopyState], counts: RowCounts) -> None:
        self._foretell(progress, states, progress.counted(dict(counts.counts)))
        self._reason("")
        self._went_on()

    def _foretell(self, progress: CopyProgress, states: Sequence[CopyState], changed: Mapping[str, int]) -> None:
        pending = self._keys.pending(self._target)
        rate, end = progress.sample(time.time(), states, pending, tuple(self._keys.added))
        copy_progress.record(self._target, self._record.id, rate, end, changed)

    def _hold(self, reason: str, progress: CopyProgress) -> None:
        progress.pause(time.time())
        self._reason(reason)
        copy_progress.record(self._target, self._record.id, 0.0, 0.0, {})
        time.sleep(WAIT_SECONDS)

    def _reason(self, reason: str) -> None:
        self._target.execute(
            f"UPDATE {sidecar.SCHEMA}.vreplication SET reason_throttled=%s, time_throttled=%s "
            "WHERE id=%s AND NOT (reason_throttled='' AND %s='')",
            [reason[:1000], time.time() if reason else 0.0, self._record.id, reason],
        )

    def _begin_keys(self, states: Sequence[CopyState]) -> None:
        pending = self._keys.pending(self._target)
        for state in states:
            if state.done and state.table in pending:
                self._keys.begin(state.table)

    def _finish_keys(self, states: Sequence[CopyState], progress: CopyProgress) -> None:
        """The stream goes on while the keys are added, unless the server can add them only when nobody writes."""
        self._begin_keys(states)
        while self._keys.busy and not self._stopping():
            if not self._keys.standing:
                self._stall()
                self._went_on()
            self._reason(self._keys.standing)
            self._foretell(progress, states, {})
            self._keys.wait(WAIT_SECONDS)
        self._reason("")
