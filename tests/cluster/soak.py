"""Tables move there and back and there again while one process after the other is killed with -9, servers included.

The workload's clients write all the time. Nothing that was acknowledged may be lost or be there twice, every apply must
succeed in the end, and source and target must be equal.
"""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from executor.native.access import Access
from executor.native.local.up import status
from planner.cluster import TabletType
from tests.cluster.commands import Commands, Done, told
from tests.workload import MOVED_TABLES, Workload, prepare
from tests.workload.verdict import Verdict

TABLETS = (
    ("commerce", 100, TabletType.REPLICA),
    ("commerce", 101, TabletType.REPLICA),
    ("customer", 200, TabletType.REPLICA),
    ("customer", 201, TabletType.REPLICA),
)
KEYSPACES = """
version: 1
name: soak
keyspaces:
  commerce: {tablets: [zone1-0000000100, zone1-0000000101]}
  customer: {tablets: [zone1-0000000200, zone1-0000000201]}
"""
MOVE = """
moves:
  soak:
    source: commerce
    target: customer
    tables: [TABLES]
    state: STATE
    cutover: {timeout: 30s}
"""
BALLAST = "ballast"
"""A table that nobody writes to, large enough that a copy is hit in the middle."""
VICTIMS = (
    "streams", "zone1-0000000200", "zone1-0000000100", "streams", "topology", "gateway",
    "zone1-0000000201", "health", "serve", "zone1-0000000101",
)  # fmt: skip
STATES = ("created", "running", "switched", "running", "switched", "reads_switched", "running", "absent")
SETTLE_SECONDS = 240.0


@dataclass
class Soak:
    """What happened: `kills` by victim, completed `rounds` through STATES, applies that failed and were repeated."""

    kills: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    verdict: Verdict | None = None

    def text(self) -> str:
        """For people."""
        kills = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        failed = "".join(f"\n  {count} times {text}" for text, count in self.failed.most_common()) or "none"
        judged = self.verdict.text() if self.verdict else "no verdict"
        return (
            f"{sum(self.kills.values())} kills ({kills})\n{self.rounds} rounds of {' > '.join(STATES)}; "
            f"applies that had to be repeated: {failed}\n{judged}"
        )


class Killer(threading.Thread):
    """Kills one victim after the other with pauses of random length, and starts again what does not start by itself."""

    def __init__(self, commands: Commands, seed: int, kills: Counter[str], pause: tuple[float, float]) -> None:
        super().__init__(name="killer", daemon=True)
        self._commands = commands
        self._random = random.Random(seed)
        self._kills = kills
        self._pause = pause
        self.stopping = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        """Until `stopping` is set; `error` holds what ended it otherwise."""
        try:
            turn: list[str] = []
            while not self.stopping.wait(self._random.uniform(*self._pause)):
                turn = turn or self._random.sample(VICTIMS, len(VICTIMS))
                self._kill(turn.pop())
        except Exception as error:  # noqa: BLE001 - reported by `finish`
            self.error = error

    def _kill(self, victim: str) -> None:
        row = next(row for row in status(self._commands.inventory) if row.name == victim)
        if row.pid is None:
            return
        os.kill(row.pid, signal.SIGKILL)
        self._kills[victim] += 1
        if row.kind != "role":  # serve starts its roles again; a server and serve itself are started by people
            self._start_again()

    def _start_again(self) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS
        while (done := self._commands.run("local", "up", expected=None)).returncode != 0:
            if time.monotonic() > deadline:
                raise TimeoutError(told(("local", "up"), done))
            time.sleep(0.2)

    def finish(self) -> None:
        """Stops killing; everything runs afterwards. Raises what ended the killer too early."""
        self.stopping.set()
        self.join(SETTLE_SECONDS)
        if self.error is not None:
            raise self.error
        self._start_again()


def soak(
    commands: Commands,
    folder: Path,
    seconds: float,
    seed: int,
    *,
    rate: float = 60.0,
    ballast_rows: int = 200_000,
    pause: tuple[float, float] = (0.3, 4.0),
    say: Callable[[str], None] = lambda _: None,
) -> Soak:
    """Soaks a cluster of TABLETS that is up and empty for about `seconds`, and judges it at the end.

    Raises AssertionError when an apply does not succeed within four minutes, or when source and target differ.
    """
    found = Soak()
    _apply(commands, folder, "", found)
    with commands.gateway() as connection:
        prepare(connection, "commerce")
    _make_ballast(commands, ballast_rows)
    workload = Workload(
        lambda: commands.gateway(autocommit=False),
        "commerce",
        clients=3,
        rate=rate,
        path=folder / "ledger.jsonl",
        tolerate_disconnects=True,
    )
    workload.start()
    killer = Killer(commands, seed, found.kills, pause)
    killer.start()
    try:
        deadline = time.monotonic() + seconds
        step = 0
        while time.monotonic() < deadline:
            state = STATES[step % len(STATES)]
            _apply(commands, folder, state, found)
            say(f"{state}; {sum(found.kills.values())} kills, {workload.ledger.acknowledged()} writes acknowledged")
            workload.wait_for_writes(20, timeout=SETTLE_SECONDS)
            step += 1
            found.rounds = step // len(STATES)
        killer.finish()
        _apply(commands, folder, "switched", found)
        workload.wait_for_writes(20, timeout=SETTLE_SECONDS)
    finally:
        killer.stopping.set()
        workload.stop()
    reverse = commands.run("vdiff", "create", "commerce.soak_reverse", "--wait", expected=None)
    assert reverse.returncode == 0, told(("vdiff", "create"), reverse)
    with commands.gateway() as connection:
        found.verdict = workload.verify(connection, "customer")
    return found


def _apply(commands: Commands, folder: Path, state: str, found: Soak) -> None:
    """Applies until it succeeds: an apply that was hit by a kill says so, and is repeated by people too."""
    move = MOVE.replace("TABLES", ", ".join((*MOVED_TABLES, BALLAST))).replace("STATE", state)
    plan = folder / f"{state or 'keyspaces'}.yaml"
    plan.write_text(KEYSPACES + (move if state else ""))
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        done = commands.run("apply", str(plan), "--auto-approve", "--lock-timeout", "60s", expected=None)
        if done.returncode == 0:
            return
        found.failed[f"exit {done.returncode}: {_reason(done)}"] += 1
        assert time.monotonic() < deadline, told(("apply", state), done)
        time.sleep(0.2)


def _reason(done: Done) -> str:
    """The line of an apply's output that says why it failed, without what differs from one time to the next."""
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    said = next(
        (line for line in lines if re.search(r"Error:|refused|MT\d{3}| failed", line)), lines[-1] if lines else ""
    )
    return re.sub(r"\d{5,}|\d+-\d+-\d+", "N", said)[:200]


def _make_ballast(commands: Commands, rows: int) -> None:
    access = Access(commands.inventory)
    try:
        with access.connect_primary("commerce") as primary:
            database = access.database("commerce")
            primary.execute(f"CREATE TABLE {database}.{BALLAST} (id INT PRIMARY KEY, filler VARBINARY(200) NOT NULL)")
            for start in range(0, rows, 2000):
                values = ",".join(f"({n},REPEAT('{n % 10}',200))" for n in range(start, min(rows, start + 2000)))
                primary.execute(f"INSERT INTO {database}.{BALLAST} VALUES {values}")
    finally:
        access.close()
