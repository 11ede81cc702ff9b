"""Checks a document against its JSON Schema and says what is wrong in words, at the place where it is wrong.

A schema may say ``x-expected`` (what to write, in words) and ``x-secret`` (never quote the value).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from planner.diagnostic import Mark, Report, did_you_mean, shown
from planner.nodes import MappingNode, Node, SequenceNode, plain
from planner.strict_yaml import resolve

_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "nothing",
}


def check_schema(root: Node, schema: Mapping[str, Any], report: Report) -> None:
    """Report everything in `root` that `schema` does not allow."""
    for error in Draft202012Validator(schema).iter_errors(plain(root)):
        broken = _broken(error, root)
        if not broken.node.bad:
            _explain(broken, report)


def typed_keys(schema: object) -> frozenset[str]:
    """Names of the properties anywhere in `schema` that are numbers or booleans."""
    found: set[str] = set()
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key == "properties":
                found |= {k for k, v in value.items() if v.get("type") in ("number", "integer", "boolean")}
            found |= typed_keys(value)
    return frozenset(found)


@dataclass(frozen=True)
class _Broken:
    """One rule of a schema that something breaks. `found` is the plain value, `node` the same with its place."""

    keyword: str
    rule: Any
    schema: Mapping[str, Any]
    found: Any
    node: Node
    key_mark: Mark | None
    where: str
    about_key: bool

    @property
    def expected(self) -> str:
        return str(self.schema.get("x-expected", ""))

    @property
    def holder_mark(self) -> Mark:
        """The key that has the value, where there is one."""
        return self.key_mark or self.node.mark


def _broken(error: ValidationError, root: Node) -> _Broken:
    path = list(error.absolute_path)
    node, key_mark = _locate(root, path)
    return _Broken(
        keyword=str(error.validator),
        rule=error.validator_value,
        schema=error.schema if isinstance(error.schema, Mapping) else {},
        found=error.instance,
        node=node,
        key_mark=key_mark,
        where=_where(path),
        about_key="propertyNames" in error.absolute_schema_path,
    )


def _explain(broken: _Broken, report: Report) -> None:
    node, where, expected = broken.node, broken.where, broken.expected
    secret = bool(broken.schema.get("x-secret"))
    if broken.about_key and isinstance(node, MappingNode):
        hint = _alias_hint(broken.found, expected)
        report.add(node.keys[broken.found], "bad-name", f"{shown(broken.found)} is not {expected}", hint)
    elif broken.keyword == "additionalProperties" and isinstance(node, MappingNode):
        _unknown_keys(node, where, list(broken.schema.get("properties", {})), report)
    elif broken.keyword == "required":
        _missing_keys(broken, report)
    elif secret and broken.keyword == "type":
        empty = broken.found is None
        code, message = ("wrong-type", "is empty") if empty else ("inline-secret", "must not hold the password itself")
        report.add(broken.holder_mark, code, f"{where} {message}", "write {env: NAME} or {file: PATH}")
    elif broken.keyword in {"minProperties", "maxProperties"}:
        report.add(broken.holder_mark, "bad-value", f"{where} needs {expected}, and only one of them")
    elif secret:
        report.add(node.mark, "bad-value", f"{where} is not {expected}")
    elif broken.keyword == "minItems":
        report.add(node.mark, "empty-list", f"{where} is an empty list; expected {expected}")
    elif broken.keyword == "type":
        _wrong_type(broken, report)
    elif broken.keyword == "enum":
        hint = did_you_mean(broken.found, broken.rule) if isinstance(broken.found, str) else ""
        message = f"{where} is {_found(broken.found)}; expected one of {', '.join(broken.rule)}"
        report.add(node.mark, "bad-value", message, hint if hint.startswith("did you mean") else "")
    else:
        wanted = expected or f"{broken.keyword} {broken.rule}"
        hint = _alias_hint(broken.found, expected)
        report.add(node.mark, "bad-value", f"{where} is {_found(broken.found)}; expected {wanted}", hint)


def _unknown_keys(node: MappingNode, where: str, known: Sequence[str], report: Report) -> None:
    unused = [name for name in known if name not in node.entries]
    for key in node.entries:
        if key not in known:
            hint = did_you_mean(key, unused or known, "keys")
            report.add(node.keys[key], "unknown-key", f"unknown key {shown(key)} in {where}", hint)


def _missing_keys(broken: _Broken, report: Report) -> None:
    for key in broken.rule:
        if key not in broken.found:
            rules = broken.schema.get("properties", {}).get(key, {})
            hint = f"{key}: {rules['description'].partition('. ')[0].rstrip('.')}" if "description" in rules else ""
            hint += f", one of {', '.join(rules['enum'])}" if "enum" in rules else ""
            report.add(broken.holder_mark, "missing-key", f"{broken.where} lacks the key {shown(key)}", hint)


def _wrong_type(broken: _Broken, report: Report) -> None:
    wanted = broken.rule if isinstance(broken.rule, list) else [broken.rule]
    expected = broken.expected or " or ".join(_TYPES[name] for name in wanted)
    hint = ""
    if isinstance(broken.found, bool | int | float) and wanted == ["string"]:
        text = _found(broken.found)
        if re.search(broken.schema.get("pattern", ""), text):
            hint = f'quote it to make it text: "{text}"'
        elif expected.startswith("a duration"):
            hint = f"did you mean {text}s?"
    elif isinstance(broken.found, str) and "string" not in wanted and not isinstance(resolve(broken.found), str):
        hint = "write it without quotes"
    report.add(broken.node.mark, "wrong-type", f"{broken.where} is {_found(broken.found)}; expected {expected}", hint)


def _found(value: object) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return shown(value)


def _alias_hint(found: object, expected: str) -> str:
    if not isinstance(found, str) or not expected.startswith("a tablet alias"):
        return ""
    cell, _, uid = found.rpartition("-")
    return (
        f"did you mean '{cell}-{int(uid):010d}'?" if cell and uid.isascii() and uid.isdigit() and len(uid) < 10 else ""
    )


def _locate(root: Node, path: list[str | int]) -> tuple[Node, Mark | None]:
    """The node at `path`, and the place of its key if it has one."""
    node: Node = root
    key_mark: Mark | None = None
    for step in path:
        if isinstance(node, MappingNode) and isinstance(step, str):
            key_mark = node.keys[step]
            node = node.entries[step]
        elif isinstance(node, SequenceNode) and isinstance(step, int):
            key_mark = None
            node = node.items[step]
    return node, key_mark


def _where(path: list[str | int]) -> str:
    text = ""
    for step in path:
        text += f"[{step + 1}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "the document"
