"""How fast a copy goes and when it will be done, from what it has done so far.

Work is counted in bytes of rendered rows. A secondary key that is added later counts as some bytes per row, so that
the end includes it. The servers' row counts are estimates that may be wrong by half; counting takes little beside
copying, so the tables are counted meanwhile, for a limited time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from executor.native import sidecar
from executor.native.servers import Connection, ServerError
from executor.native.stream.copy import CopyState
from executor.native.stream.layout import TableLayout

KEY_BYTES = 32.0
"""Adding one key to one row takes as long as copying this many bytes (measured: two keys of 2,000,000 rows in 4.6 s,
330 MB of text in 11.5 s)."""
WINDOW_SECONDS = 30.0
COUNT_SECONDS = 60


class RowCounts:
    """Counts tables on the source in a thread, each for at most COUNT_SECONDS. `counts` has those that are done."""

    def __init__(self, connect: Callable[[], Connection], layouts: Sequence[TableLayout]) -> None:
        self._connect = connect
        self._layouts = tuple(layouts)
        self.counts: dict[str, int] = {}
        self._closing = False
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="row counts", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread; a count that still runs is killed."""
        self._closing = True
        busy = self._connection
        if self._thread.is_alive() and busy is not None and busy.open:
            try:
                with self._connect() as killer:
                    killer.execute(f"KILL {busy.thread_id}")
            except ServerError:
                return  # the server is gone, and the count with it
        self._thread.join(10)

    def _run(self) -> None:
        try:
            with self._connect() as connection:
                self._connection = connection
                limit = (
                    f"max_statement_time={COUNT_SECONDS}"
                    if connection.flavor.mariadb
                    else f"max_execution_time={COUNT_SECONDS * 1000}"
                )
                connection.execute(f"SET SESSION {limit}")
                for layout in self._layouts:
                    if self._closing:
                        return
                    self._count(connection, layout)
        except ServerError:
            return  # the estimates serve

    def _count(self, connection: Connection, layout: TableLayout) -> None:
        try:
            self.counts[layout.name] = int(connection.value(f"SELECT COUNT(*) FROM {layout.qualified}"))
        except ServerError:
            if not connection.open or self._closing:
                raise


class CopyProgress:
    """Rate and end of one stream's copy. `sizes` has the average bytes per row of each table, as the server guesses."""

    def __init__(self, stream_id: int, totals: Mapping[str, int], sizes: Mapping[str, float]) -> None:
        self._stream_id = stream_id
        self._totals = dict(totals)
        self._sizes = dict(sizes)
        self._samples: deque[tuple[float, float, int]] = deque()
        self._keys_until: float | None = None
        self._keys_since = 0.0

    def counted(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Takes exact counts over; returns the totals that changed."""
        changed = {table: rows for table, rows in counts.items() if self._totals.get(table) != rows}
        self._totals.update(changed)
        return changed

    def sample(self, now: float, states: Sequence[CopyState], keys: Mapping[str, int]) -> tuple[float, float]:
        """(rows per second, seconds since the epoch of the end) at `now`; 0 for what is not known yet.

        `keys` has the number of keys that are still to be added, by table.
        """
        done_bytes = float(sum(state.bytes_copied for state in states))
        done_rows = sum(state.rows_copied for state in states)
        self._samples.append((now, done_bytes, done_rows))
        while len(self._samples) > 2 and now - self._samples[1][0] > WINDOW_SECONDS:
            self._samples.popleft()
        began, first_bytes, first_rows = self._samples[0]
        elapsed = now - began
        if elapsed <= 0 or done_bytes <= first_bytes:
            return 0.0, 0.0
        speed = (done_bytes - first_bytes) / elapsed
        rows = 0.0 if all(state.done for state in states) else (done_rows - first_rows) / elapsed
        left = sum(self._left(state) for state in states) + sum(
            self._rows(state) * KEY_BYTES * keys.get(state.table, 0) for state in states
        )
        if all(state.done for state in states):  # nothing tells how far the server is with a key
            if self._keys_until is None:
                self._keys_until, self._keys_since = now + left / speed, now
            return rows, max(self._keys_until, now + 0.1 * (now - self._keys_since))
        return rows, now + left / speed

    def pause(self) -> None:
        """Forgets the rate: nothing is copied for a while."""
        self._samples.clear()

    def _rows(self, state: CopyState) -> int:
        return state.rows_copied if state.done else max(state.rows_copied, self._totals.get(state.table, 0))

    def _left(self, state: CopyState) -> float:
        if state.done:
            return 0.0
        size = state.bytes_copied / state.rows_copied if state.rows_copied else self._sizes.get(state.table, 100.0)
        return (self._rows(state) - state.rows_copied) * size


def record(connection: Connection, stream_id: int, rate: float, end: float, totals: Mapping[str, int]) -> None:
    """Writes rate, end and changed totals for those who watch."""
    connection.execute(
        f"UPDATE {sidecar.SCHEMA}.vreplication SET copy_rate=%s, copy_end=%s, time_updated=%s WHERE id=%s",
        [rate, end, time.time(), stream_id],
    )
    for table, rows in totals.items():
        connection.execute(
            f"UPDATE {sidecar.SCHEMA}.copy_state SET rows_total=%s WHERE vrepl_id=%s AND table_name=%s",
            [rows, stream_id, table],
        )
