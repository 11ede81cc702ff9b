"""movetables show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from executor.cli.environment import open_inventory, opened
from executor.cli.options import DEFAULT_INVENTORY, Format, Inventory, TextOrJson
from executor.cli.planning import open_saved
from executor.cli.terminal import Terminal, table
from executor.progress import duration_text
from planner.checks import answers
from planner.cluster import Cluster, Tablet, Workflow
from planner.render import json as render_json
from planner.render import text as render_text
from planner.routing import traffic_state

FORMAT_VERSION = "1.0"


def show(
    context: typer.Context,
    saved_plan: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A plan that `plan --out` kept.", show_default=False)
    ] = None,
    inventory: Inventory = DEFAULT_INVENTORY,
    output: Format = TextOrJson.TEXT,
) -> None:
    """Show keyspaces, tablets and moves as they are now; or a saved plan, even if it is stale.

    Example: movetables show -i plans/commerce/inventory.yaml

    Example: movetables show kept.json
    """
    terminal: Terminal = context.obj
    if saved_plan is not None:
        plan = open_saved(saved_plan)
        terminal.result(
            render_json.render(plan)
            if output is TextOrJson.JSON
            else render_text.render(plan, paint=terminal.paint_out)
        )
        return
    with opened(open_inventory(inventory)) as backend:
        cluster = backend.observe()
    terminal.result(json.dumps(to_document(cluster), indent=2) if output is TextOrJson.JSON else to_text(cluster))


def to_document(cluster: Cluster) -> dict[str, Any]:
    """`cluster` in plain JSON values: schemas/show.schema.json."""
    return {
        "format_version": FORMAT_VERSION,
        "cluster": cluster.name,
        "keyspaces": [
            {
                "name": keyspace.name,
                "database": keyspace.database,
                "registered": keyspace.registered,
                "primary": primary.alias if (primary := cluster.primary(keyspace.name)) else None,
                "tables": [
                    {"name": t.name, "rows_estimate": t.rows, "data_length": t.data_length, "fenced": t.fenced}
                    for t in keyspace.tables
                ],
                "denied_tables": list(keyspace.denied_tables),
            }
            for keyspace in cluster.keyspaces
        ],
        "tablets": [
            {
                "alias": tablet.alias,
                "keyspace": tablet.keyspace,
                "type": tablet.type.value,
                "address": f"{tablet.host}:{tablet.port}",
                "managed": tablet.managed,
                "registered": tablet.registered,
                "running": tablet.running,
                "server": f"{tablet.server.flavor} {tablet.server.version}".strip() if tablet.server else "",
                "error": tablet.server.error if tablet.server else "",
            }
            for tablet in cluster.tablets
        ],
        "moves": [_move(cluster, workflow) for workflow in (*cluster.workflows, *cluster.unreadable)],
        "completed": [
            {"name": done.name, "source": done.source, "target": done.target, "tables": list(done.tables)}
            for done in cluster.completed
        ],
        "switching": list(cluster.switching),
    }


def _move(cluster: Cluster, workflow: Workflow) -> dict[str, Any]:
    copied = sum(copy.rows_copied for copy in workflow.copies)
    total = sum(copy.rows_copied if copy.done else max(copy.rows_total, copy.rows_copied) for copy in workflow.copies)
    # The traffic is told from the side of the move itself, whichever way this workflow streams.
    ends = (workflow.target, workflow.source) if workflow.reverse else (workflow.source, workflow.target)
    return {
        "workflow": f"{workflow.target}.{workflow.name}",
        "source": workflow.source,
        "target": workflow.target,
        "tables": list(workflow.tables),
        "state": "Frozen" if workflow.frozen else workflow.state.value,
        "message": "; ".join(part for part in (workflow.message, workflow.trouble) if part),
        "rows_copied": copied,
        "rows_total_estimate": total,
        "rate": workflow.rate,
        "eta": None if workflow.eta is None else round(workflow.eta, 1),
        "throttled": workflow.throttled,
        "lag": workflow.lag,
        "traffic_state": traffic_state(cluster.routing_rules, *ends, workflow.tables),
        "cutover": workflow.cutover,
        "tablet": workflow.tablet,
        "vdiff": {
            "uuid": workflow.vdiff.uuid,
            "state": workflow.vdiff.state,
            "has_mismatch": workflow.vdiff.has_mismatch,
            "age": round(workflow.vdiff.age, 1),
            "rows_compared": workflow.vdiff.rows_compared,
        }
        if workflow.vdiff
        else None,
    }


def to_text(cluster: Cluster) -> str:
    """`cluster` for people."""
    parts = [f"Cluster {cluster.name}", "", _keyspaces(cluster), "", _tablets(cluster)]
    shown = (*cluster.workflows, *cluster.unreadable)
    for workflow in shown:
        parts += ["", _move_text(_move(cluster, workflow))]
    silent = [t for k in cluster.keyspaces if (t := cluster.primary(k.name)) is not None and not answers(t)]
    for tablet in silent:
        parts += ["", f"Moves into {tablet.keyspace} cannot be read: {tablet.alias} does not answer."]
    if not shown and not silent:
        parts += ["", "No moves."]
    if cluster.completed:
        rows = [(done.name, done.source, done.target, ", ".join(done.tables)) for done in cluster.completed]
        parts += ["", table(("COMPLETED", "SOURCE", "TARGET", "TABLES"), rows)]
    if cluster.switching:
        parts += ["", f"Being switched now: {', '.join(cluster.switching)}"]
    return "\n".join(parts)


def _keyspaces(cluster: Cluster) -> str:
    rows = []
    for keyspace in cluster.keyspaces:
        primary = cluster.primary(keyspace.name)
        tables = ", ".join(t.name + (" (denied)" if t.name in keyspace.denied_tables else "") for t in keyspace.tables)
        state = primary.alias if primary else ("-" if keyspace.registered else "not created")
        rows.append((keyspace.name, keyspace.database, state, tables or "-"))
    return table(("KEYSPACE", "DATABASE", "PRIMARY", "TABLES"), rows)


def _tablets(cluster: Cluster) -> str:
    rows = [
        (tablet.alias, tablet.keyspace, tablet.type.value, f"{tablet.host}:{tablet.port}", _health(tablet))
        for tablet in cluster.tablets
    ]
    return table(("TABLET", "KEYSPACE", "TYPE", "ADDRESS", "STATE"), rows)


def _health(tablet: Tablet) -> str:
    if not tablet.registered:
        return "not added"
    if answers(tablet):
        return "serving"
    error = tablet.server.error if tablet.server else ""
    return f"does not answer: {error}" if error else "does not answer"


def _worth_showing(move: dict[str, Any]) -> bool:
    return bool(move["message"]) and move["message"].lower() != move["state"].lower()


def _move_text(move: dict[str, Any]) -> str:
    lines = [
        f"Move {move['workflow']}: tables {', '.join(move['tables'])} from {move['source']} to {move['target']}",
        f"  state:   {move['state']}" + (f" ({move['message']})" if _worth_showing(move) else ""),
        f"  traffic: {move['traffic_state']}",
    ]
    if move["rows_total_estimate"]:
        percent = min(100, 100 * move["rows_copied"] // move["rows_total_estimate"])
        line = f"  copied:  {move['rows_copied']:,} of {move['rows_total_estimate']:,} rows ({percent} %)"
        line += f", {move['rate']:,.0f} rows/s" if move["rate"] else ""
        line += f", ETA {duration_text(move['eta'])}" if move["eta"] is not None else ""
        lines.append(line)
    if move["throttled"]:
        lines.append(f"  held:    throttled: {move['throttled']}")
    if move["state"] != "Frozen":
        lines.append("  lag:     " + (f"{move['lag']:.1f} s" if move["lag"] is not None else "unknown"))
    if move["cutover"]:
        lines.append(f"  cutover: unfinished, at {move['cutover']}; apply again to finish or undo it")
    if move["vdiff"]:
        verdict = "differences found" if move["vdiff"]["has_mismatch"] else "no differences"
        age = duration_text(move["vdiff"]["age"])
        lines.append(f"  vdiff:   {move['vdiff']['state']}, {verdict}, {age} ago")
    return "\n".join(lines)
