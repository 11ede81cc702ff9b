"""Mistakes in documents: where each one is, what is wrong, what to write instead. No secret is ever shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

MAX_DIAGNOSTICS = 20

FORM_CODES = frozenset({"bad-name", "bad-value", "wrong-type"})
"""Codes that say a value cannot be what it should be, whatever it means."""

SECRET_KEY = re.compile(r"(?:.*[_-])?(?:password|passwd|passphrase|pass|pwd|secret|token)s?", re.IGNORECASE)
"""Keys whose values are never shown, neither in a message nor in the quoted line. To be used with fullmatch."""

_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # the breaks PyYAML counts lines by
_SECRET_WORD = r"[\w-]*(?:password|passwd|passphrase|pass|pwd|secret|token)s?[\"']?"
_SECRET_VALUE = re.compile(
    rf"(?P<key>\b{_SECRET_WORD}\s*:\s*)(?P<value>\"[^\"]*\"?|'[^']*'?|[^\s{{\[#][^,}}]*)", re.IGNORECASE
)
_SECRET_START = re.compile(rf"^(?P<before>(?P<indent>\s*).*?\b{_SECRET_WORD}\s*:)(?P<rest>.*)$", re.IGNORECASE)
_REFERENCE = re.compile(r"\s*(?:\{\s*(?:env|file)\s*:\s*[\w./-]+\s*\}[\s,}]*|)(?:#.*)?")
_PLAIN_KEY = re.compile(r"\s*[\w-]+\s*:(?:\s|$)")
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
    """Collects the mistakes of one file. `text` is the whole file.

    `parsed` is set once every secret in it was found; until then, lines are shown with more caution.
    """

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self._lines = _LINE_BREAK.split(text)
        self._found: list[tuple[Mark, str, str, str]] = []
        self._secrets: list[tuple[Mark, Mark]] = []
        self._malformed: set[Mark] = set()
        self.parsed = False

    def add(self, mark: Mark, code: str, message: str, hint: str = "") -> None:
        """Note one mistake at `mark`. Of a value whose form is wrong, nothing else is noted."""
        if mark in self._malformed:
            return
        if code in FORM_CODES:
            self._malformed.add(mark)
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
                    _printable(_hide_values(message)),
                    _printable(_SECRET_IN_URL.sub("***", hint)),
                    _printable(shown[mark.line - 1]) if mark.line <= len(shown) else "",
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
        for start, end in reversed(_merged(self._secrets)):
            for number in range(start.line, min(end.line, len(lines)) + 1):
                line = lines[number - 1]
                first = start.col - 1 if number == start.line else len(line) - len(line.lstrip())
                last = end.col - 1 if number == end.line else len(line)
                if last > first:
                    lines[number - 1] = f"{line[:first]}***{line[last:]}"
        return [_hide_values(line) for line in lines] if self.parsed else _hide_suspects(lines)


def _printable(text: str) -> str:
    """`text` with nothing in it that a terminal or a log would obey."""
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _merged(spans: list[tuple[Mark, Mark]]) -> list[tuple[Mark, Mark]]:
    """`spans` in order, those that overlap made one."""
    merged: list[tuple[Mark, Mark]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            start, end = merged[-1][0], max(end, merged.pop()[1])
        merged.append((start, end))
    return merged


def _hide_values(text: str) -> str:
    return _SECRET_IN_URL.sub("***", _SECRET_VALUE.sub(lambda match: match["key"] + "***", text))


def _hide_suspects(lines: list[str]) -> list[str]:
    """`lines` of a file that does not parse, without anything that may belong to the value of a secret key."""
    shown = []
    hidden_beyond: int | None = None
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if hidden_beyond is not None and indent <= hidden_beyond and _PLAIN_KEY.match(line):
            hidden_beyond = None
        if hidden_beyond is not None:
            shown.append(line[:indent] + "***" if line.strip() else line)
            continue
        start = _SECRET_START.match(line)
        if start and not (start["rest"].strip() and _REFERENCE.fullmatch(start["rest"])):
            hidden_beyond = len(start["indent"])
            line = start["before"] + " ***"
        shown.append(_hide_values(line))
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
    word = word.casefold()
    # The measure of difflib is greedy: it finds ___a and __a_a less alike than many names that differ in more.
    near = [name for name in folded if _one_more(word, name)] or get_close_matches(word, folded, n=1, cutoff=0.7)
    if near:
        return f"did you mean {shown(folded[near[0]])}?"
    if not names:
        return ""
    listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"known {what or 'values'}: {listed}"


def _one_more(word: str, name: str) -> bool:
    """True when one of them has one letter more than the other, anywhere, and else they are equal."""
    shorter, longer = sorted((word, name), key=len)
    return any(longer[:at] + longer[at + 1 :] == shorter for at in range(len(longer)))


def unknown_keyspace(name: str, mark: Mark, known: Iterable[str], report: Report, place: str) -> None:
    """Report that keyspace `name` is none of the `known`, which are those of `place`."""
    hint = did_you_mean(name, known, "keyspaces") or "add it under keyspaces there"
    report.add(mark, "unknown-keyspace", f"keyspace {shown(name)} is not in {place}", hint)
