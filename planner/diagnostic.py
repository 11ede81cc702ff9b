"""Mistakes in documents: where each one is, what is wrong, what to write instead. No secret is ever shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

MAX_DIAGNOSTICS = 20

SECRET_KEY = re.compile(r"(?:.*[_-])?(?:password|passwd|passphrase|pass|pwd|secret|token)s?", re.IGNORECASE)
"""Keys whose values are never shown, neither in a message nor in the quoted line. To be used with fullmatch."""

_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # the breaks PyYAML counts lines by
_SECRET_WORD = r"[\w-]*(?:password|passwd|passphrase|pass|pwd|secret|token)s?[\"']?"
_SECRET_VALUE = re.compile(
    rf"(?P<key>\b{_SECRET_WORD}\s*:\s+)(?P<value>\"[^\"]*\"?|'[^']*'?|[^\s{{\[#][^,}}]*)", re.IGNORECASE
)
_SECRET_OPEN = re.compile(rf"^(?P<indent>\s*).*\b{_SECRET_WORD}\s*:\s*(?:[|>][-+0-9]*)?\s*(?:#.*)?$", re.IGNORECASE)
_SECRET_IN_URL = re.compile(r"(?<=\w:)[^\s/@:'\"]+(?=@)")


class Mark(NamedTuple):
    """A place in a file. Lines and columns start at 1; columns count characters."""

    line: int
    col: int


@dataclass(frozen=True, order=True)
class Diagnostic:
    """One mistake. `code` is stable; `source_line` is the line it is on, with anything secret replaced by ``***``."""

    file: str
    line: int
    col: int
    code: str
    message: str
    hint: str = ""
    source_line: str = ""

    @property
    def text(self) -> str:
        """``file:line:col: code: message``, without the line it is about."""
        return f"{self.file}:{self.line}:{self.col}: {self.code}: {self.message}"

    def render(self) -> str:
        """The text, the line with a caret under the mistake, and the hint."""
        lines = [self.text]
        if self.source_line.strip():
            before = self.source_line[: self.col - 1]
            lines += [f"    {self.source_line}", "    " + re.sub(r"[^\t]", " ", before) + "^"]
        if self.hint:
            lines.append(f"  {self.hint}")
        return "\n".join(lines)


class DocumentErrors(Exception):
    """A document cannot be used. `diagnostics` are sorted by position, at most 20; `more` counts those left out."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        ordered = sorted(set(diagnostics))
        self.diagnostics = tuple(ordered[:MAX_DIAGNOSTICS])
        self.more = len(ordered) - len(self.diagnostics)
        super().__init__(self.render())

    def render(self) -> str:
        """Every diagnostic with its line, and a last line if some were left out."""
        blocks = [diagnostic.render() for diagnostic in self.diagnostics]
        if self.more:
            blocks.append(f"and {self.more} more; fix these first")
        return "\n".join(blocks)


class Report:
    """Collects the mistakes of one file. `text` is the whole file."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self._lines = _LINE_BREAK.split(text)
        self._found: list[tuple[Mark, str, str, str]] = []
        self._secrets: list[tuple[Mark, Mark]] = []

    def add(self, mark: Mark, code: str, message: str, hint: str = "") -> None:
        """Note one mistake at `mark`."""
        self._found.append((mark, code, message, hint))

    def hide(self, start: Mark, end: Mark) -> None:
        """Show ``***`` for what stands from `start` up to `end` when a line is quoted."""
        self._secrets.append((start, end))

    @property
    def failed(self) -> bool:
        """True once a mistake was noted."""
        return bool(self._found)

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """All mistakes, in the order of their places."""
        shown = self._shown_lines()
        return tuple(
            sorted(
                Diagnostic(
                    self.file,
                    mark.line,
                    mark.col,
                    code,
                    _SECRET_IN_URL.sub("***", message),
                    _SECRET_IN_URL.sub("***", hint),
                    shown[mark.line - 1] if mark.line <= len(shown) else "",
                )
                for mark, code, message, hint in set(self._found)
            )
        )

    def raise_if_failed(self) -> None:
        """Raise DocumentErrors if any mistake was noted."""
        if self.failed:
            raise DocumentErrors(self.diagnostics())

    def _shown_lines(self) -> list[str]:
        lines = list(self._lines)
        for start, end in sorted(self._secrets, reverse=True):
            for number in range(start.line, min(end.line, len(lines)) + 1):
                line = lines[number - 1]
                first = start.col - 1 if number == start.line else len(line) - len(line.lstrip())
                last = end.col - 1 if number == end.line else len(line)
                if last > first:
                    lines[number - 1] = f"{line[:first]}***{line[last:]}"
        return _without_secrets(lines)


def _without_secrets(lines: list[str]) -> list[str]:
    """`lines` with what looks like a secret replaced: all there is to go by while a file does not parse."""
    shown = []
    hidden_beyond: int | None = None
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if hidden_beyond is not None and line.strip() and indent <= hidden_beyond:
            hidden_beyond = None
        opening = _SECRET_OPEN.match(line)
        if hidden_beyond is not None and line.strip() and not re.match(r"\s*(?:env|file):", line):
            shown.append(line[:indent] + "***")
        else:
            shown.append(_SECRET_IN_URL.sub("***", _SECRET_VALUE.sub(lambda m: m["key"] + "***", line)))
        if opening and hidden_beyond is None:
            hidden_beyond = len(opening["indent"])
    return shown


def shown(value: object) -> str:
    """`value` as messages quote it: words in quotes, long ones cut."""
    text = str(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    text = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    return f"'{text}'" if isinstance(value, str) else text


def did_you_mean(word: str, known: Iterable[str], what: str = "") -> str:
    """A hint for a `word` that is none of the `known`: the nearest of them, else all if few; ``""`` if none is known.

    `what` names what is listed, such as ``keys``. Upper and lower case count as the same for nearness.
    """
    names = sorted(set(known))
    folded = {name.casefold(): name for name in reversed(names)}
    near = get_close_matches(word.casefold(), list(folded), n=1, cutoff=0.6)
    if near:
        return f"did you mean {shown(folded[near[0]])}?"
    if not names:
        return ""
    listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"known {what or 'values'}: {listed}"
