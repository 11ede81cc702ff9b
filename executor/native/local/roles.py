"""What runs inside each child process of `serve`. A role's modules are only loaded by its own process."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time

from executor.errors import MovetablesError
from executor.native.local.cluster import LocalCluster
from executor.native.local.processes import write_pid_file
from executor.native.local.serve import PIPE_VARIABLE, ROLES, ready_file
from executor.native.logins import Logins
from planner.inventory import Inventory


def run_role(role: str, inventory: Inventory) -> None:
    """Does the work of `role` until SIGTERM or SIGINT, or until the supervisor that started this process has ended.

    Raises MovetablesError for a role that does not exist. For the main thread of a process only.
    """
    _log_to_stderr()
    _end_with_supervisor()
    cluster, logins = LocalCluster(inventory), Logins(inventory)
    cluster.claim()

    def ready() -> None:
        write_pid_file(ready_file(cluster, role), os.getpid())

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if role == "gateway":
        from executor.native.gateway import server

        listen = (inventory.gateway.host, inventory.gateway.port)
        server.run(inventory, logins.topology(), logins.server, logins.gateway_users(), listen, ready)
    elif role == "health":
        from executor.native.local import health

        health.run(inventory, stop, ready)
    elif role == "streams":
        from executor.native.stream import runner

        ready()
        runner.run(logins, stop)
    else:
        raise MovetablesError(f"serve has no role {role!r}; expected one of {', '.join(ROLES)}")


def _log_to_stderr() -> None:
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%SZ"
    )


def _end_with_supervisor() -> None:
    """The kernel kills us with our supervisor; where it was not asked to, the end of the supervisor's pipe tells."""
    descriptor = os.environ.pop(PIPE_VARIABLE, None)
    if descriptor is None:
        return  # started by hand

    def watch() -> None:
        if os.read(int(descriptor), 1) == b"":
            os._exit(1)

    threading.Thread(target=watch, name="watch supervisor", daemon=True).start()
