"""Finding and running the programs that servers come with."""

from __future__ import annotations

import os
import shutil

from executor.native.local.local_server import LocalServer

SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin:/usr/local/bin"
SOCKET_PATH_BYTES = 90


def found(name: str) -> str | None:
    """The path of the program `name`, or None. Looks where server programs lie too, which PATH often lacks."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_FOLDERS}")


def as_root() -> list[str]:
    """What a server program needs to hear to run as root."""
    return ["--user=root"] if os.geteuid() == 0 else []


def common_options(server: LocalServer) -> list[str]:
    """The options that both servers understand and that every server of ours has."""
    socket = f"{server.directory / 'server.sock'}"
    return [
        f"--datadir={server.data}",
        f"--socket={socket if len(os.fsencode(socket)) < SOCKET_PATH_BYTES else 'server.sock'}",
        f"--pid-file={server.pid_file}",
        # A starting server deletes all #sql* files of its tmpdir, also those that another server on /tmp is using.
        f"--tmpdir={server.directory}",
        f"--log-error={server.error_log}",
        f"--port={server.port}",
        "--bind-address=127.0.0.1",
        f"--server-id={server.server_id}",
        "--log-bin=binlog",
        "--relay-log=relay",
        "--relay-log-recovery=ON",  # after a crash, fetch again what was received but not applied
        "--binlog-format=ROW",
        "--binlog-row-image=FULL",
        "--binlog-row-metadata=FULL",
        "--sync-binlog=0",
        "--innodb-flush-log-at-trx-commit=2",
        "--innodb-buffer-pool-size=64M",
        "--performance-schema=OFF",
        "--skip-name-resolve",
        "--character-set-server=utf8mb4",
        "--max-allowed-packet=64M",
        "--max-connections=500",
    ]


def first_error(output: str) -> str:
    """The line of a server program's output that says what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in lines if "[ERROR]" in line), lines[-1] if lines else "it said nothing")
