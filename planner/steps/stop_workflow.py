"""stop_workflow: stops the stream of a workflow where it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.checks import primary_answers
from planner.checks_workflow import exists
from planner.cluster import Cluster, StreamState
from planner.moves import forward
from planner.step import Action, Refusal
from planner.steps.base import MoveStep


@dataclass(frozen=True)
class StopWorkflow(MoveStep):
    """Stop the stream; starting it again goes on from the same position."""

    kind = "stop_workflow"
    action = Action.CHANGE
    summary = "stops the stream of a workflow where it is"

    def done(self, cluster: Cluster) -> bool:
        """True when no stream runs."""
        workflow = forward(cluster, self.move)
        return workflow is None or workflow.state is StreamState.STOPPED

    def ready(self, cluster: Cluster) -> tuple[Refusal, ...]:
        """Refuses without a workflow or when its server does not answer."""
        return exists(cluster, self.move) or primary_answers(cluster, (self.move.target,))

    def effect(self, cluster: Cluster) -> Cluster:
        """The stream is stopped."""
        workflow = forward(cluster, self.move)
        if workflow is None:
            return cluster
        return cluster.with_workflow(replace(workflow, state=StreamState.STOPPED, message=""))

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (f"Stop vreplication streams on: [{self.target_parts()};workflow:{self.move.name}]",)
