"""Compares a table as a whole: for tables without a key, and for keys that the two servers do not order alike.

Rows are counted by what they hold, so that two equal rows on one side and one on the other are a difference. Both sides
are read as of one moment (`moment.py`). Every row falls into one of `BUCKETS` by its hash; a first scan of each side
adds up the hashes of each bucket, a second one reads the hashes of the buckets that differ, as many buckets at a time
as fit into memory. Sums of 64 bits of SHA-256 see duplicates, which a XOR would cancel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from executor.errors import MovetablesError
from executor.native.servers import Connection
from executor.native.stream.layout import TableLayout
from executor.native.vdiff.digest import text_expression
from executor.native.vdiff.normal import row_hash
from executor.native.vdiff.options import VDiffOptions
from executor.native.vdiff.pairs import Pair
from executor.native.vdiff.repair_whole import MOST_KINDS
from executor.native.vdiff.report import RowText, TableReport
from executor.native.vdiff.samples import sample_expression, shortened

BUCKETS = 4096
BUCKET_SHIFT = 52  # of 64 bits
HELD_ROWS = 100_000
"""Hashes of at most about so many rows of each side are held at once."""

_T = TypeVar("_T")
Sums = Mapping[int, tuple[int, int]]
"""Bucket to (rows, sum of their hashes)."""


class DiffDurationExceeded(MovetablesError):
    """The comparison of a table took longer than --max-diff-duration."""


@dataclass
class _Extra:
    """Rows that one side has more of: how many, and of the first `most` kinds their hash and how many more (0: all)."""

    most: int
    rows: int = 0
    kinds: int = 0
    named: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, rows: int) -> None:
        """Counts `rows` more of the hash `name`."""
        self.rows += rows
        self.kinds += 1
        if not self.most or len(self.named) < self.most:
            self.named[name] = rows

    def take(self, name: str) -> None:
        """Uncounts one row of the hash `name`."""
        self.rows -= 1
        self.named[name] -= 1
        if not self.named[name]:
            del self.named[name]


def repaired(before: TableReport, after: TableReport) -> TableReport:
    """`after`, the report of a table that was repaired since `before`, with the number of rows that were."""
    fewer = before.differing - after.differing
    return replace(after, repaired=before.repaired + max(0, fewer))


def _number(layout: TableLayout) -> str:
    return f"CAST(CONV(LEFT({row_hash(layout.columns)},16),16,10) AS UNSIGNED)"


def sums(connection: Connection, layout: TableLayout) -> dict[int, tuple[int, int]]:
    """The rows of every bucket: how many, and the sum of their hashes."""
    # Grouped by number, here and below: a column of the table may have the name of an alias, and would win.
    number = _number(layout)
    rows = connection.query(
        f"SELECT {number}>>{BUCKET_SHIFT} AS b, COUNT(*) AS n, SUM({number}) AS s FROM {layout.qualified} GROUP BY 1"
    )
    found = {}
    for row in rows:
        if row["b"] is None:
            raise MovetablesError(
                f"a row of {layout.name} is larger than max_allowed_packet of {connection.login.name} allows",
                "SET GLOBAL max_allowed_packet=1073741824 on source and target",
            )
        found[int(row["b"])] = (int(row["n"]), int(row["s"]))
    return found


def hashes(connection: Connection, layout: TableLayout, buckets: list[int]) -> dict[str, int]:
    """The rows of `buckets`: hash to how many."""
    chosen = ",".join(str(bucket) for bucket in buckets)
    rows = connection.query(
        f"SELECT {row_hash(layout.columns)} AS h, COUNT(*) AS n FROM {layout.qualified} "
        f"WHERE {_number(layout)}>>{BUCKET_SHIFT} IN ({chosen}) GROUP BY 1"
    )
    return {str(row["h"]): int(row["n"]) for row in rows}


def texts(
    connection: Connection, layout: TableLayout, wanted: list[str], expressions: Sequence[str]
) -> dict[str, tuple[str | None, ...]]:
    """One row of each hash of `wanted`: the values of `expressions`."""
    if not wanted:
        return {}
    shown = ", ".join(f"MIN({expression}) AS s{i}" for i, expression in enumerate(expressions))
    rows = connection.query(
        f"SELECT {row_hash(layout.columns)} AS h, {shown} FROM {layout.qualified} "
        f"WHERE {row_hash(layout.columns)} IN ({','.join(repr(name) for name in wanted)}) GROUP BY 1"
    )
    found = {}
    for row in rows:
        identity, *values = row.values()
        found[str(identity)] = tuple(None if value is None else str(value) for value in values)
    return found


class WholeComparison:
    """Compares the tables of `pair` through connections that see one moment of it. `tell` raises to end it.

    With the option `repair`, `differing` has the hashes of the rows that differ afterwards, of not many more than can
    be repaired.
    """

    def __init__(
        self,
        source: Connection,
        target: Connection,
        pair: Pair,
        options: VDiffOptions,
        report: TableReport,
        tell: Callable[[str], None],
    ) -> None:
        self._connections = (source, target)
        self._layouts = (pair.source, pair.target)
        self._options = options
        self._tell = tell
        self._began = time.monotonic()
        self.differing: list[str] = []
        self.report = replace(
            report,
            rows_compared=0,
            matching=0,
            mismatched=0,
            extra_source=0,
            extra_target=0,
            mismatch_samples=(),
            extra_source_samples=(),
            extra_target_samples=(),
        )

    def run(self) -> None:
        """Compares everything; `report` then has it. Raises DiffDurationExceeded, ServerError, what `tell` raises."""
        with ThreadPoolExecutor(2, thread_name_prefix="vdiff-whole") as pool:
            source, target = self._both(pool, sums)
            matching = sum(rows for bucket, (rows, _) in source.items() if source[bucket] == target.get(bucket))
            options = self._options
            most = options.max_report_sample_rows and max(
                options.max_report_sample_rows,
                options.max_extra_rows_to_compare,
                MOST_KINDS + 1 if options.repair else 0,
            )
            extra = (_Extra(most), _Extra(most))
            for buckets in self._groups(source, target):
                left, right = self._both(pool, lambda c, at, chosen=buckets: hashes(c, at, chosen))  # type: ignore[misc]
                for name in {**left, **right}:
                    here, there = left.get(name, 0), right.get(name, 0)
                    matching += min(here, there)
                    if here > there:
                        extra[0].add(name, here - there)
                    elif there > here:
                        extra[1].add(name, there - here)
            if options.repair:
                self.differing = sorted({*extra[0].named, *extra[1].named})
            self._conclude(matching, extra)

    def _both(self, pool: ThreadPoolExecutor, read: Callable[[Connection, TableLayout], _T]) -> tuple[_T, _T]:
        futures = [pool.submit(read, *side) for side in zip(self._connections, self._layouts, strict=True)]
        while not all(future.done() for future in futures):
            self._tell(f"comparing {self.report.table} as a whole")
            limit = self._options.max_diff_duration
            if limit and time.monotonic() - self._began > limit:
                for connection in self._connections:
                    connection.close()
                raise DiffDurationExceeded(
                    f"table diff was stopped due to exceeding the max-diff-duration time: {self.report.table} is "
                    "compared as a whole, in one snapshot",
                    "resume it with a longer --max-diff-duration, or give the table a primary key",
                )
            time.sleep(0.05)
        return futures[0].result(), futures[1].result()

    def _groups(self, source: Sums, target: Sums) -> Iterator[list[int]]:
        """The buckets that differ, in groups that fit into memory."""
        group: list[int] = []
        rows = 0
        for bucket in sorted({**source, **target}):
            left, right = source.get(bucket, (0, 0)), target.get(bucket, (0, 0))
            if left == right:
                continue
            size = max(left[0], right[0])
            if group and rows + size > HELD_ROWS:
                yield group
                group, rows = [], 0
            group.append(bucket)
            rows += size
        if group:
            yield group

    def _conclude(self, matching: int, extra: tuple[_Extra, _Extra]) -> None:
        pairs = self._paired(extra)
        for pair in pairs:
            for side, name in zip(extra, pair, strict=True):
                side.take(name)
        most = self._options.max_report_sample_rows
        chosen = [list(side.named)[: most or None] for side in extra]
        shown_pairs = pairs[: most or None]
        columns = tuple(c for c in self._layouts[0].columns if c in self._layouts[0].key or not self._options.only_pks)
        expressions = [sample_expression(c, self._options, c in self._layouts[0].key) for c in columns]
        wanted = (
            [*chosen[0], *(left for left, _ in shown_pairs)],
            [*chosen[1], *(right for _, right in shown_pairs)],
        )
        rows = [
            texts(connection, layout, names, expressions)
            for connection, layout, names in zip(self._connections, self._layouts, wanted, strict=True)
        ]

        def shown(side: int, name: str) -> RowText:
            keys = self._layouts[0].key
            return {
                column.name: shortened(column, value, self._options, column in keys)
                for column, value in zip(columns, rows[side].get(name, ()), strict=False)
            }

        self.report = replace(
            self.report,
            rows_compared=matching + len(pairs) + extra[0].rows + extra[1].rows,
            matching=matching,
            mismatched=len(pairs),
            extra_source=extra[0].rows,
            extra_target=extra[1].rows,
            mismatch_samples=tuple((shown(0, left), shown(1, right)) for left, right in shown_pairs),
            extra_source_samples=tuple(shown(0, name) for name in chosen[0]),
            extra_target_samples=tuple(shown(1, name) for name in chosen[1]),
        )

    def _paired(self, extra: tuple[_Extra, _Extra]) -> list[tuple[str, str]]:
        """Rows of both sides with the same key: one row that differs, and not two. None without a key."""
        key = self._layouts[0].key
        if not key or any(side.kinds > self._options.max_extra_rows_to_compare for side in extra):
            return []
        sides = zip(self._connections, self._layouts, extra, strict=True)
        shown = [text_expression(column) for column in key]
        names = [texts(connection, layout, list(side.named), shown) for connection, layout, side in sides]
        by_key = {values: name for name, values in names[1].items()}
        return sorted((name, by_key[values]) for name, values in names[0].items() if values in by_key)
