"""The workload that tests run while tables move."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.workload.accounts import AccountClient
from tests.workload.client import Connect, Raw, Settings
from tests.workload.crowd import Crowd
from tests.workload.ledger import Ledger
from tests.workload.verdict import Verdict
from tests.workload.verify import verify

_SAME = "the keyspace in use"


class Workload(Crowd):
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
        settings = Settings(connect, clients, seed, keyspace, rate, tolerate_disconnects)
        ledger, stopping = Ledger(path), threading.Event()
        self._home = keyspace if home is _SAME else home
        self.clients = [
            AccountClient(number, settings, ledger, stopping, self._home) for number in range(1, clients + 1)
        ]
        super().__init__(self.clients, settings, ledger, stopping)

    def verify(self, connection: Raw, keyspace: str | None = _SAME, home: str | None = _SAME) -> Verdict:
        """Stops the clients and judges what is there now. `keyspace` and `home` qualify the tables on `connection`."""
        self.stop()
        return verify(
            connection,
            self.ledger,
            self.clients,
            self.keyspace if keyspace is _SAME else keyspace,
            self._home if home is _SAME else home,
        )
