"""``${name}`` in the values of a plan."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from planner.diagnostic import SECRET_KEY, Mark, Report, did_you_mean, shown
from planner.nodes import MappingNode, Node, ScalarNode, SequenceNode
from planner.strict_yaml import resolve

_VARIABLE = re.compile(r"\$(?P<escaped>\$)?\{(?P<name>[^}]*)(?P<end>\}?)")


def as_text(value: object) -> str:
    """How a variable's value is written into a text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_vars(node: MappingNode, report: Report) -> dict[str, str]:
    """The variables that the mapping ``vars`` of a document sets. Those named like a secret go to `report`."""
    values = {name: node.value(name) for name in node.entries}
    for name in filter(SECRET_KEY.fullmatch, values):
        message = f"variable {shown(name)} is named like a secret, and variables are shown in plans"
        report.add(node.keys[name], "inline-secret", message, "give it another name if it is none")
    return {name: as_text(value) for name, value in values.items() if value is not None}


def substitute(node: Node, values: Mapping[str, str], typed: Collection[str], report: Report) -> tuple[Node, set[str]]:
    """`node` with every ``${name}`` replaced from `values`, and the names that were used; ``$${`` stands for ``${``.

    Keys are left alone. A value that is one variable and nothing else becomes a number or boolean where its key is one
    of `typed`. Unknown variables go to `report`.
    """
    used: set[str] = set()
    return _substitute(node, values, typed, report, used, ""), used


def _substitute(
    node: Node, values: Mapping[str, str], typed: Collection[str], report: Report, used: set[str], key: str
) -> Node:
    if isinstance(node, MappingNode):
        entries = {k: _substitute(n, values, typed, report, used, k) for k, n in node.entries.items()}
        return replace(node, entries=entries)
    if isinstance(node, SequenceNode):
        return replace(node, items=tuple(_substitute(n, values, typed, report, used, key) for n in node.items))
    if not isinstance(node.value, str) or "${" not in node.value or node.bad:
        return node
    unknown = False

    def value_of(match: re.Match[str]) -> str:
        nonlocal unknown
        if match["escaped"]:
            return match[0][1:]
        name = match["name"]
        if not match["end"]:
            report.add(node.mark, "bad-variable", "'${' without '}'", "write $${ for a plain '${'")
        elif name not in values:
            hint = did_you_mean(name, values, "variables") or f"give it a value in vars, or with --var {name}=..."
            report.add(node.mark, "unknown-variable", f"variable {shown(name)} has no value", hint)
        else:
            used.add(name)
            return values[name]
        unknown = True
        return ""

    text = _VARIABLE.sub(value_of, node.value)
    whole = _VARIABLE.fullmatch(node.value)
    return ScalarNode(node.mark, resolve(text) if whole and key in typed else text, bad=unknown)


def check_given(given: Mapping[str, str], known: Collection[str], report: Report) -> None:
    """Report variables that were `given` on the command line and that nothing uses or declares."""
    for name in sorted(set(given) - set(known)):
        hint = did_you_mean(name, known, "variables") or "the plan uses no variables"
        report.add(Mark(1, 1), "unknown-variable", f"--var {name} is given, but the plan has no such variable", hint)
