"""Processor time of the servers and of our own processes, as the kernel counts it: where a measured time goes."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path

from executor.native.servers import Login, connect

_TICKS = os.sysconf("SC_CLK_TCK")


class Processor:
    """Counts for the servers of `logins`, and for the running processes that have `inventory` on their command line.

    The latter include this one, and commands that it started and that have ended, those of other tools too.
    """

    def __init__(self, logins: Sequence[Login], inventory: str) -> None:
        self._servers = [_pid(login) for login in logins]
        self._inventory = inventory

    def seconds(self) -> list[float]:
        """Processor seconds up to now: of each server in the order of the logins, then of all other processes."""
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        servers = [_seconds(Path(f"/proc/{pid}")) for pid in self._servers]
        running = [_seconds(process) for process in our_processes(self._inventory)]
        return [*servers, sum(each.ru_utime + each.ru_stime for each in used) + sum(running)]


def our_processes(inventory: str) -> Iterator[Path]:
    """The folders in /proc of our own processes that have `inventory` on their command line."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes()
            except OSError:
                continue  # it ended meanwhile
            if os.fsencode(inventory) in words and b"executor" in words:
                yield process


def _pid(login: Login) -> int:
    with connect(login) as connection:
        return int(Path(str(connection.value("SELECT @@global.pid_file"))).read_text())


def _seconds(process: Path) -> float:
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0  # it ended meanwhile
    return (int(fields[11]) + int(fields[12])) / _TICKS
