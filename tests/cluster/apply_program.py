"""The command `movetables` with a cluster kept in a file, and a real topology server for locks and journal.

`python -m tests.cluster.apply_program STATE PORT COMMAND...`: STATE is a pickled Cluster. MOVETABLES_TEST_HOLD names a
step kind that waits at a safe point while the file ``STATE.hold`` exists; MOVETABLES_TEST_SHIELD one that does so in
a shielded section. Every performed step is appended to ``STATE.performed``.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from pathlib import Path

from executor.backend import Progress, Statement
from executor.cli import environment
from executor.cli.main import main
from executor.native.servers import Login
from executor.native.topology import Topology
from planner.cluster import Cluster
from planner.inventory import Inventory
from planner.step import Step

HOLD, SHIELD = "MOVETABLES_TEST_HOLD", "MOVETABLES_TEST_SHIELD"


class FileBackend:
    """A cluster that outlives the process: what a killed apply has done is there when the next one looks."""

    def __init__(self, state: Path, login: Login) -> None:
        self._state = state
        self._topology = Topology(login)

    def observe(self) -> Cluster:
        return read(self._state)

    def perform(self, step: Step, progress: Progress) -> None:
        hold = self._state.with_suffix(".hold")
        progress.update("working", done=1, total=2, rate=1.0)
        if step.kind == os.environ.get(SHIELD):
            with progress.shielded("the cutover"):
                self._wait(hold, progress)
        if step.kind == os.environ.get(HOLD):
            self._wait(hold, progress)
        with self._state.with_suffix(".performed").open("a") as performed:
            performed.write(f"{step.id}\n")
        write(self._state, step.effect(read(self._state)))

    def _wait(self, hold: Path, progress: Progress) -> None:
        self._state.with_suffix(".holding").touch()
        while hold.exists():
            progress.check_interrupt()
            time.sleep(0.02)

    def statements(self, step: Step, cluster: Cluster) -> tuple[Statement, ...]:
        return (Statement("topology", f"DO '{step.kind}'"),)

    def coordination(self) -> Topology:
        return self._topology

    def cluster_identity(self) -> str:
        return "test"

    def close(self) -> None:
        self._topology.close()


def read(path: Path) -> Cluster:
    """The cluster in `path`."""
    cluster = pickle.loads(path.read_bytes())
    assert isinstance(cluster, Cluster)
    return cluster


def write(path: Path, cluster: Cluster) -> None:
    """Puts `cluster` into `path` at once."""
    scratch = path.with_suffix(".new")
    scratch.write_bytes(pickle.dumps(cluster))
    scratch.replace(path)


def run(state: Path, port: int, words: list[str]) -> int:
    """The command with its backend replaced."""
    login = Login("topology", "127.0.0.1", port, "movetables", "secret")

    def backend_of(inventory: Inventory) -> FileBackend:
        return FileBackend(state, login)

    environment.backend_of = backend_of
    return main(words)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
