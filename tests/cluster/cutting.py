"""A TCP proxy that cuts connections to a server at the worst moments, chosen by what is being said on them."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum

from executor.native.logins import Logins
from executor.native.servers import Login
from executor.native.topology import TabletRecord


class When(StrEnum):
    """The moment of a cut."""

    BEFORE = "before"
    """The statement never reaches the server."""
    AFTER = "after"
    """The server has run the statement and answers, and the answer never reaches the client."""
    MIDDLE = "middle"
    """A part of the answer has arrived."""


@dataclass
class Cut:
    """Cut `times` connections on which the client sends `pattern`; `done` counts."""

    pattern: bytes
    when: When
    times: int
    done: int = 0


@dataclass
class Cutter:
    """Listens on a port of its own and passes everything on to `port` of 127.0.0.1, but for what `cuts` say.

    With `after_bytes`, each connection is cut after a random number of bytes below that, in either direction.
    """

    port: int
    cuts: list[Cut] = field(default_factory=list)
    after_bytes: int = 0
    broken: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(5)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def listening(self) -> int:
        """The port that clients connect to."""
        return int(self._listener.getsockname()[1])

    def cut(self, pattern: bytes, when: When, times: int = 1) -> Cut:
        """Cuts the next `times` connections on which the client sends `pattern`."""
        made = Cut(pattern, when, times)
        self.cuts.append(made)
        return made

    def close(self) -> None:
        """Cuts everything and listens no more."""
        self._listener.close()
        for pair in self._pairs:
            _break(*pair)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            try:
                server = socket.create_connection(("127.0.0.1", self.port), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._pairs.append((client, server))
            threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        left = [self._random.randrange(self.after_bytes) + 200 if self.after_bytes else 1 << 62]
        armed: list[Cut] = []
        back = threading.Thread(target=self._answers, args=(client, server, left, armed), daemon=True)
        back.start()
        tail = b""
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                cut = self._matching(tail + data)
                if cut is not None and cut.when is When.BEFORE:
                    break
                if cut is not None:
                    armed.append(cut)
                server.sendall(data)
                tail = b"" if cut is not None else data[-40:]
                left[0] -= len(data)
                if left[0] < 0:
                    break
        self._broke(client, server)

    def _answers(self, client: socket.socket, server: socket.socket, left: list[int], armed: list[Cut]) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                if armed:
                    if armed[0].when is When.MIDDLE:
                        client.sendall(data[: len(data) // 2])
                    break
                client.sendall(data[: max(0, left[0])])
                left[0] -= len(data)
                if left[0] < 0:
                    break
        self._broke(client, server)

    def _matching(self, data: bytes) -> Cut | None:
        with self._lock:
            for cut in self.cuts:
                if cut.done < cut.times and cut.pattern in data:
                    cut.done += 1
                    return cut
        return None

    def _broke(self, client: socket.socket, server: socket.socket) -> None:
        self.broken += 1
        _break(client, server)


def _break(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


class Detour(Logins):
    """Logins that lead through cutters: `ports` by alias. `users` replaces user and password by alias."""

    def __init__(self, real: Logins, ports: dict[str, int], users: dict[str, tuple[str, str]] | None = None) -> None:
        super().__init__(real.inventory)
        self._ports = ports
        self._users = users or {}

    def server(self, record: TabletRecord) -> Login:
        """As in Logins, at the cutter's port."""
        login = super().server(record)
        user, password = self._users.get(record.alias, (login.user, login.password))
        return replace(login, port=self._ports.get(record.alias, login.port), user=user, password=password)


@contextmanager
def cutter(port: int) -> Iterator[Cutter]:
    """A cutter before the server on `port`."""
    made = Cutter(port)
    try:
        yield made
    finally:
        made.close()
