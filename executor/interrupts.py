"""Ctrl-C and SIGTERM during an apply.

The first asks to stop: the running step goes on to its next safe point. The second ends the process at once, which is
as safe as a `kill -9`: applying again continues. Inside a shielded section both wait until the section is left.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from executor.errors import Interrupted, exit_code_for

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Counts the signals while it is entered. `notice` is called with every message for the user.

    `resume` is the command that continues after an interruption. Only to be entered in the main thread.
    """

    def __init__(self, notice: Callable[[str], None], resume: str) -> None:
        self._notice = notice
        self._resume = resume
        self._count = 0
        self._shield = ""
        self._before: dict[int, Any] = {}
        self.running = ""
        """Id of the step that is running, for the messages."""

    @property
    def requested(self) -> bool:
        """True once a signal asked to stop."""
        return self._count > 0

    def error(self) -> Interrupted:
        """The error that a stop on request ends with."""
        return Interrupted("stopped on request; what is done stays done, and nothing is half done", self._resume)

    def check(self) -> None:
        """Raises Interrupted if a signal asked to stop, except inside a shielded section."""
        if self.requested and not self._shield:
            raise self.error()

    @contextmanager
    def shielded(self, what: str) -> Iterator[None]:
        """A section that signals do not stop. `what` names it in the notice. May be nested."""
        outer, self._shield = self._shield, what
        try:
            yield
        finally:
            self._shield = outer
        if not outer and self._count > 1:
            self._exit()

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._count += 1
        at = f" of {self.running}" if self.running else ""
        if self._shield:
            self._notice(f"Interrupted: {self._shield} is under way{at} and ends by itself within its timeout; waiting")
        elif self._count == 1:
            self._notice(f"Interrupted: stopping at the next safe point{at}. Press Ctrl-C again to exit at once.")
        else:
            self._exit()

    def _exit(self) -> NoReturn:
        step = self.running or "no step"
        self._notice(f"Exiting at once; {step} was running. Continue with: {self._resume}")
        os._exit(exit_code_for(self.error()))
