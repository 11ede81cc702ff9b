"""Starts a workflow's stream: it copies what is not copied yet, then follows the binlog."""

from __future__ import annotations

from executor.backend import Progress, Statement
from executor.native import sidecar
from executor.native.access import Access
from executor.native.steps.base import on, server_of
from executor.native.stream.copy import read_copy_states
from planner.cluster import Cluster, StreamState
from planner.steps.start_workflow import StartWorkflow


def perform(step: StartWorkflow, access: Access, _progress: Progress) -> None:
    """Sets the stream's state; `movetables serve` does the rest."""
    move = step.move
    with access.connect_primary(move.target) as target:
        record = sidecar.stream(target, move.target, move.name)
        if record is None or record.frozen or record.state in (StreamState.COPYING, StreamState.RUNNING):
            return
        copied = all(state.done for state in read_copy_states(target, record.id))
        sidecar.set_state(target, move.target, move.name, StreamState.RUNNING if copied else StreamState.COPYING)


def statements(step: StartWorkflow, cluster: Cluster) -> tuple[Statement, ...]:
    """The change of state."""
    return on(
        server_of(cluster, step.move.target),
        f"UPDATE {sidecar.SCHEMA}.vreplication SET state='Copying' WHERE workflow='{step.move.name}'",
    )
