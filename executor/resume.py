"""Finds out what became of the steps that a killed apply was running: looks at the cluster, and never guesses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from executor.errors import Ambiguous
from executor.journal import (
    RunRecord,
    RunState,
    StepRecord,
    StepState,
    killed_runs,
    settle_run,
    settle_step,
    steps_of,
)
from executor.native.servers import ServerError
from executor.native.topology import Topology
from planner.checks import answers, where
from planner.cluster import Cluster
from planner.step import Step


def dangling(topology: Topology, run: RunRecord) -> tuple[StepRecord, ...]:
    """The steps that `run` wrote an intent for and no result."""
    return tuple(
        record for record in steps_of(topology.connection(), run.id) if record.state == StepState.RUNNING.value
    )


def raise_if_unknowable(topology: Topology, cluster: Cluster) -> None:
    """Raises Ambiguous when a killed apply left a step whose outcome cannot be seen, because servers do not answer."""
    for run in killed_runs(topology.connection()):
        for record in dangling(topology, run):
            silent = _silent(cluster)
            if silent:
                raise _ambiguous(run, record, silent)


def settle_killed_runs(
    topology: Topology,
    observe: Callable[[], Cluster],
    plan: str,
    steps: Sequence[Step],
    new_run: str,
    notice: Callable[[str], None],
) -> None:
    """Writes into the journal what became of every run whose process is gone. Call with the lock held.

    A step that is found done counts as done; one that may run is run again by `steps`, if it is among them. Raises
    Ambiguous when neither can be told.
    """
    by_id = {step.id: step for step in steps}
    for run in killed_runs(topology.connection()):
        for record in dangling(topology, run):
            state, message = _outcome(run, record, by_id.get(record.step), observe, plan, new_run)
            settle_step(topology, record, state, message)
            notice(f"Run {run.id} was killed while {record.step} was running: {message}")
        settle_run(topology, run.id, RunState.RESUMED, f"killed; continued by run {new_run}")


def _outcome(
    run: RunRecord, record: StepRecord, step: Step | None, observe: Callable[[], Cluster], plan: str, new_run: str
) -> tuple[StepState, str]:
    try:
        cluster = observe()
    except ServerError as error:
        raise _ambiguous(run, record, error.message) from error
    if step is not None and step.done(cluster):
        return StepState.DONE, "the cluster shows that it was done"
    silent = _silent(cluster)
    if silent:
        raise _ambiguous(run, record, silent)
    if step is not None:
        return StepState.INTERRUPTED, f"not finished; run {new_run} runs it again"
    if run.plan == plan:
        return StepState.DONE, "the plan, made anew, no longer needs it"
    return StepState.INTERRUPTED, f"left as it is: plan {plan} does not need it; apply plan {run.plan} to finish it"


def _silent(cluster: Cluster) -> str:
    silent = [where(tablet) for tablet in cluster.tablets if tablet.registered and not answers(tablet)]
    return f"{', '.join(silent)} did not answer" if silent else ""


def _ambiguous(run: RunRecord, record: StepRecord, why: str) -> Ambiguous:
    return Ambiguous(
        f"an earlier apply (run {run.id}) was killed while {record.step} was running, and whether it was carried out "
        f"cannot be told: {why}",
        f"bring the servers back, look with: movetables show; movetables history {run.id}; then apply again",
    )
