"""promote_primary: gives a keyspace without a PRIMARY one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.checks import refuse, tablet_answers
from planner.cluster import Cluster, TabletType
from planner.step import Action, Refusal, Step

TERM_STARTED = "planned"
"""Stands for the time of a promotion that is only planned."""


@dataclass(frozen=True)
class PromotePrimary(Step):
    """Make tablet `alias` the PRIMARY of `keyspace`; the other tablets keep their types and follow it."""

    kind = "promote_primary"
    action = Action.CHANGE
    summary = "makes the declared PRIMARY, or a replica, the PRIMARY of a keyspace that has none"

    keyspace: str
    alias: str

    @property
    def subject(self) -> str:
        """The keyspace."""
        return self.keyspace

    def done(self, cluster: Cluster) -> bool:
        """True when the keyspace has a PRIMARY whose term has started, whichever tablet that is.

        A tablet that is only declared PRIMARY has no term yet: its server, and those that follow it, are not set up.
        """
        primary = cluster.primary(self.keyspace)
        return primary is not None and primary.primary_term_start != ""

    def ready(self, cluster: Cluster) -> tuple[Refusal, ...]:
        """Refuses a tablet that is not registered, serves RDONLY, or does not answer."""
        tablet = cluster.tablet(self.alias)
        if tablet is None or not tablet.registered or tablet.type is TabletType.RDONLY:
            found = f"tablet {self.alias} cannot become the PRIMARY of {self.keyspace}"
            hint = f"list a REPLICA tablet under keyspaces: {self.keyspace}: {{tablets: [...]}}"
            return (refuse("MT103", found, "a registered REPLICA tablet", hint),)
        return tablet_answers(tablet)

    def effect(self, cluster: Cluster) -> Cluster:
        """The tablet is the PRIMARY, its term has started, and it takes writes."""
        tablet = cluster.tablet(self.alias)
        if tablet is None:
            return cluster
        server = replace(tablet.server, read_only=False) if tablet.server is not None else None
        return cluster.with_tablet(
            replace(tablet, type=TabletType.PRIMARY, primary_term_start=TERM_STARTED, server=server)
        )

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (f"Promote tablet {self.alias} to PRIMARY of keyspace {self.keyspace}/0",)
