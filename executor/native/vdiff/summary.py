"""The newest VDiff of a workflow, as observing a cluster wants it."""

from __future__ import annotations

import time

from executor.native import sidecar
from executor.native.servers import Connection
from executor.native.vdiff import records
from planner.cluster import VDiffSummary


def latest(connection: Connection, keyspace: str, workflow: str) -> VDiffSummary | None:
    """The newest VDiff of a workflow that lives on this server, or None.

    `age` is in seconds since it completed, or since it was created while it has not.
    """
    if not sidecar.exists(connection):
        return None
    found = records.newest_first(connection, keyspace, workflow)
    if not found:
        return None
    report = records.report(connection, found[0])
    age = max(0.0, time.time() - (found[0].completed_at or found[0].created_at))
    return VDiffSummary(report.uuid, report.state, report.has_mismatch, age, report.rows_compared)
