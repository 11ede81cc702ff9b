"""Gives a move up: removes everything of ours, touches nothing of the source's."""

from __future__ import annotations

from executor.backend import Progress, Statement
from executor.crashpoints import reached
from executor.errors import TimedOut
from executor.native import sidecar
from executor.native.access import Access
from executor.native.cutover.fence import is_fenced, lower_fence, standing
from executor.native.cutover.switch import settle
from executor.native.servers import Connection, quote
from executor.native.steps.base import change_topology, database_of, on, server_of, without_denied, without_rules
from executor.native.stream.layout import describe_tables
from planner.cluster import Cluster, StreamState
from planner.document import Move
from planner.steps.cancel import Cancel

RUNNER_SECONDS = 30


def perform(step: Cancel, access: Access, _progress: Progress) -> None:
    """The stream's record goes last: as long as it stands, the target tables are known to be ours."""
    move = step.move
    settle(access, move.target, move.name)
    with (
        access.connect_primary(move.source, apply=True) as source,
        access.connect_primary(move.target, apply=True) as target,
    ):
        ours = sidecar.exists(target) and sidecar.stream(target, move.target, move.name) is not None
        if ours:
            sidecar.set_state(target, move.target, move.name, StreamState.STOPPED, "cancelled")
            _wait_for_runner(target, move)
        reached("cancel:stopped")
        database = access.database(move.target)
        fences = standing(target, database)
        for table in describe_tables(target, database, move.tables):
            if ours or is_fenced(fences.get(table.name)):
                target.execute(f"DROP TABLE IF EXISTS {quote(database)}.{quote(table.name)}")
        reached("cancel:tables")
        lower_fence(source, access.database(move.source), move.tables)
        lower_fence(target, database, move.tables)
        change_topology(access, lambda state: without_rules(without_denied(state, move), move))
        reached("cancel:rules")
        if sidecar.exists(source):
            sidecar.delete_stream(source, move.source, move.reverse_name)
            sidecar.delete_markers(source, move.target, move.name)
        if ours:
            sidecar.delete_stream(target, move.target, move.name)


def _wait_for_runner(target: Connection, move: Move) -> None:
    """Takes the stream's lock: a chunk that is still being written would end up in the tables of the next move."""
    if target.value("SELECT GET_LOCK(%s, %s)", [sidecar.stream_lock(move.target, move.name), RUNNER_SECONDS]) != 1:
        raise TimedOut(
            f"the stream of {move.target}.{move.name} was stopped, but is still being run after {RUNNER_SECONDS} s",
            "apply again; if it does not help, restart movetables serve",
        )


def statements(step: Cancel, cluster: Cluster) -> tuple[Statement, ...]:
    """The target tables that go."""
    database = database_of(cluster, step.move.target)
    return on(
        server_of(cluster, step.move.target),
        *(f"DROP TABLE IF EXISTS {quote(database)}.{quote(table)}" for table in step.move.tables),
    )
