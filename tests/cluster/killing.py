"""Two keyspaces of two tablets each between which a move goes, and a thread that kills their processes with -9."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence

from executor.native.local.up import status
from planner.cluster import TabletType
from tests.cluster.commands import Commands, told

TABLETS = (
    ("commerce", 100, TabletType.REPLICA),
    ("commerce", 101, TabletType.REPLICA),
    ("customer", 200, TabletType.REPLICA),
    ("customer", 201, TabletType.REPLICA),
)
ROLES = ("streams", "gateway", "health", "serve")
SERVERS = ("zone1-0000000100", "zone1-0000000101", "zone1-0000000200", "zone1-0000000201", "topology")
MOVE = "accounts"
"""The name of the move that `plan_text` asks for."""
SETTLE_SECONDS = 240.0

_KEYSPACES = f"""
version: 1
name: {MOVE}
keyspaces:
  commerce: {{tablets: [zone1-0000000100, zone1-0000000101]}}
  customer: {{tablets: [zone1-0000000200, zone1-0000000201]}}
"""
_MOVE = """
moves:
  {move}:
    source: commerce
    target: customer
    tables: [{tables}]
    state: {state}
"""


def plan_text(state: str, tables: Sequence[str]) -> str:
    """A plan that wants the move of `tables` in `state`, or both keyspaces alone if that is empty."""
    return _KEYSPACES + (_MOVE.format(move=MOVE, tables=", ".join(tables), state=state) if state else "")


class Killer(threading.Thread):
    """Kills one victim after the other with pauses of random length, and starts again what does not start by itself.

    Every victim has its turn before one has it again; a victim may be named twice. `pause` is in seconds.
    """

    def __init__(self, commands: Commands, seed: int, victims: Sequence[str], pause: tuple[float, float]) -> None:
        super().__init__(name="killer", daemon=True)
        self._commands = commands
        self._random = random.Random(seed)
        self._victims = victims
        self._pause = pause
        self.kills: Counter[str] = Counter()
        self.stopping = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        """Until `stopping` is set; `error` holds what ended it otherwise."""
        try:
            turn: list[str] = []
            while not self.stopping.wait(self._random.uniform(*self._pause)):
                turn = turn or self._random.sample(self._victims, len(self._victims))
                self._kill(turn.pop())
        except Exception as error:  # noqa: BLE001 - reported by `finish`
            self.error = error

    def _kill(self, victim: str) -> None:
        row = next((row for row in status(self._commands.inventory) if row.name == victim), None)
        if row is None or row.pid is None:
            return  # serve is not back yet with its roles
        os.kill(row.pid, signal.SIGKILL)
        self.kills[victim] += 1
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
