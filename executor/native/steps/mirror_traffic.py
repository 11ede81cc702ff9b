"""Sets the share of SELECTs that is mirrored to the target."""

from __future__ import annotations

from dataclasses import replace

from executor.backend import Progress, Statement
from executor.native.access import Access
from executor.native.observe.cluster import observe_cluster
from executor.native.steps.base import change_topology, on
from executor.native.topology import SCHEMA
from planner.cluster import Cluster
from planner.steps.mirror_traffic import MirrorTraffic


def perform(step: MirrorTraffic, access: Access, _progress: Progress) -> None:
    """One commit of the mirror rules."""
    rules = step.effect(observe_cluster(access)).mirror_rules
    change_topology(access, lambda state: replace(state, mirror_rules=rules))


def statements(_step: MirrorTraffic, _cluster: Cluster) -> tuple[Statement, ...]:
    """The rules' document."""
    return on("topology", f"REPLACE INTO {SCHEMA}.document (name, body) VALUES ('mirror_rules', ...)")
