"""What is shown while a step runs."""

from __future__ import annotations

import io
import re
import threading

import pytest
from rich.console import Console

from executor.events import Event, EventType
from executor.progress import BarProgress, LineProgress, duration_text, progress_text

START = Event(EventType.STEP_START, "a:b", "a:b", {"kind": "a", "action": "create", "reason": "live: nothing"})
DONE = Event(EventType.STEP_DONE, "a:b: done in 1.0 s", "a:b", {"elapsed": 1.0})


def progress(**fields: object) -> Event:
    data = {"text": "", "done": None, "total": None, "rate": None, "eta": None, "reason": ""} | fields
    return Event(EventType.STEP_PROGRESS, progress_text(data), "a:b", data)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"text": "copying", "done": 1200, "total": 5000, "rate": 400.0, "eta": 9.5},
         "copying, 1,200 of 5,000 rows (24 %), 400 rows/s, ETA 9s"),
        ({"done": 7}, "7 rows"),
        ({"done": 0, "total": 5}, "0 of 5 rows (0 %), no ETA: no rate yet"),
        ({"reason": "throttled"}, "no ETA: throttled"),
        ({}, ""),
    ],
)  # fmt: skip
def test_progress_says_the_rate_and_the_eta_or_why_there_is_none(fields: dict[str, object], expected: str) -> None:
    assert progress(**fields).message == expected


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0s"), (59.9, "59s"), (187, "3m07s"), (7500, "2h05m")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_without_a_terminal_a_silent_step_is_still_heard_of() -> None:
    lines: list[str] = []
    heard = threading.Event()

    def write(line: str) -> None:
        lines.append(line)
        if "running" in line:
            heard.set()

    with LineProgress(write, interval=0.1) as shown:
        shown.handle(START)
        shown.handle(progress(text="copying", done=5, total=10))
        assert heard.wait(10)
        shown.handle(DONE)
    assert lines[0] == "a:b: started (live: nothing)"
    assert lines[1].startswith("a:b: running, 0s elapsed, copying, 5 of 10 rows (50 %)")
    assert lines[-1] == "a:b: done in 1.0 s"


def test_without_a_terminal_progress_is_not_one_line_per_update() -> None:
    lines: list[str] = []
    with LineProgress(lines.append) as shown:
        shown.handle(START)
        for done in range(1000):
            shown.handle(progress(done=done, total=1000))
        shown.handle(DONE)
    assert len(lines) == 2


def test_a_bar_leaves_one_line_per_finished_step() -> None:
    stream = io.StringIO()
    with BarProgress(Console(file=stream, force_terminal=True, width=100)) as bar:
        bar.handle(START)
        bar.handle(progress(text="copying [bold]", done=5, total=10))
        bar.handle(DONE)
        bar.handle(Event(EventType.STEP_FAILED, "c:d: no", "c:d", {"hint": "do this", "exit_code": 1, "error": "E"}))
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "a:b: done in 1.0 s" in plain
    assert "c:d: no" in plain
    assert "do this" in plain
