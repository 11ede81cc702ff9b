"""Stands for the movetables command in tests of `serve`: `serve -i FILE` and `serve-child ROLE -i FILE`.

The roles streams and gateway only report that they are ready, so that what is tested is the supervisor and health.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from executor.native.local import roles, serve
from executor.native.local.cluster import LocalCluster
from executor.native.local.processes import write_pid_file
from planner.loading import load_inventory


def main(arguments: list[str]) -> None:
    """Runs the command."""
    file = Path(arguments[-1])
    inventory = load_inventory(file.read_text(), str(file), file.parent)
    if arguments[0] == "serve":
        serve.run(inventory, (sys.executable, __file__))
    elif arguments[1] == "health":
        roles.run_role("health", inventory)
    else:
        if os.environ.get("TEST_ROLE_FAILS") == arguments[1]:
            sys.exit(f"{arguments[1]} fails because the test wants it to")
        write_pid_file(serve.ready_file(LocalCluster(inventory), arguments[1]), os.getpid())
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main(sys.argv[1:])
