"""start_tablet: starts the server of a tablet that we manage on this machine."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.checks import answers, refuse, tablet_answers
from planner.cluster import Cluster, Server, Tablet, TabletType
from planner.step import Action, Refusal, Step


@dataclass(frozen=True)
class StartTablet(Step):
    """Start the server of managed tablet `alias` on `host`:`port`."""

    kind = "start_tablet"
    action = Action.CREATE
    summary = "starts the server of a managed tablet that does not run"

    alias: str
    keyspace: str
    host: str
    port: int

    @property
    def subject(self) -> str:
        """The alias."""
        return self.alias

    def done(self, cluster: Cluster) -> bool:
        """True when the server answers."""
        tablet = cluster.tablet(self.alias)
        return tablet is not None and answers(tablet)

    def ready(self, cluster: Cluster) -> tuple[Refusal, ...]:
        """Refuses an unknown tablet, one that is somebody else's server, and a PRIMARY: its facts decide the plan.

        A PRIMARY that does not answer hides its tables and streams. A plan made without them told people that there
        was no reverse workflow, and to give up the way back.
        """
        tablet = cluster.tablet(self.alias)
        if tablet is None or not tablet.managed:
            found = f"tablet {self.alias} is not a managed tablet of this inventory"
            return (refuse("MT102", found, "managed: local", "start the server yourself, or correct the inventory"),)
        if _hides_facts(tablet):
            return tablet_answers(tablet)
        return ()

    def effect(self, cluster: Cluster) -> Cluster:
        """The tablet runs, on a server set up as moves need it."""
        tablet = cluster.tablet(self.alias)
        if tablet is None or _hides_facts(tablet):
            return cluster
        flavor = tablet.server.flavor if tablet.server is not None else ""
        server = Server(address=f"{self.host}:{self.port}", flavor=flavor or "MariaDB")
        return cluster.with_tablet(replace(tablet, running=True, server=server))

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (f"Start the server of tablet {self.alias} on {self.host}:{self.port}",)


def _hides_facts(tablet: Tablet) -> bool:
    return tablet.registered and tablet.type is TabletType.PRIMARY and not answers(tablet)
