"""Whether a workflow may be switched, verified or completed. Wording of the gate: Vitess `server.go canSwitch`."""

from __future__ import annotations

from collections.abc import Iterable

from planner.checks import binlog, names, packets, primary_answers, refuse, writable
from planner.cluster import Cluster, StreamState, Workflow
from planner.document import Move, SourceTables
from planner.moves import forward, is_clean, is_completed, reverse, same_move, tables_in
from planner.step import Refusal


def keyspaces_answer(cluster: Cluster, move: Move) -> tuple[Refusal, ...]:
    """Refuses unless both keyspaces of `move` have a PRIMARY that answers."""
    return primary_answers(cluster, (move.source, move.target))


def primaries_fit(cluster: Cluster, move: Move) -> tuple[Refusal, ...]:
    """Refuses settings of the two primaries that a stream, or the reverse stream, cannot work with."""
    found: list[Refusal] = []
    source, target = cluster.primary(move.source), cluster.primary(move.target)
    if source is not None:
        found.extend((*binlog(source), *writable(source), *names(source)))
    if target is not None:
        found.extend((*(binlog(target) if move.reverse_replication else ()), *writable(target), *names(target)))
    return tuple(found)


def rows_fit(cluster: Cluster, move: Move) -> tuple[Refusal, ...]:
    """Refuses a target that cannot take every row of the source, and a source that could not take them back."""
    source, target = cluster.primary(move.source), cluster.primary(move.target)
    if source is None or target is None:
        return ()
    return (*packets(source, target), *(packets(target, source) if move.reverse_replication else ()))


def exists(cluster: Cluster, move: Move) -> tuple[Refusal, ...]:
    """Refuses a move that has no workflow, one that is completed, and a workflow of that name that is another's."""
    workflow = forward(cluster, move)
    if workflow is None:
        if is_completed(cluster, move):
            return (completed(move),)
        if silent := primary_answers(cluster, (move.target,)):
            return silent  # what cannot be read is not gone
        found = f"{move.name} workflow not found in the {move.target} keyspace"
        return (refuse("MT411", found, "a workflow", "plan again: the cluster has changed since"),)
    return () if same_move(workflow, move) else (collision(workflow, move),)


def completed(move: Move) -> Refusal:
    """The refusal of asking a completed move to stand anywhere but at its end."""
    return refuse(
        "MT409",
        f"the {move.name} workflow has been completed: its tables live in {move.target} only",
        "state: completed",
        f"to bring the tables back, add a move with source: {move.target} and target: {move.source}",
    )


def collision(workflow: Workflow, move: Move) -> Refusal:
    """The refusal of a name that another workflow has taken."""
    tables = ", ".join(workflow.tables)
    return refuse(
        "MT401",
        f"workflow {move.target}.{move.name} exists and moves {tables} from {workflow.source}",
        f"{', '.join(move.tables) or 'no tables'} from {move.source}",
        "give this move another name, or list the tables of the existing workflow",
    )


def can_switch(move: Move, workflow: Workflow, max_lag: float) -> Iterable[Refusal]:
    """The gate before traffic of `move` is switched along `workflow`, the forward or the reverse one."""
    name = f"{workflow.target}.{workflow.name}"
    prefix = f"cannot switch traffic for workflow {workflow.name} at this time"
    if workflow.frozen:
        hint = f"set state: running for {move.name} and apply, then ask for this state again"
        yield refuse("MT405", f"{prefix}: workflow is frozen", "a workflow that is not frozen", hint)
    elif workflow.state is StreamState.ERROR:
        hint = "remove the cause and apply again: the stream is started anew and goes on where it stopped"
        yield refuse("MT404", f"{prefix}: workflow has errors: {workflow.message}", "a healthy stream", hint)
    elif workflow.state is StreamState.STOPPED:
        hint = "apply again: the plan will start it"
        yield refuse("MT406", f"{prefix}: workflow {name} is stopped", "a running stream", hint)
    elif not workflow.copied:
        hint = f"wait until it is done: movetables show {move.name}"
        yield refuse("MT403", f"{prefix}: copy is still in progress", "a finished copy", hint)
    elif workflow.lag is not None and workflow.lag > max_lag:
        yield refuse(
            "MT402",
            f"{prefix}: replication lag {int(workflow.lag)}s is higher than allowed lag {int(max_lag)}s",
            f"a lag of at most {int(max_lag)}s",
            "apply again when it has caught up, or raise cutover: max_replication_lag:",
        )


def verified(move: Move, workflow: Workflow) -> Iterable[Refusal]:
    """Refuses unless `workflow` has a VDiff that is complete, clean and not too old."""
    vdiff = workflow.vdiff
    name = f"{workflow.target}.{workflow.name}"
    if vdiff is not None and vdiff.has_mismatch:
        hint = f"look at them: movetables vdiff show {name}; then repair the rows and apply again"
        yield refuse("MT701", f"VDiff {vdiff.uuid} of {name} found differences", "no differences", hint)
    elif not is_clean(vdiff, move.verify_max_age):
        if vdiff is None:
            found = f"workflow {name} has no VDiff"
        elif vdiff.state != "completed":
            found = f"VDiff {vdiff.uuid} of {name} is {vdiff.state}"
        else:
            found = f"VDiff {vdiff.uuid} of {name} is {int(vdiff.age)}s old"
        expected = f"a clean VDiff of the last {int(move.verify_max_age)}s"
        yield refuse("MT702", found, expected, "apply again to verify, or set verify: {before_switch: false}")


def verified_for_completion(cluster: Cluster, move: Move) -> Iterable[Refusal]:
    """Refuses to drop source tables whose copies were not compared.

    The reverse workflow's VDiff counts; without one, only a forward VDiff from before the switch can.
    """
    gone = not tables_in(cluster, move.source, move.tables)
    workflow = reverse(cluster, move) or forward(cluster, move)
    if not move.verify_before_switch or gone or workflow is None:
        return ()
    if not workflow.reverse and move.source_tables is not SourceTables.DROP:
        return ()
    return verified(move, workflow)
