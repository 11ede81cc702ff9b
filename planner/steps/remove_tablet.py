"""remove_tablet: takes a tablet out of the topology, only where a plan file says so."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.checks import refuse
from planner.cluster import Cluster, TabletType
from planner.step import Action, Refusal, Step


@dataclass(frozen=True)
class RemoveTablet(Step):
    """Remove tablet `alias` of `keyspace` from the topology and stop its server if we manage it; its data stays."""

    kind = "remove_tablet"
    action = Action.DROP
    summary = "removes a tablet from the topology and stops its server if it is managed; its data stays"

    alias: str
    keyspace: str

    @property
    def subject(self) -> str:
        """The alias."""
        return self.alias

    def done(self, cluster: Cluster) -> bool:
        """True when the topology does not know the tablet."""
        tablet = cluster.tablet(self.alias)
        return tablet is None or not tablet.registered

    def ready(self, cluster: Cluster) -> tuple[Refusal, ...]:
        """Refuses the PRIMARY of a keyspace that has other tablets or tables."""
        tablet = cluster.tablet(self.alias)
        if tablet is None or tablet.type is not TabletType.PRIMARY:
            return ()
        keyspace = cluster.keyspace(self.keyspace)
        others = [t.alias for t in cluster.tablets_of(self.keyspace) if t.registered and t.alias != self.alias]
        if others or (keyspace is not None and keyspace.tables):
            found = f"tablet {self.alias} is the PRIMARY of keyspace {self.keyspace}, which is in use"
            hint = f"remove the keyspace as a whole once its tables are gone: {self.keyspace}: {{absent: true}}"
            return (refuse("MT108", found, "a REPLICA or RDONLY tablet", hint),)
        return ()

    def effect(self, cluster: Cluster) -> Cluster:
        """The tablet is not registered; a managed one does not run."""
        tablet = cluster.tablet(self.alias)
        if tablet is None:
            return cluster
        running = tablet.running and not tablet.managed
        return cluster.with_tablet(replace(tablet, registered=False, running=running))

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (f"Delete tablet {self.alias} from keyspace {self.keyspace}",)
