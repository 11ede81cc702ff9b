"""Compares one table chunk by chunk: digests of both sides in parallel, a closer look only where they differ."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from executor.native.servers import Connection, ServerError
from executor.native.stream.layout import TableLayout
from executor.native.vdiff.confirm import Confirmer, Verdict
from executor.native.vdiff.digest import (
    Connect,
    Digest,
    KeyValues,
    RowDigest,
    boundary,
    digest,
    prepare,
    range_rows,
)
from executor.native.vdiff.options import VDiffOptions
from executor.native.vdiff.pairs import MAX_ROWS, MIN_ROWS
from executor.native.vdiff.repair import Repairer
from executor.native.vdiff.report import RowText, TableReport
from executor.native.vdiff.samples import kept, sample_expression, shortened

_T = TypeVar("_T")

IN_FLIGHT = 3
LEAF_ROWS = 200
FAN_OUT = 16
SUSPECTS = 2_000
"""Not more suspects than about these are held at once: one range may hold all that the target has too much."""
ATTEMPTS = 5
QUICK_SECONDS, SLOW_SECONDS = 0.05, 1.0
"""What a chunk should take."""


@dataclass(frozen=True)
class Range:
    """The keys above `after` and not above `upto`, each a key as literals; None is open."""

    after: KeyValues | None
    upto: KeyValues | None


class Readers:
    """Reads in parallel: threads that each have one connection to either side."""

    def __init__(self, source: Connect, target: Connect, workers: int = 2 * IN_FLIGHT) -> None:
        self._connect = {"source": source, "target": target}
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="vdiff")
        self._local = threading.local()
        self._open: list[Connection] = []

    def submit(self, side: str, read: Callable[[Connection], _T]) -> Future[_T]:
        """Runs `read` with a connection to `side`, ``source`` or ``target``; again when that breaks."""
        return self._pool.submit(self._read, side, read)

    def close(self) -> None:
        """Waits for what is running and closes every connection."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for connection in self._open:
            connection.close()

    def _read(self, side: str, read: Callable[[Connection], _T]) -> _T:
        for _ in range(ATTEMPTS - 1):
            connection = self._connection(side)
            try:
                return read(connection)
            except ServerError as error:
                if not (error.lost or error.transient):
                    raise
                if error.lost:
                    connection.close()
        return read(self._connection(side))

    def _connection(self, side: str) -> Connection:
        connection: Connection | None = getattr(self._local, side, None)
        if connection is None or not connection.open:
            connection = prepare(self._connect[side]())
            setattr(self._local, side, connection)
            self._open.append(connection)
        return connection


class TableComparison:
    """Compares the table of `source` with the one of `target` from where `report` and `last_key` left off.

    `chunks` yields after every chunk, in key order; `report` and `last_key` then cover all keys up to there.
    """

    def __init__(
        self,
        readers: Readers,
        confirmer: Confirmer,
        repairer: Repairer | None,
        source: TableLayout,
        target: TableLayout,
        options: VDiffOptions,
        report: TableReport,
        last_key: KeyValues | None,
        chunk_rows: int,
    ) -> None:
        self._readers, self._confirmer, self._repairer = readers, confirmer, repairer
        self._source, self._target = source, target
        self._options = options
        self.report = report
        self.last_key = last_key
        self._chunk_rows = chunk_rows
        named = {column.name for column in source.key}
        self._samples = [column for column in source.columns if column.name in named or not options.only_pks]
        self._key_names = named
        self._shown = [sample_expression(column, options, column.name in named) for column in self._samples]
        self._suspects: dict[str, KeyValues] = {}

    def chunks(self) -> Iterator[None]:
        """Compares everything that is left. Raises what `Confirmer.verdicts` raises, and ServerError."""
        waiting: deque[tuple[Range, Future[Digest], Future[Digest]]] = deque()
        planned = self._ranges()
        while True:
            while len(waiting) < IN_FLIGHT and (chunk := next(planned, None)) is not None:
                waiting.append((chunk, *self._digests(chunk)))
            if not waiting:
                return
            chunk, source, target = waiting.popleft()
            before = self.report
            try:
                self._adapt(source.result(), target.result())
                self._take(chunk, source.result(), target.result())
            except BaseException:
                self.report = before  # half a chunk must not be counted: it is compared again after `last_key`
                raise
            self.last_key = chunk.upto or self.last_key
            yield

    def _ranges(self) -> Iterator[Range]:
        after = self.last_key
        left = None if self._options.limit is None else self._options.limit - self.report.rows_compared
        while left is None or left > 0:
            rows = self._chunk_rows if left is None else min(left, self._chunk_rows)
            upto = self._boundary("source", Range(after, None), rows)
            yield Range(after, upto)
            if upto is None:
                return
            after = upto
            left = None if left is None else left - rows

    def _adapt(self, source: Digest, target: Digest) -> None:
        """Makes the next chunks larger or smaller: what a server believes of its rows' size may be out of date."""
        seconds = max(source.seconds, target.seconds)
        if not source.whole or not target.whole or seconds > SLOW_SECONDS:
            self._chunk_rows = max(MIN_ROWS, self._chunk_rows // 2)
        elif seconds < QUICK_SECONDS:
            self._chunk_rows = min(MAX_ROWS, self._chunk_rows * 2)

    def _layout(self, side: str) -> TableLayout:
        return self._source if side == "source" else self._target

    def _boundary(self, side: str, keys: Range, rows: int) -> KeyValues | None:
        layout = self._layout(side)
        return self._readers.submit(side, lambda c: boundary(c, layout, keys.after, keys.upto, rows)).result()

    def _digests(self, keys: Range) -> tuple[Future[Digest], Future[Digest]]:
        return (
            self._readers.submit("source", lambda c: digest(c, self._source, keys.after, keys.upto)),
            self._readers.submit("target", lambda c: digest(c, self._target, keys.after, keys.upto)),
        )

    def _take(self, keys: Range, source: Digest, target: Digest) -> None:
        """Adds a range to the report, after a closer look if its digests differ."""
        if source.same(target):
            self._count(matching=source.count)
            return
        self._suspects.clear()
        self._narrow(keys, source, target)
        self._settle()

    def _settle(self) -> None:
        """Finds out which suspects differ, and adds them to the report."""
        suspects, self._suspects = self._suspects, {}
        wanted = self._shown if self._wants_samples() else ()
        verdicts = self._confirmer.verdicts(self._source, self._target, suspects, wanted)
        if self._repairer is not None:
            verdicts = self._repaired(self._repairer, suspects, verdicts, wanted)
        for verdict in verdicts:
            self._judge(verdict)

    def _repaired(
        self, repairer: Repairer, keys: dict[str, KeyValues], verdicts: list[Verdict], samples: Sequence[str]
    ) -> list[Verdict]:
        """`verdicts` after the rows that differ were rewritten, and looked at once more."""
        wrong = {verdict.identity: keys[verdict.identity] for verdict in verdicts if not verdict.same}
        if not wrong:
            return verdicts
        repairer.repair(self._source, self._target, list(wrong.values()))
        again = self._confirmer.verdicts(self._source, self._target, wrong, samples)
        repaired = self.report.repaired + sum(verdict.same for verdict in again)
        self.report = replace(self.report, repaired=repaired)
        return [verdict for verdict in verdicts if verdict.same] + again

    def _narrow(self, keys: Range, source: Digest, target: Digest) -> None:
        """Makes suspects of the rows of `keys` that seem to differ, and counts those that do not."""
        rows = max(source.count, target.count)
        if rows <= LEAF_ROWS:
            self._read_rows(keys)
            return
        larger = "source" if source.count >= target.count else "target"
        step = max(LEAF_ROWS, -(-rows // FAN_OUT))
        parts = list(self._split(larger, keys, step))
        for part, digests in [(part, self._digests(part)) for part in parts]:
            left, right = digests[0].result(), digests[1].result()
            if left.same(right):
                self._count(matching=left.count)
            else:
                self._narrow(part, left, right)

    def _split(self, side: str, keys: Range, step: int) -> Iterator[Range]:
        after = keys.after
        while (upto := self._boundary(side, Range(after, keys.upto), step)) is not None:
            yield Range(after, upto)
            after = upto
        yield Range(after, keys.upto)

    def _read_rows(self, keys: Range) -> None:
        reads = [
            self._readers.submit(side, lambda c, at=layout: range_rows(c, at, keys.after, keys.upto))  # type: ignore[misc]
            for side, layout in (("source", self._source), ("target", self._target))
        ]
        source, target = reads[0].result(), reads[1].result()
        matching = 0
        for identity in {**source, **target}:
            left, right = source.get(identity), target.get(identity)
            if left and right and left.hash == right.hash:
                matching += 1
            else:
                self._suspects[identity] = (left or right).key  # type: ignore[union-attr]
        self._count(matching=matching)
        if len(self._suspects) >= SUSPECTS:
            self._settle()

    def _wants_samples(self) -> bool:
        most = self._options.max_report_sample_rows
        report = self.report
        groups = (report.mismatch_samples, report.extra_source_samples, report.extra_target_samples)
        return most == 0 or any(len(samples) < most for samples in groups)

    def _judge(self, verdict: Verdict) -> None:
        source, target = verdict.source, verdict.target
        if verdict.same:
            self._count(matching=1 if source else 0)
        elif source and target:
            pair = (self._text(source), self._text(target))
            self._count(mismatched=1)
            self.report = replace(self.report, mismatch_samples=self._kept(self.report.mismatch_samples, pair))
        elif source:
            samples = self._kept(self.report.extra_source_samples, self._text(source))
            self._count(extra_source=1)
            self.report = replace(self.report, extra_source_samples=samples)
        elif target:
            samples = self._kept(self.report.extra_target_samples, self._text(target))
            self._count(extra_target=1)
            self.report = replace(self.report, extra_target_samples=samples)

    def _count(self, matching: int = 0, mismatched: int = 0, extra_source: int = 0, extra_target: int = 0) -> None:
        report = self.report
        self.report = replace(
            report,
            rows_compared=report.rows_compared + matching + mismatched + extra_source + extra_target,
            matching=report.matching + matching,
            mismatched=report.mismatched + mismatched,
            extra_source=report.extra_source + extra_source,
            extra_target=report.extra_target + extra_target,
        )

    def _kept(self, samples: tuple[_T, ...], sample: _T) -> tuple[_T, ...]:
        return kept(samples, [sample], self._options.max_report_sample_rows)

    def _text(self, row: RowDigest) -> RowText:
        return {
            column.name: shortened(column, value, self._options, column.name in self._key_names)
            for column, value in zip(self._samples, row.sample, strict=False)
        }
