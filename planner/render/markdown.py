"""Draws a plan for a pull request: verdict, table, what needs attention, graph, details; within a budget of bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from planner.plan import MovePlan, Plan
from planner.render import notes
from planner.render.graph import mermaid
from planner.render.symbols import symbol, verdict
from planner.render.text import last_line
from planner.step import Action, Step

MAX_BYTES = 60_000
"""A comment on GitHub takes 65,536 characters."""

MAX_GRAPH_NODES = 40


def render(plan: Plan, *, max_bytes: int = MAX_BYTES, apply_command: str = "") -> str:
    """`plan` as Markdown of at most `max_bytes` UTF-8 bytes where the parts that are never cut allow it.

    Details are cut between steps, with the number of those left out. `apply_command` is what to type to apply it.
    """
    head = [
        f"<!-- movetables plan: {_comment(plan.document)} on {_comment(plan.cluster)} -->",
        f"### movetables: {verdict(len(plan.steps), len(plan.refusals))}",
        f"Plan {_code(plan.document)} for cluster {_code(plan.cluster)}",
        *_table(plan),
        *_attention(plan),
    ]
    foot = [*_footer(plan, apply_command or f"movetables apply {plan.file}"), last_line(plan)]
    graph = _graph(plan)
    budget = max_bytes - _size([*head, *foot])
    if graph and _size([graph]) <= budget:
        head.append(graph)
        budget -= _size([graph])
    return "\n\n".join([*head, *_details(plan, budget), *foot]) + "\n"


def _size(blocks: Iterable[str]) -> int:
    return sum(len(block.encode()) + 2 for block in blocks)


def _code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}".replace("|", "\\|")


def _comment(text: str) -> str:
    return text.replace("--", "- -")


def _table(plan: Plan) -> list[str]:
    by_id = {step.id: step for step in plan.steps}
    counts = (*(action.value for action in Action), "irreversible")
    rows = [f"| move | tables | from | to | now | wanted | {' | '.join(counts)} |"]
    rows.append("|" + " --- |" * 6 + " ---: |" * len(counts))
    for made in plan.moves:
        move = made.move
        tables = ", ".join(move.tables) if len(move.tables) <= 8 else f"{len(move.tables)} tables"
        cells = [_code(move.name), tables, move.source, move.target, made.live.text, move.state.text]
        rows.append(_row(cells, [by_id[i] for i in made.steps]))
    rest = _outside_moves(plan)
    if rest:
        rows.append(_row(["keyspaces and tablets", "", "", "", "", ""], rest))
    return ["\n".join(rows)] if len(rows) > 2 else []


def _row(cells: list[str], steps: Sequence[Step]) -> str:
    numbers = [sum(step.action is action for step in steps) for action in Action]
    numbers.append(sum(step.irreversible for step in steps))
    return f"| {' | '.join((*cells, *map(str, numbers)))} |"


def _outside_moves(plan: Plan) -> list[Step]:
    moved = {step_id for made in plan.moves for step_id in made.steps}
    return [step for step in plan.steps if step.id not in moved]


def _attention(plan: Plan) -> list[str]:
    lines = [
        f"- **Refused, {r.code}**, {_code(r.step)}: {r.found}; expected {r.expected}. **Do:** {r.hint}"
        for r in plan.refusals
    ]
    lines += [f"- **No way back** from {_code(s.id)}: {s.reason}" for s in plan.steps if s.irreversible]
    lines += [f"- **Drift**, left alone: {entry}" for entry in plan.drift]
    lines += [f"- **Not quite the same** in the target: {line}" for line in notes.lines(plan.notes)]
    return ["#### Needs attention", "\n".join(lines)] if lines else []


def _graph(plan: Plan) -> str:
    if not plan.steps or len(plan.steps) > MAX_GRAPH_NODES:
        return ""
    return f"```mermaid\n{mermaid(plan)}```"


def _details(plan: Plan, budget: int) -> list[str]:
    by_id = {step.id: step for step in plan.steps}
    groups: list[tuple[str, list[str], list[Step]]] = []
    rest = _outside_moves(plan)
    if rest:
        groups.append((f"keyspaces and tablets: {len(rest)} steps", [], rest))
    for made in plan.moves:
        steps = [by_id[step_id] for step_id in made.steps]
        if steps:
            groups.append((f"{made.move.name}: {len(steps)} steps", _traffic(plan, made), steps))
    blocks: list[str] = []
    left = budget - 200  # room for the line that tells of what was cut
    cut = 0
    for title, before, steps in groups:
        opening = ["<details>", f"<summary>{title}</summary>", *before]
        shown: list[str] = []
        size = _size([*opening, "</details>"])
        for step in steps:
            text = _step(step)
            if cut or size + _size([text]) > left:
                cut += 1
                continue
            shown.append(text)
            size += _size([text])
        if shown:
            blocks += [*opening, *shown, "</details>"]
            left -= size
    if cut:
        blocks.append(f"{cut} more {'step' if cut == 1 else 'steps'}, see the plan as text or JSON.")
    return blocks


def _traffic(plan: Plan, made: MovePlan) -> list[str]:
    if made.traffic_before == made.traffic_after:
        return []
    move = made.move
    names = {f"{qualifier}{table}" for table in move.tables for qualifier in ("", f"{move.source}.", f"{move.target}.")}
    rules = sum(change.from_table.partition("@")[0] in names for change in plan.routing)
    return [f"Traffic: {made.traffic_before} → {made.traffic_after} ({rules} routing rules change)"]


def _step(step: Step) -> str:
    lines = [f"{_code(symbol(step))} **{step.id}**", f"{step.reason}".strip()]
    text = "\n".join(step.describe())
    return "\n\n".join(line for line in (*lines, f"```text\n{text}\n```") if line)


def _footer(plan: Plan, apply_command: str) -> list[str]:
    footer = [f"Fingerprint: `{plan.fingerprint}`"]
    if plan.applyable:
        footer.append(f"Apply with: {_code(apply_command)}")
    return ["---", "<br>\n".join(footer)]
