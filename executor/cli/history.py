"""movetables history."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from executor.cli.environment import open_inventory, opened
from executor.cli.options import DEFAULT_INVENTORY, Format, Inventory, TextOrJson
from executor.cli.terminal import Terminal, table
from executor.journal import RunRecord, StepRecord, find_run, killed_runs, runs, steps_of


def history(
    context: typer.Context,
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Id of a run, or how it begins.")] = None,
    inventory: Inventory = DEFAULT_INVENTORY,
    output: Format = TextOrJson.TEXT,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many runs to list.")] = 20,
) -> None:
    """List what was applied, newest first; or every step of one run.

    Example: movetables history -i plans/commerce/inventory.yaml

    Example: movetables history 5f2c -i plans/commerce/inventory.yaml --format json
    """
    terminal: Terminal = context.obj
    with opened(open_inventory(inventory)) as backend:
        connection = backend.coordination().connection()
        killed = {record.id for record in killed_runs(connection)}
        found = runs(connection, limit) if run is None else (find_run(connection, run),)
        steps = () if run is None else steps_of(connection, found[0].id)
    if output is TextOrJson.JSON:
        data = [asdict(record) | {"killed": record.id in killed} for record in found]
        whole = data if run is None else data[0] | {"steps": [asdict(step) for step in steps]}
        terminal.result(json.dumps(whole, indent=2))
    elif run is not None:
        terminal.result(_one(found[0], steps, found[0].id in killed))
    elif not found:
        terminal.result("Nothing was applied yet.")
    else:
        rows = [_row(record, record.id in killed) for record in found]
        terminal.result(table(("RUN", "STARTED", "TOOK", "STATE", "PLAN", "BY", "MESSAGE"), rows))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _took(started: float | None, ended: float | None) -> str:
    return f"{ended - started:.1f}s" if started is not None and ended is not None else "-"


def _state(record: RunRecord, killed: bool) -> str:
    return "killed" if killed else record.state


def _row(record: RunRecord, killed: bool) -> tuple[str, ...]:
    first = record.message.partition("\n")[0]
    return (
        record.id[:8],
        _time(record.started_at),
        _took(record.started_at, record.ended_at),
        _state(record, killed),
        record.plan,
        record.holder,
        first,
    )


def _one(record: RunRecord, steps: tuple[StepRecord, ...], killed: bool) -> str:
    lines = [
        f"Run:         {record.id}",
        f"Plan:        {record.plan}",
        f"Fingerprint: {record.fingerprint}",
        f"By:          {record.holder}",
        f"Command:     {record.command}",
        f"Started:     {_time(record.started_at)} UTC",
        f"Took:        {_took(record.started_at, record.ended_at)}",
        f"State:       {_state(record, killed)}",
    ]
    lines += [f"Message:     {record.message}"] if record.message else []
    rows = [
        (str(step.position), step.step, step.state, _took(step.started_at, step.ended_at), step.message.split("\n")[0])
        for step in steps
    ]
    return "\n".join(lines) + "\n\n" + table(("#", "STEP", "STATE", "TOOK", "MESSAGE"), rows)
