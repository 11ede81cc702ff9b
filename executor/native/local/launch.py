"""``python -m executor.native.local.launch``: what serve and its roles are started with.

It understands `serve -i FILE` and `serve-child ROLE -i FILE` as the movetables command does, and loads a third of its
modules: a killed gateway is back half a second sooner.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from executor.errors import MovetablesError, Usage, exit_code_for
from executor.native.local import serve
from executor.native.local.roles import run_role
from planner.diagnostic import DocumentErrors
from planner.inventory import Inventory
from planner.loading import load_inventory


def main(arguments: Sequence[str]) -> int:
    """Runs the command and returns the exit code. What goes wrong is written to stderr, which is a log."""
    try:
        match arguments:
            case ["serve", "-i", file]:
                serve.run(_inventory(file))
            case ["serve-child", role, "-i", file]:
                run_role(role, _inventory(file))
            case _:
                raise Usage(f"expected serve -i FILE or serve-child ROLE -i FILE, not {' '.join(arguments)}")
    except MovetablesError as error:
        print("error:", error.message, f"({error.hint})" if error.hint else "", file=sys.stderr)
        return exit_code_for(error)
    except KeyboardInterrupt:
        return 0
    return 0


def _inventory(file: str) -> Inventory:
    try:
        return load_inventory(Path(file).read_text(encoding="utf-8"), file, Path(os.path.abspath(file)).parent)
    except (OSError, DocumentErrors) as error:
        raise MovetablesError(f"the inventory {file} cannot be read: {error}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
