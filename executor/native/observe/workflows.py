"""The workflows whose streams live on one primary, and what is known of those on one that does not answer."""

from __future__ import annotations

import time
from collections.abc import Sequence

from executor.native import sidecar
from executor.native.cutover.standstill import standstill
from executor.native.servers import Connection
from executor.native.stream.trouble import Trouble
from executor.native.topology import TopologyState
from executor.native.vdiff.summary import latest
from planner.cluster import StreamState, TableCopy, Workflow


def observe_workflows(
    connection: Connection, keyspace: str, tablet: str, state: TopologyState, troubles: Sequence[Trouble] = ()
) -> tuple[Workflow, ...]:
    """The workflows of `keyspace`, whose primary `tablet` is behind `connection`. Raises ServerError, WrongSidecar.

    `troubles` are what the streams' process has told of streams that cannot go on.
    """
    if not sidecar.exists(connection):
        return ()
    sidecar.check(connection)
    told = {(trouble.keyspace, trouble.workflow): trouble.text(time.time()) for trouble in troubles}
    return tuple(
        _workflow(connection, record, tablet, state, told.get((record.keyspace, record.workflow), ""))
        for record in sidecar.streams(connection, keyspace)
    )


def last_seen(trouble: Trouble, tablet: str) -> Workflow | None:
    """The workflow in `trouble` as its record was before its primary `tablet` went away, with the lag of today."""
    seen, now = trouble.seen, time.time()
    if seen is None:
        return None
    return Workflow(
        name=trouble.workflow,
        source=seen.source,
        target=trouble.keyspace,
        tables=seen.tables,
        state=seen.state,
        position=seen.position,
        lag=max(0.0, now - (seen.known or trouble.since)),
        trouble=trouble.text(now),
        tablet=tablet,
    )


def _workflow(
    connection: Connection, record: sidecar.StreamRecord, tablet: str, state: TopologyState, told: str
) -> Workflow:
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
        trouble=_trouble(connection, record, told),
        vdiff=latest(connection, record.keyspace, record.workflow),
        cutover="" if cutover is None else cutover.phase,
        tablet=tablet,
    )  # fmt: skip


def _trouble(connection: Connection, record: sidecar.StreamRecord, told: str) -> str:
    if record.state not in (StreamState.RUNNING, StreamState.COPYING):
        return ""
    return "; ".join(part for part in (told, standstill(connection, record)) if part)


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
