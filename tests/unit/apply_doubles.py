"""A backend whose cluster is a value, and recorders of what an apply tells: for the executor's own logic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from executor.apply import Application, Applied, Guard, NoGuard
from executor.backend import Backend, Progress, Statement
from executor.events import Event, Sink
from executor.interrupts import Interrupts
from executor.journal import Journal, RunState, StepState
from executor.native.topology import Topology
from planner.cluster import Cluster
from planner.step import Step

Act = Callable[[Step, Progress], None]


@dataclass
class MemoryBackend:
    """Performs a step by its effect. `before` has what comes first, by step kind; a kind in `idle` has no effect."""

    cluster: Cluster
    before: dict[str, Act] = field(default_factory=dict)
    idle: frozenset[str] = frozenset()
    performed: list[str] = field(default_factory=list)

    def observe(self) -> Cluster:
        return self.cluster

    def perform(self, step: Step, progress: Progress) -> None:
        self.performed.append(step.id)
        if step.kind in self.before:
            self.before[step.kind](step, progress)
        if step.kind not in self.idle:
            self.cluster = step.effect(self.cluster)

    def statements(self, step: Step, cluster: Cluster) -> tuple[Statement, ...]:
        return (Statement("topology", f"SELECT\n  '{step.kind}'"),)

    def coordination(self) -> Topology:
        raise AssertionError("this test has no topology")

    def cluster_identity(self) -> str:
        return self.cluster.name

    def close(self) -> None:
        return


@dataclass
class MemoryJournal:
    """Remembers every write in order."""

    writes: list[tuple[str, str, str]] = field(default_factory=list)

    def begin(self, steps: Sequence[Step]) -> None:
        self.writes.append(("begin", ",".join(step.id for step in steps), ""))

    def step(self, step: Step, state: StepState, message: str = "") -> None:
        self.writes.append((step.id, state.value, message))

    def end(self, state: RunState, message: str = "") -> None:
        self.writes.append(("end", state.value, message))

    def last(self, step_id: str) -> str:
        """The last state written of a step."""
        return [state for step, state, _ in self.writes if step == step_id][-1]


@dataclass
class Collected:
    """A sink that keeps every event."""

    events: list[Event] = field(default_factory=list)

    def handle(self, event: Event) -> None:
        self.events.append(event)


def run(
    backend: Backend,
    steps: Sequence[Step],
    *,
    journal: Journal | None = None,
    guard: Guard | None = None,
    interrupts: Interrupts | None = None,
    sinks: Sequence[Sink] = (),
    fail_fast: bool = False,
) -> Applied:
    """Applies `steps`, with a journal that forgets unless one is given."""
    interrupts = interrupts or Interrupts(lambda _: None, "movetables apply plan.yaml")
    application = Application(
        backend, journal or MemoryJournal(), guard or NoGuard(), interrupts, sinks, fail_fast=fail_fast
    )
    return application.run(steps)
