"""movetables validate."""

from __future__ import annotations

import typer

from executor.cli.environment import beside, open_inventory, open_plan
from executor.cli.options import PlanFile, PlanInventory, Variables, parse_variables


def validate(
    context: typer.Context,
    plan_file: PlanFile,
    inventory: PlanInventory = None,
    var: Variables = None,
) -> None:
    """Check a plan and its inventory without connecting to anything. Every mistake is shown as file:line:col.

    Example: movetables validate plans/commerce/202_move_tables.yaml
    """
    path = beside(plan_file, inventory)
    document = open_plan(plan_file, open_inventory(path), parse_variables(var))
    context.obj.result(f"{plan_file} is valid: plan {document.name}, with inventory {path}")
