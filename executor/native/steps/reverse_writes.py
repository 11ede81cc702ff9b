"""The cutover back: writes return to the source, with everything written since."""

from __future__ import annotations

from executor.backend import Progress, Statement
from executor.native.access import Access
from executor.native.cutover.switch import Cutover, settle, switch_writes
from executor.native.steps.switch_writes import fence_statements
from planner.cluster import Cluster
from planner.steps.reverse_writes import ReverseWrites


def perform(step: ReverseWrites, access: Access, progress: Progress) -> None:
    """Settles what a killed cutover of either direction left behind, then switches back unless that has done it."""
    move = step.move
    settle(access, move.target, move.name)
    cutover = Cutover(move.reverse_name, move.target, move.source, move.tables, move.timeout, True)
    switch_writes(access, cutover, progress)


def statements(step: ReverseWrites, cluster: Cluster) -> tuple[Statement, ...]:
    """The fences; positions and rules are known only at the time."""
    return fence_statements(step.move, cluster, step.move.target, step.move.source)
