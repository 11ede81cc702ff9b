"""switch_reads: sends the reads of replicas to the target."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.checks_workflow import can_switch, exists, keyspaces_answer, verified
from planner.cluster import Cluster
from planner.moves import all_reads_switched, forward, is_completed, unfinished_cutover, writes_left_source
from planner.routing import READ_TYPES, with_mirror, with_reads_at
from planner.step import Action, Refusal
from planner.steps.base import MoveStep


@dataclass(frozen=True)
class SwitchReads(MoveStep):
    """Switch REPLICA and RDONLY reads of all tables to the target with one change of the rules."""

    kind = "switch_reads"
    action = Action.MOVE
    summary = "sends REPLICA and RDONLY reads to the target"

    def done(self, cluster: Cluster) -> bool:
        """True when the target serves all reads."""
        return all_reads_switched(cluster, self.move) or is_completed(cluster, self.move)

    def ready(self, cluster: Cluster) -> tuple[Refusal, ...]:
        """The gate of SwitchTraffic, and a clean VDiff; neither once writes are at the target."""
        if missing := exists(cluster, self.move) or keyspaces_answer(cluster, self.move):
            return missing
        workflow = forward(cluster, self.move)
        if workflow is None or writes_left_source(cluster, self.move) or unfinished_cutover(cluster, self.move):
            return ()
        found = [*can_switch(self.move, workflow, self.move.max_replication_lag)]
        if self.move.verify_before_switch:
            found.extend(verified(self.move, workflow))
        return tuple(found)

    def effect(self, cluster: Cluster) -> Cluster:
        """The read rules point to the target; reads are no longer mirrored."""
        move = self.move
        ends = (move.source, move.target, move.tables)
        return replace(
            cluster,
            routing_rules=with_reads_at(cluster.routing_rules, *ends, READ_TYPES, move.target),
            mirror_rules=with_mirror(cluster.mirror_rules, *ends, 0.0, READ_TYPES),
        )

    def describe(self) -> tuple[str, ...]:
        """Vitess's dry run of SwitchTraffic for reads."""
        return read_lines(self, self.move.target)


def read_lines(step: MoveStep, to_keyspace: str) -> tuple[str, ...]:
    """The dry-run lines of reads going to `to_keyspace`."""
    source, tables = step.move.source, step.tables_text
    types = ",".join(READ_TYPES)
    return (
        f"Lock keyspace {source}",
        f"Switch reads for tables {tables} to keyspace {to_keyspace} for tablet types [{types}]",
        f"Routing rules for tables {tables} will be updated",
        f"Unlock keyspace {source}",
    )
