"""How many rows a VDiff has before it, and so when it will be done.

Servers' guesses of their rows may be wrong by half and more. A comparison that takes long can afford to know: then the
tables that are left are counted beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from executor.native.servers import Connection
from executor.native.stream.copy_progress import RowCounts
from executor.native.stream.layout import TableLayout
from executor.native.vdiff.report import TableReport, rows_expected

COUNT_AFTER_SECONDS = 10.0


class Expected:
    """The rows of the tables of one VDiff, as far as `tables` tell; `layouts` are theirs on the server to count on.

    `limit` is how many rows of each are compared at most, None for all.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        layouts: Sequence[TableLayout],
        tables: Sequence[TableReport],
        limit: int | None,
    ) -> None:
        self._connect = connect
        self._layouts = layouts
        self._limit = limit
        self._rows = {table.table: self._limited(table.table_rows) for table in tables}
        self._counting: RowCounts | None = None
        self._began = time.monotonic()
        self._before = sum(table.rows_compared for table in tables)

    def close(self) -> None:
        """Ends the counting."""
        if self._counting is not None:
            self._counting.close()

    def look(self, table: str) -> dict[str, int]:
        """The tables whose rows are known better by now. In time, begins to count `table` and those after it."""
        if self._counting is None:
            if time.monotonic() - self._began < COUNT_AFTER_SECONDS:
                return {}
            names = [layout.name for layout in self._layouts]
            self._counting = RowCounts(self._connect, self._layouts[names.index(table) :])
        counted = {name: self._limited(rows) for name, rows in dict(self._counting.counts).items()}
        better = {name: rows for name, rows in counted.items() if rows != self._rows[name]}
        self._rows.update(better)
        return better

    def progress(self, done: Sequence[TableReport], current: TableReport) -> tuple[int, int, float, float | None]:
        """(rows compared, rows there are, rows per second, seconds left or None), of tables in the order of `done`."""
        known = {table.table: table for table in (*done, current)}
        compared = sum(table.rows_compared for table in known.values())
        expected = sum(
            rows_expected(known[name].state, known[name].rows_compared, rows) if name in known else rows
            for name, rows in self._rows.items()
        )
        rate = (compared - self._before) / max(time.monotonic() - self._began, 0.001)
        return (
            compared,
            max(expected, 1),
            rate,
            (expected - compared) / rate if rate > 0 and expected > compared else None,
        )

    def _limited(self, rows: int) -> int:
        return rows if self._limit is None else min(rows, self._limit)
