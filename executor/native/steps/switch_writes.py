"""The cutover: writes go to the target."""

from __future__ import annotations

from executor.backend import Progress, Statement
from executor.native.access import Access
from executor.native.cutover.fence import create_statements, drop_statements
from executor.native.cutover.switch import Cutover, settle, switch_writes
from executor.native.steps.base import database_of, on, server_of
from planner.cluster import Cluster
from planner.document import Move
from planner.steps.switch_writes import SwitchWrites


def perform(step: SwitchWrites, access: Access, progress: Progress) -> None:
    """Settles what a killed cutover of either direction left behind, then switches unless that has done it."""
    move = step.move
    settle(access, move.source, move.reverse_name)
    cutover = Cutover(move.name, move.source, move.target, move.tables, move.timeout, move.reverse_replication)
    switch_writes(access, cutover, progress)


def statements(step: SwitchWrites, cluster: Cluster) -> tuple[Statement, ...]:
    """The fences; positions and rules are known only at the time."""
    return fence_statements(step.move, cluster, step.move.source, step.move.target)


def fence_statements(move: Move, cluster: Cluster, source: str, target: str) -> tuple[Statement, ...]:
    """What closes `source` and opens `target` to writes."""
    closed, opened = database_of(cluster, source), database_of(cluster, target)
    locks = ", ".join(f"`{closed}`.`{table}` WRITE" for table in move.tables)
    return (
        *on(
            server_of(cluster, source),
            f"LOCK TABLES {locks}",
            *(sql for table in move.tables for sql in create_statements(closed, table)),
            "UNLOCK TABLES",
        ),
        *on(server_of(cluster, target), *(sql for table in move.tables for sql in drop_statements(opened, table))),
    )
