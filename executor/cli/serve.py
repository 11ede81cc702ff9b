"""movetables serve, and the process that each of its roles runs in."""

from __future__ import annotations

from typing import Annotated

import typer

from executor.cli.environment import open_inventory
from executor.cli.options import DEFAULT_INVENTORY, Inventory


def serve(inventory: Inventory = DEFAULT_INVENTORY) -> None:
    """Run the streams, the health checks and the gateway, until stopped.

    It holds nothing that is not in the topology, the sidecars or the binlogs: it may be killed and started at any time.

    Example: movetables serve -i plans/commerce/inventory.yaml
    """
    from executor.native.local.serve import run  # the whole engine: not to be loaded by other commands

    run(open_inventory(inventory))


def serve_child(
    role: Annotated[str, typer.Argument(help="What this process does.")],
    inventory: Inventory = DEFAULT_INVENTORY,
) -> None:
    """Run one role of serve. Started by serve."""
    from executor.native.local.roles import run_role  # the whole engine: not to be loaded by other commands

    run_role(role, open_inventory(inventory))
