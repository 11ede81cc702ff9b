"""wait_running: waits until every table is copied and the stream follows the binlog."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.checks import refuse
from planner.checks_workflow import exists, keyspaces_answer
from planner.cluster import Cluster, StreamState, TableCopy
from planner.moves import forward, is_completed, tables_in
from planner.step import Action, Refusal
from planner.steps.base import MoveStep


@dataclass(frozen=True)
class WaitRunning(MoveStep):
    """Wait for the copy to finish and the stream to catch up."""

    kind = "wait_running"
    action = Action.VERIFY
    summary = "waits until every table is copied and the stream follows the binlog"

    def done(self, cluster: Cluster) -> bool:
        """True when everything is copied, or writes have been switched since."""
        workflow = forward(cluster, self.move)
        if workflow is None:
            return is_completed(cluster, self.move)
        return workflow.copied or workflow.frozen

    def ready(self, cluster: Cluster) -> tuple[Refusal, ...]:
        """Refuses a stream that is stopped or in error, which nobody should wait for."""
        if missing := exists(cluster, self.move) or keyspaces_answer(cluster, self.move):
            return missing
        workflow = forward(cluster, self.move)
        if workflow is not None and workflow.state is StreamState.ERROR:
            hint = "remove the cause and apply again: the stream goes on where it stopped"
            return (refuse("MT404", f"workflow has errors: {workflow.message}", "a healthy stream", hint),)
        if workflow is not None and workflow.state is StreamState.STOPPED:
            hint = "apply again: the plan will start it"
            return (refuse("MT406", f"workflow {self.subject} is stopped", "a running stream", hint),)
        return ()

    def effect(self, cluster: Cluster) -> Cluster:
        """The stream runs without lag and every table is copied."""
        workflow = forward(cluster, self.move)
        if workflow is None:
            return cluster
        source = {table.name: table for table in tables_in(cluster, self.move.source, self.move.tables)}
        copies = tuple(TableCopy(t.name, t.rows, t.rows, done=True) for t in source.values())
        target = cluster.keyspace(self.move.target)
        if target is not None:
            filled = tuple(
                replace(t, rows=source[t.name].rows, data_length=source[t.name].data_length, empty=source[t.name].empty)
                if t.name in source
                else t
                for t in target.tables
            )
            cluster = cluster.with_keyspace(replace(target, tables=filled))
        return cluster.with_workflow(
            replace(workflow, state=StreamState.RUNNING, message="", lag=0.0, copies=copies, rate=None)
        )

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (f"Wait for workflow {self.subject} to copy tables {self.tables_text} and catch up",)
