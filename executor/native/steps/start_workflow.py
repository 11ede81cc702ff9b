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
    with access.connect_primary(step.keyspace) as primary:
        record = sidecar.stream(primary, step.keyspace, step.workflow)
        if record is None or record.frozen or record.state in (StreamState.COPYING, StreamState.RUNNING):
            return
        copied = all(state.done for state in read_copy_states(primary, record.id))
        state = StreamState.RUNNING if copied else StreamState.COPYING
        sidecar.set_state(primary, step.keyspace, step.workflow, state)


def statements(step: StartWorkflow, cluster: Cluster) -> tuple[Statement, ...]:
    """The change of state."""
    return on(
        server_of(cluster, step.keyspace),
        f"UPDATE {sidecar.SCHEMA}.vreplication SET state='Copying' WHERE workflow='{step.workflow}'",
    )
