"""Asks a person. Only the typed word passes; an end of input and Ctrl-C mean no."""

from __future__ import annotations

import sys
from collections.abc import Callable

from executor.errors import Declined, Usage


def require_terminal(flag: str) -> None:
    """Raises Usage, naming the flag that approves, when nobody can be asked."""
    if not sys.stdin.isatty():
        raise Usage("there is nobody to ask: standard input is not a terminal", f"approve with {flag}")


def ask(question: str, word: str, details: Callable[[], None] | None = None) -> None:
    """Asks `question` until it is answered; returns only if the answer is `word`.

    The answer ``details`` calls `details` and asks again. Raises Declined for anything else.
    """
    while True:
        try:
            more = " (details shows the plan again)" if details else ""
            sys.stderr.write(f"{question}\n  Only '{word}' goes on{more}: ")
            sys.stderr.flush()
            answer = sys.stdin.readline()
        except KeyboardInterrupt:
            answer = ""
        if not answer:
            sys.stderr.write("\n")
        if answer.strip() == word:
            return
        if details is not None and answer.strip() == "details":
            details()
            continue
        raise Declined("declined; nothing was changed")
