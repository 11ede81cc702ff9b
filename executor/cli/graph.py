"""movetables graph."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from executor.cli.environment import beside, open_inventory, open_plan, opened
from executor.cli.options import PlanFile, PlanInventory, Variables, parse_variables
from executor.cli.planning import is_saved, open_saved
from planner.plan import plan as make_plan
from planner.render import graph as draw


class GraphFormat(StrEnum):
    """Values of --format."""

    DOT = "dot"
    MERMAID = "mermaid"


def graph(
    context: typer.Context,
    plan_file: PlanFile,
    inventory: PlanInventory = None,
    var: Variables = None,
    output: Annotated[GraphFormat, typer.Option("--format", help="For Graphviz, or for Markdown.")] = GraphFormat.DOT,
) -> None:
    """Draw the steps of a plan, or of a saved plan, as a graph.

    Example: movetables graph plans/commerce/205_complete.yaml | dot -Tsvg > plan.svg
    """
    if is_saved(plan_file):
        made = open_saved(plan_file)
    else:
        environment = open_inventory(beside(plan_file, inventory))
        document = open_plan(plan_file, environment, parse_variables(var))
        with opened(environment) as backend:
            made = make_plan(document, backend.observe())
    context.obj.result(draw.dot(made) if output is GraphFormat.DOT else draw.mermaid(made))
