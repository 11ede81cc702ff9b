"""add_tablet: tells the topology of a tablet, and has a replica follow its primary."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.checks import refuse, tablet_answers
from planner.cluster import Cluster, Tablet, TabletType
from planner.step import Action, Refusal, Step


@dataclass(frozen=True)
class AddTablet(Step):
    """Register tablet `alias` with the `type` that the inventory declares for it."""

    kind = "add_tablet"
    action = Action.CREATE
    summary = "registers a tablet in the topology with its declared type"

    alias: str
    keyspace: str
    type: TabletType
    host: str
    port: int

    @property
    def subject(self) -> str:
        """The alias."""
        return self.alias

    def done(self, cluster: Cluster) -> bool:
        """True when the topology knows the tablet in this keyspace, whatever it has been promoted to since."""
        tablet = cluster.tablet(self.alias)
        return tablet is not None and tablet.registered and tablet.keyspace == self.keyspace

    def ready(self, cluster: Cluster) -> tuple[Refusal, ...]:
        """Refuses an unknown tablet, a server that does not answer, and a second PRIMARY."""
        tablet = cluster.tablet(self.alias)
        if tablet is None:
            hint = "define it under tablets: in the inventory"
            return (refuse("MT102", f"tablet {self.alias} is not in the inventory", "a tablet of the inventory", hint),)
        primary = cluster.primary(self.keyspace)
        if self.type is TabletType.PRIMARY and primary is not None and primary.alias != self.alias:
            found = f"{self.alias} is declared PRIMARY but {primary.alias} is the PRIMARY of {self.keyspace}"
            hint = f"declare {self.alias} as REPLICA in the inventory"
            return (refuse("MT106", found, "one PRIMARY per keyspace", hint),)
        return tablet_answers(tablet)

    def effect(self, cluster: Cluster) -> Cluster:
        """The tablet is registered with its declared type."""
        tablet = cluster.tablet(self.alias)
        if tablet is None:
            tablet = Tablet(self.alias, self.keyspace, self.type, self.host, self.port)
        return cluster.with_tablet(replace(tablet, keyspace=self.keyspace, type=self.type, registered=True))

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (f"Add tablet {self.alias} to keyspace {self.keyspace} as {self.type} on {self.host}:{self.port}",)
