"""Tells the topology of a tablet, and has it follow its primary if there is one."""

from __future__ import annotations

from executor.backend import Progress, Statement
from executor.native.access import Access
from executor.native.promotion import attach_replica
from executor.native.steps.base import change_topology, on
from executor.native.topology import SCHEMA, TabletRecord
from planner.cluster import Cluster, TabletType
from planner.steps.add_tablet import AddTablet


def perform(step: AddTablet, access: Access, progress: Progress) -> None:
    """Adds the record unless it is there; a managed tablet of a keyspace with a PRIMARY is made to replicate."""
    entry = access.inventory.tablet(step.alias)
    managed = entry is not None and entry.server.managed
    record = TabletRecord(step.alias, step.keyspace, TabletType(step.type), step.host, step.port, managed)
    change_topology(access, lambda state: state if state.tablet(step.alias) else state.with_tablet(record))
    primary = access.topology.read().primary(step.keyspace)
    if primary is not None and primary.primary_term_start and primary.alias != step.alias and managed:
        progress.update(f"{step.alias} is catching up with {primary.alias}")
        attach_replica(step.keyspace, step.alias, access.logins, access.topology)


def statements(step: AddTablet, _cluster: Cluster) -> tuple[Statement, ...]:
    """The record."""
    return on(
        "topology",
        f"REPLACE INTO {SCHEMA}.tablet (alias, keyspace, type, host, port) "
        f"VALUES ('{step.alias}', '{step.keyspace}', '{step.type}', '{step.host}', {step.port})",
    )
