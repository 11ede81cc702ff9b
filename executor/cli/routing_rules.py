"""movetables routing-rules."""

from __future__ import annotations

import json

import typer

from executor.cli.environment import open_inventory, opened
from executor.cli.options import DEFAULT_INVENTORY, Format, Inventory, TextOrJson
from executor.cli.terminal import table
from planner.cluster import RoutingRule


def as_vitess(rules: tuple[RoutingRule, ...]) -> dict[str, object]:
    """``{"rules": [{"from_table", "to_tables": [...]}]}``, sorted, as Vitess GetRoutingRules prints them."""
    return {"rules": [{"from_table": rule.from_table, "to_tables": [rule.to_table]} for rule in sorted(rules)]}


def routing_rules(
    context: typer.Context,
    inventory: Inventory = DEFAULT_INVENTORY,
    output: Format = TextOrJson.TEXT,
) -> None:
    """Show the routing rules that are in force.

    Example: movetables routing-rules -i plans/commerce/inventory.yaml --format json
    """
    with opened(open_inventory(inventory)) as backend:
        rules = backend.coordination().read().routing_rules
    if output is TextOrJson.JSON:
        context.obj.result(json.dumps(as_vitess(rules), indent=2))
    elif rules:
        rows = [(rule.from_table, rule.to_table) for rule in sorted(rules)]
        context.obj.result(table(("FROM TABLE", "TO TABLE"), rows))
    else:
        context.obj.result("No routing rules: every table is served by the keyspace that is asked.")
