"""An embedded cluster for measuring: keyspaces commerce and customer with a PRIMARY each, below data/bench."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pymysql

from executor.native.logins import Logins
from executor.native.servers import Connection, Login, connect
from planner.loading import load_inventory
from tests.workload.client import Raw

ROOT = Path(__file__).resolve().parents[2]
TABLETS = {"commerce": "zone1-0000000100", "customer": "zone1-0000000200"}

INVENTORY = """\
version: 1
name: {5}
data_dir: ./{5}
server: {4}
topology: {{port: {0}, managed: local}}
gateway: {{port: {1}}}
keyspaces:
  commerce: {{}}
  customer: {{}}
tablets:
  zone1-0000000100: {{keyspace: commerce, type: replica, port: {2}, managed: local}}
  zone1-0000000200: {{keyspace: customer, type: replica, port: {3}, managed: local}}
"""
PLAN = """\
version: 1
name: bench
keyspaces:
  commerce: {tablets: [zone1-0000000100]}
  customer: {tablets: [zone1-0000000200]}
"""
MOVE = """\
moves:
  bench:
    source: commerce
    target: customer
    tables: [{tables}]
    state: {state}
{defer}    verify: {{before_switch: false}}
"""


class BenchCluster:
    """Use with ``with``: it is made anew, and deleted at the end. `first_port` and the three after it must be free.

    `server` is mariadb or mysql.
    """

    def __init__(self, first_port: int, server: str = "mariadb") -> None:
        name = f"bench{first_port}"
        self.folder = ROOT / "data"
        self._inventory_file = self.folder / f"{name}.yaml"
        self._plan_file = self.folder / f"{name}-plan.yaml"
        text = INVENTORY.format(*range(first_port, first_port + 4), server, name)
        self.folder.mkdir(exist_ok=True)
        self._inventory_file.write_text(text)
        self.inventory = load_inventory(text, str(self._inventory_file), self.folder)
        self._logins = Logins(self.inventory)

    def __enter__(self) -> Self:
        self._movetables("local", "reset", "--yes")
        try:
            self._movetables("local", "up")
            self._apply(PLAN)
        except BaseException:
            self._movetables("local", "reset", "--yes")
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._movetables("local", "reset", "--yes")

    def move(self, tables: Sequence[str], state: str, *, defer_secondary_keys: bool | None = None) -> None:
        """Applies a plan that asks for `state` of the move of `tables`."""
        defer = ""
        if defer_secondary_keys is not None:
            defer = f"    defer_secondary_keys: {str(defer_secondary_keys).lower()}\n"
        self._apply(PLAN + MOVE.format(tables=", ".join(tables), state=state, defer=defer))

    def vdiff(self, workflow: str) -> float:
        """Compares a workflow with the command; returns seconds. Raises SystemExit when anything differs."""
        began = time.perf_counter()
        self._movetables("vdiff", "create", workflow)
        return time.perf_counter() - began

    def login(self, keyspace: str) -> Login:
        """How to sign in to the PRIMARY of a keyspace."""
        return self._logins.tablet(TABLETS[keyspace])

    def server(self, keyspace: str) -> Connection:
        """A connection to the PRIMARY of a keyspace, without a database."""
        return connect(self.login(keyspace))

    def gateway(self) -> Raw:
        """A client's connection to the gateway."""
        return pymysql.connect(
            host="127.0.0.1", port=self.inventory.gateway.port, user="bench", charset="utf8mb4", read_timeout=120
        )

    def _apply(self, plan: str) -> None:
        self._plan_file.write_text(plan)
        self._movetables("apply", str(self._plan_file), "--auto-approve")

    def _movetables(self, *words: str) -> None:
        command = [sys.executable, "-m", "executor.cli.main", *words, "-i", str(self._inventory_file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns for people; all but the first are right-aligned."""
    widths = [max(len(line[i]) for line in (headings, *rows)) for i in range(len(headings))]
    lines = []
    for line in (headings, *rows):
        cells = [
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
