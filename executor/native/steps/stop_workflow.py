"""Stops a workflow's stream where it is."""

from __future__ import annotations

from executor.backend import Progress, Statement
from executor.native import sidecar
from executor.native.access import Access
from executor.native.steps.base import on, server_of
from planner.cluster import Cluster, StreamState
from planner.steps.stop_workflow import StopWorkflow


def perform(step: StopWorkflow, access: Access, _progress: Progress) -> None:
    """Sets the stream's state; nothing of it is applied once this has returned."""
    with access.connect_primary(step.move.target) as target:
        sidecar.set_state(target, step.move.target, step.move.name, StreamState.STOPPED, "stopped by apply")


def statements(step: StopWorkflow, cluster: Cluster) -> tuple[Statement, ...]:
    """The change of state."""
    return on(
        server_of(cluster, step.move.target),
        f"UPDATE {sidecar.SCHEMA}.vreplication SET state='Stopped' WHERE workflow='{step.move.name}'",
    )
