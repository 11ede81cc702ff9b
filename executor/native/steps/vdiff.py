"""Compares both sides of a workflow."""

from __future__ import annotations

from executor.backend import Progress, Statement
from executor.native import sidecar
from executor.native.access import Access
from executor.native.vdiff.options import VDiffOptions
from executor.native.vdiff.run import run_vdiff
from planner.cluster import Cluster
from planner.steps.vdiff import VDiff


def perform(step: VDiff, access: Access, progress: Progress) -> None:
    """Runs a VDiff to its end. A difference is in its report; the steps that follow refuse because of it."""
    with access.connect_primary(step.keyspace) as target:
        record = sidecar.stream(target, step.keyspace, step.workflow)
    source = access.primary(record.source_keyspace if record is not None else step.move.source)
    run_vdiff(
        source,
        access.primary(step.keyspace),
        step.keyspace,
        step.workflow,
        progress=progress,
        options=VDiffOptions(),
    )


def statements(_step: VDiff, _cluster: Cluster) -> tuple[Statement, ...]:
    """None: apart from its own records it only reads."""
    return ()
