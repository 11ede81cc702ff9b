"""What happens during an apply, as values, and their form as JSON lines (`apply --events FILE`).

Everything that watches an apply (the event file, the terminal, a test) is given the same events, so they cannot
disagree. Schema: schemas/event.schema.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType
from typing import IO, Any, Protocol, Self

FORMAT_VERSION = "1.0"


class EventType(StrEnum):
    """The kinds of events. A reader that meets a type it does not know shows its `message`."""

    VERSION = "version"
    STEP_START = "step_start"
    STEP_PROGRESS = "step_progress"
    STEP_DONE = "step_done"
    STEP_SKIPPED = "step_skipped"
    STEP_FAILED = "step_failed"
    SUMMARY = "summary"


@dataclass(frozen=True)
class Event:
    """One thing that happened. `step` is a step id, or "" for what concerns the whole run.

    `data` holds the further fields of its type, all of them JSON values.
    """

    type: EventType
    message: str
    step: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    def to_json(self, run: str, time: datetime) -> dict[str, Any]:
        """The event as it stands in an event file. `run` is the id of the run, `time` when it happened, in UTC."""
        head = {"type": self.type.value, "time": time.isoformat(timespec="milliseconds"), "run": run}
        step = {"step": self.step} if self.step else {}
        return head | step | {"message": self.message} | self.data


class Sink(Protocol):
    """Whatever watches an apply."""

    def handle(self, event: Event) -> None:
        """Take note of one event. Must not raise."""


class EventFile:
    """Writes each event as one line of JSON, flushed, so that a reader can follow and a crash loses nothing.

    `step_progress` events of one step are written at most once per `progress_interval` seconds.
    """

    def __init__(self, stream: IO[str], run: str, progress_interval: float = 1.0) -> None:
        self._stream = stream
        self._run = run
        self._interval = progress_interval
        self._last: tuple[str, datetime] | None = None

    def handle(self, event: Event) -> None:
        """Writes one line."""
        now = datetime.now(UTC)
        if event.type is EventType.STEP_PROGRESS:
            if self._last and self._last[0] == event.step and (now - self._last[1]).total_seconds() < self._interval:
                return
            self._last = (event.step, now)
        self._stream.write(json.dumps(event.to_json(self._run, now), ensure_ascii=False) + "\n")
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stream.flush()


def version_event(plan: str, cluster: str, fingerprint: str, dry_run: bool) -> Event:
    """The first event of every file."""
    data = {
        "format_version": FORMAT_VERSION,
        "plan": plan,
        "cluster": cluster,
        "fingerprint": fingerprint,
        "dry_run": dry_run,
    }
    return Event(EventType.VERSION, f"movetables events {FORMAT_VERSION}", data=data)
