"""One apply at a time: a named lock of the topology server per cluster and keyspace.

The lock is `GET_LOCK` on a connection of its own, so it goes away with the process whatever kills it. The row in
`lock_holder` is for display only and never blocks anybody. Source of the rules: block/spirit `advisorylock.go`.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from executor.errors import LockHeld, MovetablesError
from executor.native.flavor import ER_BAD_DB, ER_NO_SUCH_TABLE
from executor.native.servers import Connection, Login, ServerError, connect
from executor.native.topology import SCHEMA

MAX_NAME = 64  # MySQL's limit; a longer name is refused by it and cut by nobody
KEEPALIVE_SECONDS = 30.0
SILENT_SECONDS = 0.4
FIRST_RETRY, LAST_RETRY = 1.0, 16.0


class LockLost(LockHeld):
    """The connection that held the lock is gone; another apply may hold it now."""


def lock_name(cluster: str, keyspace: str) -> str:
    """The server's name of the lock on `keyspace`: readable if it fits into 64 characters, else hashed.

    Names of locks do not tell upper from lower case; names of keyspaces do, so those with capitals are hashed too.
    """
    name = f"movetables:{cluster}:{keyspace}"
    if len(name) <= MAX_NAME and name == name.lower():
        return name
    return f"movetables:{hashlib.sha256(name.encode()).hexdigest()[:48]}"


@dataclass(frozen=True)
class Holder:
    """Who holds a lock. Times are seconds since 1970; `thread_id` is the server's id of the lock's connection.

    `alive` is False for a row whose process died: its lock is free.
    """

    name: str
    holder: str
    pid: int
    run: str
    command: str
    since: float
    heartbeat: float
    thread_id: int
    alive: bool

    def text(self, now: float) -> str:
        """One line that names the holder. `now` is seconds since 1970."""
        return (
            f"{self.holder} (pid {self.pid}), run {self.run}, since {max(0.0, now - self.since):.0f} s: {self.command}"
        )


def holders(connection: Connection) -> tuple[Holder, ...]:
    """Every lock that the topology has a row about, by name; none when there is no topology yet."""
    try:
        rows = connection.query(
            "SELECT name, holder, pid, run, command, since, heartbeat, thread_id, IS_USED_LOCK(name) AS used_by "
            f"FROM {SCHEMA}.lock_holder ORDER BY name"
        )
    except ServerError as error:
        if error.errno in (ER_BAD_DB, ER_NO_SUCH_TABLE):
            return ()
        raise
    return tuple(Holder(**row, alive=used_by == row["thread_id"]) for row in rows for used_by in [row.pop("used_by")])


class Lock:
    """The locks on `keyspaces` of `cluster`, all or none, held while entered.

    `timeout` is how long to wait for another holder, in seconds; even with 0 it is asked again for 0.4 s, which is what
    a server needs to notice that a killed holder is gone. `notice` is told once when waiting takes longer than that,
    and `check_interrupt` is called often meanwhile. Entering raises LockHeld, which names the holder, or ServerError.
    """

    def __init__(
        self,
        login: Login,
        cluster: str,
        keyspaces: Sequence[str],
        run: str,
        command: str,
        *,
        timeout: float = 0.0,
        notice: Callable[[str], None] = lambda _: None,
        check_interrupt: Callable[[], None] = lambda: None,
        keepalive: float = KEEPALIVE_SECONDS,
    ) -> None:
        self._login = login
        self._names = tuple(sorted({lock_name(cluster, keyspace) for keyspace in keyspaces}))
        self._run = run
        self._command = command
        self._timeout = timeout
        self._notice = notice
        self._check_interrupt = check_interrupt
        self._keepalive = keepalive
        self._connection: Connection | None = None
        self._mutex = threading.Lock()
        self._closing = threading.Event()
        self._lost = ""
        self._thread = threading.Thread(target=self._keep_alive, name="lock-keepalive", daemon=True)

    def __enter__(self) -> Self:
        self._connection = connect(self._login, read_timeout=30.0)
        try:
            self._acquire_all(self._connection)
        except BaseException:
            self._connection.close()
            raise
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._closing.set()
        self._thread.join()
        connection = self._connection
        if connection is None:
            return
        with suppress(ServerError):  # a lost connection has released the locks already
            for name in self._names:
                connection.execute(
                    f"DELETE FROM {SCHEMA}.lock_holder WHERE name=%s AND thread_id=%s", [name, connection.thread_id]
                )
                connection.value("SELECT RELEASE_LOCK(%s)", [name])
        connection.close()

    def record(self) -> None:
        """Writes the rows that `lock list` shows. The topology's schema must exist by now."""
        with self._mutex:
            now = time.time()
            for name in self._names:
                self._held().execute(
                    f"REPLACE INTO {SCHEMA}.lock_holder "
                    "(name, holder, pid, run, command, since, heartbeat, thread_id) VALUES (%s,%s,%s,%s,%s,%s,%s,%s)",
                    [name, who(), os.getpid(), self._run, self._command, now, now, self._held().thread_id],
                )

    def raise_if_lost(self) -> None:
        """Raises LockLost if the lock is already known to be lost. Asks nobody."""
        if self._lost:
            raise LockLost(
                f"the lock was lost ({self._lost}); stopped before the next change, "
                "because another apply may hold it now",
                "run the same command again",
            )

    def check(self) -> None:
        """Asks the server whether the locks are still ours; raises LockLost if not. Call before every change."""
        with self._mutex:
            self._ask()
        self.raise_if_lost()

    def _held(self) -> Connection:
        if self._connection is None:
            raise MovetablesError("the lock was used before it was taken")
        return self._connection

    def _ask(self) -> None:
        if self._lost:
            return
        connection = self._held()
        try:
            for name in self._names:
                if connection.value("SELECT IS_USED_LOCK(%s) = CONNECTION_ID()", [name]) != 1:
                    self._lost = f"{name} is held by somebody else or by nobody"
        except ServerError as error:
            self._lost = error.message

    def _keep_alive(self) -> None:
        while not self._closing.wait(self._keepalive):
            with self._mutex:
                self._ask()
                if self._lost:
                    return
                with suppress(ServerError):  # the next _ask tells; a heartbeat is for display only
                    self._held().execute(
                        f"UPDATE {SCHEMA}.lock_holder SET heartbeat=%s WHERE run=%s", [time.time(), self._run]
                    )

    def _acquire_all(self, connection: Connection) -> None:
        start = time.monotonic()
        pause, noticed = FIRST_RETRY, False
        for name in self._names:
            while connection.value("SELECT GET_LOCK(%s, 0)", [name]) != 1:
                waited = time.monotonic() - start
                left = max(self._timeout, SILENT_SECONDS) - waited
                if left <= 0:
                    raise LockHeld(f"{name} is locked by {_describe(connection, name)}", _break_hint(connection, name))
                if waited < SILENT_SECONDS:
                    self._pause(0.05)
                    continue
                if not noticed:
                    noticed = True
                    self._notice(
                        f"Waiting up to {self._timeout:.0f} s for the lock held by {_describe(connection, name)}"
                    )
                self._pause(min(pause, left))
                pause = min(pause * 2, LAST_RETRY)

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._check_interrupt()
            time.sleep(min(left, 0.2))


def who() -> str:
    """``user@host`` of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without a passwd entry, as in containers
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _holder_of(connection: Connection, name: str) -> Holder | None:
    return next((holder for holder in holders(connection) if holder.name == name and holder.alive), None)


def _describe(connection: Connection, name: str) -> str:
    holder = _holder_of(connection, name)
    if holder is not None:
        return holder.text(time.time())
    return f"connection {connection.value('SELECT IS_USED_LOCK(%s)', [name])} of the topology server"


def _break_hint(connection: Connection, name: str) -> str:
    holder = _holder_of(connection, name)
    wait = "wait for it with --lock-timeout 10m"
    return f"{wait}, or end it with: movetables lock break --run {holder.run}" if holder else wait


def break_lock(connection: Connection, run: str, timeout: float = 10.0) -> tuple[Holder, ...]:
    """Kills the connections that hold the locks of `run`, waits until they are free, and returns whose they were.

    Rows of dead processes are removed too. Raises MovetablesError if there is nothing of that run or it stays locked.
    """
    mine = tuple(holder for holder in holders(connection) if holder.run == run)
    if not mine:
        raise MovetablesError(f"no lock of run {run} was found", "movetables lock list")
    for thread_id in {holder.thread_id for holder in mine if holder.alive}:
        with suppress(ServerError):  # it may have gone by itself since; the loop below tells
            connection.execute(f"KILL CONNECTION {thread_id}")
    deadline = time.monotonic() + timeout
    while any(h.alive for h in holders(connection) if h.run == run):
        if time.monotonic() > deadline:
            raise MovetablesError(f"the connections of run {run} did not end within {timeout:.0f} s", "try again")
        time.sleep(0.05)
    connection.execute(f"DELETE FROM {SCHEMA}.lock_holder WHERE run=%s", [run])
    return mine
