"""Sends the REPLICA and RDONLY reads of a move to its target."""

from __future__ import annotations

from dataclasses import replace

from executor.backend import Progress, Statement
from executor.native.access import Access
from executor.native.steps.base import change_topology, on
from executor.native.topology import SCHEMA, TopologyState
from planner import routing
from planner.cluster import Cluster
from planner.steps.switch_reads import SwitchReads


def perform(step: SwitchReads, access: Access, _progress: Progress) -> None:
    """One commit of the routing rules."""
    change_topology(access, lambda state: _switched(state, step))


def _switched(state: TopologyState, step: SwitchReads) -> TopologyState:
    move = step.move
    ends = (move.source, move.target, move.tables)
    return replace(
        state,
        routing_rules=routing.with_reads_at(state.routing_rules, *ends, routing.READ_TYPES, move.target),
        mirror_rules=routing.with_mirror(state.mirror_rules, *ends, 0.0, routing.READ_TYPES),
    )


def statements(_step: SwitchReads, _cluster: Cluster) -> tuple[Statement, ...]:
    """The rules' document."""
    return on("topology", f"REPLACE INTO {SCHEMA}.document (name, body) VALUES ('routing_rules', ...)")
