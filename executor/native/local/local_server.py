"""One server of the embedded cluster as a value: where everything it owns lies, and whether it runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from executor.native.local.processes import process
from executor.native.logins import MANAGED_USER
from executor.native.servers import Login

COMPLETE = "movetables.complete"
"""Marks a data folder that was made completely; says which flavour made it."""


@dataclass(frozen=True)
class LocalServer:
    """A server on 127.0.0.1:`port` with everything it owns below `directory`. `password` is that of our user.

    `flavor` is mariadb or mysql.
    """

    name: str
    directory: Path
    port: int
    server_id: int
    password: str
    flavor: str = "mariadb"

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.directory / "data"

    @property
    def pid_file(self) -> Path:
        """Holds the pid while the server runs; may be stale."""
        return self.directory / "server.pid"

    @property
    def error_log(self) -> Path:
        """What the server wrote about its troubles."""
        return self.directory / "error.log"

    @property
    def login(self) -> Login:
        """How to sign in."""
        return Login(self.name, "127.0.0.1", self.port, MANAGED_USER, self.password)

    @property
    def initialised(self) -> bool:
        """True once the data folder was made completely. Anything else is a leftover of a killed start."""
        return (self.data / COMPLETE).exists()

    def pid(self) -> int | None:
        """The pid of the running server of this folder, or None. A stale pid file, even of a reused pid, is None.

        A server that is starting and has not yet written its pid file is found by its command line.
        """
        try:
            pid = int(self.pid_file.read_text())
        except (OSError, ValueError):
            return self._search()
        return pid if self._owns(pid) else self._search()

    def _search(self) -> int | None:
        return next((int(name) for name in os.listdir("/proc") if name.isdigit() and self._owns(int(name))), None)

    def _owns(self, pid: int) -> bool:
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(f"--datadir={self.data}") in arguments and b"--bootstrap" not in arguments

    def gone(self, pid: int) -> bool:
        """True once process `pid` of this server has ended. The pid file goes earlier, while InnoDB still writes.

        A process that is ending has no command line any more, and may still have its files and its port.
        """
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes():
                return not self._owns(pid)
        except OSError:
            return True
        return process(pid) is None
