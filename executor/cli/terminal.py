"""What goes where: results to stdout, everything else to stderr, colour only where it is wanted.

The rule of colour: `--color always|never`, else NO_COLOR, else FORCE_COLOR, else a terminal that is not dumb. Off
means that not one escape byte is written.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TextIO

from rich.console import Console

from executor.redaction import redact


class ColorChoice(StrEnum):
    """Values of --color."""

    ALWAYS = "always"
    AUTO = "auto"
    NEVER = "never"


_COLORS = {
    "create": "32",
    "change": "33",
    "move": "36",
    "verify": "34",
    "drop": "31",
    "irreversible": "1;31",
    "refusal": "1;31",
    "heading": "1",
    "dim": "2",
}


def color_wanted(choice: ColorChoice, stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether `stream` gets colour."""
    if choice is not ColorChoice.AUTO:
        return choice is ColorChoice.ALWAYS
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and environ.get("TERM", "dumb") != "dumb"


class Terminal:
    """Writes for one run of the command. `debug` shows the traceback of bugs."""

    def __init__(self, color: ColorChoice = ColorChoice.AUTO, debug: bool = False) -> None:
        self.debug = debug
        self.color_out = color_wanted(color, sys.stdout, os.environ)
        self.color_err = color_wanted(color, sys.stderr, os.environ)

    def result(self, text: str) -> None:
        """Writes a result to stdout."""
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
        sys.stdout.flush()

    def paint_out(self, style: str, text: str) -> str:
        """`text` in the colour of `style` for stdout; see planner.render.text."""
        return _painted(style, text) if self.color_out else text

    def paint_err(self, style: str, text: str) -> str:
        """`text` in the colour of `style` for stderr."""
        return _painted(style, text) if self.color_err else text

    def note(self, text: str) -> None:
        """Writes anything that is not a result to stderr."""
        sys.stderr.write(f"{redact(text)}\n")
        sys.stderr.flush()

    def notice(self, text: str) -> None:
        """As `note`, from within a signal handler: past Python's buffers, which must not be entered twice."""
        start = "\n" if sys.stderr.isatty() else ""
        os.write(sys.stderr.fileno(), f"{start}{redact(text)}\n".encode())

    def error(self, message: str, hint: str = "") -> None:
        """Writes an error and what to type next."""
        mark = "\x1b[1;31mError:\x1b[0m" if self.color_err else "Error:"
        self.note(f"{mark} {message}")
        if hint:
            self.note(f"  {hint}")

    def bar_console(self) -> Console | None:
        """A console to draw a bar on; None where lines must do."""
        if not (self.color_err and sys.stderr.isatty()):
            return None
        return Console(stderr=True, force_terminal=True)


def _painted(style: str, text: str) -> str:
    return f"\x1b[{_COLORS[style]}m{text}\x1b[0m"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned with spaces, never cut. Values must be single lines."""
    widths = [max(len(row[index]) for row in (header, *rows)) for index in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows)]
    return "\n".join(line.rstrip() for line in lines)
