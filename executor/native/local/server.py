"""One server process of the embedded cluster, MariaDB or MySQL: data folder, start, stop.

A data folder is a copy of a template that the server's own programs made once, so that a new server answers within a
second. A folder is only used once its marker file is there; anything else is a leftover of a killed start and is made
again. What differs between the two servers is in `mariadbd.py` and `mysqld.py`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Protocol

from executor.errors import MovetablesError, Refused
from executor.native.flavor import FLAVOR_NAMES
from executor.native.local import mariadbd, mysqld
from executor.native.local.local_server import COMPLETE, LocalServer
from executor.native.local.programs import first_error
from executor.native.servers import Unreachable, connect, wait_until_answers

PORT_SECONDS = 2.0
ER_ACCESS_DENIED = 1045
NEEDED_BYTES = 160 << 20
"""What a new server writes at first (about 100 MiB, most of it the redo log), and some room."""
_STARTED: dict[int, subprocess.Popen[bytes]] = {}


class Programs(Protocol):
    """What a flavour's module gives."""

    READ_ONLY_OPTION: str
    """The option that lets replication alone write, as far as the server can."""

    def fill(self, data: Path) -> subprocess.CompletedProcess[str]:
        """Runs the program that makes the data folder `data`. Raises MovetablesError when it is not installed."""

    def own(self, server: LocalServer, options: tuple[str, ...]) -> str:
        """Turns a copy of the template into `server`'s own: its user. Returns what went wrong, or nothing."""

    def arguments(self, server: LocalServer, options: tuple[str, ...]) -> list[str]:
        """The command line of the server."""


PROGRAMS: dict[str, Programs] = {"mariadb": mariadbd, "mysql": mysqld}


def make_template(directory: Path, flavor: str = "mariadb") -> Path:
    """A fresh data folder of that flavour at `directory`, made once; returns it. Raises MovetablesError."""
    if (directory / COMPLETE).exists():
        return directory
    scratch = directory.with_name(f"{directory.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.parent.mkdir(parents=True, exist_ok=True)
    result = PROGRAMS[flavor].fill(scratch)
    if result.returncode != 0:
        shutil.rmtree(scratch, ignore_errors=True)
        raise MovetablesError(
            f"{FLAVOR_NAMES[flavor]} could not fill {directory}: {first_error(result.stderr + result.stdout)}",
            f"is the disk full? df -h {directory.parent}",
        )
    (scratch / COMPLETE).write_text(f"{flavor}\n")
    shutil.rmtree(directory, ignore_errors=True)
    scratch.rename(directory)
    return directory


def start(server: LocalServer, template: Path, options: tuple[str, ...] = (), timeout: float = 30.0) -> None:
    """Starts the server unless it runs, and waits until it answers.

    `options` are further options of the server program. Raises MovetablesError with the end of the error log when it
    does not come up within `timeout` seconds, and leaves no process behind then, and no data folder unless there was
    one before. Raises Refused when the data folder was made by the other flavour.
    """
    if server.pid() is not None:
        wait_until_answers(server.login, timeout).close()
        return
    _refuse_other_flavor(server)
    _require_free_port(server)
    if not server.initialised:
        _initialise(server, template, options)
    # MySQL does not start while a process has the pid that a killed server left in there, whichever process it is.
    for folder in (server.directory, server.data):
        (folder / "server.sock.lock").unlink(missing_ok=True)
    process = _spawn(server, options)
    try:
        _wait_until_up(server, process, timeout)
    except BaseException:
        process.kill()
        process.wait()
        raise
    _STARTED[process.pid] = process


def _refuse_other_flavor(server: LocalServer) -> None:
    if not server.initialised:
        return
    made_by = (server.data / COMPLETE).read_text().strip()
    if made_by != server.flavor:
        raise Refused(
            f"the data folder of {server.name} was made by {FLAVOR_NAMES.get(made_by, made_by or 'an older version')}; "
            f"expected {FLAVOR_NAMES[server.flavor]}",
            f"ask for the server that made it, or delete {server.directory}",
        )


def _initialise(server: LocalServer, template: Path, options: tuple[str, ...]) -> None:
    shutil.rmtree(server.directory, ignore_errors=True)
    try:
        server.directory.mkdir(parents=True)
        free = shutil.disk_usage(server.directory).free
        if free < NEEDED_BYTES:
            raise MovetablesError(
                f"{server.name} needs about {NEEDED_BYTES >> 20} MiB in {server.directory.parent}, "
                f"where {free >> 20} MiB are free",
                "free some space, or give the inventory another data_dir",
            )
        _copy_template(make_template(template, server.flavor), server.data)
        failure = PROGRAMS[server.flavor].own(server, options)
        if failure:
            raise MovetablesError(
                f"{server.name} could not be set up: {failure}",
                f"is the disk full? df -h {server.directory.parent}",
            )
        (server.data / COMPLETE).write_text(f"{server.flavor}\n")
    except BaseException:
        shutil.rmtree(server.directory, ignore_errors=True)
        raise


def _require_free_port(server: LocalServer) -> None:
    """Raises MovetablesError when the port stays taken. A killed server is gone a moment before its port is free."""
    deadline = time.monotonic() + PORT_SECONDS
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", server.port))
                return
            except OSError as error:
                if time.monotonic() > deadline:
                    raise MovetablesError(
                        f"{server.name} cannot listen on 127.0.0.1:{server.port}: {error.strerror}",
                        "give it another port in the inventory, or stop what listens there: "
                        f"ss -ltnp sport = :{server.port}",
                    ) from error
        time.sleep(0.05)


def _wait_until_up(server: LocalServer, process: subprocess.Popen[bytes], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            connection = connect(server.login)
        except Unreachable as error:
            if error.errno == ER_ACCESS_DENIED:
                raise MovetablesError(
                    f"{server.name} started but refuses our password: its data folder was made with another secret",
                    f"put the secret back, or delete {server.directory}",
                ) from error
            if process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            raise MovetablesError(
                f"{server.name} on port {server.port} did not start: {_last_error(server)}",
                f"see {server.error_log}; is the disk full?",
            ) from error
        with connection:
            if Path(str(connection.value("SELECT @@global.datadir"))) != server.data:
                raise MovetablesError(
                    f"port {server.port} is taken by another server, so {server.name} could not start",
                    "give it another port in the inventory, or stop that server",
                )
        return


def _copy_template(template: Path, data: Path) -> None:
    result = subprocess.run(
        ["cp", "-r", "--reflink=auto", "--sparse=always", str(template.resolve()), str(data)],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        shutil.rmtree(data, ignore_errors=True)
        raise MovetablesError(f"{data} could not be made: {result.stderr.strip()}", f"df -h {data.parent}")
    (data / COMPLETE).unlink()


def _spawn(server: LocalServer, options: tuple[str, ...]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        PROGRAMS[server.flavor].arguments(server, options),
        cwd=server.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C at the terminal is for the command, not for the servers it started
    )


def _last_error(server: LocalServer) -> str:
    try:
        lines = server.error_log.read_text(errors="replace").splitlines()
    except OSError:
        return "it wrote no error log"
    return next((line for line in reversed(lines) if "ERROR" in line), lines[-1] if lines else "its error log is empty")


def stop(server: LocalServer, timeout: float = 30.0) -> None:
    """Stops the server if it runs: SIGTERM, and SIGKILL after `timeout` seconds."""
    pid = server.pid()
    if pid is None:
        return
    _send(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while not server.gone(pid):
        if time.monotonic() > deadline:
            _send(pid, signal.SIGKILL)
            deadline += timeout
        time.sleep(0.02)
    reap()


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # ended by itself meanwhile


def reap() -> None:
    """Forgets the servers that this process started and that have ended, so that none stays as a zombie."""
    for pid, started in list(_STARTED.items()):
        if started.poll() is not None:
            _STARTED.pop(pid, None)
