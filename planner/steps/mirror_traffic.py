"""mirror_traffic: sends a share of the SELECTs to the target as well."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.checks_workflow import exists
from planner.cluster import Cluster, MirrorRule, TabletType
from planner.document import MoveState
from planner.moves import forward, read_types_switched, writes_left_source
from planner.routing import with_mirror
from planner.step import Action, Refusal
from planner.steps.base import MoveStep


@dataclass(frozen=True)
class MirrorTraffic(MoveStep):
    """Set the mirror rules of the tablet types that are not switched; a switched type has none."""

    kind = "mirror_traffic"
    action = Action.CHANGE
    summary = "mirrors a share of the SELECTs to the target, results discarded"

    @property
    def percent(self) -> float:
        """The wanted share: none before the copy is there, and none once writes are switched."""
        mirrored = self.move.state in (MoveState.RUNNING, MoveState.READS_SWITCHED)
        return self.move.mirror_percent if mirrored else 0.0

    def _rules(self, cluster: Cluster) -> tuple[MirrorRule, ...]:
        move = self.move
        switched = set(read_types_switched(cluster, move))
        switched |= {TabletType.PRIMARY} if writes_left_source(cluster, move) else set()
        kept = tuple(tablet_type for tablet_type in TabletType if tablet_type not in switched)
        rules = with_mirror(cluster.mirror_rules, move.source, move.target, move.tables, 0.0)
        return with_mirror(rules, move.source, move.target, move.tables, self.percent, kept)

    def done(self, cluster: Cluster) -> bool:
        """True when the mirror rules are as wanted."""
        return forward(cluster, self.move) is None or cluster.mirror_rules == self._rules(cluster)

    def ready(self, cluster: Cluster) -> tuple[Refusal, ...]:
        """Refuses without a workflow."""
        return exists(cluster, self.move)

    def effect(self, cluster: Cluster) -> Cluster:
        """The mirror rules are as wanted."""
        return replace(cluster, mirror_rules=self._rules(cluster))

    def describe(self) -> tuple[str, ...]:
        """Vitess's line."""
        source, target = self.move.source, self.move.target
        return (f"Mirroring {self.percent:.2f} percent of traffic from keyspace {source} to keyspace {target}",)
