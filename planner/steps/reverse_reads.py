"""reverse_reads: sends the reads of replicas back to the source."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.checks import refuse
from planner.checks_workflow import exists, keyspaces_answer
from planner.cluster import Cluster
from planner.moves import read_types_switched, writes_left_source
from planner.routing import READ_TYPES, with_reads_at
from planner.step import Action, Refusal
from planner.steps.base import MoveStep
from planner.steps.switch_reads import read_lines


@dataclass(frozen=True)
class ReverseReads(MoveStep):
    """Switch REPLICA and RDONLY reads of all tables back to the source."""

    kind = "reverse_reads"
    action = Action.MOVE
    summary = "sends REPLICA and RDONLY reads back to the source"

    def done(self, cluster: Cluster) -> bool:
        """True when the target serves no reads by the rules of this move."""
        return not read_types_switched(cluster, self.move)

    def ready(self, cluster: Cluster) -> tuple[Refusal, ...]:
        """Refuses while writes are at the target, whose rows the source's replicas would lag behind."""
        if missing := exists(cluster, self.move) or keyspaces_answer(cluster, self.move):
            return missing
        if writes_left_source(cluster, self.move):
            found = f"writes of workflow {self.subject} are at {self.move.target}"
            return (refuse("MT407", found, "writes at the source", "apply again: writes are reversed first"),)
        return ()

    def effect(self, cluster: Cluster) -> Cluster:
        """The read rules point to the source."""
        move = self.move
        rules = with_reads_at(cluster.routing_rules, move.source, move.target, move.tables, READ_TYPES, move.source)
        return replace(cluster, routing_rules=rules)

    def describe(self) -> tuple[str, ...]:
        """Vitess's dry run of ReverseTraffic for reads."""
        return read_lines(self, self.move.source)
