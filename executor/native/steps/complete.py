"""Ends a move: the source tables go, then the workflows, then the rules."""

from __future__ import annotations

import time
from dataclasses import replace

from executor.backend import Progress, Statement
from executor.crashpoints import reached
from executor.errors import TimedOut
from executor.native import sidecar
from executor.native.access import Access
from executor.native.cutover.fence import drop_statements, lower_fence
from executor.native.servers import Connection, ServerError, quote
from executor.native.steps.base import change_topology, database_of, on, server_of, without_denied, without_rules
from executor.native.stream.layout import describe_tables
from executor.native.topology import TopologyState
from planner.cluster import Cluster, StreamState
from planner.document import Move, SourceTables
from planner.moves import with_completed
from planner.steps.complete import Complete


def perform(step: Complete, access: Access, progress: Progress) -> None:
    """Rules go last: until then they keep every name at the target. Killed anywhere, it goes on from there."""
    move = step.move
    with (
        access.connect_primary(move.source, apply=True) as source,
        access.connect_primary(move.target, apply=True) as target,
    ):
        database = access.database(move.source)
        first = sidecar.exists(target) and sidecar.stream(target, move.target, move.name) is not None
        if first:
            sidecar.set_state(source, move.source, move.reverse_name, StreamState.STOPPED, "completing")
            reached("complete:reverse_stopped")
            progress.update(f"source tables: {move.source_tables}")
            _put_away(source, database, move)
            reached("complete:tables")
        lower_fence(source, database, move.tables)
        lower_fence(target, access.database(move.target), move.tables)
        change_topology(
            access, lambda state: _recorded(without_denied(state, move), move) if first else without_denied(state, move)
        )
        reached("complete:recorded")
        for connection, keyspace, workflow in (
            (source, move.source, move.reverse_name),
            (target, move.target, move.name),
        ):
            if sidecar.exists(connection):
                sidecar.delete_stream(connection, keyspace, workflow)
                for name in (move.name, move.reverse_name):
                    sidecar.delete_markers(connection, move.target, name)
                    sidecar.delete_markers(connection, move.source, name)
        reached("complete:streams")
    if not move.keep_routing_rules:
        change_topology(access, lambda state: without_rules(state, move))


def _put_away(source: Connection, database: str, move: Move) -> None:
    present = {table.name for table in describe_tables(source, database)}
    here = [table for table in move.tables if table in present]
    if not here or move.source_tables is SourceTables.KEEP:
        return
    if move.source_tables is SourceTables.DROP:
        # In one statement: a foreign key between two of them does not care about the order then.
        _with_patience(source, "DROP TABLE " + ", ".join(f"{quote(database)}.{quote(t)}" for t in here), move.timeout)
        return
    lower_fence(source, database, here)
    moves = ", ".join(f"{quote(database)}.{quote(t)} TO {quote(database)}.{quote(f'_{t}_old')}" for t in here)
    _with_patience(source, f"RENAME TABLE {moves}", move.timeout)


def _with_patience(connection: Connection, sql: str, timeout: float) -> None:
    connection.execute("SET SESSION lock_wait_timeout=2")
    deadline = time.monotonic() + timeout
    while True:
        try:
            connection.execute(sql)
            return
        except ServerError as error:
            if not error.transient:
                raise
            if time.monotonic() > deadline:
                raise TimedOut(
                    f"somebody still uses the source tables: {sql} waited {timeout:g}s for them",
                    "end the statements that read them on the source, then apply again",
                ) from error


def _recorded(state: TopologyState, move: Move) -> TopologyState:
    return replace(state, completed=with_completed(state.completed, move))


def statements(step: Complete, cluster: Cluster) -> tuple[Statement, ...]:
    """What happens to the source tables, and the fences."""
    move = step.move
    source, target = database_of(cluster, move.source), database_of(cluster, move.target)
    names = [f"{quote(source)}.{quote(table)}" for table in move.tables]
    verbs = {
        SourceTables.DROP: ["DROP TABLE " + ", ".join(names)],
        SourceTables.RENAME: [
            "RENAME TABLE "
            + ", ".join(f"{quote(source)}.{quote(t)} TO {quote(source)}.{quote(f'_{t}_old')}" for t in move.tables)
        ],
        SourceTables.KEEP: [sql for table in move.tables for sql in drop_statements(source, table)],
    }
    return (
        *on(server_of(cluster, move.source), *verbs[move.source_tables]),
        *on(server_of(cluster, move.target), *(sql for t in move.tables for sql in drop_statements(target, t))),
    )
