"""Several clients at once, started and stopped together."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from tests.workload.accounts import AccountClient
from tests.workload.client import PATIENCE, Connect, Raw, Settings
from tests.workload.ledger import Ledger
from tests.workload.verdict import Verdict
from tests.workload.verify import verify

_SAME = "the keyspace in use"


class Workload:
    """Clients that use ``account``, ``transfer_log`` and ``audit`` as applications do, until they are stopped.

    `connect` makes one connection to the gateway, or to a server. `keyspace` qualifies the two moved tables; assign to
    `keyspace` to change it while the clients run. `home` qualifies ``audit``; it is `keyspace` unless given. `rate` is
    writes per second of all clients together, None as fast as they can. `path` is a file for the ledger.
    `tolerate_disconnects` is for tests that kill servers or the gateway.
    """

    def __init__(
        self,
        connect: Connect,
        keyspace: str | None = None,
        clients: int = 4,
        seed: int = 1,
        *,
        home: str | None = _SAME,
        rate: float | None = 200.0,
        path: Path | None = None,
        tolerate_disconnects: bool = False,
    ) -> None:
        self._settings = Settings(connect, clients, seed, keyspace, rate, tolerate_disconnects)
        self._home = keyspace if home is _SAME else home
        self._stop = threading.Event()
        self.ledger = Ledger(path)
        self.clients = [
            AccountClient(number, self._settings, self.ledger, self._stop, self._home)
            for number in range(1, clients + 1)
        ]

    @property
    def keyspace(self) -> str | None:
        """How the moved tables are qualified now."""
        return self._settings.keyspace

    @keyspace.setter
    def keyspace(self, keyspace: str | None) -> None:
        self._settings.keyspace = keyspace

    def start(self) -> None:
        """Starts the clients."""
        for client in self.clients:
            client.start()

    def wait_for_writes(self, count: int, timeout: float = 30.0) -> None:
        """Waits until `count` more writes were acknowledged; raises TimeoutError after `timeout` seconds."""
        target = self.ledger.acknowledged() + count
        deadline = time.monotonic() + timeout
        while self.ledger.acknowledged() < target:
            if time.monotonic() > deadline:
                raise TimeoutError(f"fewer than {count} writes in {timeout:g} s; errors: {self.ledger.errors[-3:]}")
            if not any(client.is_alive() for client in self.clients):
                raise TimeoutError(f"all clients have ended; errors: {self.ledger.errors[-3:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stops the clients; each finishes what it is waiting for. Raises TimeoutError if one does not."""
        self._stop.set()
        for client in self.clients:
            if client.ident is not None:
                client.join(PATIENCE + 30)
        self.ledger.close()
        hanging = [client.name for client in self.clients if client.is_alive()]
        if hanging:
            raise TimeoutError(f"still waiting for an answer: {', '.join(hanging)}")

    def verify(
        self,
        connection: Raw,
        keyspace: str | None = _SAME,
        home: str | None = _SAME,
    ) -> Verdict:
        """Stops the clients and judges what is there now. `keyspace` and `home` qualify the tables on `connection`."""
        self.stop()
        return verify(
            connection,
            self.ledger,
            self.clients,
            self.keyspace if keyspace is _SAME else keyspace,
            self._home if home is _SAME else home,
        )
