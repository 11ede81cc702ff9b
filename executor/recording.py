"""The dry run: a backend that prints what each step would do, and answers as if it had been done.

It is given to the same code that applies for real. Nothing is written anywhere: no server, no lock, no journal.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from executor.backend import Backend, Progress, Statement
from executor.native.topology import Topology
from executor.redaction import redact
from planner.cluster import Cluster
from planner.step import Step


class RecordingBackend:
    """Stands in front of `backend`. `write` is given each line; `now` is the time in the header."""

    def __init__(self, backend: Backend, plan: str, now: datetime, write: Callable[[str], None]) -> None:
        self._backend = backend
        self._write = write
        self._header = f"Apply dry run results for plan {plan} at {now.astimezone(UTC):%d %b %y %H:%M} UTC"
        self._cluster: Cluster | None = None

    def observe(self) -> Cluster:
        """The live cluster as it was first seen, with the effects of every step so far."""
        if self._cluster is None:
            self._cluster = self._backend.observe()
        return self._cluster

    def perform(self, step: Step, progress: Progress) -> None:
        """Prints what `step` would do, in Vitess's words where it has some, and the SQL."""
        progress.check_interrupt()
        if self._header:
            self._write(self._header)
            self._header = ""
        self._write("")
        self._write(step.id)
        for line in step.describe():
            self._write(f"  {line}")
        cluster = self.observe()
        for statement in self.statements(step, cluster):
            self._write(f"    {statement.server}> {redact(' '.join(statement.sql.split()))};")
        self._cluster = step.effect(cluster)

    def statements(self, step: Step, cluster: Cluster) -> tuple[Statement, ...]:
        """What the real backend says."""
        return self._backend.statements(step, cluster)

    def coordination(self) -> Topology:
        """The real backend's."""
        return self._backend.coordination()

    def cluster_identity(self) -> str:
        """The real backend's."""
        return self._backend.cluster_identity()

    def close(self) -> None:
        """Closes the real backend."""
        self._backend.close()
