"""Takes a tablet out of the topology and stops its server if it is managed."""

from __future__ import annotations

from dataclasses import replace

from executor.backend import Progress, Statement
from executor.native.access import Access
from executor.native.local.cluster import LocalCluster
from executor.native.steps.base import change_topology, on
from executor.native.topology import SCHEMA
from planner.cluster import Cluster
from planner.steps.remove_tablet import RemoveTablet


def perform(step: RemoveTablet, access: Access, _progress: Progress) -> None:
    """The record goes first, so that `movetables serve` does not start the server again. Its data stays."""
    change_topology(
        access, lambda state: replace(state, tablets=tuple(t for t in state.tablets if t.alias != step.alias))
    )
    entry = access.inventory.tablet(step.alias)
    if entry is not None and entry.server.managed:
        LocalCluster(access.inventory).stop_tablet(step.alias)


def statements(step: RemoveTablet, _cluster: Cluster) -> tuple[Statement, ...]:
    """The record."""
    return on("topology", f"DELETE FROM {SCHEMA}.tablet WHERE alias='{step.alias}'")
