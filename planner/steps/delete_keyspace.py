"""delete_keyspace: takes an empty keyspace out of the topology, only where a plan file says so."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.checks import refuse
from planner.cluster import Cluster
from planner.step import Action, Refusal, Step


@dataclass(frozen=True)
class DeleteKeyspace(Step):
    """Remove `keyspace`, which has neither tables nor tablets any more, from the topology."""

    kind = "delete_keyspace"
    action = Action.DROP
    irreversible = True
    summary = "removes a keyspace without tables and tablets from the topology"

    keyspace: str

    @property
    def subject(self) -> str:
        """The keyspace."""
        return self.keyspace

    def done(self, cluster: Cluster) -> bool:
        """True when the topology does not know the keyspace."""
        keyspace = cluster.keyspace(self.keyspace)
        return keyspace is None or not keyspace.registered

    def ready(self, cluster: Cluster) -> tuple[Refusal, ...]:
        """Refuses while tables, tablets, workflows or routing rules still use the keyspace."""
        keyspace = cluster.keyspace(self.keyspace)
        tables = [table.name for table in keyspace.tables] if keyspace is not None else []
        tablets = [tablet.alias for tablet in cluster.tablets_of(self.keyspace) if tablet.registered]
        workflows = [w.name for w in cluster.workflows if self.keyspace in (w.source, w.target)]
        rules = [r.from_table for r in cluster.routing_rules if r.to_table.startswith(f"{self.keyspace}.")]
        used = {"tables": tables, "tablets": tablets, "workflows": workflows, "routing rules": rules}
        hint = "move or drop its tables and complete its moves first"
        return tuple(
            refuse("MT107", f"keyspace {self.keyspace} still has {what}: {', '.join(names)}", f"no {what}", hint)
            for what, names in used.items()
            if names
        )

    def effect(self, cluster: Cluster) -> Cluster:
        """The keyspace is not registered."""
        keyspace = cluster.keyspace(self.keyspace)
        return cluster if keyspace is None else cluster.with_keyspace(replace(keyspace, registered=False))

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (f"Delete keyspace {self.keyspace}",)
