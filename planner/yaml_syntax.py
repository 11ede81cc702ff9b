"""Says in words what PyYAML's scanner and parser stumble over, and where the mistake is rather than where it shows."""

from __future__ import annotations

from typing import Protocol

import yaml

from planner.diagnostic import Mark, Report


class YamlMark(Protocol):
    """What PyYAML's marks have in common; both count from 0."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


def to_mark(mark: YamlMark | None) -> Mark:
    """PyYAML's mark as ours, which counts from 1."""
    return Mark(mark.line + 1, mark.column + 1) if mark else Mark(1, 1)


def report_syntax_error(error: yaml.MarkedYAMLError, text: str, report: Report) -> None:
    """Add to `report` what `error` means for whoever wrote `text`."""
    problem = error.problem or "the file cannot be read as YAML"
    context = error.context or ""
    at = error.problem_mark or error.context_mark
    if error.context_mark and ("simple key" in context or "end of stream" in problem):
        at = error.context_mark  # where the unfinished thing starts; the problem is noticed only much later
    mark = to_mark(at)
    lines = text.splitlines() or [""]
    line = lines[min(mark.line, len(lines)) - 1]
    if "\t" in line[: mark.col] or "'\\t'" in problem:
        indent = len(line) - len(line.lstrip())
        col = line.index("\t") + 1 if "\t" in line[:indent] else mark.col
        report.add(Mark(mark.line, col), "tab", "a tab is used to indent", "indent with spaces")
        return
    code, message, hint = "yaml-syntax", "", ""
    if "${" in line and ("flow" in context or "flow" in problem):
        message, hint = "'{' cannot stand here unquoted", 'quote it: "${name}"'
    elif "alias" in context:
        message, hint = "'*' cannot stand here unquoted", 'quote it: "*"'
    elif "tag" in context or "tag" in problem:
        code, message, hint = "tag", "tags ('!...') are not allowed", "quote the value to make it text"
    elif "mapping values are not allowed" in problem:
        message, hint = "a second ':' in one line", "quote the text that contains ': ', or check the indentation"
    elif "could not find expected ':'" in problem:
        message, hint = "this line is no 'key: value' pair", "add ':' and a space after the key"
    elif "expected <block end>" in problem:
        message, hint = "the indentation does not fit the lines above", "align it with the keys it belongs to"
    elif "end of stream" in problem and "quoted" in context:
        message, hint = "the quote that opens here is never closed", "close the quote"
    elif "flow" in context:
        what = "list" if "sequence" in context else "mapping"
        message = f"',' or the end of the {what} was expected here"
        if error.context_mark:
            hint = f"the {what} opens at line {error.context_mark.line + 1}, column {error.context_mark.column + 1}"
    report.add(mark, code, message or problem, hint)
