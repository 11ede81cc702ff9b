"""Copies chunks of rows from source to target in parallel, as text that the source renders.

Only called while the stream is stalled at a marker, see `follow.py`: what a chunk reads is never older than the
marker, and every change after the marker is replayed over it.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from executor.errors import MovetablesError
from executor.native import sidecar
from executor.native.servers import Connection, ServerError
from executor.native.stream.apply import StreamStopped
from executor.native.stream.chunks import Chunk, KeyValues, halves, next_chunk
from executor.native.stream.layout import TableLayout
from planner.cluster import StreamState

CHUNK_BYTES = 1_500_000
MIN_ROWS, MAX_ROWS = 1, 20_000
BATCH_SECONDS = 1.0
ATTEMPTS = 8

Connect = Callable[[], Connection]


@dataclass(frozen=True)
class CopyState:
    """How far one table's copy is: `lastpk` is the highest key copied, as literals; None before the first chunk."""

    table: str
    lastpk: KeyValues | None
    rows_copied: int
    done: bool


def read_copy_states(connection: Connection, stream_id: int) -> list[CopyState]:
    """The copy state of every table of a stream, by name."""
    rows = connection.query(
        f"SELECT table_name, lastpk, rows_copied, done FROM {sidecar.SCHEMA}.copy_state WHERE vrepl_id=%s "
        "ORDER BY table_name",
        [stream_id],
    )
    return [
        CopyState(r["table_name"], tuple(json.loads(r["lastpk"])) if r["lastpk"] else None, r["rows_copied"],
                  bool(r["done"]))
        for r in rows
    ]  # fmt: skip


class Copier:
    """Copies the tables of one stream, batch by batch, with `workers` pairs of connections.

    `connect_source` and `connect_target` make connections; the target's may write to fenced tables.
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
        self._target_database = target_database
        self._connect_source = connect_source
        self._connect_target = connect_target
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="copy")
        self._workers = workers
        self._local = threading.local()
        self._connections: list[Connection] = []
        self._planner = connect_source()
        self._chunk_rows = {name: self._first_chunk_rows(layout) for name, layout in self._layouts.items()}
        self._chunk_seconds = 0.2

    def _first_chunk_rows(self, layout: TableLayout) -> int:
        average = self._planner.value(
            "SELECT avg_row_length FROM information_schema.tables WHERE table_schema=%s AND table_name=%s",
            [layout.database, layout.name],
        )
        # Hexadecimal doubles binary columns; the estimate is corrected by the first chunk anyway.
        return max(MIN_ROWS, min(MAX_ROWS, CHUNK_BYTES // (2 * int(average or 100) + 16)))

    def close(self) -> None:
        """Waits for running chunks and closes every connection."""
        self._pool.shutdown(wait=True)
        for connection in (*self._connections, self._planner):
            connection.close()

    def copy_batch(self, states: Sequence[CopyState], target: Connection) -> list[CopyState]:
        """Copies about a second's worth of chunks of the first unfinished table, and records how far it came.

        Returns the new states. Raises StreamStopped when the stream was stopped meanwhile, ServerError when a server
        failed for good; chunks that were written but not recorded are copied again, which does no harm.
        """
        state = next(state for state in states if not state.done)
        layout = self._layouts[state.table]
        count = self._workers * max(1, round(BATCH_SECONDS / self._chunk_seconds))
        started = time.monotonic()
        chunks: list[Chunk] = []
        futures = []
        after = state.lastpk
        while len(chunks) < count:
            chunk = next_chunk(self._planner, layout, after, self._chunk_rows[state.table])
            chunks.append(chunk)
            futures.append(self._pool.submit(self._copy_chunk, chunk))
            after = chunk.upto
            if chunk.last:
                break
        results = [future.result() for future in futures]
        rows = sum(result[0] for result in results)
        size = sum(result[1] for result in results)
        self._chunk_seconds = max(0.01, (time.monotonic() - started) * self._workers / len(chunks))
        if rows:
            fitting = max(MIN_ROWS, min(MAX_ROWS, int(CHUNK_BYTES / (size / rows))))
            self._chunk_rows[state.table] = fitting
        done = chunks[-1].last
        new = CopyState(state.table, state.lastpk if done else chunks[-1].upto, state.rows_copied + rows, done)
        self._record(target, new)
        return [new if other.table == new.table else other for other in states]

    def _record(self, target: Connection, state: CopyState) -> None:
        now = time.time()
        with target.transaction():
            row = target.one(
                f"SELECT state FROM {sidecar.SCHEMA}.vreplication WHERE id=%s FOR UPDATE", [self.stream_id]
            )
            if row is None or row["state"] != StreamState.COPYING.value:
                raise StreamStopped
            target.execute(
                f"UPDATE {sidecar.SCHEMA}.copy_state SET lastpk=%s, rows_copied=%s, done=%s, updated_at=%s, "
                "started_at=IF(started_at=0,%s,started_at) WHERE vrepl_id=%s AND table_name=%s",
                [json.dumps(state.lastpk) if state.lastpk else None, state.rows_copied, state.done, now, now,
                 self.stream_id, state.table],
            )  # fmt: skip
            target.execute(
                f"UPDATE {sidecar.SCHEMA}.vreplication SET time_updated=%s, rows_copied="
                f"(SELECT IFNULL(SUM(rows_copied),0) FROM {sidecar.SCHEMA}.copy_state WHERE vrepl_id=%s) WHERE id=%s",
                [now, self.stream_id, self.stream_id],
            )

    def _copy_chunk(self, chunk: Chunk) -> tuple[int, int]:
        """Copies one chunk; returns (rows, bytes). Tried again when a server broke off: writing twice is harmless,
        because a second read replaces what the first wrote, and later deletes are replayed."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                source, target = self._pair()
                return self._copy_rows(source, target, chunk)
            except ServerError as error:
                if error.lost:
                    self._drop_pair()
                if attempt == ATTEMPTS or not (error.lost or error.transient):
                    raise
                time.sleep(min(2.0, 0.05 * 2**attempt))
        raise MovetablesError("unreachable code")  # pragma: no cover

    def _copy_rows(self, source: Connection, target: Connection, chunk: Chunk) -> tuple[int, int]:
        layout = chunk.layout
        row = source.one(
            f"SELECT COUNT(*) AS n, CAST(GROUP_CONCAT({layout.tuple_expression} SEPARATOR ',') AS BINARY) AS tuples "
            f"FROM {layout.qualified} FORCE INDEX (`{layout.key_name.replace('`', '``')}`) WHERE {chunk.condition}"
        )
        warnings = source.raw._result.warning_count  # type: ignore[attr-defined]
        count = int(row["n"]) if row else 0
        if row is None or count == 0:
            return 0, 0
        tuples: bytes | None = row["tuples"]
        limit = self._local.packet
        if warnings or tuples is None or len(tuples) + 4096 > limit:
            return self._copy_halves(source, target, chunk, count)
        statement = (
            f"REPLACE INTO `{self._target_database.replace('`', '``')}`.`{layout.name.replace('`', '``')}` "
            f"({layout.column_list}) VALUES "
        ).encode() + tuples
        _, info, warned = target.info(statement)
        if warned or not (count == 1 or _records(info) == count):
            raise MovetablesError(
                f"the target did not take {count} rows of {layout.name} as they are: {info or 'no information'}, "
                f"{warned} warnings",
                "compare the table definitions of both sides",
            )
        return count, len(tuples)

    def _copy_halves(self, source: Connection, target: Connection, chunk: Chunk, count: int) -> tuple[int, int]:
        pair = halves(source, chunk, count)
        if pair is None:
            raise MovetablesError(
                f"a row of {chunk.layout.name} is larger as text than the servers' max_allowed_packet allows "
                f"(key above {chunk.after})",
                "SET GLOBAL max_allowed_packet=1073741824 on source and target",
            )
        parts = [self._copy_rows(source, target, half) for half in pair]
        return parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]

    def _pair(self) -> tuple[Connection, Connection]:
        if getattr(self._local, "pair", None) is None:
            source, target = self._connect_source(), self._connect_target()
            packet = int(source.value("SELECT @@max_allowed_packet"))
            source.execute(f"SET SESSION group_concat_max_len={packet}")
            self._local.packet = min(packet, int(target.value("SELECT @@max_allowed_packet")))
            self._local.pair = source, target
            self._connections += [source, target]
        pair: tuple[Connection, Connection] = self._local.pair
        return pair

    def _drop_pair(self) -> None:
        for connection in getattr(self._local, "pair", None) or ():
            connection.close()
        self._local.pair = None


def _records(info: str) -> int | None:
    """The number of rows in the server's text after a multi-row statement, ``Records: 5  Duplicates: 0 ...``."""
    match = re.search(r"Records: (\d+)", info)
    return int(match[1]) if match else None
