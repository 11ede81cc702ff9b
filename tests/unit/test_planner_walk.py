"""Every state a move can stand at, times every state it can be asked for, times every option."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from planner.cluster import Cluster, StreamState, TabletType, VDiffSummary
from planner.document import Move, MoveState, SourceTables
from planner.graph import ancestors
from planner.moves import forward, is_clean, live_state, reverse, tables_in
from planner.plan import Plan, plan
from planner.routing import with_reads_at, without_move
from tests.unit.worlds import MOVE, at, both, codes, document, fold, kinds

ENDS = (MOVE.source, MOVE.target, MOVE.tables)


def options() -> Iterator[Move]:
    for number, (fate, verify, back) in enumerate(product(SourceTables, (True, False), (True, False))):
        yield replace(
            MOVE,
            verify_before_switch=verify,
            reverse_replication=back,
            source_tables=fate,
            keep_routing_rules=number % 3 == 1,
            mirror_percent=float(10 * (number % 2)),
        )


def variants(cluster: Cluster, move: Move) -> Iterator[tuple[str, Cluster]]:
    """`cluster` as it is, and as interruptions and accidents may leave it."""
    yield "as it is", cluster
    workflow, back = forward(cluster, move), reverse(cluster, move)
    if workflow is None:
        return
    yield "no vdiff", cluster.with_workflow(replace(workflow, vdiff=None))
    old = VDiffSummary("u", "completed", False, move.verify_max_age + 1)
    yield "old vdiff", cluster.with_workflow(replace(workflow, vdiff=old))
    bad = VDiffSummary("u", "completed", True, 1.0)
    yield "vdiff with differences", cluster.with_workflow(replace(workflow, vdiff=bad))
    yield "cutover", cluster.with_workflow(replace(workflow, cutover="fenced"))
    yield "switching", replace(cluster, switching=(f"{move.source}.{move.tables[0]}",))
    if back is not None:
        yield "reverse stopped", cluster.with_workflow(replace(back, state=StreamState.STOPPED))
        yield "reverse not compared", cluster.with_workflow(replace(back, vdiff=None))
    if not workflow.frozen:
        yield "stopped", cluster.with_workflow(replace(workflow, state=StreamState.STOPPED))
        yield "error", cluster.with_workflow(replace(workflow, state=StreamState.ERROR, message="boom"))
        yield "no rules", replace(cluster, routing_rules=without_move(cluster.routing_rules, *ENDS))
        half = with_reads_at(cluster.routing_rules, *ENDS, [TabletType.REPLICA], move.target)
        yield "half the reads", replace(cluster, routing_rules=half)
        target = cluster.keyspace(move.target)
        assert target is not None
        unfenced = tuple(replace(table, fenced=False) for table in target.tables)
        yield "no fence", cluster.with_keyspace(replace(target, tables=unfenced))
        yield "not denied", cluster.with_keyspace(replace(target, denied_tables=()))
        yield "create died", cluster.with_keyspace(replace(target, tables=target.tables[1:]))


def expected_refusal(name: str, live: MoveState, move: Move) -> set[str]:
    """The codes of which one must be given; empty when the plan must go through."""
    want = move.state
    unfinished = name in ("cutover", "switching")
    if live is MoveState.COMPLETED:
        return set() if want is MoveState.COMPLETED else {"MT409"}
    if want is MoveState.ABSENT and live is MoveState.SWITCHED:
        return {"MT407", "MT412"}
    if want < MoveState.SWITCHED and live is MoveState.SWITCHED and not move.reverse_replication and not unfinished:
        return {"MT410"}
    stale = name in ("no vdiff", "old vdiff", "vdiff with differences")
    if unfinished and want is MoveState.COMPLETED and live < MoveState.READS_SWITCHED:
        forward_counts = move.verify_before_switch and not move.reverse_replication
        return {"MT702"} if forward_counts and move.source_tables is SourceTables.DROP else set()
    if want is MoveState.COMPLETED and live is MoveState.SWITCHED and move.source_tables is SourceTables.DROP:
        forward_counts = move.verify_before_switch and not move.reverse_replication
        return {"MT701", "MT702"} if forward_counts and stale else set()
    return set()


def drops_are_verified(made: Plan, cluster: Cluster, move: Move) -> bool:
    """True unless source tables are dropped that nothing has compared."""
    ends = [step.id for step in made.steps if step.kind == "complete"]
    if not ends or not move.verify_before_switch or move.source_tables is not SourceTables.DROP:
        return True
    if not tables_in(cluster, move.source, move.tables):
        return True
    live = (forward(cluster, move), reverse(cluster, move))
    fresh = any(w is not None and is_clean(w.vdiff, move.verify_max_age) for w in live)
    return fresh or any(name.startswith("vdiff:") for name in ancestors(made.steps, ends[0]))


@pytest.mark.parametrize("live", MoveState)
@pytest.mark.parametrize("want", MoveState)
def test_every_state_leads_to_every_state_or_says_why_not(live: MoveState, want: MoveState) -> None:
    for option in options():
        start = at(live, replace(option, verify_before_switch=True))
        move = replace(option, state=want)
        for name, cluster in variants(start, move):
            usual = option.source_tables is SourceTables.DROP and option.verify_before_switch
            if name != "as it is" and not usual:
                continue
            made = plan(document(move), cluster)
            label = f"{name}: {live.text} to {want.text}, {move}"
            refused = expected_refusal(name, live, move)
            if refused or made.refusals:
                assert set(codes(made)) & refused, f"{label}: {made.refusals}"
                continue
            assert drops_are_verified(made, cluster, move), label
            ends = {fold(cluster, made.steps)}
            for length in range(len(made.steps)):
                stopped = fold(cluster, made.steps[:length])
                again = plan(document(move), stopped)
                assert not again.refusals, f"{label}: stopped after {length}: {again.refusals}"
                ends.add(fold(stopped, again.steps))
            assert len(ends) == 1, label
            end = ends.pop()
            assert live_state(end, move) is want, label
            after = plan(document(move), end)
            assert (after.steps, after.refusals) == ((), ()), f"{label}: {kinds(after)}"
            if want is MoveState.ABSENT:
                assert end == both(), label


@pytest.mark.parametrize("state", list(MoveState)[:-1])
def test_each_state_is_read_back_as_itself(state: MoveState) -> None:
    assert live_state(at(state), MOVE) is state
