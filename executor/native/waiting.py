"""The one place that polls: a condition, a deadline, and what to say when it passes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from executor.errors import TimedOut

_T = TypeVar("_T")


def wait_until(
    condition: Callable[[], _T | None], timeout: float, describe: str | Callable[[], str], interval: float = 0.02
) -> _T:
    """Calls `condition` every `interval` seconds until it returns something truthy, and returns that.

    Raises TimedOut after `timeout` seconds. `describe` completes the sentence "waited 30 s for ..."; as a function it
    is called then, so that it can tell what was found last. What `condition` raises passes through.
    """
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= deadline:
            what = describe if isinstance(describe, str) else describe()
            raise TimedOut(f"waited {timeout:g} s for {what}")
        time.sleep(interval)
