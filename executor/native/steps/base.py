"""What the native steps share: their signature, and small acts on the topology."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from executor.backend import Statement
from executor.native.access import Access
from executor.native.topology import TopologyState
from planner import routing
from planner.cluster import Cluster
from planner.document import Move


def server_of(cluster: Cluster, keyspace: str) -> str:
    """The alias of the PRIMARY of `keyspace`, for display; the keyspace's name where there is none yet."""
    primary = cluster.primary(keyspace)
    return primary.alias if primary is not None else f"primary of {keyspace}"


def on(server: str, *sql: str) -> tuple[Statement, ...]:
    """`sql` as statements of `server`."""
    return tuple(Statement(server, text) for text in sql)


def database_of(cluster: Cluster, keyspace: str) -> str:
    """The database of `keyspace` as the cluster knows it, for display."""
    found = cluster.keyspace(keyspace)
    return found.database if found is not None else f"vt_{keyspace}"


def change_topology(access: Access, change: Callable[[TopologyState], TopologyState]) -> None:
    """Commits a pure change of the topology, creating its schema if this is the first."""
    access.topology.create()
    access.topology.update(change)


def without_rules(state: TopologyState, move: Move) -> TopologyState:
    """`state` without routing and mirror rules of `move`."""
    return replace(
        state,
        routing_rules=routing.without_move(state.routing_rules, move.source, move.target, move.tables),
        mirror_rules=routing.with_mirror(state.mirror_rules, move.source, move.target, move.tables, 0.0),
    )


def without_denied(state: TopologyState, move: Move) -> TopologyState:
    """`state` with the tables of `move` denied in neither keyspace."""
    return state.with_denied(move.source, move.tables, False).with_denied(move.target, move.tables, False)
