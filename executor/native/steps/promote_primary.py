"""Gives a keyspace its PRIMARY."""

from __future__ import annotations

from executor.backend import Progress, Statement
from executor.native.access import Access
from executor.native.promotion import promote
from executor.native.steps.base import database_of, on
from planner.cluster import Cluster
from planner.steps.promote_primary import PromotePrimary


def perform(step: PromotePrimary, access: Access, progress: Progress) -> None:
    """Promotes the tablet, unless `movetables serve` has given the keyspace a PRIMARY meanwhile."""
    progress.update(f"promoting {step.alias} to PRIMARY of {step.keyspace}")
    promote(step.keyspace, step.alias, access.logins, access.topology)


def statements(step: PromotePrimary, cluster: Cluster) -> tuple[Statement, ...]:
    """Those of a managed server; the replication of others is only checked."""
    tablet = cluster.tablet(step.alias)
    if tablet is None or not tablet.managed:
        return ()
    return on(
        step.alias,
        "SET GLOBAL read_only=OFF",
        f"CREATE DATABASE IF NOT EXISTS `{database_of(cluster, step.keyspace)}`",
    )
