"""Runs a VDiff from start to end, or on from where an earlier process left off."""

from __future__ import annotations

import time
import uuid as uuids
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from executor import crashpoints
from executor.backend import Progress
from executor.errors import Interrupted, LockHeld, MovetablesError, Refused
from executor.native import sidecar
from executor.native.servers import Connection, Login, ServerError, connect, quote
from executor.native.stream.layout import describe_tables
from executor.native.vdiff import records
from executor.native.vdiff.compare import Readers, TableComparison
from executor.native.vdiff.confirm import Confirmer, Marking, require_running
from executor.native.vdiff.expected import Expected
from executor.native.vdiff.moment import same_moment
from executor.native.vdiff.options import VDiffOptions
from executor.native.vdiff.pairs import Pair, pairs_of
from executor.native.vdiff.patience import Patience
from executor.native.vdiff.repair import Repairer, require_repairable
from executor.native.vdiff.repair_whole import WholeRepairer
from executor.native.vdiff.report import COMPLETED, ERROR, PENDING, STARTED, STOPPED, TableReport, VDiffReport
from executor.native.vdiff.sides import Sides
from executor.native.vdiff.whole import WholeComparison, repaired

SAVE_SECONDS = 1.0
RESUMABLE_SECONDS = 3600.0
"""An unfinished VDiff that was touched longer ago is not continued by itself: what it compared may be out of date."""


def run_vdiff(
    source: Login,
    target: Login,
    keyspace: str,
    workflow: str,
    *,
    tables: Sequence[str] | None = None,
    progress: Progress | None = None,
    options: VDiffOptions | None = None,
    uuid: str | None = None,
    read_source: Login | None = None,
    read_target: Login | None = None,
) -> VDiffReport:
    """Compares `tables` (None: all) of the workflow of `keyspace`, and returns what was found.

    `source` and `target` are the primaries of both keyspaces; `read_source` and `read_target` are replicas of theirs to
    read ranges from, where wanted. The VDiff `uuid` is continued if it is there, with the
    tables and options it was created with, and created if not. Without `uuid`, an unfinished one of the last hour with
    the same tables and options, that nobody runs, is continued.

    Returns a report in state completed, or stopped when someone stopped it meanwhile; differences are no error here.
    Raises Refused when a table is not fit to be compared, LockHeld when another process runs this VDiff,
    NotRunning or TimedOut when a difference cannot be told from what is late, Interrupted, ServerError (with
    `auto_retry` only one that trying again does not cure, or that lasts for `RETRY_SECONDS`).
    The reason is recorded, and all that was compared counts when the VDiff is resumed.
    """
    sides = Sides(source, target, read_source or source, read_target or target)
    patience = Patience(progress)
    while True:
        record = None
        try:
            with connect(target) as connection:
                require_fit(connection, keyspace, workflow)
                record = _record(connection, keyspace, workflow, tables, options, uuid)
                uuid = record.uuid
                with records.exclusive(connection, uuid):
                    return _Run(sides, connection, record, progress, patience).run()
        except ServerError as error:
            retry = record.options.auto_retry if record is not None else patience.began and uuid is not None
            if not (retry and error.curable):
                raise
            patience.wait(error)
        except LockHeld as error:
            if not patience.began:
                raise
            patience.wait(error)  # the server has not yet noticed that our lost connection is gone


def require_fit(connection: Connection, keyspace: str, workflow: str) -> sidecar.StreamRecord:
    """The stream of the workflow, if it can be compared along. Raises NotRunning."""
    found = sidecar.stream(connection, keyspace, workflow) if sidecar.exists(connection) else None
    return require_running(found, keyspace, workflow)


def _record(
    connection: Connection,
    keyspace: str,
    workflow: str,
    tables: Sequence[str] | None,
    options: VDiffOptions | None,
    uuid: str | None,
) -> records.VDiffRecord:
    """The record to run: the one of `uuid`, an unfinished one, or a new one."""
    stream = require_fit(connection, keyspace, workflow)
    if uuid is not None and (found := records.find(connection, keyspace, workflow, uuid)) is not None:
        if found.state == COMPLETED:
            raise Refused(
                f"VDiff {uuid} of {keyspace}.{workflow} is completed",
                f"movetables vdiff create {keyspace}.{workflow} compares again",
            )
        if options is not None and options != found.options:
            raise Refused(
                f"VDiff {uuid} of {keyspace}.{workflow} is there already, with other options",
                f"go on with it as it is: movetables vdiff resume {keyspace}.{workflow} {uuid}",
            )
        return found
    unknown = sorted(set(tables or ()) - set(stream.tables))
    if unknown:
        raise Refused(
            f"workflow {keyspace}.{workflow} does not move {', '.join(unknown)}",
            f"its tables are {', '.join(stream.tables)}",
        )
    names = sorted(tables or stream.tables)
    options = options or VDiffOptions()
    if uuid is None and (unfinished := _unfinished(connection, keyspace, workflow, names, options)) is not None:
        return unfinished
    if options.update_table_stats:
        for name in names:
            connection.query(f"ANALYZE TABLE {quote(stream.db_name)}.{quote(name)}")
    rows = {table.name: table.rows for table in describe_tables(connection, stream.db_name, names)}
    return records.create(
        connection,
        keyspace,
        workflow,
        uuid or str(uuids.uuid4()),
        {name: rows.get(name, 0) for name in names},
        options,
    )


def _unfinished(
    connection: Connection, keyspace: str, workflow: str, names: Sequence[str], options: VDiffOptions
) -> records.VDiffRecord | None:
    for record in records.newest_first(connection, keyspace, workflow)[:1]:
        report = records.report(connection, record)
        touched = max((table.updated_at for table in report.tables), default=0.0)
        if (
            record.state in (PENDING, STARTED)
            and record.options == options
            and sorted(table.table for table in report.tables) == list(names)
            and time.time() - touched < RESUMABLE_SECONDS
            and not records.is_running(connection, record.uuid)
        ):
            return record
    return None


class _Stopped(Exception):
    """Somebody stopped or deleted the VDiff."""


class _Run:
    def __init__(
        self,
        sides: Sides,
        connection: Connection,
        record: records.VDiffRecord,
        progress: Progress | None,
        patience: Patience,
    ) -> None:
        self._sides = sides
        self._patience = patience
        self._connection = connection
        self._record = record
        self._progress = progress
        self._saved = 0.0
        self._expected: Expected

    def run(self) -> VDiffReport:
        identity = self._record.id
        records.start(self._connection, identity)
        try:
            self._compare()
        except _Stopped:
            return self._report(STOPPED)
        except Interrupted:
            records.set_state(self._connection, identity, PENDING)
            raise
        except MovetablesError as error:
            self._fail(error)
            raise
        records.complete(self._connection, identity)
        return self._report(COMPLETED)

    def _report(self, state: str) -> VDiffReport:
        record = records.find(self._connection, self._record.keyspace, self._record.workflow, self._record.uuid)
        return records.report(self._connection, record or replace(self._record, state=state))

    def _fail(self, error: MovetablesError) -> None:
        try:
            with connect(self._sides.target) as connection:  # the other one may be what broke
                records.fail(connection, self._record.id, str(error))
        except ServerError:
            return  # the record stays started, and nobody holds its lock: it can be resumed like that

    def _check(self) -> None:
        if self._progress is not None:
            self._progress.check_interrupt()

    def _waiting(self, text: str) -> None:
        if text and self._progress is not None:
            self._progress.update(text, reason=text)
        self._check()

    def _connect_source(self) -> Connection:
        return connect(self._sides.source)

    def _connect_target(self) -> Connection:
        return connect(self._sides.target)

    def _connect_repair(self) -> Connection:
        return connect(self._sides.target, apply=True, local_files=True)

    def _compare(self) -> None:
        record = self._record
        stream = require_fit(self._connection, record.keyspace, record.workflow)
        report = records.report(self._connection, record)
        with self._connect_source() as source:
            if not sidecar.exists(source):
                sidecar.ensure(source)
            pairs = pairs_of(source, self._connection, stream, [table.table for table in report.tables])
        with ExitStack() as stack:
            self._expected = Expected(
                lambda: connect(self._sides.read_target),
                [pairs[table.table].target for table in report.tables],
                report.tables,
                record.options.limit,
            )
            stack.callback(self._expected.close)
            marking = Marking(
                self._connect_source,
                self._connect_target,
                record.keyspace,
                record.workflow,
                record.options.filtered_replication_wait_time,
                self._waiting,
            )
            stack.callback(marking.close)
            self._sides.check_replicas(marking, self._check)
            confirmer = Confirmer(self._connect_source, self._connect_target, marking)
            stack.callback(confirmer.close)
            readers = Readers(lambda: connect(self._sides.read_source), lambda: connect(self._sides.read_target))
            stack.callback(readers.close)
            repairer = None
            if record.options.repair:
                require_repairable(record.workflow)
                repairer = Repairer(
                    self._connect_source, self._connect_repair, marking, record.keyspace, record.workflow
                )
                stack.callback(repairer.close)
            self._compare_tables(pairs, report.tables, readers, confirmer, repairer, marking)

    def _compare_tables(
        self,
        pairs: Mapping[str, Pair],
        tables: Sequence[TableReport],
        readers: Readers,
        confirmer: Confirmer,
        repairer: Repairer | None,
        marking: Marking,
    ) -> None:
        last_keys = records.last_keys(self._connection, self._record)
        done = [table for table in tables if table.state == COMPLETED]
        for table in tables:
            if table.state == COMPLETED:
                continue
            pair, started = pairs[table.table], replace(table, state=STARTED)
            if pair.whole:
                done.append(self._compare_whole(pair, started, marking, done))
                continue
            comparison = TableComparison(
                readers,
                confirmer,
                repairer,
                pair.source,
                pair.target,
                self._record.options,
                started,
                last_keys[table.table],
                pair.chunk_rows,
            )
            self._compare_table(comparison, done)
            done.append(comparison.report)

    def _compare_whole(
        self,
        pair: Pair,
        table: TableReport,
        marking: Marking,
        done: Sequence[TableReport],
    ) -> TableReport:
        if self._record.options.limit is not None:
            raise Refused(
                f"table {table.table} has no key along which both sides could end after so many rows",
                "leave --limit out, or name other tables with --tables",
            )
        records.save_table(self._connection, self._record.id, table, None)

        def tell(_: str) -> None:
            if time.monotonic() - self._saved >= SAVE_SECONDS:
                self._saved = time.monotonic()
                self._tell(table, done)
                self._count(table.table)
                self._heed_stop()
            self._check()

        found, ended = table, ERROR
        try:
            comparison = self._look_at_whole(pair, table, marking, tell)
            found = comparison.report
            if comparison.differing:
                repairer = WholeRepairer(
                    self._connect_source, self._connect_repair, marking, self._record.keyspace, self._record.workflow
                )
                repairer.repair(pair, comparison.differing)
                found = repaired(found, self._look_at_whole(pair, table, marking, tell).report)
            ended = COMPLETED
            self._patience.renew()
        except _Stopped:
            ended = STOPPED
            raise
        except Interrupted:
            ended = PENDING
            raise
        finally:
            found = replace(found, state=ended)
            if self._connection.open:
                records.save_table(self._connection, self._record.id, found, None)
            crashpoints.reached("vdiff.table")
        return found

    def _look_at_whole(
        self, pair: Pair, table: TableReport, marking: Marking, tell: Callable[[str], None]
    ) -> WholeComparison:
        with same_moment(self._connect_source, self._connect_target, pair.source, marking) as (source, target):
            comparison = WholeComparison(source, target, pair, self._record.options, table, tell)
            comparison.run()
        return comparison

    def _compare_table(self, comparison: TableComparison, done: Sequence[TableReport]) -> None:
        ended = ERROR
        try:
            for _ in comparison.chunks():
                self._patience.renew()
                self._tell(comparison.report, done)
                if time.monotonic() - self._saved >= SAVE_SECONDS:
                    self._save(comparison)
                    crashpoints.reached("vdiff.saved")
                    self._count(comparison.report.table)
                    self._heed_stop()
                self._check()
            ended = COMPLETED
        except _Stopped:
            ended = STOPPED
            raise
        except Interrupted:
            ended = PENDING
            raise
        finally:
            comparison.report = replace(comparison.report, state=ended)
            if self._connection.open:
                self._save(comparison)
            crashpoints.reached("vdiff.table")

    def _save(self, comparison: TableComparison) -> None:
        records.save_table(self._connection, self._record.id, comparison.report, comparison.last_key)
        self._saved = time.monotonic()

    def _heed_stop(self) -> None:
        if records.state(self._connection, self._record.id) != STARTED:
            raise _Stopped

    def _tell(self, report: TableReport, done: Sequence[TableReport]) -> None:
        if self._progress is not None:
            compared, total, rate, eta = self._expected.progress(done, report)
            self._progress.update(f"comparing {report.table}", done=compared, total=total, rate=rate, eta=eta)

    def _count(self, table: str) -> None:
        records.save_rows(self._connection, self._record.id, self._expected.look(table))
