"""What a run takes back when a step of it fails for good."""

from __future__ import annotations

from collections.abc import Sequence

from planner.step import Step
from planner.steps.reverse_reads import ReverseReads
from planner.steps.switch_reads import SwitchReads
from planner.steps.switch_writes import SwitchWrites


def after_failure(failed: Step, done: Sequence[Step]) -> tuple[Step, ...]:
    """The steps to run because `failed` did, given those that the same run has `done`.

    Reads that were switched for a cutover that then failed go back: split reads are a state that must be asked for.
    Vitess leaves them switched, and had an outage reported because of it (#17326).
    """
    if not isinstance(failed, SwitchWrites):
        return ()
    switched = any(isinstance(step, SwitchReads) and step.move == failed.move for step in done)
    return (ReverseReads(failed.move, reason="the writes could not be switched"),) if switched else ()
