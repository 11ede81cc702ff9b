"""How fast a copy goes and when it will be done, from what it has done so far.

Work is counted in bytes of rendered rows, with some more for each row, so that tables of short and of long rows add up.
A secondary key that is added later counts as some bytes per row too, so that the end includes it; once keys of one
table were added, the time that they took tells of the others. The servers' row counts are estimates that may be wrong
by half; counting takes little beside copying, so the tables are counted meanwhile, for a limited time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from executor.native import sidecar
from executor.native.servers import Connection, ServerError
from executor.native.stream.copy import CopyState
from executor.native.stream.deferred_keys import KeysAdded
from executor.native.stream.layout import TableLayout

ROW_BYTES = 80.0
"""A row takes as long as this many bytes, beside its own (measured: 2 to 4 µs per row and 20 to 40 ns per byte, with
rows from 13 bytes to 400 kB)."""
KEY_BYTES = 49.0
"""Adding one key to one row takes as long as copying this many bytes (measured: two keys of 2,000,000 rows in 4.6 s,
these rows, 330 MB of text, in 11.5 s)."""
WINDOW_SECONDS = 30.0
"""The rate is that of the last so many seconds, pauses in them included; after a longer pause it is measured anew."""
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
        self._speed = 0.0
        self._keys: dict[str, int] = {}
        self._keys_since = self._keys_until = 0.0

    def counted(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Takes exact counts over; returns the totals that changed."""
        changed = {table: rows for table, rows in counts.items() if self._totals.get(table) != rows}
        self._totals.update(changed)
        return changed

    def sample(
        self, now: float, states: Sequence[CopyState], keys: Mapping[str, int], added: Sequence[KeysAdded] = ()
    ) -> tuple[float, float]:
        """(rows per second, seconds since the epoch of the end) at `now`; 0 for what is not known yet.

        `keys` has the number of keys that are still to be added, by table, `added` those that were.
        """
        if all(state.done for state in states):
            return 0.0, self._end_of_keys(now, states, keys, added)
        rows = sum(state.rows_copied for state in states)
        work = sum(state.bytes_copied for state in states) + ROW_BYTES * rows
        self._samples.append((now, work, rows))
        while len(self._samples) > 2 and now - self._samples[1][0] > WINDOW_SECONDS:
            self._samples.popleft()
        began, first_work, first_rows = self._samples[0]
        elapsed = now - began
        if elapsed <= 0 or work <= first_work:
            return 0.0, 0.0
        self._speed = (work - first_work) / elapsed
        left = sum(self._left(state) for state in states) / self._speed
        return (rows - first_rows) / elapsed, now + left + self._key_seconds(states, keys, added)

    def pause(self, now: float) -> None:
        """Nothing is copied at `now`; the rate is forgotten when that has lasted for long."""
        if self._samples and now - self._samples[-1][0] > WINDOW_SECONDS:
            self._samples.clear()

    def _end_of_keys(
        self, now: float, states: Sequence[CopyState], keys: Mapping[str, int], added: Sequence[KeysAdded]
    ) -> float:
        """Nothing tells how far the server is with the keys of one table, only when it is done with them."""
        if keys != self._keys:
            self._keys, self._keys_since = dict(keys), now
            seconds = self._key_seconds(states, keys, added)
            self._keys_until = now + seconds if seconds else 0.0
        if not self._keys_until:
            return 0.0 if keys else now
        return max(self._keys_until, now + 0.1 * (now - self._keys_since))

    def _key_seconds(self, states: Sequence[CopyState], keys: Mapping[str, int], added: Sequence[KeysAdded]) -> float:
        """How long adding `keys` will take; 0.0 when there are none, or nothing tells."""
        rows = {state.table: self._rows(state) for state in states}
        done = sum(rows.get(one.table, 0) * one.keys for one in added)
        left = sum(rows.get(table, 0) * number for table, number in keys.items())
        if done:
            return left * sum(one.seconds for one in added) / done
        return left * KEY_BYTES / self._speed if self._speed else 0.0

    def _rows(self, state: CopyState) -> int:
        return state.rows_copied if state.done else max(state.rows_copied, self._totals.get(state.table, 0))

    def _left(self, state: CopyState) -> float:
        if state.done:
            return 0.0
        size = state.bytes_copied / state.rows_copied if state.rows_copied else self._sizes.get(state.table, 100.0)
        return (self._rows(state) - state.rows_copied) * (size + ROW_BYTES)


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
