"""How long a VDiff goes on trying after one of its servers failed."""

from __future__ import annotations

import time

from executor.backend import Progress
from executor.errors import MovetablesError

RETRY_SECONDS = 600.0
"""How long a VDiff with `auto_retry` goes on trying while no table gets any further."""
BACK_OFF_SECONDS = 5.0


class Patience:
    """Decides how long a VDiff goes on trying after its servers failed."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._since: float | None = None
        self._pause = 0.1

    @property
    def began(self) -> bool:
        """True after a failure, until something was compared again."""
        return self._since is not None

    def renew(self) -> None:
        """Something was compared."""
        self._since, self._pause = None, 0.1

    def wait(self, error: MovetablesError) -> None:
        """Waits a little; raises `error` when it has lasted too long."""
        now = time.monotonic()
        self._since = self._since or now
        if now - self._since > RETRY_SECONDS:
            raise error
        until = now + self._pause
        self._pause = min(BACK_OFF_SECONDS, self._pause * 2)
        while True:
            if self._progress is not None:
                self._progress.update("trying again", reason=error.message)
                self._progress.check_interrupt()
            if time.monotonic() >= until:
                return
            time.sleep(0.05)
