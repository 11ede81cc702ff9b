"""start_workflow: starts the stream of a workflow, also after an error."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from planner.checks import refuse
from planner.checks_workflow import exists, keyspaces_answer, primaries_fit
from planner.cluster import Cluster, StreamState
from planner.moves import forward, is_completed, is_streaming
from planner.step import Action, Refusal
from planner.steps.base import MoveStep


@dataclass(frozen=True)
class StartWorkflow(MoveStep):
    """Start the stream: it copies what is not copied yet, then follows the binlog.

    With `reverse` it is that of the reverse workflow, which somebody stopped or which failed.
    """

    kind = "start_workflow"
    action = Action.CHANGE
    summary = "starts the stream of a workflow; it copies, then follows the binlog"

    reverse: bool = field(default=False, kw_only=True)

    @property
    def workflow(self) -> str:
        """The name of the workflow that is started."""
        return self.move.reverse_name if self.reverse else self.move.name

    @property
    def keyspace(self) -> str:
        """The keyspace that the workflow lives in."""
        return self.move.source if self.reverse else self.move.target

    @property
    def subject(self) -> str:
        """``customer.commerce2customer``, the workflow that is started."""
        return f"{self.keyspace}.{self.workflow}"

    def done(self, cluster: Cluster) -> bool:
        """True when the stream runs, or has done its part because writes were switched or reversed since."""
        if self.reverse:
            back = cluster.workflow(self.keyspace, self.workflow)
            return back is None or back.state in (StreamState.COPYING, StreamState.RUNNING)
        workflow = forward(cluster, self.move)
        frozen = workflow is not None and workflow.frozen
        return frozen or is_streaming(cluster, self.move) or is_completed(cluster, self.move)

    def ready(self, cluster: Cluster) -> tuple[Refusal, ...]:
        """Refuses without a workflow, and when a server cannot feed or take the stream."""
        workflow = forward(cluster, self.move)
        if workflow is not None and workflow.frozen and not self.reverse:
            hint = f"set state: running for {self.move.name} to bring the writes back first"
            return (refuse("MT405", f"workflow {self.subject} is frozen", "a workflow that is not frozen", hint),)
        return exists(cluster, self.move) or keyspaces_answer(cluster, self.move) or primaries_fit(cluster, self.move)

    def effect(self, cluster: Cluster) -> Cluster:
        """The stream copies, or runs if there is nothing left to copy."""
        workflow = cluster.workflow(self.keyspace, self.workflow)
        if workflow is None:
            return cluster
        copied = self.reverse or (bool(workflow.copies) and all(copy.done for copy in workflow.copies))
        state = StreamState.RUNNING if copied else StreamState.COPYING
        return cluster.with_workflow(replace(workflow, state=state, message=""))

    def describe(self) -> tuple[str, ...]:
        """One line."""
        if self.reverse:
            return (f"Start reverse vreplication streams on: [{self.source_parts()};workflow:{self.workflow}]",)
        return (f"Start vreplication streams on: [{self.target_parts()};workflow:{self.workflow}]",)
