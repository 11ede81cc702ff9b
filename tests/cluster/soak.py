"""Tables move there and back and there again while one process after the other is killed with -9, servers included.

The workload's clients write all the time. Nothing that was acknowledged may be lost or be there twice, every apply must
succeed in the end, and source and target must be equal.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from executor.native.access import Access
from tests.cluster.commands import Commands, Done, told
from tests.cluster.killing import MOVE, ROLES, SERVERS, SETTLE_SECONDS, Killer, plan_text
from tests.workload import MOVED_TABLES, Workload, prepare
from tests.workload.verdict import Verdict

BALLAST = "ballast"
"""A table that nobody writes to, large enough that a copy is hit in the middle."""
VICTIMS = (*SERVERS, *ROLES, "streams")
STATES = ("created", "running", "switched", "running", "switched", "reads_switched", "running", "absent")


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
    killer = Killer(commands, seed, VICTIMS, pause)
    found.kills = killer.kills
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
    reverse = commands.run("vdiff", "create", f"commerce.{MOVE}_reverse", "--wait", expected=None)
    assert reverse.returncode == 0, told(("vdiff", "create"), reverse)
    with commands.gateway() as connection:
        found.verdict = workload.verify(connection, "customer")
    return found


def _apply(commands: Commands, folder: Path, state: str, found: Soak) -> None:
    """Applies until it succeeds: an apply that was hit by a kill says so, and is repeated by people too."""
    plan = folder / f"{state or 'keyspaces'}.yaml"
    plan.write_text(plan_text(state, (*MOVED_TABLES, BALLAST)))
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
    lines = [line for line in lines if not line.startswith("Applied:")] or lines
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
