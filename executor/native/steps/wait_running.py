"""Waits until every table is copied and the stream follows the binlog."""

from __future__ import annotations

import time

from executor.backend import Progress, Statement
from executor.errors import MovetablesError, TimedOut
from executor.native.access import Access
from executor.native.observe.workflows import observe_workflows
from executor.native.stream.trouble import reported
from planner.cluster import Cluster, StreamState, Workflow
from planner.steps.wait_running import WaitRunning

POLL_SECONDS = 0.1
LATE_SECONDS = 10.0
SILENT_SECONDS = 20.0
"""A stream that shows no sign of life for this long is not being run."""


def perform(step: WaitRunning, access: Access, progress: Progress) -> None:
    """Shows rows, rate and ETA while it waits. Raises when the stream stops, fails, or nobody runs it."""
    move = step.move
    state = access.topology.read()
    with access.connect_primary(move.target) as target:
        seen, since = None, time.monotonic()
        while True:
            progress.check_interrupt()
            troubles = reported(access.topology.connection())
            found = [w for w in observe_workflows(target, move.target, "", state, troubles) if w.name == move.name]
            if not found:
                raise MovetablesError(f"workflow {step.subject} does not exist", "plan again")
            workflow = found[0]
            if step_done(workflow, move.max_replication_lag):
                return
            if workflow.state in (StreamState.ERROR, StreamState.STOPPED):
                raise MovetablesError(
                    f"the stream of {step.subject} is {workflow.state}: {workflow.message or 'stopped'}",
                    "remove the cause and apply again: the stream goes on where it stopped",
                )
            fresh = workflow.lag is not None and workflow.lag < SILENT_SECONDS
            sign = (workflow.position, workflow.copies, workflow.trouble)  # which tells how far a long wait has come
            if sign != seen or fresh:
                seen, since = sign, time.monotonic()
            if time.monotonic() - since > SILENT_SECONDS:
                raise TimedOut(
                    f"the stream of {step.subject} has shown no sign of life for {SILENT_SECONDS:g}s"
                    + (f": {workflow.trouble}" if workflow.trouble else ""),
                    f"start it: movetables serve -i {access.inventory.file} (or movetables local up)",
                )
            _report(workflow, progress)
            time.sleep(POLL_SECONDS)


def step_done(workflow: Workflow, max_lag: float) -> bool:
    """True when everything is copied and the lag is known and allowed."""
    return workflow.copied and workflow.lag is not None and workflow.lag <= max_lag


def _report(workflow: Workflow, progress: Progress) -> None:
    done = sum(copy.rows_copied for copy in workflow.copies)
    total = sum(copy.rows_total for copy in workflow.copies)
    if workflow.state is StreamState.RUNNING:
        reason = f"the stream is {workflow.lag or 0:.0f}s behind"
        reason += f": {workflow.trouble}" if workflow.trouble else ""
        progress.update("catching up", done=done, total=total, reason=reason)
    elif workflow.trouble and (workflow.eta is None or (workflow.lag or 0) > LATE_SECONDS):
        progress.update("copying", done=done, total=max(done, total) or None, reason=workflow.trouble)
    elif workflow.throttled:
        progress.update("copying", done=done, total=max(done, total) or None, reason=f"throttled: {workflow.throttled}")
    elif workflow.eta is not None:
        copying = [copy.table for copy in workflow.copies if not copy.done]
        progress.update(
            f"copying {', '.join(copying[:3])}" if copying else "adding secondary keys",
            done=done,
            total=max(done, total),
            rate=workflow.rate,
            eta=workflow.eta,
        )
    else:
        progress.update("copying", done=done, total=max(done, total) or None, reason="no chunk is finished yet")


def statements(_step: WaitRunning, _cluster: Cluster) -> tuple[Statement, ...]:
    """None: it only reads."""
    return ()
