"""How a running step is shown: a bar that is redrawn on a terminal, a line every 30 s elsewhere. Always on stderr."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from executor.events import Event, EventType, Sink
from executor.interrupts import Interrupts
from executor.redaction import redact

LINE_SECONDS = 30.0


class _Loss(Protocol):
    def raise_if_lost(self) -> None: ...


class StepProgress:
    """The `backend.Progress` of one running step: passes what it is told to `sinks`."""

    def __init__(self, step: str, interrupts: Interrupts, loss: _Loss, sinks: Sequence[Sink]) -> None:
        self._step = step
        self._interrupts = interrupts
        self._loss = loss
        self._sinks = tuple(sinks)

    def update(
        self,
        text: str = "",
        done: int | None = None,
        total: int | None = None,
        rate: float | None = None,
        eta: float | None = None,
        reason: str = "",
    ) -> None:
        """See `backend.Progress.update`. Without an `eta`, one is computed from the rate and what is left."""
        if eta is None and rate and total is not None and done is not None:
            eta = max(0.0, (total - done) / rate)
        data: dict[str, Any] = {"text": text, "done": done, "total": total, "rate": rate, "eta": eta, "reason": reason}
        event = Event(EventType.STEP_PROGRESS, progress_text(data), self._step, data)
        for sink in self._sinks:
            sink.handle(event)

    def check_interrupt(self) -> None:
        """See `backend.Progress.check_interrupt`."""
        self._loss.raise_if_lost()
        self._interrupts.check()

    @contextmanager
    def shielded(self, what: str) -> Iterator[None]:
        """See `backend.Progress.shielded`."""
        with self._interrupts.shielded(what):
            yield


def duration_text(seconds: float) -> str:
    """``42s``, ``3m07s``, ``2h05m``."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def progress_text(data: dict[str, Any]) -> str:
    """``copying, 1,200 of 5,000 rows (24 %), 400 rows/s, ETA 9s``, or the reason why there is no ETA."""
    parts = [str(data["text"])] if data["text"] else []
    done, total = data["done"], data["total"]
    if done is not None and total:
        parts.append(f"{done:,} of {total:,} rows ({min(100, 100 * done // total)} %)")
    elif done is not None:
        parts.append(f"{done:,} rows")
    if data["rate"] is not None:
        parts.append(f"{data['rate']:,.0f} rows/s")
    if data["eta"] is not None:
        parts.append(f"ETA {duration_text(data['eta'])}")
    elif data["reason"]:
        parts.append(f"no ETA: {data['reason']}")
    elif total:
        parts.append("no ETA: no rate yet")
    return ", ".join(parts)


def step_line(event: Event) -> str:
    """One line of text for an event that is worth one, else ``""``."""
    if event.type is EventType.STEP_FAILED:
        hint = event.data.get("hint")
        return f"{event.message}\n  {hint}" if hint else event.message
    if event.type is EventType.STEP_START:
        reason = event.data.get("reason")
        return f"{event.step}: started" + (f" ({reason})" if reason else "")
    if event.type in (EventType.STEP_DONE, EventType.STEP_SKIPPED):
        return event.message
    return ""


class LineProgress:
    """Writes lines: one per event, and one per `interval` seconds about the step that runs, even if it is silent."""

    def __init__(self, write: Callable[[str], None], interval: float = LINE_SECONDS) -> None:
        self._write = write
        self._interval = interval
        self._mutex = threading.Lock()
        self._step = ""
        self._text = ""
        self._started = 0.0
        self._shown = 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="progress-lines", daemon=True)

    def handle(self, event: Event) -> None:
        """Writes the event's line, if it has one."""
        with self._mutex:
            if event.type is EventType.STEP_START:
                self._step, self._text = event.step, ""
                self._started = self._shown = time.monotonic()
            elif event.type is EventType.STEP_PROGRESS:
                self._text = event.message
                return
            elif event.type in (EventType.STEP_DONE, EventType.STEP_FAILED, EventType.SUMMARY):
                self._step = ""
            line = step_line(event)
            if line:
                self._write(redact(line))

    def _tick(self) -> None:
        while not self._closing.wait(self._interval / 20):
            with self._mutex:
                now = time.monotonic()
                if self._step and now - self._shown >= self._interval:
                    self._shown = now
                    detail = f", {self._text}" if self._text else ""
                    elapsed = duration_text(now - self._started)
                    self._write(redact(f"{self._step}: running, {elapsed} elapsed{detail}"))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._closing.set()
        self._thread.join()


class BarProgress:
    """Draws the running step on a terminal: a line that is redrawn, with a bar where the total is known."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[step]}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task: Any = None

    def handle(self, event: Event) -> None:
        """Draws the event."""
        if event.type is EventType.STEP_START:
            self._task = self._progress.add_task("", step=event.step, total=None)
        elif event.type is EventType.STEP_PROGRESS and self._task is not None:
            self._progress.update(
                self._task,
                description=redact(event.message),
                total=event.data["total"] or None,
                completed=event.data["done"] or 0,
            )
            return
        elif event.type in (EventType.STEP_DONE, EventType.STEP_FAILED) and self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        line = step_line(event) if event.type is not EventType.STEP_START else ""
        if line:
            style = "red" if event.type is EventType.STEP_FAILED else None
            self._console.print(redact(line), style=style, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._progress.stop()
