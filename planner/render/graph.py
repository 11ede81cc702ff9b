"""Draws the graph of a plan: DOT for Graphviz, Mermaid for pages that render it."""

from __future__ import annotations

from planner.plan import Plan
from planner.render.symbols import symbol


def dot(plan: Plan) -> str:
    """`plan` as DOT, left to right, one rank per wave."""
    by_id = {step.id: step for step in plan.steps}
    lines = [f"digraph {_quoted(plan.document)} {{", "  rankdir=LR;", "  node [shape=box];"]
    for wave in plan.waves:
        for step_id in wave:
            step = by_id[step_id]
            style = ", style=bold" if step.irreversible else ""
            lines.append(f"  {_quoted(step_id)} [label={_quoted(f'{symbol(step)} {step_id}')}{style}];")
        lines.append(f"  {{ rank=same; {' '.join(_quoted(step_id) + ';' for step_id in wave)} }}")
    for step in plan.steps:
        lines += [f"  {_quoted(dependency)} -> {_quoted(step.id)};" for dependency in step.after]
    return "\n".join((*lines, "}")) + "\n"


def mermaid(plan: Plan) -> str:
    """`plan` as a Mermaid flowchart, left to right, one box per wave."""
    names = {step.id: f"s{number}" for number, step in enumerate(plan.steps, 1)}
    by_id = {step.id: step for step in plan.steps}
    lines = ["flowchart LR"]
    for number, wave in enumerate(plan.waves, 1):
        lines.append(f'  subgraph wave{number}["wave {number}"]')
        for step_id in wave:
            step = by_id[step_id]
            text = f"{symbol(step)} {step_id}".replace("&", "#amp;").replace('"', "#quot;").replace(">", "#gt;")
            lines.append(f'    {names[step_id]}["{text}"]')
        lines.append("  end")
    for step in plan.steps:
        lines += [f"  {names[dependency]} --> {names[step.id]}" for dependency in step.after]
    no_way_back = ",".join(names[step.id] for step in plan.steps if step.irreversible)
    if no_way_back:
        lines += [
            "  classDef irreversible stroke-width:3px,stroke-dasharray:5 3",
            f"  class {no_way_back} irreversible",
        ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
