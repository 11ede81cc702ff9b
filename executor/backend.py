"""The two verbs that every kind of cluster answers: observe() and perform(step). The rest is what they need to be used.

The dry run is one of these too (`recording.py`), so no step can forget that it is one.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from executor.native.topology import Topology
from planner.cluster import Cluster
from planner.step import Step


@dataclass(frozen=True, order=True)
class Statement:
    """One SQL statement that a step would run. `server` is a tablet alias or ``topology``."""

    server: str
    sql: str


class Progress(Protocol):
    """How a running step tells how far it is, and learns that it should stop."""

    def update(
        self,
        text: str = "",
        done: int | None = None,
        total: int | None = None,
        rate: float | None = None,
        eta: float | None = None,
        reason: str = "",
    ) -> None:
        """Say where the step is. Cheap: call it as often as you like; drawing is throttled.

        `text` is what is being done now. `done` and `total` count rows. `rate` is rows per second, `eta` seconds.
        `reason` says why there is no ETA (``throttled: replica lag 12s > 10s``). None means unknown, never zero.
        """

    def check_interrupt(self) -> None:
        """Call at every safe point, at least once a second while waiting.

        Raises Interrupted after a first Ctrl-C or SIGTERM, MovetablesError when the lock was lost. A safe point is one
        where the process could as well be killed: running the step again continues from there.
        """

    def shielded(self, what: str) -> AbstractContextManager[None]:
        """A critical section that must not be left half way, and ends by itself within a deadline of its own.

        Signals are answered with a notice that names `what`, and take effect when the section is left. Inside,
        `check_interrupt` raises only for a lost lock.
        """


class Backend(Protocol):
    """One cluster, of any kind."""

    def observe(self) -> Cluster:
        """The cluster as it is now. Read-only. Raises ServerError when the topology cannot be read; a tablet that
        does not answer is a fact of the cluster (`Server.error`), not an error."""

    def perform(self, step: Step, progress: Progress) -> None:
        """Carry out one step. Idempotent: running it again after a crash at any point continues or does nothing.

        Raises MovetablesError when it cannot be done, after undoing what it began.
        """

    def statements(self, step: Step, cluster: Cluster) -> tuple[Statement, ...]:
        """The SQL that `perform` would run for `step` on `cluster`, in order, for display. Runs nothing that writes."""

    def coordination(self) -> Topology:
        """Where locks and the journal are kept."""

    def cluster_identity(self) -> str:
        """What names this cluster among all that share a topology server; part of every lock's name."""

    def close(self) -> None:
        """Closes every connection; never raises."""
