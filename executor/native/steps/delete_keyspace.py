"""Takes an empty keyspace out of the topology."""

from __future__ import annotations

from dataclasses import replace

from executor.backend import Progress, Statement
from executor.native.access import Access
from executor.native.steps.base import change_topology, on
from executor.native.topology import SCHEMA
from planner.cluster import Cluster
from planner.steps.delete_keyspace import DeleteKeyspace


def perform(step: DeleteKeyspace, access: Access, _progress: Progress) -> None:
    """Removes the record; the database on its servers stays."""
    change_topology(
        access, lambda state: replace(state, keyspaces=tuple(k for k in state.keyspaces if k.name != step.keyspace))
    )


def statements(step: DeleteKeyspace, _cluster: Cluster) -> tuple[Statement, ...]:
    """The record."""
    return on("topology", f"DELETE FROM {SCHEMA}.keyspace WHERE name='{step.keyspace}'")
