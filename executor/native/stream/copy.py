"""Copies the tables of a stream batch by batch, chunks of several tables in parallel.

Only called while the stream is stalled at a marker, see `follow.py`: what a chunk reads is never older than the
marker, and every change after the marker is replayed over it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from executor.crashpoints import reached
from executor.native import sidecar
from executor.native.servers import Connection
from executor.native.stream.apply import StreamStopped
from executor.native.stream.chunk_copy import ChunkCopier, Connect, Copied
from executor.native.stream.chunks import Chunk, KeyValues, next_chunk
from executor.native.stream.layout import TableLayout
from planner.cluster import StreamState

CHUNK_BYTES = 1_500_000
MIN_ROWS, MAX_ROWS = 1, 20_000
BATCH_SECONDS = 1.0


@dataclass(frozen=True)
class CopyState:
    """How far one table's copy is: `lastpk` is the highest key copied, as literals; None before the first chunk."""

    table: str
    lastpk: KeyValues | None
    rows_copied: int
    done: bool
    bytes_copied: int = 0


def read_copy_states(connection: Connection, stream_id: int) -> list[CopyState]:
    """The copy state of every table of a stream, by name."""
    rows = connection.query(
        f"SELECT table_name, lastpk, rows_copied, done, bytes_copied FROM {sidecar.SCHEMA}.copy_state "
        "WHERE vrepl_id=%s ORDER BY table_name",
        [stream_id],
    )
    return [
        CopyState(r["table_name"], tuple(json.loads(r["lastpk"])) if r["lastpk"] else None, r["rows_copied"],
                  bool(r["done"]), r["bytes_copied"])
        for r in rows
    ]  # fmt: skip


class Copier:
    """Copies the tables of one stream, batch by batch, with `workers` pairs of connections.

    `connect_source` and `connect_target` make connections; see `ChunkCopier`. `recorded_at` is the time, in seconds
    since the epoch, that the last batch wrote into the copy's state.
    """

    def __init__(
        self,
        stream_id: int,
        layouts: Sequence[TableLayout],
        target_database: str,
        connect_source: Connect,
        connect_target: Connect,
        workers: int = 3,
    ) -> None:
        self.stream_id = stream_id
        self._layouts = {layout.name: layout for layout in layouts}
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="copy")
        self._workers = workers
        self._planner = connect_source()
        self._chunk_rows = self._first_chunk_rows()
        self.recorded_at = 0.0
        self._chunks = ChunkCopier(connect_source, connect_target, target_database, self._auto_increment())

    def _first_chunk_rows(self) -> dict[str, int]:
        layouts = list(self._layouts.values())
        found = self._planner.query(
            "SELECT table_name AS name, avg_row_length AS size FROM information_schema.tables WHERE table_schema=%s "
            f"AND table_name IN ({','.join(['%s'] * len(layouts))})",
            [layouts[0].database, *(layout.name for layout in layouts)],
        )
        average = {row["name"]: int(row["size"] or 100) for row in found}
        # The estimate is corrected by the first chunk anyway.
        return {layout.name: _fitting(CHUNK_BYTES // (2 * average.get(layout.name, 100) + 16)) for layout in layouts}

    def _auto_increment(self) -> dict[str, str]:
        rows = self._planner.query(
            "SELECT table_name AS name, column_name AS col FROM information_schema.columns "
            "WHERE table_schema=%s AND extra LIKE %s",
            [next(iter(self._layouts.values())).database, "%auto_increment%"],
        )
        return {row["name"]: row["col"] for row in rows}

    def close(self) -> None:
        """Waits for running chunks and closes every connection."""
        self._pool.shutdown(wait=True)
        self._chunks.close()
        self._planner.close()

    def copy_batch(self, states: Sequence[CopyState], target: Connection, seconds: float) -> list[CopyState]:
        """Copies chunks of unfinished tables for about `seconds`, and records how far they came.

        Returns the new states. Raises StreamStopped when the stream was stopped meanwhile, ServerError when a server
        failed for good; chunks that were written but not recorded are copied again, which does no harm.
        """
        until = time.monotonic() + seconds
        new = {state.table: state for state in states}
        running: dict[Future[Copied], Chunk] = {}
        for submitted, chunk in enumerate(self._planned(states)):
            name = chunk.layout.name
            running[self._pool.submit(self._chunks.copy, chunk)] = chunk
            new[name] = replace(new[name], done=chunk.last, lastpk=new[name].lastpk if chunk.last else chunk.upto)
            if submitted + 1 >= self._workers and time.monotonic() >= until:
                break
            if len(running) > self._workers:  # one waits, so that nobody is idle
                self._collect(running, new, FIRST_COMPLETED)
        while running:
            self._collect(running, new, FIRST_COMPLETED)
        changed = [state for state in states if new[state.table] != state]
        self._record(target, [new[state.table] for state in changed])
        return [new[state.table] for state in states]

    def _planned(self, states: Sequence[CopyState]) -> Iterator[Chunk]:
        """The next chunks, in turn from as many unfinished tables as there are workers."""
        after = {state.table: state.lastpk for state in states if not state.done}
        while after:
            for name in list(after)[: self._workers]:
                chunk = next_chunk(self._planner, self._layouts[name], after[name], self._chunk_rows[name])
                yield chunk
                if chunk.last:
                    del after[name]
                else:
                    after[name] = chunk.upto

    def _collect(self, running: dict[Future[Copied], Chunk], new: dict[str, CopyState], when: str) -> None:
        for future in wait(running, return_when=when).done:
            name, copied = running[future].layout.name, future.result()
            del running[future]
            reached("stream:chunk_written")
            state = new[name]
            new[name] = replace(
                state, rows_copied=state.rows_copied + copied.rows, bytes_copied=state.bytes_copied + copied.size
            )
            if copied.rows:
                self._chunk_rows[name] = _fitting(CHUNK_BYTES * copied.rows // max(1, copied.size))

    def _record(self, target: Connection, changed: Sequence[CopyState]) -> None:
        now = time.time()
        with target.transaction():
            row = target.one(
                f"SELECT state FROM {sidecar.SCHEMA}.vreplication WHERE id=%s FOR UPDATE", [self.stream_id]
            )
            if row is None or row["state"] != StreamState.COPYING.value:
                raise StreamStopped
            for state in changed:
                target.execute(
                    f"UPDATE {sidecar.SCHEMA}.copy_state SET lastpk=%s, rows_copied=%s, bytes_copied=%s, done=%s, "
                    "updated_at=%s, started_at=IF(started_at=0,%s,started_at) WHERE vrepl_id=%s AND table_name=%s",
                    [json.dumps(state.lastpk) if state.lastpk else None, state.rows_copied, state.bytes_copied,
                     state.done, now, now, self.stream_id, state.table],
                )  # fmt: skip
            target.execute(
                f"UPDATE {sidecar.SCHEMA}.vreplication SET time_updated=%s, rows_copied="
                f"(SELECT IFNULL(SUM(rows_copied),0) FROM {sidecar.SCHEMA}.copy_state WHERE vrepl_id=%s) WHERE id=%s",
                [now, self.stream_id, self.stream_id],
            )
        self.recorded_at = now


def _fitting(rows: int) -> int:
    return max(MIN_ROWS, min(MAX_ROWS, rows))
