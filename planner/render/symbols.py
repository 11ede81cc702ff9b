"""The symbol of each action. Plain ASCII, so that nothing depends on colour or fonts."""

from __future__ import annotations

from collections.abc import Mapping

from planner.step import Action, Step

SYMBOLS: Mapping[Action, str] = {
    Action.CREATE: "+",
    Action.CHANGE: "~",
    Action.MOVE: ">",
    Action.VERIFY: "=",
    Action.DROP: "-",
}

IRREVERSIBLE = "!"


def symbol(step: Step) -> str:
    """``+``, or ``-!`` for a step that there is no way back from."""
    return SYMBOLS[step.action] + (IRREVERSIBLE if step.irreversible else "")


def verdict(steps: int, refusals: int) -> str:
    """One phrase for titles: no changes, ready, or refused."""
    if refusals:
        return f"refused: {refusals} {'reason' if refusals == 1 else 'reasons'}"
    if not steps:
        return "no changes"
    return f"{steps} {'step' if steps == 1 else 'steps'} ready to apply"
