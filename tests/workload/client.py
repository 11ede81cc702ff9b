"""One client of a workload: a thread with a connection of its own, that behaves as a careful application does.

A transaction that fails with an error after which applications retry is tried again, a limited number of times. What
was asked of the server when a connection broke is noted as unknown only if it may have been committed.
"""

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import pymysql
from pymysql.constants import CR, ER
from pymysql.cursors import Cursor

from tests.workload.ledger import Call, Ledger, Outcome, Write

Raw: TypeAlias = "pymysql.connections.Connection[Cursor]"
Connect = Callable[[], Raw]

FENCE = "disallowed due to rule: enforce denied tables"
RETRYABLE = frozenset({ER.LOCK_DEADLOCK, ER.LOCK_WAIT_TIMEOUT, ER.CHECKREAD, ER.QUERY_INTERRUPTED})
LOST = frozenset(
    {
        0,  # pymysql's InterfaceError: the connection is closed already
        ER.SERVER_SHUTDOWN,
        1927,  # MariaDB: connection was killed
        CR.CR_CONN_HOST_ERROR,
        CR.CR_CONNECTION_ERROR,
        CR.CR_SERVER_GONE_ERROR,
        CR.CR_SERVER_LOST,
        CR.CR_COMMANDS_OUT_OF_SYNC,
        2055,  # CR_SERVER_LOST_EXTENDED
    }
)
WHILE_SERVERS_DIE = frozenset({ER.UNKNOWN_ERROR, ER.OPTION_PREVENTS_STATEMENT})
"""No tablet to send it to, or a read-only one: errors of a statement that changed nothing."""

ATTEMPTS = 20
PATIENCE = 60.0


def number_of(error: pymysql.err.Error) -> int:
    """MySQL's number of a driver error; 0 where it has none."""
    return int(error.args[0]) if error.args and isinstance(error.args[0], int) else 0


class Unknown(Exception):
    """The connection broke while a statement that commits was being run."""


class Failed(Exception):
    """A write was refused for good; it has been noted as an error already."""


class Stopped(Exception):
    """The workload was stopped while the client waited to try again."""


@dataclass
class Settings:
    """What all clients of a workload share. `rate` is writes per second of all of them together, None for no limit.

    `keyspace` qualifies the moved tables and may be changed while the clients run; None leaves them unqualified.
    `tolerate_disconnects` is for tests that kill servers or gateways: then losing a connection is counted, no error.
    """

    connect: Connect
    clients: int
    seed: int
    keyspace: str | None = None
    rate: float | None = None
    tolerate_disconnects: bool = False

    def name(self, table: str) -> str:
        """`table` as statements name it now."""
        return f"{self.keyspace}.{table}" if self.keyspace else table


class Client(threading.Thread, ABC):
    """A client; subclasses choose what to do. `number` counts from 1."""

    def __init__(self, number: int, settings: Settings, ledger: Ledger, stop: threading.Event) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self.number = number
        self.settings = settings
        self.ledger = ledger
        self.random = random.Random(settings.seed * 1000 + number)
        self._stopping = stop
        self._raw: Raw | None = None
        self._sequence = 0

    @abstractmethod
    def act(self) -> None:
        """One write, or several, as one call of an application."""

    def run(self) -> None:
        """Acts until the workload is stopped."""
        interval = self.settings.clients / self.settings.rate if self.settings.rate else 0.0
        due = time.monotonic() + interval * self.random.random()
        try:
            while not self._stopping.wait(max(0.0, due - time.monotonic())):
                began = time.monotonic()
                try:
                    self.act()
                except (Unknown, Failed):
                    self.ledger.count("given up")
                except Stopped:
                    return
                self.ledger.call(Call(due if interval else began, began, time.monotonic()))
                due = due + interval if interval else 0.0
        except Exception as error:  # noqa: BLE001 - a bug of the workload itself must fail its verdict
            self.ledger.error(f"{self.name} ended by {error!r}")
        finally:
            self.disconnect()

    def next_txn(self) -> str:
        """An id that no other write of this workload has."""
        self._sequence += 1
        return f"{self.settings.seed}-{self.number}-{self._sequence}"

    def execute(self, sql: str, args: tuple[Any, ...] = ()) -> int:
        """Runs one statement; returns the affected rows. Raises the driver's errors."""
        with self.connection().cursor() as cursor:
            return cursor.execute(sql, args)

    def insert(self, sql: str, args: tuple[Any, ...]) -> int:
        """Runs one INSERT; returns its (first) AUTO_INCREMENT id. Raises the driver's errors."""
        with self.connection().cursor() as cursor:
            cursor.execute(sql, args)
            return int(cursor.lastrowid or 0)

    def rows(self, sql: str, args: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of a SELECT. Raises the driver's errors."""
        with self.connection().cursor() as cursor:
            cursor.execute(sql, args)
            return list(cursor.fetchall())

    def transaction(self, kind: str, body: Callable[[str], Any], *, roll_back: bool = False) -> Any:
        """Runs ``body(txn)`` in a transaction, again with another txn as often as a careful client would.

        What the body returns is the detail of the write, and is returned. With `roll_back` it is rolled back at the
        end. Raises Unknown when the connection broke during the COMMIT, Failed when it cannot be done.
        """
        began = time.monotonic()
        attempt = 0
        while True:
            attempt += 1
            txn = self.next_txn()
            committing = False
            try:
                self.execute("BEGIN")
                detail = body(txn)
                if roll_back:
                    self.execute("ROLLBACK")
                    self.ledger.write(Write(txn, kind, Outcome.FAILED, detail))
                    return detail
                committing = True
                self.execute("COMMIT")
            except pymysql.err.Error as error:
                number = number_of(error)
                if committing and number not in RETRYABLE - {ER.QUERY_INTERRUPTED}:
                    self.ledger.write(Write(txn, kind, Outcome.UNKNOWN, detail))
                    self._lost(error)
                    raise Unknown(str(error)) from error
                self.ledger.write(Write(txn, kind, Outcome.FAILED))
                self._again(error, attempt, began, in_transaction=True)
            else:
                self.ledger.write(Write(txn, kind, Outcome.ACKNOWLEDGED, detail))
                return detail

    def autocommit(self, kind: str, run: Callable[[str], Any]) -> Any:
        """Runs ``run(txn)``, one statement outside a transaction; returns what it returns, the detail of the write.

        Raises Unknown when the connection broke, Failed when it cannot be done.
        """
        began = time.monotonic()
        attempt = 0
        while True:
            attempt += 1
            txn = self.next_txn()
            try:
                detail = run(txn)
            except pymysql.err.Error as error:
                if number_of(error) in LOST | {ER.QUERY_INTERRUPTED}:
                    self.ledger.write(Write(txn, kind, Outcome.UNKNOWN))
                    self._lost(error)
                    raise Unknown(str(error)) from error
                self.ledger.write(Write(txn, kind, Outcome.FAILED))
                self._again(error, attempt, began, in_transaction=False)
            else:
                self.ledger.write(Write(txn, kind, Outcome.ACKNOWLEDGED, detail))
                return detail

    def read(self, sql: str, args: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of a SELECT, tried again where that is tolerated. Raises Failed when it cannot be done."""
        began = time.monotonic()
        attempt = 0
        while True:
            attempt += 1
            try:
                self.ledger.count("reads")
                return self.rows(sql, args)
            except pymysql.err.Error as error:
                self._again(error, attempt, began, in_transaction=False)

    def _again(self, error: pymysql.err.Error, attempt: int, began: float, *, in_transaction: bool) -> None:
        """Returns when the same may be tried again; notes an error and raises Failed when not."""
        number = number_of(error)
        tolerant = self.settings.tolerate_disconnects
        dying = tolerant and number in WHILE_SERVERS_DIE
        fenced = in_transaction and FENCE in str(error)
        again = number in LOST | RETRYABLE or dying or fenced
        over = time.monotonic() - began > PATIENCE if tolerant else attempt >= ATTEMPTS
        if number in LOST:
            self._lost(error)
        elif in_transaction:
            self._roll_back()
        if not again or over:
            self.ledger.error(f"{self.name}: {'in a transaction' if in_transaction else 'autocommit'}: {error}")
            raise Failed(str(error)) from error
        self.ledger.count("retries")
        self.ledger.count(f"retries after {number}")
        self._pause(0.2 if dying else 0.005 * min(attempt, 20) * (1 + self.random.random()))

    def _lost(self, error: pymysql.err.Error) -> None:
        self.disconnect()
        self.ledger.count("disconnects")
        if not self.settings.tolerate_disconnects:
            self.ledger.error(f"{self.name}: connection lost: {error}")
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.connection()
                return
            except pymysql.err.Error as refused:
                if time.monotonic() > deadline:
                    self.ledger.error(f"{self.name}: no connection for {PATIENCE:g} s: {refused}")
                    raise Stopped from refused
                self._pause(0.05)

    def _roll_back(self) -> None:
        try:
            self.execute("ROLLBACK")
        except pymysql.err.Error:
            self.disconnect()  # the server rolls back what it can no longer be asked about

    def _pause(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise Stopped

    def connection(self) -> Raw:
        """The connection, made when there is none. Raises the driver's errors."""
        if self._raw is None:
            self._raw = self.settings.connect()
            self._raw.autocommit(True)
        return self._raw

    def disconnect(self) -> None:
        """Closes the connection; never raises."""
        raw, self._raw = self._raw, None
        if raw is not None and raw.open:
            try:
                raw.close()
            except (pymysql.err.Error, OSError):
                raw._force_close()  # type: ignore[attr-defined]
