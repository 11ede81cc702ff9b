"""Several clients at once, started and stopped together."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from tests.workload.client import PATIENCE, Client, Settings
from tests.workload.ledger import Ledger


class Crowd:
    """The clients of one workload. `stopping` is the event that they were made with."""

    def __init__(
        self, clients: Sequence[Client], settings: Settings, ledger: Ledger, stopping: threading.Event
    ) -> None:
        self._everybody = clients
        self._settings = settings
        self._stop = stopping
        self.ledger = ledger

    @property
    def keyspace(self) -> str | None:
        """How the moved tables are qualified now. May be changed while the clients run."""
        return self._settings.keyspace

    @keyspace.setter
    def keyspace(self, keyspace: str | None) -> None:
        self._settings.keyspace = keyspace

    def start(self) -> None:
        """Starts the clients."""
        for client in self._everybody:
            client.start()

    def wait_for_writes(self, count: int, timeout: float = 30.0) -> None:
        """Waits until `count` more writes were acknowledged; raises TimeoutError after `timeout` seconds."""
        target = self.ledger.acknowledged() + count
        deadline = time.monotonic() + timeout
        while self.ledger.acknowledged() < target:
            if time.monotonic() > deadline:
                raise TimeoutError(f"fewer than {count} writes in {timeout:g} s; errors: {self.ledger.errors[-3:]}")
            if not any(client.is_alive() for client in self._everybody):
                raise TimeoutError(f"all clients have ended; errors: {self.ledger.errors[-3:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stops the clients; each finishes what it is waiting for. Raises TimeoutError if one does not."""
        self._stop.set()
        for client in self._everybody:
            if client.ident is not None:
                client.join(PATIENCE + 30)
        self.ledger.close()
        hanging = [client.name for client in self._everybody if client.is_alive()]
        if hanging:
            raise TimeoutError(f"still waiting for an answer: {', '.join(hanging)}")
