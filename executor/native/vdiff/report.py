"""What a VDiff found, and how it is shown: JSON and text as Vitess words them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from planner.cluster import SHARD

PENDING, STARTED, STOPPED, COMPLETED, ERROR = "pending", "started", "stopped", "completed", "error"
TRUNCATED = "...[TRUNCATED]"
_YEAR = 365 * 86400

RowText = Mapping[str, str]
"""One row of a sample: column name to its value as text."""


def rows_expected(state: str, compared: int, believed: int) -> int:
    """How many rows a table has, of which so many were compared and so many are believed to be there."""
    return compared if state == COMPLETED else max(compared, believed)


@dataclass(frozen=True)
class TableReport:
    """What was found in one table.

    `rows_compared` is the number of keys looked at on either side, the sum of the four counters after it.
    `repaired` of the matching ones were made so. `mismatch_samples` are pairs (source row, target row). `updated_at` is
    in seconds since the epoch.
    """

    table: str
    state: str = PENDING
    table_rows: int = 0
    rows_compared: int = 0
    matching: int = 0
    mismatched: int = 0
    extra_source: int = 0
    extra_target: int = 0
    mismatch_samples: tuple[tuple[RowText, RowText], ...] = ()
    extra_source_samples: tuple[RowText, ...] = ()
    extra_target_samples: tuple[RowText, ...] = ()
    updated_at: float = 0.0
    repaired: int = 0

    @property
    def differing(self) -> int:
        """How many rows differ, or are on one side alone."""
        return self.mismatched + self.extra_source + self.extra_target

    @property
    def has_mismatch(self) -> bool:
        """True when anything differs."""
        return self.differing > 0

    def counters(self) -> dict[str, Any]:
        """The report of the table on its shard, in Vitess's shape; also how it is kept in the sidecar."""
        shown: dict[str, Any] = {
            "TableName": self.table,
            "ProcessedRows": self.rows_compared,
            "MatchingRows": self.matching,
            "MismatchedRows": self.mismatched,
            "ExtraRowsSource": self.extra_source,
            "ExtraRowsTarget": self.extra_target,
        } | self._repaired()
        if self.extra_source_samples:
            shown["ExtraRowsSourceSample"] = [{"Row": _sorted(row)} for row in self.extra_source_samples]
        if self.extra_target_samples:
            shown["ExtraRowsTargetSample"] = [{"Row": _sorted(row)} for row in self.extra_target_samples]
        if self.mismatch_samples:
            shown["MismatchedRowsSample"] = [
                {"Source": {"Row": _sorted(source)}, "Target": {"Row": _sorted(target)}}
                for source, target in self.mismatch_samples
            ]
        return shown

    def _repaired(self) -> dict[str, int]:
        """Ours, not Vitess's: only there when something was repaired."""
        return {"RepairedRows": self.repaired} if self.repaired else {}

    def summary(self) -> dict[str, Any]:
        """The table's line of the summary, in Vitess's shape."""
        shown: dict[str, Any] = {
            "TableName": self.table,
            "State": self.state,
            "RowsCompared": self.rows_compared,
            "MatchingRows": self.matching,
            "MismatchedRows": self.mismatched,
            "ExtraRowsSource": self.extra_source,
            "ExtraRowsTarget": self.extra_target,
        } | self._repaired()
        if self.updated_at:
            shown["LastUpdated"] = time_text(self.updated_at)
        return shown


def table_report(table: str, state: str, table_rows: int, report: str, updated_at: float) -> TableReport:
    """The table report whose `counters` were kept as the JSON text `report`; "" for a table that has not started."""
    kept = json.loads(report) if report else {}
    return TableReport(
        table=table,
        state=state,
        table_rows=table_rows,
        rows_compared=kept.get("ProcessedRows", 0),
        matching=kept.get("MatchingRows", 0),
        mismatched=kept.get("MismatchedRows", 0),
        extra_source=kept.get("ExtraRowsSource", 0),
        extra_target=kept.get("ExtraRowsTarget", 0),
        mismatch_samples=tuple((s["Source"]["Row"], s["Target"]["Row"]) for s in kept.get("MismatchedRowsSample", ())),
        extra_source_samples=tuple(sample["Row"] for sample in kept.get("ExtraRowsSourceSample", ())),
        extra_target_samples=tuple(sample["Row"] for sample in kept.get("ExtraRowsTargetSample", ())),
        updated_at=updated_at,
        repaired=kept.get("RepairedRows", 0),
    )


@dataclass(frozen=True)
class VDiffReport:
    """One VDiff of `keyspace`.`workflow`. Times are in seconds since the epoch, None for not yet.

    `error` says why the state is error.
    """

    keyspace: str
    workflow: str
    uuid: str
    state: str
    tables: tuple[TableReport, ...] = ()
    started_at: float | None = None
    completed_at: float | None = None
    error: str = ""

    @property
    def rows_compared(self) -> int:
        """Rows compared so far, over all tables."""
        return sum(table.rows_compared for table in self.tables)

    @property
    def has_mismatch(self) -> bool:
        """True when anything differs in any table."""
        return any(table.has_mismatch for table in self.tables)

    @property
    def tells(self) -> bool:
        """True when there is something to tell of its tables: differences, or repairs."""
        return self.has_mismatch or any(table.repaired for table in self.tables)

    def progress(self, now: float) -> tuple[float, str]:
        """(percentage, ETA as text or "") at time `now`.

        Like Vitess: two decimals; an ETA only from 1 % on, and none that is more than a year away. But of tables that
        are done, what was compared counts, and not what was expected, and nothing is rounded on the way.
        """
        compared = self.rows_compared
        expected = sum(rows_expected(table.state, table.rows_compared, table.table_rows) for table in self.tables)
        percentage = min(100.0, round(compared / expected * 100, 2)) if any(t.table_rows for t in self.tables) else 0.0
        if percentage < 1 or self.started_at is None:
            return percentage, ""
        counted_at = max(table.updated_at for table in self.tables)
        if not self.started_at < counted_at <= now:
            counted_at = now
        left = (counted_at - self.started_at) / compared * (expected - compared)
        return percentage, time_text(counted_at + left) if left < _YEAR else ""

    def to_document(self, now: float, verbose: bool = False) -> dict[str, Any]:
        """The report in Vitess's JSON shape and order of keys.

        `TableSummary` and `Reports` are there when something differs or when `verbose`.
        """
        shown: dict[str, Any] = {
            "Workflow": self.workflow,
            "Keyspace": self.keyspace,
            "State": self.state,
            "UUID": self.uuid,
            "RowsCompared": self.rows_compared,
            "HasMismatch": self.has_mismatch,
            "Shards": SHARD,
            "StartedAt": "" if self.started_at is None else time_text(self.started_at),
        }
        if self.completed_at is not None:
            shown["CompletedAt"] = time_text(self.completed_at)
        if verbose or self.tells:
            tables = sorted(self.tables, key=lambda table: table.table)
            shown["TableSummary"] = {table.table: table.summary() for table in tables}
            shown["Reports"] = {table.table: {SHARD: table.counters()} for table in tables}
        if self.error:
            shown["Errors"] = {SHARD: self.error}
        if self.state == STARTED:
            percentage, eta = self.progress(now)
            shown["Progress"] = {"Percentage": percentage} | ({"ETA": eta} if eta else {})
        return shown

    def to_json(self, now: float, verbose: bool = False) -> str:
        """`to_document` as text, indented by tabs as Vitess does."""
        return json.dumps(self.to_document(now, verbose), indent="\t", ensure_ascii=False)

    def to_text(self, now: float, verbose: bool = False) -> str:
        """The summary that people read, as Vitess words it; with `verbose` also the samples of rows that differ."""
        lines = [f"VDiff Summary for {self.keyspace}.{self.workflow} ({self.uuid})", f"State:        {self.state}"]
        if self.error:
            lines.append(f"Error: (shard {SHARD}) {self.error}")
        lines += [
            f"RowsCompared: {self.rows_compared}",
            f"HasMismatch:  {str(self.has_mismatch).lower()}",
            f"StartedAt:    {'' if self.started_at is None else time_text(self.started_at)}",
        ]
        if self.state == STARTED:
            percentage, eta = self.progress(now)
            lines.append(f"Progress:     {percentage:.2f}%" + (f", ETA: {eta}" if eta else ""))
        if self.completed_at is not None:
            lines.append(f"CompletedAt:  {time_text(self.completed_at)}")
        if verbose or self.tells:
            for table in sorted(self.tables, key=lambda table: table.table):
                lines += _table_lines(table)
                lines += _sample_lines(table) if verbose else []
        return "\n".join([*lines, "", 'Use "--format=json" for more detailed output.'])


def _table_lines(table: TableReport) -> list[str]:
    lines = [
        f"Table {table.table}:",
        f"\tState:            {table.state}",
        f"\tProcessedRows:    {table.rows_compared}",
        f"\tMatchingRows:     {table.matching}",
    ]
    for name, count in (
        ("MismatchedRows:   ", table.mismatched),
        ("ExtraRowsSource:  ", table.extra_source),
        ("ExtraRowsTarget:  ", table.extra_target),
        ("RepairedRows:     ", table.repaired),
    ):
        if count:
            lines.append(f"\t{name}{count}")
    return lines


def _sample_lines(table: TableReport) -> list[str]:
    lines = []
    for source, target in table.mismatch_samples:
        lines += [f"\tdiffers, source:  {_row_text(source)}", f"\t         target:  {_row_text(target)}"]
    lines += [f"\tonly in source:   {_row_text(row)}" for row in table.extra_source_samples]
    lines += [f"\tonly in target:   {_row_text(row)}" for row in table.extra_target_samples]
    return lines


def _row_text(row: RowText) -> str:
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in sorted(row.items()))


def time_text(seconds: float) -> str:
    """``YYYY-MM-DD HH:MM:SS`` in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _sorted(row: RowText) -> dict[str, str]:
    return {name: row[name] for name in sorted(row)}
