"""How the steps of a plan are run: order, checks before and after, failures, stops, events, the dry run."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import jsonschema
import pytest

import executor.apply
import schemas
from executor.apply import Applied
from executor.backend import Progress
from executor.errors import Ambiguous, Interrupted, MovetablesError, Refused, VerificationMismatch
from executor.events import Event, EventFile, EventType, version_event
from executor.interrupts import Interrupts
from executor.journal import new_run_id
from executor.lock import LockLost
from executor.recording import RecordingBackend
from planner.cluster import VDiffSummary
from planner.document import MoveState
from planner.moves import live_state
from planner.plan import plan
from planner.step import Step
from tests.unit.apply_doubles import Act, Collected, MemoryBackend, MemoryJournal, run
from tests.unit.worlds import MOVE, at, both, commerce_only, document, fresh

COMPLETED = replace(MOVE, state=MoveState.COMPLETED)


@pytest.fixture(autouse=True)
def _settle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor.apply, "SETTLE_SECONDS", 0.0)


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    with Interrupts(lambda _: None, "movetables apply plan.yaml") as entered:
        yield entered


def fail(error: MovetablesError) -> Act:
    def act(step: Step, progress: Progress) -> None:
        raise error

    return act


def test_every_step_is_run_once_in_the_order_of_the_plan() -> None:
    made = plan(document(COMPLETED), fresh())
    backend = MemoryBackend(fresh())
    applied = run(backend, made.steps)
    assert backend.performed == [step.id for step in made.steps]
    assert applied.done == made.steps
    assert applied.error is None
    assert plan(document(COMPLETED), backend.cluster).steps == ()


def test_the_intent_is_written_before_the_act_and_the_result_after() -> None:
    journal = MemoryJournal()
    steps = plan(document(), commerce_only()).steps
    backend = MemoryBackend(commerce_only())
    seen: list[str] = []
    backend.before = {step.kind: lambda s, _: seen.append(journal.last(s.id)) for step in steps}
    run(backend, steps, journal=journal)
    assert seen == ["running"] * len(steps)
    assert [journal.last(step.id) for step in steps] == ["done"] * len(steps)
    assert journal.writes[0][0] == "begin"
    assert journal.writes[-1][:2] == ("end", "done")


def test_what_is_done_already_is_skipped_and_counted() -> None:
    steps = plan(document(MOVE), both()).steps
    backend = MemoryBackend(at(MoveState.RUNNING))
    applied = run(backend, steps)
    skipped = {step.id for step in applied.already_done}
    assert "create_workflow:customer.commerce2customer" in skipped
    assert skipped.isdisjoint(backend.performed)
    assert applied.summary().endswith(f"0 failed, {len(skipped)} skipped (already done).")


def test_what_needs_a_failed_step_is_not_run() -> None:
    steps = plan(document(MOVE), both()).steps
    backend = MemoryBackend(both(), before={"wait_running": fail(MovetablesError("the copy does not end"))})
    journal = MemoryJournal()
    applied = run(backend, steps, journal=journal)
    assert [failure.step.kind for failure in applied.failures] == ["wait_running"]
    assert {step.kind for step in applied.not_run} == {"vdiff", "switch_reads", "switch_writes"}
    assert journal.last("switch_writes:customer.commerce2customer") == "skipped"
    assert journal.writes[-1][:2] == ("end", "failed")


def test_a_refusal_is_code_4_and_of_a_verification_7() -> None:
    switch = plan(document(MOVE), at(MoveState.READS_SWITCHED)).steps[-1]
    cluster = at(MoveState.READS_SWITCHED)
    workflow = cluster.workflow("customer", "commerce2customer")
    assert workflow is not None
    lagging = cluster.with_workflow(replace(workflow, lag=1000.0))
    differing = cluster.with_workflow(replace(workflow, vdiff=VDiffSummary("u", "completed", True, 1.0)))
    for found, expected in ((lagging, Refused), (differing, VerificationMismatch)):
        backend = MemoryBackend(found)
        applied = run(backend, [replace(switch, after=())])
        assert type(applied.error) is expected
        assert backend.performed == []


def test_independent_branches_finish_after_a_failure_unless_fail_fast() -> None:
    steps = plan(document(), fresh()).steps
    broken = "start_tablet:zone1-0000000100"

    def break_one(step: Step, progress: Progress) -> None:
        if step.id == broken:
            raise MovetablesError("no")

    backend = MemoryBackend(fresh(), before={"start_tablet": break_one})
    applied = run(backend, steps)
    assert [failure.step.id for failure in applied.failures] == [broken]
    assert "add_keyspace:customer" in {step.id for step in applied.done}
    assert "promote_primary:customer" in {step.id for step in applied.done}
    assert "add_tablet:zone1-0000000100" in {step.id for step in applied.not_run}

    hasty = MemoryBackend(fresh(), before={"start_tablet": break_one})
    applied = run(hasty, steps, fail_fast=True)
    assert hasty.performed[-1] == broken
    assert len(applied.done) + len(applied.failures) + len(applied.not_run) == len(steps)


def test_a_step_whose_effect_does_not_show_is_a_failure_that_names_it() -> None:
    steps = plan(document(), commerce_only()).steps
    backend = MemoryBackend(commerce_only(), idle=frozenset({"add_keyspace"}))
    applied = run(backend, steps)
    assert "add_keyspace:customer" in str(applied.error)
    assert "does not show" in str(applied.error)


def test_a_vdiff_that_finds_differences_is_a_verification_mismatch() -> None:
    steps = plan(document(MOVE), at(MoveState.RUNNING)).steps
    backend = MemoryBackend(at(MoveState.RUNNING), idle=frozenset({"vdiff"}))
    assert type(run(backend, steps).error) is VerificationMismatch


@pytest.mark.parametrize("error", [Ambiguous("what now"), LockLost("gone")])
def test_what_makes_further_writing_unsafe_stops_everything(error: MovetablesError) -> None:
    steps = plan(document(), fresh()).steps
    backend = MemoryBackend(fresh(), before={"add_keyspace": fail(error)})
    applied = run(backend, steps)
    assert applied.stopped is error
    assert len(backend.performed) == 1
    assert len(applied.not_run) == len(steps) - 1


def test_a_lock_that_is_lost_stops_before_the_next_intent() -> None:
    class Lost:
        def check(self) -> None:
            raise LockLost("gone")

        def raise_if_lost(self) -> None:
            raise LockLost("gone")

    journal = MemoryJournal()
    backend = MemoryBackend(fresh())
    applied = run(backend, plan(document(), fresh()).steps, journal=journal, guard=Lost())
    assert isinstance(applied.stopped, LockLost)
    assert backend.performed == []
    assert "running" not in {state for _, state, _ in journal.writes}


def test_a_bug_in_a_step_is_not_mistaken_for_a_failure() -> None:
    def bug(step: Step, progress: Progress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(MemoryBackend(fresh(), before={"add_keyspace": bug}), plan(document(), fresh()).steps)


def test_the_first_ctrl_c_stops_at_the_next_safe_point(interrupts: Interrupts) -> None:
    steps = plan(document(), fresh()).steps

    def press(step: Step, progress: Progress) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        progress.check_interrupt()
        raise AssertionError("it went on")

    journal = MemoryJournal()
    backend = MemoryBackend(fresh(), before={"promote_primary": press})
    applied = run(backend, steps, journal=journal, interrupts=interrupts)
    assert isinstance(applied.stopped, Interrupted)
    assert applied.stopped.hint == "movetables apply plan.yaml"
    assert journal.last(backend.performed[-1]) == "interrupted"
    assert journal.writes[-1][:2] == ("end", "interrupted")
    assert run(MemoryBackend(backend.cluster), steps).error is None, "applying again continues"


def test_a_step_without_a_safe_point_is_finished_first(interrupts: Interrupts) -> None:
    steps = plan(document(), fresh()).steps
    backend = MemoryBackend(fresh(), before={"add_keyspace": lambda *_: os.kill(os.getpid(), signal.SIGTERM)})
    applied = run(backend, steps, interrupts=interrupts)
    assert [step.id for step in applied.done] == backend.performed == [steps[0].id]
    assert isinstance(applied.stopped, Interrupted)


def test_a_shielded_section_is_left_before_the_stop_takes_effect() -> None:
    said: list[str] = []
    reached: list[str] = []

    def cutover(step: Step, progress: Progress) -> None:
        with progress.shielded("the cutover"):
            os.kill(os.getpid(), signal.SIGINT)
            progress.check_interrupt()
            reached.append("the end of the section")
        progress.check_interrupt()
        reached.append("beyond")

    backend = MemoryBackend(fresh(), before={"add_keyspace": cutover})
    with Interrupts(said.append, "resume") as interrupts:
        applied = run(backend, plan(document(), fresh()).steps, interrupts=interrupts)
    assert reached == ["the end of the section"]
    assert isinstance(applied.stopped, Interrupted)
    assert "the cutover is under way of add_keyspace" in said[0]


def written(steps: tuple[Step, ...], backend: MemoryBackend) -> tuple[Applied, list[dict[str, object]]]:
    stream = io.StringIO()
    file = EventFile(stream, new_run_id(), progress_interval=0.0)
    file.handle(version_event("plan", "local", "0" * 64, dry_run=False))
    applied = run(backend, steps, sinks=[file])
    return applied, [json.loads(line) for line in stream.getvalue().splitlines()]


def test_events_are_valid_and_tell_the_whole_story() -> None:
    def copy(step: Step, progress: Progress) -> None:
        progress.update("copying", done=10, total=100, rate=30.0)
        progress.update("copying", done=20, total=100, reason="throttled: replica lag 12s > 10s")

    steps = plan(document(MOVE), both()).steps
    backend = MemoryBackend(at(MoveState.CREATED), before={"wait_running": copy})
    backend.before["switch_reads"] = fail(Refused("not now", "wait"))
    applied, events = written(steps, backend)
    validator = jsonschema.Draft202012Validator(schemas.load("event"))
    for event in events:
        validator.validate(event)
    types = [event["type"] for event in events]
    assert types[0] == "version"
    assert types[-1] == "summary"
    assert set(types) == {kind.value for kind in EventType}
    first, second = (event for event in events if event["type"] == "step_progress")
    assert first["eta"] == pytest.approx(3.0)
    assert second["message"] == "copying, 20 of 100 rows (20 %), no ETA: throttled: replica lag 12s > 10s"
    summary = events[-1]
    assert (summary["exit_code"], summary["failed"]) == (4, 1)
    assert summary["already_done"] == len(applied.already_done)


@pytest.mark.parametrize(
    "event",
    [
        Event(EventType.STEP_START, "no step"),
        Event(EventType.SUMMARY, "no counts"),
        Event(EventType.STEP_DONE, "no time", "a:b"),
    ],
)
def test_the_schema_of_events_refuses_what_is_not_one(event: Event) -> None:
    validator = jsonschema.Draft202012Validator(schemas.load("event"))
    assert not validator.is_valid(event.to_json(new_run_id(), datetime.now(UTC)))


def test_a_dry_run_takes_every_step_through_the_same_code_and_performs_none() -> None:
    made = plan(document(COMPLETED), fresh())
    inner = MemoryBackend(fresh())
    lines: list[str] = []
    recording = RecordingBackend(inner, made.document, datetime(2026, 1, 2, 3, 4, tzinfo=UTC), lines.append)
    collected = Collected()
    applied = run(recording, made.steps, sinks=[collected])
    assert applied.done == made.steps
    assert inner.performed == []
    assert inner.cluster == fresh()
    assert lines[0] == "Apply dry run results for plan customer-out-of-commerce at 02 Jan 26 03:04 UTC"
    assert [line for line in lines if line in {step.id for step in made.steps}] == [step.id for step in made.steps]
    assert "  Create reverse vreplication workflow commerce2customer_reverse" in lines
    assert "    topology> SELECT 'complete';" in lines
    assert plan(document(COMPLETED), recording.observe()).steps == ()


def test_reads_go_back_when_the_writes_that_they_were_switched_for_cannot_follow() -> None:
    made = plan(document(replace(MOVE, state=MoveState.SWITCHED)), both())
    backend = MemoryBackend(both(), before={"switch_writes": fail(MovetablesError("the fence did not hold"))})
    applied = run(backend, made.steps)
    assert backend.performed[-3:] == [
        "switch_reads:customer.commerce2customer",
        "switch_writes:customer.commerce2customer",
        "reverse_reads:customer.commerce2customer",
    ]
    assert str(applied.error) == "the fence did not hold"
    assert live_state(backend.cluster, replace(MOVE, tables=("corder", "customer"))) is MoveState.RUNNING


def test_reads_that_an_earlier_run_switched_stay_when_writes_fail() -> None:
    start = at(MoveState.READS_SWITCHED)
    made = plan(document(replace(MOVE, state=MoveState.SWITCHED)), start)
    backend = MemoryBackend(start, before={"switch_writes": fail(MovetablesError("the fence did not hold"))})
    run(backend, made.steps)
    assert backend.performed == ["switch_writes:customer.commerce2customer"]
