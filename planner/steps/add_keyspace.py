"""add_keyspace: tells the topology of a keyspace."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.cluster import Cluster, Keyspace
from planner.step import Action, Refusal, Step


@dataclass(frozen=True)
class AddKeyspace(Step):
    """Register `keyspace`, kept in `database` on its servers, in the topology."""

    kind = "add_keyspace"
    action = Action.CREATE
    summary = "registers a keyspace and its shard in the topology"

    keyspace: str
    database: str

    @property
    def subject(self) -> str:
        """The keyspace."""
        return self.keyspace

    def done(self, cluster: Cluster) -> bool:
        """True when the topology knows the keyspace."""
        keyspace = cluster.keyspace(self.keyspace)
        return keyspace is not None and keyspace.registered

    def ready(self, cluster: Cluster) -> tuple[Refusal, ...]:  # noqa: ARG002
        """Never refuses."""
        return ()

    def effect(self, cluster: Cluster) -> Cluster:
        """The keyspace is registered."""
        keyspace = cluster.keyspace(self.keyspace) or Keyspace(self.keyspace, self.database)
        return cluster.with_keyspace(replace(keyspace, registered=True))

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (f"Create keyspace {self.keyspace} with shard 0 in database {self.database}",)
