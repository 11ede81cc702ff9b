"""Tells the topology of a keyspace."""

from __future__ import annotations

from executor.backend import Progress, Statement
from executor.native.access import Access
from executor.native.steps.base import change_topology, on
from executor.native.topology import SCHEMA, KeyspaceRecord
from planner.cluster import Cluster
from planner.steps.add_keyspace import AddKeyspace


def perform(step: AddKeyspace, access: Access, _progress: Progress) -> None:
    """Adds the record unless it is there."""
    change_topology(
        access,
        lambda state: (
            state
            if state.keyspace(step.keyspace)
            else state.with_keyspace(KeyspaceRecord(step.keyspace, step.database))
        ),
    )


def statements(step: AddKeyspace, _cluster: Cluster) -> tuple[Statement, ...]:
    """The record."""
    return on(
        "topology",
        f"REPLACE INTO {SCHEMA}.keyspace (name, database_name, denied_tables) "
        f"VALUES ('{step.keyspace}', '{step.database}', '[]')",
    )
