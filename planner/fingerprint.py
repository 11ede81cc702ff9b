"""The facts that a plan was decided by, and the fingerprint over them.

Only what does not change by itself: no row counts, positions, lag or free space. A copy that finishes between planning
and applying does not make a plan stale; a table that gains a column does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from planner.cluster import Cluster, StreamState, Table, Workflow
from planner.document import Move
from planner.moves import forward, reverse
from planner.step import Step
from planner.steps.registry import to_json

FORMAT_VERSION = "1.0"

Facts = Mapping[str, Any]
"""Facts by name; a name says what and where, such as ``table commerce.customer``. Values are plain JSON."""


def facts(cluster: Cluster, keyspaces: Sequence[str], moves: Sequence[Move]) -> dict[str, Any]:
    """The facts about `keyspaces` and `moves` (with resolved tables) on `cluster`, sorted by name."""
    found: dict[str, Any] = {"cluster": cluster.name}
    for name in sorted({*keyspaces, *(k for move in moves for k in (move.source, move.target))}):
        keyspace = cluster.keyspace(name)
        found[f"keyspace {name}"] = (
            {"registered": keyspace.registered, "database": keyspace.database, "empty": not keyspace.tables}
            if keyspace is not None
            else None
        )
        for tablet in cluster.tablets_of(name):
            found[f"tablet {tablet.alias}"] = {
                "address": f"{tablet.host}:{tablet.port}",
                "type": tablet.type.value,
                "registered": tablet.registered,
                "running": tablet.running,
            }
            if tablet.server is not None:
                server = asdict(tablet.server)
                del server["free_bytes"]
                found[f"server {tablet.alias}"] = server
    for move in moves:
        found.update(_move_facts(cluster, move))
    return {name: _json(found[name]) for name in sorted(found)}


def _move_facts(cluster: Cluster, move: Move) -> dict[str, Any]:
    found: dict[str, Any] = {
        f"workflow {move.target}.{move.name}": _workflow(forward(cluster, move)),
        f"workflow {move.source}.{move.reverse_name}": _workflow(reverse(cluster, move)),
    }
    for name in (move.source, move.target):
        keyspace = cluster.keyspace(name)
        for table in move.tables:
            live = keyspace.table(table) if keyspace is not None else None
            found[f"table {name}.{table}"] = _table(live) if live is not None else None
        if keyspace is not None:
            found[f"denied tables {name}: {move.name}"] = sorted(set(keyspace.denied_tables) & set(move.tables))
    for table in move.tables:
        found[f"routing rules {table}"] = {
            rule.from_table: rule.to_table
            for rule in cluster.routing_rules
            if rule.from_table.partition("@")[0] in (table, f"{move.source}.{table}", f"{move.target}.{table}")
        }
    found[f"completed {move.name}"] = [
        asdict(record) for record in cluster.completed if set(record.tables) & set(move.tables)
    ]
    return found


def _workflow(workflow: Workflow | None) -> dict[str, Any] | None:
    if workflow is None:
        return None
    streaming = workflow.state in (StreamState.COPYING, StreamState.RUNNING)
    return {
        "source": workflow.source,
        "tables": sorted(workflow.tables),
        "state": "streaming" if streaming else workflow.state.value,
        "frozen": workflow.frozen,
        "cutover": workflow.cutover,
    }


def _table(table: Table) -> dict[str, Any]:
    definition = asdict(table)
    for volatile in ("rows", "data_length", "empty"):
        del definition[volatile]
    return definition


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def fingerprint(document_sha256: str, found: Facts, steps: Sequence[Step]) -> str:
    """64 hex digits over the plan file's bytes, the facts and the steps: equal plans, equal fingerprints."""
    content = {
        "format_version": FORMAT_VERSION,
        "document": document_sha256,
        "facts": dict(found),
        "steps": [to_json(step) for step in steps],
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(then: Facts, now: Facts) -> tuple[tuple[str, Any, Any], ...]:
    """``(name, then, now)`` of every fact that has changed, sorted by name; None stands for a fact that is missing."""
    return tuple(
        (name, then.get(name), now.get(name)) for name in sorted({*then, *now}) if then.get(name) != now.get(name)
    )
