"""The records of VDiffs in the sidecar of a target primary: `vdiff` and `vdiff_table`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from executor.errors import LockHeld, MovetablesError
from executor.native.servers import Connection, Row
from executor.native.sidecar import SCHEMA
from executor.native.vdiff.options import VDiffOptions, from_json
from executor.native.vdiff.report import (
    COMPLETED,
    ERROR,
    PENDING,
    STARTED,
    TableReport,
    VDiffReport,
    table_report,
)


@dataclass(frozen=True)
class VDiffRecord:
    """One row of `vdiff`."""

    id: int
    uuid: str
    keyspace: str
    workflow: str
    state: str
    options: VDiffOptions
    last_error: str
    created_at: float
    started_at: float | None
    completed_at: float | None


def _record(row: Row) -> VDiffRecord:
    return VDiffRecord(
        row["id"],
        row["vdiff_uuid"],
        row["keyspace"],
        row["workflow"],
        row["state"],
        from_json(row["options"]),
        row["last_error"],
        row["created_at"],
        row["started_at"],
        row["completed_at"],
    )


def create(
    connection: Connection,
    keyspace: str,
    workflow: str,
    uuid: str,
    tables: Mapping[str, int],
    options: VDiffOptions,
) -> VDiffRecord:
    """Records a pending VDiff of `tables`, each with its estimated number of rows; returns it."""
    now = time.time()
    with connection.transaction():
        connection.execute(
            f"INSERT INTO {SCHEMA}.vdiff (vdiff_uuid, keyspace, workflow, state, options, last_error, created_at) "
            "VALUES (%s,%s,%s,%s,%s,'',%s)",
            [uuid, keyspace, workflow, PENDING, options.to_json(), now],
        )
        identity = connection.value("SELECT LAST_INSERT_ID()")
        for table, rows in tables.items():
            connection.execute(
                f"INSERT INTO {SCHEMA}.vdiff_table (vdiff_id, table_name, state, table_rows, report, updated_at) "
                "VALUES (%s,%s,%s,%s,'',%s)",
                [identity, table, PENDING, rows, now],
            )
    return VDiffRecord(identity, uuid, keyspace, workflow, PENDING, options, "", now, None, None)


def find(connection: Connection, keyspace: str, workflow: str, uuid: str) -> VDiffRecord | None:
    """The VDiff `uuid` of that workflow, or None."""
    row = connection.one(
        f"SELECT * FROM {SCHEMA}.vdiff WHERE vdiff_uuid=%s AND keyspace=%s AND workflow=%s", [uuid, keyspace, workflow]
    )
    return _record(row) if row else None


def newest_first(connection: Connection, keyspace: str, workflow: str) -> list[VDiffRecord]:
    """All VDiffs of a workflow, the newest first."""
    rows = connection.query(
        f"SELECT * FROM {SCHEMA}.vdiff WHERE keyspace=%s AND workflow=%s ORDER BY id DESC", [keyspace, workflow]
    )
    return [_record(row) for row in rows]


def report(connection: Connection, record: VDiffRecord) -> VDiffReport:
    """What a VDiff has found so far."""
    rows = connection.query(f"SELECT * FROM {SCHEMA}.vdiff_table WHERE vdiff_id=%s ORDER BY table_name", [record.id])
    tables = tuple(
        table_report(row["table_name"], row["state"], row["table_rows"], row["report"], row["updated_at"])
        for row in rows
    )
    return VDiffReport(
        record.keyspace,
        record.workflow,
        record.uuid,
        record.state,
        tables,
        record.started_at,
        record.completed_at,
        record.last_error,
    )


def last_keys(connection: Connection, record: VDiffRecord) -> dict[str, tuple[str, ...] | None]:
    """The highest key that was compared of each table, as literals; None before the first chunk."""
    rows = connection.query(f"SELECT table_name, lastpk FROM {SCHEMA}.vdiff_table WHERE vdiff_id=%s", [record.id])
    return {row["table_name"]: tuple(json.loads(row["lastpk"])) if row["lastpk"] else None for row in rows}


def save_table(connection: Connection, vdiff_id: int, table: TableReport, last_key: Sequence[str] | None) -> None:
    """Records how far a table is; everything up to `last_key` is in the counters of `table`."""
    connection.execute(
        f"UPDATE {SCHEMA}.vdiff_table SET state=%s, lastpk=%s, rows_compared=%s, mismatch=%s, report=%s, updated_at=%s "
        "WHERE vdiff_id=%s AND table_name=%s",
        [
            table.state,
            None if last_key is None else json.dumps(list(last_key)),
            table.rows_compared,
            table.has_mismatch,
            json.dumps(table.counters()),
            time.time(),
            vdiff_id,
            table.table,
        ],
    )


def save_rows(connection: Connection, vdiff_id: int, rows: Mapping[str, int]) -> None:
    """Records how many rows tables have."""
    for table, number in rows.items():
        connection.execute(
            f"UPDATE {SCHEMA}.vdiff_table SET table_rows=%s WHERE vdiff_id=%s AND table_name=%s",
            [number, vdiff_id, table],
        )


def state(connection: Connection, vdiff_id: int) -> str | None:
    """The state of a VDiff now; None when it was deleted."""
    value = connection.value(f"SELECT state FROM {SCHEMA}.vdiff WHERE id=%s", [vdiff_id])
    return None if value is None else str(value)


def start(connection: Connection, vdiff_id: int) -> None:
    """Marks a VDiff as started; its first start is kept."""
    connection.execute(
        f"UPDATE {SCHEMA}.vdiff SET state=%s, last_error='', started_at=IFNULL(started_at,%s) WHERE id=%s",
        [STARTED, time.time(), vdiff_id],
    )


def complete(connection: Connection, vdiff_id: int) -> None:
    """Marks a VDiff as completed."""
    connection.execute(
        f"UPDATE {SCHEMA}.vdiff SET state=%s, completed_at=%s WHERE id=%s", [COMPLETED, time.time(), vdiff_id]
    )


def fail(connection: Connection, vdiff_id: int, message: str) -> None:
    """Marks a VDiff as ended by an error."""
    connection.execute(
        f"UPDATE {SCHEMA}.vdiff SET state=%s, last_error=%s WHERE id=%s", [ERROR, message[:4000], vdiff_id]
    )


def set_state(connection: Connection, vdiff_id: int, state: str) -> None:
    """Marks a VDiff as `state`, one of pending and stopped; the running process sees it within about a second."""
    connection.execute(f"UPDATE {SCHEMA}.vdiff SET state=%s WHERE id=%s", [state, vdiff_id])


def delete(connection: Connection, vdiff_id: int) -> None:
    """Forgets a VDiff."""
    with connection.transaction():
        connection.execute(f"DELETE FROM {SCHEMA}.vdiff_table WHERE vdiff_id=%s", [vdiff_id])
        connection.execute(f"DELETE FROM {SCHEMA}.vdiff WHERE id=%s", [vdiff_id])


@contextmanager
def exclusive(connection: Connection, uuid: str) -> Iterator[None]:
    """Only one process at a time runs the VDiff `uuid`. Ends with the connection, so a killed process leaves nothing.

    Raises LockHeld.
    """
    name = f"mt.vdiff.{uuid}"
    if connection.value("SELECT GET_LOCK(%s, 0)", [name]) != 1:
        raise LockHeld(
            f"VDiff {uuid} is being run by another process", f"follow it with: movetables vdiff show ... {uuid}"
        )
    try:
        yield
    finally:
        if connection.open:
            connection.value("SELECT RELEASE_LOCK(%s)", [name])


def is_running(connection: Connection, uuid: str) -> bool:
    """True while a process runs the VDiff `uuid`."""
    return connection.value("SELECT IS_USED_LOCK(%s)", [f"mt.vdiff.{uuid}"]) is not None


def require(connection: Connection, keyspace: str, workflow: str, uuid: str) -> VDiffRecord:
    """The VDiff `uuid` of that workflow. Raises MovetablesError when there is none."""
    found = find(connection, keyspace, workflow, uuid)
    if found is None:
        raise MovetablesError(
            f"No vdiff {uuid} found for {keyspace}.{workflow}", f"movetables vdiff show {keyspace}.{workflow} all"
        )
    return found
