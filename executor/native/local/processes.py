"""Processes that outlive the command that started them: who they are, whether they still live, how to stop them.

A pid alone says little once the process has ended, because the number is used again. A pid with the time at which the
process started is unique until the next boot.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from executor.errors import TimedOut
from executor.native.waiting import wait_until


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name (which may hold spaces); empty when it does not live."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    fields = text.rpartition(")")[2].split()
    return [] if fields[0] in ("Z", "X") else fields


@dataclass(frozen=True)
class Process:
    """A process: its pid and its start time in clock ticks since boot (field 22 of /proc/PID/stat)."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """True while it runs. A zombie does not."""
        fields = _stat(self.pid)
        return bool(fields) and int(fields[19]) == self.started

    def signal(self, number: int) -> None:
        """Sends a signal unless it has ended."""
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def stop(self, timeout: float) -> None:
        """SIGTERM, and SIGKILL after `timeout` seconds; returns when it has ended."""
        self.signal(signal.SIGTERM)
        try:
            wait_until(lambda: not self.alive, timeout, f"process {self.pid} to end")
        except TimedOut:
            self.signal(signal.SIGKILL)
            wait_until(lambda: not self.alive, timeout, f"process {self.pid} to end after SIGKILL")


def process(pid: int) -> Process | None:
    """The live process of that pid, or None."""
    fields = _stat(pid)
    return Process(pid, int(fields[19])) if fields else None


def write_pid_file(path: Path, pid: int) -> None:
    """Writes ``pid start-time``, in one rename, for a live process."""
    found = process(pid)
    if found is not None:
        write_whole(path, f"{found.pid} {found.started}\n")


def read_pid_file(path: Path) -> Process | None:
    """The live process that `path` names; None when there is no file, it makes no sense or the process has ended."""
    try:
        pid, started = (int(word) for word in path.read_text().split())
    except (OSError, ValueError):
        return None
    found = Process(pid, started)
    return found if found.alive else None


def write_whole(path: Path, text: str) -> None:
    """Puts `text` in the place of the file at once: a reader sees the old or the new, never a part."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        scratch.write_text(text)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def file_lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds an exclusive lock on `path`, which ends with the process at the latest. Yields whether it was got.

    Without `wait` it yields False when another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            flock(descriptor, LOCK_EX if wait else LOCK_EX | LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)
