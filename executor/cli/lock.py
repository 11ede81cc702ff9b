"""movetables lock list, movetables lock break."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer

from executor.cli.environment import open_inventory, opened
from executor.cli.options import DEFAULT_INVENTORY, Format, Inventory, TextOrJson
from executor.cli.prompt import ask, require_terminal
from executor.cli.terminal import Terminal, table
from executor.errors import MovetablesError
from executor.lock import break_lock, holders

app = typer.Typer(
    help="Show who is applying, and end it.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=False,
)


@app.command("list")
def list_locks(
    context: typer.Context,
    inventory: Inventory = DEFAULT_INVENTORY,
    output: Format = TextOrJson.TEXT,
) -> None:
    """List the locks that are held now.

    Example: movetables lock list -i plans/commerce/inventory.yaml
    """
    with opened(open_inventory(inventory)) as backend:
        held = [holder for holder in holders(backend.coordination().connection()) if holder.alive]
    if output is TextOrJson.JSON:
        context.obj.result(json.dumps([asdict(holder) for holder in held], indent=2))
    elif not held:
        context.obj.result("No locks are held.")
    else:
        now = time.time()
        rows = [(h.name, h.run, h.holder, str(h.pid), f"{now - h.since:.0f}s", h.command) for h in held]
        context.obj.result(table(("LOCK", "RUN", "BY", "PID", "FOR", "COMMAND"), rows))


@app.command("break")
def break_locks(
    context: typer.Context,
    run: Annotated[str, typer.Option("--run", metavar="ID", help="The run that holds it; `lock list` shows it.")],
    inventory: Inventory = DEFAULT_INVENTORY,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take the locks away from a run, which stops before its next change.

    Example: movetables lock break --run 5f2c9a4e-... -i plans/commerce/inventory.yaml
    """
    terminal: Terminal = context.obj
    with opened(open_inventory(inventory)) as backend:
        connection = backend.coordination().connection()
        mine = [holder for holder in holders(connection) if holder.run == run]
        if not mine:
            raise MovetablesError(f"no lock of run {run} was found", f"movetables lock list -i {inventory}")
        if not yes:
            require_terminal("--yes")
            terminal.note(mine[0].text(time.time()))
            ask("Its locks would be taken away, and it would stop before its next change.", "break")
        freed = break_lock(connection, run)
    terminal.result(f"Broken: {', '.join(holder.name for holder in freed)}")
