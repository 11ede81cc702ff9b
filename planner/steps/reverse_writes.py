"""reverse_writes: a cutover along the reverse workflow. Writes go back to the source, and nothing written is lost."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.checks import refuse
from planner.checks_workflow import can_switch, exists, keyspaces_answer, primaries_fit
from planner.cluster import Cluster, StreamState
from planner.moves import forward, reverse, unfinished_cutover, writes_left_source
from planner.routing import with_writes_at
from planner.step import Action, Refusal
from planner.steps.base import MoveStep, database_part, with_fences
from planner.steps.switch_writes import without_switching


@dataclass(frozen=True)
class ReverseWrites(MoveStep):
    """Move the writes back to the source, or undo a cutover that was interrupted.

    Afterwards the forward workflow runs again and the reverse workflow is gone, where Vitess keeps it frozen: the next
    switch makes a new one anyway.
    """

    kind = "reverse_writes"
    action = Action.MOVE
    summary = "sends writes back to the source; nothing written since the switch is lost"

    def done(self, cluster: Cluster) -> bool:
        """True when writes are at the source and no cutover is unfinished."""
        return not writes_left_source(cluster, self.move) and not unfinished_cutover(cluster, self.move)

    def ready(self, cluster: Cluster) -> tuple[Refusal, ...]:
        """Refuses without a reverse workflow that runs and has caught up."""
        if missing := exists(cluster, self.move) or keyspaces_answer(cluster, self.move):
            return missing
        if unfinished_cutover(cluster, self.move):
            return ()
        workflow = reverse(cluster, self.move)
        if workflow is None:
            found = f"no streams found in keyspace {self.move.source} for {self.move.reverse_name}"
            hint = (
                f"writes were switched without reverse replication, so {self.move.source} lacks all written since; "
                f"the way on is state: completed, and a new move back"
            )
            return (refuse("MT410", found, "a running reverse workflow", hint),)
        return (
            *primaries_fit(cluster, self.move),
            *can_switch(self.move, workflow, self.move.max_replication_lag),
        )

    def effect(self, cluster: Cluster) -> Cluster:
        """Source open, target fenced, forward workflow running, reverse workflow gone."""
        move = self.move
        workflow = forward(cluster, move)
        if workflow is None:
            return cluster
        cluster = with_fences(cluster, move.source, move.tables, fenced=False)
        cluster = with_fences(cluster, move.target, move.tables, fenced=True)
        cluster = cluster.with_workflow(
            replace(workflow, state=StreamState.RUNNING, message="", frozen=False, cutover="", lag=0.0)
        )
        cluster = cluster.without_workflow(move.source, move.reverse_name)
        rules = with_writes_at(cluster.routing_rules, move.source, move.target, move.tables, move.source)
        return replace(without_switching(cluster, self), routing_rules=rules)

    def describe(self) -> tuple[str, ...]:
        """Vitess's dry run of SwitchTraffic, along the reverse workflow."""
        move, tables = self.move, self.tables_text
        reverse_streams = f"{self.source_parts()};workflow:{move.reverse_name}{database_part(self.source_database)}"
        target = f"tablet:{self.target_uid}" if self.target_uid else self.target_parts()
        return self.locked(
            f"Stop writes on keyspace {move.target} for tables {tables}: [keyspace:{move.target};shard:0]",
            f"Wait for vreplication on stopped streams to catchup for up to {move.timeout:g}s",
            "Create journal entries on source databases",
            f"Enable writes on keyspace {move.source} for tables {tables}",
            f"Switch routing from keyspace {move.target} to keyspace {move.source}",
            f"Routing rules for tables {tables} will be updated",
            f"Start vreplication streams on: [{target}]",
            f"Delete reverse vreplication streams on sources: [{reverse_streams}]",
        )
