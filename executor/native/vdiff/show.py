"""Reads what VDiffs of a workflow have found, and stops, resumes or forgets them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from executor.errors import Usage
from executor.native import sidecar
from executor.native.servers import Connection
from executor.native.vdiff import records
from executor.native.vdiff.report import PENDING, STARTED, STOPPED, VDiffReport
from planner.cluster import SHARD


def last(connection: Connection, keyspace: str, workflow: str) -> VDiffReport | None:
    """The newest VDiff of a workflow, or None."""
    found = _newest_first(connection, keyspace, workflow)
    return _report(connection, found[0]) if found else None


def every(connection: Connection, keyspace: str, workflow: str) -> list[VDiffReport]:
    """All VDiffs of a workflow, the newest first, without their tables."""
    return [
        VDiffReport(r.keyspace, r.workflow, r.uuid, r.state, (), r.started_at, r.completed_at, r.last_error)
        for r in _newest_first(connection, keyspace, workflow)
    ]


def one(connection: Connection, keyspace: str, workflow: str, uuid: str) -> VDiffReport:
    """The VDiff `uuid`. Raises MovetablesError when there is none."""
    return _report(connection, records.require(connection, keyspace, workflow, uuid))


def _report(connection: Connection, record: records.VDiffRecord) -> VDiffReport:
    report = records.report(connection, record)
    if record.state == STARTED and not records.is_running(connection, record.uuid):
        where = f"{record.keyspace}.{record.workflow} {record.uuid}"
        return replace(report, error=f"the process that ran it has ended; go on with: movetables vdiff resume {where}")
    return report


def stop(connection: Connection, keyspace: str, workflow: str, uuid: str) -> None:
    """Asks the process that runs the VDiff `uuid` to stop; one that has ended stays as it is."""
    record = records.require(connection, keyspace, workflow, uuid)
    if record.state in (PENDING, STARTED):
        records.set_state(connection, record.id, STOPPED)


def delete(connection: Connection, keyspace: str, workflow: str, which: str) -> int:
    """Forgets the VDiff `which`, or all of them for ``all``; returns how many. A running one stops by itself."""
    if which == "all":
        found = _newest_first(connection, keyspace, workflow)
    else:
        found = [records.require(connection, keyspace, workflow, which)]
    for record in found:
        records.delete(connection, record.id)
    return len(found)


def checked_uuid(text: str, words: Sequence[str]) -> str:
    """`text` if it is one of `words` or a UUID. Raises Usage, worded as Vitess does."""
    if text in words:
        return text
    try:
        return str(UUID(text))
    except ValueError as error:
        if not words:
            raise Usage(f"invalid UUID provided: {text}") from error
        valid = ", ".join(f"'{word}'" for word in words)
        raise Usage(
            f"invalid argument provided ({text}), valid arguments are {valid}{',' if len(words) > 1 else ''} "
            "or a valid UUID"
        ) from error


def list_json(reports: Sequence[VDiffReport]) -> str:
    """`show all` as JSON."""
    rows = [
        {"UUID": r.uuid, "Workflow": r.workflow, "Keyspace": r.keyspace, "Shard": SHARD, "State": r.state}
        for r in reports
    ]
    return json.dumps(rows, indent="\t")


def list_text(reports: Sequence[VDiffReport]) -> str:
    """`show all` as a grid."""
    rows = [("UUID", "Workflow", "Keyspace", "Shard", "State")]
    rows += [(r.uuid, r.workflow, r.keyspace, SHARD, r.state) for r in reports]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    line = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    drawn = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([line, drawn[0], line, *drawn[1:], line])


def _newest_first(connection: Connection, keyspace: str, workflow: str) -> list[records.VDiffRecord]:
    return records.newest_first(connection, keyspace, workflow) if sidecar.exists(connection) else []
