"""movetables plan."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from executor.cli.environment import beside, open_inventory, open_plan, opened
from executor.cli.options import PlanFile, PlanInventory, Variables, parse_variables
from executor.cli.planning import refusal_error
from executor.cli.terminal import Terminal
from executor.errors import CHANGES_PRESENT, Usage, exit_code_for
from planner.plan import Plan
from planner.plan import plan as make_plan
from planner.render import graph, json, markdown, text
from planner.step import Action


class PlanFormat(StrEnum):
    """Values of --format."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    DOT = "dot"
    MERMAID = "mermaid"


def plan(
    context: typer.Context,
    plan_file: PlanFile,
    inventory: PlanInventory = None,
    var: Variables = None,
    output: Annotated[PlanFormat, typer.Option("--format", help="How to show it.")] = PlanFormat.TEXT,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Also keep the plan as JSON, for `apply FILE`.")
    ] = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 2 if a step would change anything.")
    ] = False,
    max_bytes: Annotated[
        int, typer.Option("--max-bytes", min=1000, help="Size that Markdown is cut to, for comments.")
    ] = markdown.MAX_BYTES,
    show_unchanged: Annotated[
        bool, typer.Option("--show-unchanged", help="List what is already as desired too.")
    ] = False,
) -> int:
    """Show the steps from the cluster as it is to the cluster as the plan wants it. Changes nothing.

    Example: movetables plan plans/commerce/204_switch_writes.yaml

    Example: movetables plan plans/commerce/204_switch_writes.yaml --format markdown --out switch.json
    """
    terminal: Terminal = context.obj
    environment = open_inventory(beside(plan_file, inventory))
    document = open_plan(plan_file, environment, parse_variables(var))
    with opened(environment) as backend:
        made = make_plan(document, backend.observe())
    given = f" -i {inventory}" if inventory else ""
    if output is PlanFormat.TEXT:
        terminal.result(text.render(made, paint=terminal.paint_out, show_unchanged=show_unchanged))
    elif output is PlanFormat.JSON:
        terminal.result(json.render(made))
    elif output is PlanFormat.MARKDOWN:
        command = f"movetables apply {plan_file}{given} --approve {made.fingerprint[:12]}"
        terminal.result(markdown.render(made, max_bytes=max_bytes, apply_command=command))
    else:
        terminal.result(graph.dot(made) if output is PlanFormat.DOT else graph.mermaid(made))
    error = refusal_error(made)
    if out is not None:
        _keep(out, json.render(made))
        if error is None:
            terminal.note(f"Kept in {out}. To apply exactly this: movetables apply {out}{given}")
    if error is not None:
        return exit_code_for(error)
    return CHANGES_PRESENT if detailed_exitcode and changes(made) else 0


def changes(made: Plan) -> bool:
    """What --detailed-exitcode calls a change: at least one step that would write, which verifying does not."""
    return any(step.action is not Action.VERIFY for step in made.steps)


def _keep(path: Path, content: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)  # the file may have been there with other rights
            file.write(content)
    except OSError as error:
        raise Usage(f"--out {path} cannot be written: {error.strerror}", f"ls -ld {path.parent}") from error
