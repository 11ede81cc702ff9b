"""Named points at which a test may kill the process, to prove that applying again converges.

A test hook and nothing else: unless MOVETABLES_KILL_AT is set, `reached` returns at once. Its value is a name, or
``NAME#N`` for the Nth time that the point is reached by this process.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "MOVETABLES_KILL_AT"

_hits: Counter[str] = Counter()


def reached(name: str) -> None:
    """Kills this process with SIGKILL if the environment asks for it at point `name`."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    point, _, count = wanted.partition("#")
    if point != name:
        return
    _hits[name] += 1
    if _hits[name] >= int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)
