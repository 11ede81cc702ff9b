"""Starts the server of a managed tablet."""

from __future__ import annotations

from executor.backend import Progress, Statement
from executor.native.access import Access
from executor.native.local.cluster import LocalCluster
from planner.cluster import Cluster, TabletType
from planner.steps.start_tablet import StartTablet


def perform(step: StartTablet, access: Access, progress: Progress) -> None:
    """Starts the server and waits until it answers."""
    progress.update(f"starting the server of {step.alias} on port {step.port}")
    record = access.topology.read().tablet(step.alias)
    writable = record is not None and record.type is TabletType.PRIMARY  # promoted since the plan was made
    LocalCluster(access.inventory).start_tablet(step.alias, writable=writable)


def statements(_step: StartTablet, _cluster: Cluster) -> tuple[Statement, ...]:
    """None: a process is started."""
    return ()
