"""vdiff: compares the tables of both sides while they are in use."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.checks_workflow import can_switch, exists, keyspaces_answer
from planner.cluster import Cluster, VDiffSummary
from planner.moves import is_clean, is_completed, writes_switched
from planner.step import Action, Refusal
from planner.steps.base import MoveStep


@dataclass(frozen=True)
class VDiff(MoveStep):
    """Compare along `workflow` in `keyspace`: the forward one in the target, or the reverse one in the source.

    Finding differences is not an error of this step: the steps after it refuse (MT701).
    """

    kind = "vdiff"
    action = Action.VERIFY
    summary = "compares source and target tables row by row, without pausing anything"

    workflow: str
    keyspace: str

    @property
    def subject(self) -> str:
        """``customer.commerce2customer``, the workflow that is compared."""
        return f"{self.keyspace}.{self.workflow}"

    def done(self, cluster: Cluster) -> bool:
        """True with a fresh clean VDiff, and when the workflow has been passed by."""
        workflow = cluster.workflow(self.keyspace, self.workflow)
        if workflow is not None and is_clean(workflow.vdiff, self.move.verify_max_age):
            return True
        forward = self.keyspace == self.move.target
        return is_completed(cluster, self.move) or (forward and writes_switched(cluster, self.move))

    def ready(self, cluster: Cluster) -> tuple[Refusal, ...]:
        """Refuses unless the stream runs, everything is copied and both servers answer."""
        workflow = cluster.workflow(self.keyspace, self.workflow)
        if missing := exists(cluster, self.move) or keyspaces_answer(cluster, self.move):
            return missing
        if workflow is None:
            return ()
        return tuple(
            replace(refusal, found=refusal.found.replace("switch traffic for", "compare"))
            for refusal in can_switch(self.move, workflow, float("inf"))
        )

    def effect(self, cluster: Cluster) -> Cluster:
        """The newest VDiff of the workflow is clean."""
        workflow = cluster.workflow(self.keyspace, self.workflow)
        if workflow is None:
            return cluster
        rows = sum(copy.rows_total for copy in workflow.copies)
        return cluster.with_workflow(replace(workflow, vdiff=VDiffSummary("", "completed", False, 0.0, rows)))

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (f"VDiff tables {self.tables_text} of workflow {self.subject}; differences stop everything after it",)
