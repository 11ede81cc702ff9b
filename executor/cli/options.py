"""Arguments that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from executor.errors import Usage

INVENTORY_VARIABLE = "MOVETABLES_INVENTORY"

PlanFile = Annotated[Path, typer.Argument(metavar="PLAN", help="The plan file.", show_default=False)]
Variables = Annotated[
    list[str] | None, typer.Option("--var", metavar="NAME=VALUE", help="Value of ${NAME} in the plan. May be repeated.")
]
PlanInventory = Annotated[
    Path | None,
    typer.Option(
        "--inventory",
        "-i",
        envvar=INVENTORY_VARIABLE,
        metavar="FILE",
        help="The inventory. inventory.yaml beside the plan unless given.",
        show_default=False,
    ),
]
Inventory = Annotated[
    Path,
    typer.Option("--inventory", "-i", envvar=INVENTORY_VARIABLE, metavar="FILE", help="The inventory."),
]
DEFAULT_INVENTORY = Path("inventory.yaml")


class TextOrJson(StrEnum):
    """Values of --format where there are two."""

    TEXT = "text"
    JSON = "json"


Format = Annotated[TextOrJson, typer.Option("--format", help="text for people, json for programs.")]


def parse_variables(given: list[str] | None) -> dict[str, str]:
    """``{name: value}`` of the --var options. Raises Usage for one that is not NAME=VALUE or is given twice."""
    values: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise Usage("--var needs NAME=VALUE", "for example: --var percent=10")
        if name in values:
            raise Usage(f"--var {name} is given twice")
        values[name] = value
    return values
