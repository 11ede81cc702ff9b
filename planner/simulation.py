"""Planning by simulation: steps are asked and applied, one after the other, on a value of the cluster."""

from __future__ import annotations

from dataclasses import replace

from planner.cluster import Cluster
from planner.step import Refusal, Step


class Simulation:
    """A cluster that steps are folded over, with what was decided on the way.

    `cluster` is how the cluster stands after the steps so far. `refusals` keeps the first of equal ones.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.steps: list[Step] = []
        self.refusals: list[Refusal] = []
        self.unchanged: list[str] = []

    def add(self, step: Step, after: tuple[str, ...], reason: str) -> str:
        """Append `step`, to be run after the steps of ids `after`, and fold its effect. Returns its id."""
        step = replace(step, after=tuple(sorted(set(after))), reason=reason)
        for refusal in step.ready(self.cluster):
            self.refuse(refusal, step.id)
        self.steps.append(step)
        self.cluster = step.effect(self.cluster)
        return step.id

    def refuse(self, refusal: Refusal, step: str) -> None:
        """Keep `refusal` as one of `step`, unless an earlier step was refused for the same."""
        if not any((known.code, known.found) == (refusal.code, refusal.found) for known in self.refusals):
            self.refusals.append(replace(refusal, step=step))
