"""Runs the steps of a plan, in order, each checked again just before it runs and just after.

The same code runs for real and for a dry run: the backend and the journal it is given make the difference.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from executor.backend import Backend
from executor.crashpoints import reached
from executor.errors import Ambiguous, Interrupted, MovetablesError, Refused, VerificationMismatch, exit_code_for
from executor.events import Event, EventType, Sink
from executor.interrupts import Interrupts
from executor.journal import Journal, RunState, StepState
from executor.lock import LockLost
from executor.progress import StepProgress
from planner.checks import is_verification
from planner.cluster import Cluster
from planner.compensation import after_failure
from planner.step import Action, Refusal, Step
from planner.steps.vdiff import VDiff

SETTLE_SECONDS = 5.0
"""How long the cluster may take to show what a step has done, before that counts as a failure."""

_DONE_WORDS = {
    Action.CREATE: "created",
    Action.CHANGE: "changed",
    Action.MOVE: "moved",
    Action.DROP: "dropped",
    Action.VERIFY: "verified",
}


class Guard(Protocol):
    """What allows us to write: the lock."""

    def check(self) -> None:
        """Asks whether it is still ours. Raises LockLost."""

    def raise_if_lost(self) -> None:
        """Raises LockLost if it is already known to be lost."""


class NoGuard:
    """Allows everything: for a dry run, which writes nothing."""

    def check(self) -> None:
        """Allows it."""

    def raise_if_lost(self) -> None:
        """Allows it."""


@dataclass(frozen=True)
class Failure:
    """A step that was refused or failed, and why."""

    step: Step
    error: MovetablesError


@dataclass(frozen=True)
class Applied:
    """What came of a plan. Each step is in exactly one of the four, unless `stopped` says why the rest never ran."""

    done: tuple[Step, ...] = ()
    already_done: tuple[Step, ...] = ()
    failures: tuple[Failure, ...] = ()
    not_run: tuple[Step, ...] = ()
    stopped: MovetablesError | None = None

    @property
    def error(self) -> MovetablesError | None:
        """What decides the exit code: why it stopped, else the first failure, else None."""
        return self.stopped or next((failure.error for failure in self.failures), None)

    def counts(self) -> dict[str, int]:
        """The numbers of the summary, by word."""
        numbers = {word: sum(step.action is action for step in self.done) for action, word in _DONE_WORDS.items()}
        return numbers | {
            "failed": len(self.failures),
            "already_done": len(self.already_done),
            "not_run": len(self.not_run),
        }

    def brief(self) -> str:
        """What was done, without what was not: ``2 moved, 1 verified``."""
        return ", ".join(f"{n} {word.replace('_', ' ')}" for word, n in self.counts().items() if n) or "nothing to do"

    def summary(self) -> str:
        """One line: what was done, in the words of the plan's last line."""
        counts = self.counts()
        done = ", ".join(f"{counts[word]} {word}" for word in _DONE_WORDS.values())
        rest = f", {counts['not_run']} not run" if self.not_run else ""
        return f"Applied: {done}, {counts['failed']} failed, {counts['already_done']} skipped (already done){rest}."


class Application:
    """One run of a plan's steps."""

    def __init__(
        self,
        backend: Backend,
        journal: Journal,
        guard: Guard,
        interrupts: Interrupts,
        sinks: Sequence[Sink],
        *,
        fail_fast: bool = False,
    ) -> None:
        self._backend = backend
        self._journal = journal
        self._guard = guard
        self._interrupts = interrupts
        self._sinks = tuple(sinks)
        self._fail_fast = fail_fast
        self._cluster: Cluster | None = None
        self._done: list[Step] = []
        self._already: list[Step] = []
        self._failures: list[Failure] = []
        self._not_run: dict[str, Step] = {}

    def run(self, steps: Sequence[Step]) -> Applied:
        """Runs `steps`, which are sorted so that each comes after those it names in `after`.

        A failing step does not stop those that do not depend on it, unless `fail_fast`. Raises only what is not about
        one step: ServerError when the topology cannot be written, and bugs.
        """
        self._journal.begin(steps)
        stopped: MovetablesError | None = None
        for position, step in enumerate(steps):
            try:
                self._one(step)
            except (Interrupted, LockLost, Ambiguous) as error:
                stopped = error
                rest = steps[position:] if isinstance(error, Interrupted) else steps[position + 1 :]
                for other in rest:
                    self._not_run.setdefault(other.id, other)
                break
        return self._finish(stopped)

    def _finish(self, stopped: MovetablesError | None) -> Applied:
        applied = Applied(
            tuple(self._done), tuple(self._already), tuple(self._failures), tuple(self._not_run.values()), stopped
        )
        state = RunState.DONE
        if applied.error is not None:
            state = RunState.INTERRUPTED if isinstance(stopped, Interrupted) else RunState.FAILED
        self._journal.end(state, applied.error.message if applied.error else applied.brief())
        code = exit_code_for(applied.error) if applied.error else 0
        self._emit(EventType.SUMMARY, applied.summary(), None, exit_code=code, **applied.counts())
        return applied

    def _one(self, step: Step) -> None:
        blocked_by = self._blocked_by(step)
        if blocked_by:
            self._not_run[step.id] = step
            message = f"not run: {blocked_by}"
            self._journal.step(step, StepState.SKIPPED, message)
            self._emit(EventType.STEP_SKIPPED, f"{step.id}: {message}", step, reason="blocked")
            return
        self._interrupts.check()
        if self._cluster is None:
            self._cluster = self._backend.observe()
        if step.done(self._cluster):
            self._already.append(step)
            self._journal.step(step, StepState.SKIPPED, "already done")
            self._emit(EventType.STEP_SKIPPED, f"{step.id}: already done", step, reason="already_done")
            return
        refusals = step.ready(self._cluster)
        if refusals:
            self._cluster = None
            self._fail(step, self._refusal(step, refusals))
            for back in after_failure(step, self._done):
                self._perform(back)
            return
        self._perform(step)

    def _blocked_by(self, step: Step) -> str:
        if self._fail_fast and self._failures:
            return f"{self._failures[0].step.id} failed, and --fail-fast was given"
        bad = {failure.step.id for failure in self._failures} | set(self._not_run)
        missing = [name for name in step.after if name in bad]
        return f"it needs {', '.join(missing)}" if missing else ""

    def _perform(self, step: Step) -> None:
        self._guard.check()
        reached("before_intent")
        self._journal.step(step, StepState.RUNNING)
        reached("after_intent")
        started = time.monotonic()
        self._interrupts.running = step.id
        self._emit(EventType.STEP_START, step.id, step, kind=step.kind, action=step.action.value, reason=step.reason)
        try:
            reached("before_perform")
            self._backend.perform(step, StepProgress(step.id, self._interrupts, self._guard, self._sinks))
            reached("after_perform")
            self._cluster = self._settled(step)
        except Interrupted:
            self._cluster = None
            self._journal.step(step, StepState.INTERRUPTED, "stopped at a safe point")
            raise
        except MovetablesError as error:
            self._cluster = None
            ambiguous = isinstance(error, Ambiguous)
            self._fail(step, error, StepState.AMBIGUOUS if ambiguous else StepState.FAILED)
            if ambiguous or isinstance(error, LockLost):
                raise
            for back in after_failure(step, self._done):
                self._perform(back)
            return
        finally:
            self._interrupts.running = ""
        self._journal.step(step, StepState.DONE)
        reached("after_result")
        self._done.append(step)
        elapsed = time.monotonic() - started
        self._emit(EventType.STEP_DONE, f"{step.id}: done in {elapsed:.1f} s", step, elapsed=round(elapsed, 3))

    def _settled(self, step: Step) -> Cluster:
        """The cluster once it shows that `step` is done. Raises MovetablesError if it does not."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            cluster = self._backend.observe()
            if step.done(cluster):
                return cluster
            if step.kind == VDiff.kind:
                raise VerificationMismatch(
                    "source and target differ",
                    f"movetables vdiff show {step.subject} --verbose shows where; repair the target, then apply again",
                )
            if time.monotonic() > deadline:
                raise MovetablesError(
                    f"{step.id} ran without an error, but the cluster does not show its effect",
                    "movetables show tells how the cluster stands; applying again continues from there",
                )
            time.sleep(0.1)

    def _fail(self, step: Step, error: MovetablesError, state: StepState = StepState.FAILED) -> None:
        self._failures.append(Failure(step, error))
        self._journal.step(step, state, f"{error.message} {error.hint}".strip())
        self._emit(
            EventType.STEP_FAILED,
            f"{step.id}: {error.message}",
            step,
            error=type(error).__name__,
            exit_code=exit_code_for(error),
            hint=error.hint,
        )

    @staticmethod
    def _refusal(step: Step, refusals: tuple[Refusal, ...]) -> MovetablesError:
        found = "; ".join(f"{r.code}: {r.found}; expected {r.expected}" for r in refusals)
        hint = " ".join(dict.fromkeys(refusal.hint for refusal in refusals if refusal.hint))
        kind = VerificationMismatch if any(is_verification(refusal) for refusal in refusals) else Refused
        return kind(f"{step.id} is refused: {found}", hint)

    def _emit(self, event_type: EventType, message: str, step: Step | None, **data: object) -> None:
        event = Event(event_type, message, step.id if step else "", data)
        for sink in self._sinks:
            sink.handle(event)
