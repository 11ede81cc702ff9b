"""movetables version."""

from __future__ import annotations

import typer

from executor.cli.bug import versions


def version(context: typer.Context) -> None:
    """Show the version of movetables, of Python and of every package it uses.

    Example: movetables version
    """
    for name, found in versions().items():
        context.obj.result(f"{name} {found}")
