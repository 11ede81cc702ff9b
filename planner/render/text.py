"""Draws a plan for a terminal. The last line is the summary, or one line that nothing has to be done."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from planner.plan import Plan
from planner.render import notes
from planner.render.symbols import IRREVERSIBLE, SYMBOLS, symbol
from planner.step import Step

Paint = Callable[[str, str], str]
"""Given a style and a text, the text in that style. Styles: the actions, irreversible, refusal, heading, dim."""


def plain(style: str, text: str) -> str:  # noqa: ARG001
    """Paints nothing."""
    return text


def render(plan: Plan, *, paint: Paint = plain, show_unchanged: bool = False) -> str:
    """`plan` as text ending in a newline."""
    lines: list[str] = []
    if plan.steps or plan.refusals:
        lines += [paint("heading", f"Plan {plan.document} for {plan.cluster}"), ""]
    if plan.steps:
        lines += [*_legend(plan, paint), *_steps(plan, paint)]
    lines += _traffic(plan, paint)
    lines += _irreversible(plan, paint)
    lines += _section("Drift, left alone:", plan.drift, paint)
    lines += _section("Not quite the same in the target:", tuple(notes.lines(plan.notes)), paint)
    lines += _refusals(plan, paint)
    if show_unchanged:
        lines += _section("Unchanged:", plan.unchanged, paint)
    elif plan.unchanged and (plan.steps or plan.refusals):
        lines += [paint("dim", f"{len(plan.unchanged)} unchanged, not shown."), ""]
    return "\n".join((*lines, last_line(plan))) + "\n"


def last_line(plan: Plan) -> str:
    """The summary, or that there is nothing to do."""
    if plan.steps or plan.refusals:
        return plan.summary.line()
    return f"No changes. {plan.cluster} is as {plan.document} asks ({len(plan.unchanged)} checked)."


def _legend(plan: Plan, paint: Paint) -> list[str]:
    used = {step.action for step in plan.steps}
    entries = [paint(action.value, f"{SYMBOLS[action]} {action}") for action in SYMBOLS if action in used]
    if any(step.irreversible for step in plan.steps):
        entries.append(paint("irreversible", f"{IRREVERSIBLE} no way back"))
    return ["  " + "   ".join(entries), ""]


def _steps(plan: Plan, paint: Paint) -> list[str]:
    by_id = {step.id: step for step in plan.steps}
    width = max(len(step_id) for step_id in by_id)
    lines: list[str] = []
    for wave in plan.waves:
        for step_id in wave:
            lines += _step(by_id[step_id], width, paint)
    return [*lines, ""]


def _step(step: Step, width: int, paint: Paint) -> Iterable[str]:
    style = "irreversible" if step.irreversible else step.action.value
    yield f"  {paint(style, f'{symbol(step):<2} {step.id:<{width}}')}  {step.action}"
    if step.reason:
        yield f"       {paint('dim', step.reason)}"


def _traffic(plan: Plan, paint: Paint) -> list[str]:
    changed = [made for made in plan.moves if made.traffic_before != made.traffic_after]
    if not changed and not plan.routing:
        return []
    lines = [paint("heading", "Traffic:")]
    for made in changed:
        lines.append(f"  {made.move.target}.{made.move.name}")
        lines.append(f"    before: {made.traffic_before}")
        lines.append(f"    after:  {made.traffic_after}")
    added = sum(not change.before for change in plan.routing)
    removed = sum(not change.after for change in plan.routing)
    changes = len(plan.routing) - added - removed
    if plan.routing:
        lines.append(f"  routing rules: {added} added, {changes} changed, {removed} removed")
    return [*lines, ""]


def _irreversible(plan: Plan, paint: Paint) -> list[str]:
    steps = [step for step in plan.steps if step.irreversible]
    if not steps:
        return []
    lines: list[str] = []
    for step in steps:
        lines += [f"  {paint('irreversible', f'{IRREVERSIBLE} {step.id}')}", f"      {step.reason}"]
    return [paint("heading", "No way back from:"), *lines, ""]


def _section(title: str, entries: tuple[str, ...], paint: Paint) -> list[str]:
    return [paint("heading", title), *(f"  {entry}" for entry in entries), ""] if entries else []


def _refusals(plan: Plan, paint: Paint) -> list[str]:
    if not plan.refusals:
        return []
    lines = [paint("heading", f"Refused, {len(plan.refusals)} in all; nothing will be applied:")]
    for refusal in plan.refusals:
        lines += [
            f"  {paint('refusal', refusal.code)} {refusal.step}",
            f"    found:    {refusal.found}",
            f"    expected: {refusal.expected}",
            f"    do:       {refusal.hint}",
        ]
    return [*lines, ""]
