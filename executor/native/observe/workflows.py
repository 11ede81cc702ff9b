"""The workflows whose streams live on one primary."""

from __future__ import annotations

import time

from executor.native import sidecar
from executor.native.servers import Connection
from executor.native.topology import TopologyState
from executor.native.vdiff.summary import latest
from planner.cluster import StreamState, TableCopy, Workflow


def observe_workflows(connection: Connection, keyspace: str, tablet: str, state: TopologyState) -> tuple[Workflow, ...]:
    """The workflows of `keyspace`, whose primary `tablet` is behind `connection`. Raises ServerError."""
    if not sidecar.exists(connection):
        return ()
    return tuple(_workflow(connection, record, tablet, state) for record in sidecar.streams(connection, keyspace))


def _workflow(connection: Connection, record: sidecar.StreamRecord, tablet: str, state: TopologyState) -> Workflow:
    rows = connection.query(
        f"SELECT table_name, rows_copied, rows_total, done FROM {sidecar.SCHEMA}.copy_state "
        "WHERE vrepl_id=%s ORDER BY table_name",
        [record.id],
    )
    copying = record.state is StreamState.COPYING
    now = time.time()
    cutover = state.cutover(record.keyspace, record.workflow)
    return Workflow(
        name=record.workflow,
        source=record.source_keyspace,
        target=record.keyspace,
        tables=tuple(sorted(record.tables)),
        state=record.state,
        message=record.message,
        frozen=record.frozen,
        position=record.pos,
        lag=lag_of(record, float(connection.value("SELECT UNIX_TIMESTAMP(NOW(6))"))),
        copies=tuple(
            TableCopy(row["table_name"], row["rows_copied"], max(row["rows_total"], row["rows_copied"]),
                      bool(row["done"]))
            for row in rows
        ),
        rate=record.copy_rate if copying and record.copy_rate > 0 else None,
        eta=max(0.0, record.copy_end - now) if copying and record.copy_end > 0 else None,
        throttled=record.reason_throttled if copying else "",
        vdiff=latest(connection, record.keyspace, record.workflow),
        cutover="" if cutover is None else cutover.phase,
        tablet=tablet,
    )  # fmt: skip


def lag_of(record: sidecar.StreamRecord, now: float) -> float | None:
    """Seconds that the stream is at most behind its source at `now`, in the target's clock; None while it does not run.

    Never 0 while behind: it is counted from the last moment at which the stream is known to have had everything (the
    source's heartbeat, twice a second when it is idle), or from the source's time of the last commit applied. That
    time comes in whole seconds, so a stream that keeps up shows less than two.
    """
    if record.state not in (StreamState.RUNNING, StreamState.COPYING):
        return None
    known = max(record.time_heartbeat, record.transaction_timestamp)
    return None if known == 0 else max(0.0, now - known)
