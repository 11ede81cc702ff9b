"""movetables local: the embedded cluster."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from executor.cli.environment import open_inventory
from executor.cli.options import DEFAULT_INVENTORY, Format, Inventory, TextOrJson
from executor.cli.prompt import ask, require_terminal
from executor.cli.terminal import Terminal, table
from executor.native.local import up as cluster


class Server(StrEnum):
    """What the embedded cluster can be made of."""

    MARIADB = "mariadb"
    MYSQL = "mysql"


app = typer.Typer(
    help="The embedded cluster: real servers on this machine.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command("up")
def up(
    context: typer.Context,
    inventory: Inventory = DEFAULT_INVENTORY,
    server: Annotated[
        Server | None,
        typer.Option(
            "--server",
            help="Which servers to start where the inventory does not say; kept for later commands. mariadb at first.",
        ),
    ] = None,
) -> None:
    """Start the topology, the tablets that it knows, and serve. Whatever runs already is left alone.

    Example: movetables local up -i plans/commerce/inventory.yaml
    """
    terminal: Terminal = context.obj
    environment = open_inventory(inventory)
    cluster.up(environment, terminal.note, flavor=server.value if server is not None else "")
    listener = environment.gateway
    terminal.result(f"Cluster {environment.name} is up. Connect with: mysql -h {listener.host} -P {listener.port}")


@app.command("status")
def status(context: typer.Context, inventory: Inventory = DEFAULT_INVENTORY, output: Format = TextOrJson.TEXT) -> None:
    """Show every process of the cluster.

    Example: movetables local status -i plans/commerce/inventory.yaml
    """
    found = cluster.status(open_inventory(inventory))
    if output is TextOrJson.JSON:
        context.obj.result(json.dumps([asdict(row) for row in found], indent=2))
        return
    rows = [
        (row.name, row.kind, row.state, str(row.pid or "-"), str(row.port or "-"), str(row.restarts)) for row in found
    ]
    context.obj.result(table(("NAME", "KIND", "STATE", "PID", "PORT", "RESTARTS"), rows))


@app.command("down")
def down(context: typer.Context, inventory: Inventory = DEFAULT_INVENTORY) -> None:
    """Stop serve and every server. The data stays.

    Example: movetables local down -i plans/commerce/inventory.yaml
    """
    environment = open_inventory(inventory)
    cluster.down(environment, context.obj.note)
    context.obj.result(f"Cluster {environment.name} is down.")


@app.command("reset")
def reset(
    context: typer.Context,
    inventory: Inventory = DEFAULT_INVENTORY,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Stop everything and delete the data of the cluster.

    Example: movetables local reset -i plans/commerce/inventory.yaml --yes
    """
    environment = open_inventory(inventory)
    if environment.data_dir.exists() and not yes:
        require_terminal("--yes")
        ask(f"Everything in {environment.data_dir} would be deleted.", environment.name)
    cluster.reset(environment, context.obj.note)
    context.obj.result(f"Cluster {environment.name} is gone.")
