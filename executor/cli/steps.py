"""movetables steps."""

from __future__ import annotations

import json

import typer

from executor.cli.options import Format, TextOrJson
from executor.cli.terminal import table
from planner.steps.registry import STEP_KINDS


def steps(context: typer.Context, output: Format = TextOrJson.TEXT) -> None:
    """List the kinds of steps that a plan may have.

    Example: movetables steps
    """
    rows = [
        (kind, step.action.value, "yes" if step.irreversible else "no", step.summary)
        for kind, step in STEP_KINDS.items()
    ]
    header = ("kind", "action", "irreversible", "summary")
    if output is TextOrJson.JSON:
        context.obj.result(json.dumps([dict(zip(header, row, strict=True)) for row in rows], indent=2))
    else:
        context.obj.result(table(tuple(word.upper() for word in header), rows))
