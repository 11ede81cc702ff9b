"""Connections to servers: signing in, one pinned session state, errors mapped once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import pymysql
from pymysql.constants import CLIENT, COMMAND
from pymysql.cursors import DictCursor, SSCursor
from pymysql.protocol import OKPacketWrapper

from executor.errors import MovetablesError
from executor.native.flavor import (
    CURABLE_ERRNOS,
    LOST_CONNECTION_ERRNOS,
    TRANSIENT_ERRNOS,
    Flavor,
    flavor_of,
)

Row = dict[str, Any]


class ServerError(MovetablesError):
    """A server refused a statement. `errno` is MySQL's error number."""

    def __init__(self, message: str, errno: int, hint: str = "") -> None:
        super().__init__(message, hint)
        self.errno = errno

    @property
    def lost(self) -> bool:
        """True when the connection broke: the outcome of the statement is unknown."""
        return self.errno in LOST_CONNECTION_ERRNOS

    @property
    def transient(self) -> bool:
        """True when the transaction was rolled back and may simply be tried again."""
        return self.errno in TRANSIENT_ERRNOS

    @property
    def curable(self) -> bool:
        """True when the same statement may succeed later: lost, transient, or a state that somebody may mend."""
        return self.lost or self.transient or self.errno in CURABLE_ERRNOS


class Unreachable(ServerError):
    """No connection could be made."""


@dataclass(frozen=True)
class Login:
    """How to sign in to one server. `name` is for messages (a tablet alias or ``topology``)."""

    name: str
    host: str
    port: int
    user: str
    password: str = field(default="", repr=False)

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"


def _mapped(login: Login, error: pymysql.err.Error) -> ServerError:
    errno = error.args[0] if error.args and isinstance(error.args[0], int) else 2013
    text = error.args[1] if len(error.args) > 1 else (error.args[0] if error.args else "connection closed")
    return ServerError(f"{login.name} ({login.address}): {text} (errno {errno})", errno)


class Connection:
    """One connection with a pinned session: utf8mb4, UTC, strict sql_mode, autocommit.

    Not for use by two threads. Every method raises ServerError; `ServerError.lost` tells that the outcome is unknown.
    """

    def __init__(self, login: Login, raw: pymysql.connections.Connection[Any]) -> None:
        self.login = login
        self.raw = raw
        info = raw.get_server_info()  # type: ignore[no-untyped-call]
        self.flavor: Flavor = flavor_of(str(info))

    def query(self, sql: str, args: Sequence[object] | Mapping[str, object] | None = None) -> list[Row]:
        """All rows of a statement, each a dict by column name."""
        try:
            with self.raw.cursor(DictCursor) as cursor:
                cursor.execute(sql, args)
                return list(cursor.fetchall() or ())
        except pymysql.err.Error as error:
            raise _mapped(self.login, error) from error

    def one(self, sql: str, args: Sequence[object] | Mapping[str, object] | None = None) -> Row | None:
        """The first row of a statement, or None."""
        rows = self.query(sql, args)
        return rows[0] if rows else None

    def value(self, sql: str, args: Sequence[object] | Mapping[str, object] | None = None) -> Any:
        """The first column of the first row of a statement, or None when there is no row."""
        row = self.one(sql, args)
        return next(iter(row.values())) if row else None

    def execute(self, sql: str | bytes, args: Sequence[object] | Mapping[str, object] | None = None) -> int:
        """Runs a statement; returns the number of affected rows."""
        try:
            with self.raw.cursor() as cursor:
                return int(cursor.execute(sql, args))
        except pymysql.err.Error as error:
            raise _mapped(self.login, error) from error

    def info(self, sql: bytes | str) -> tuple[int, str, int]:
        """Runs a statement that returns no rows; returns (affected rows, the server's info text, warning count)."""
        try:
            self.raw.query(sql)
        except pymysql.err.Error as error:
            raise _mapped(self.login, error) from error
        result = self.raw._result  # type: ignore[attr-defined]
        return result.affected_rows, (result.message or b"").decode(), result.warning_count

    def load(self, sql: str, pieces: Iterable[bytes]) -> tuple[int, str, int]:
        """Runs a LOAD DATA LOCAL statement, whose file is what `pieces` gives; returns what `info` does.

        The connection must have been made with `local_files`. No file is ever opened, whatever name the server asks
        for. Should `pieces` raise, the connection is closed, because half a file may not be loaded.
        """
        raw: Any = self.raw
        try:
            raw._execute_command(COMMAND.COM_QUERY, sql)
            if not raw._read_packet().is_load_local_packet():
                raise MovetablesError(f"{self.login.name} did not ask for the rows of {sql[:200]}")
            try:
                for piece in pieces:
                    raw.write_packet(piece)
                raw.write_packet(b"")
            except BaseException:
                raw._force_close()
                raise
            done: Any = OKPacketWrapper(raw._read_packet())
        except pymysql.err.Error as error:
            raise _mapped(self.login, error) from error
        return done.affected_rows, (done.message or b"").decode(), done.warning_count

    @contextmanager
    def stream(self, sql: str) -> Iterator[Iterator[tuple[Any, ...]]]:
        """The rows of a statement as they arrive, unbuffered, as tuples."""
        cursor = self.raw.cursor(SSCursor)
        try:
            cursor.execute(sql)
            yield iter(cursor.fetchone, None)
        except pymysql.err.Error as error:
            raise _mapped(self.login, error) from error
        finally:
            if self.raw.open:
                cursor.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is committed together, or rolled back when an exception leaves the block.

        A failure of the COMMIT itself raises ServerError; when that is `lost`, the outcome is unknown.
        """
        self.execute("START TRANSACTION")
        try:
            yield
        except BaseException:
            if self.raw.open:
                try:
                    self.raw.rollback()
                except pymysql.err.Error:
                    self.close()  # the server rolls back a connection that goes away
            raise
        self.execute("COMMIT")

    def processes(self) -> list[Row]:
        """The rows of SHOW PROCESSLIST.

        Statements are cut there at 100 bytes, on MySQL in the middle of a character too, which PyMySQL cannot decode;
        and from information_schema MySQL gives nothing while any statement with an emoji runs (errno 3854).
        """
        encoding, self.raw.encoding = self.raw.encoding, "latin1"
        try:
            rows = self.query("SHOW PROCESSLIST")
        finally:
            self.raw.encoding = encoding
        return [
            {
                name: value.encode("latin1").decode("utf-8", "replace") if isinstance(value, str) else value
                for name, value in row.items()
            }
            for row in rows
        ]

    def position(self) -> str:
        """The replication position up to which this server's binlog is written, as text."""
        return str(self.value(self.flavor.position_sql) or "")

    @property
    def thread_id(self) -> int:
        """The server's id of this connection."""
        return int(self.raw.thread_id())  # type: ignore[no-untyped-call]

    @property
    def open(self) -> bool:
        """False once the connection is known to be closed."""
        return bool(self.raw.open)

    def close(self) -> None:
        """Closes the connection; never raises."""
        try:
            if self.raw.open:
                self.raw.close()
        except (pymysql.err.Error, OSError):
            self.raw._force_close()  # type: ignore[attr-defined]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def connect(
    login: Login,
    *,
    database: str | None = None,
    connect_timeout: float = 5.0,
    read_timeout: float | None = None,
    apply: bool = False,
    local_files: bool = False,
) -> Connection:
    """Signs in and pins the session.

    `apply` sets ``@movetables_apply``, which lets the session write to fenced tables, `local_files` allows
    `Connection.load`. Whoever writes many rows to fenced tables should name their `database`: a trigger runs in its
    own, and a session of another one is taken there and back for each row (2 µs on MySQL, 0.5 on MariaDB: a quarter
    of LOAD DATA). Timeouts are in seconds; `read_timeout` None waits for ever. Raises Unreachable when the server does
    not answer or refuses the user.
    """
    try:
        raw = pymysql.connect(
            host=login.host,
            port=login.port,
            user=login.user,
            password=login.password.encode(),  # pymysql would take latin1 for text
            database=database,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=max(1, int(connect_timeout)),
            read_timeout=read_timeout,
            write_timeout=read_timeout,
            client_flag=CLIENT.FOUND_ROWS | (CLIENT.LOCAL_FILES if local_files else 0),
            # Elsewhere TLS is used where the server offers it. Loading the certificates for that takes 60 ms each time.
            ssl_disabled=is_loopback(login.host),
        )
    except (pymysql.err.Error, OSError, RuntimeError) as error:
        errno = error.args[0] if error.args and isinstance(error.args[0], int) else 2003
        text = error.args[1] if len(error.args) > 1 else str(error)
        raise Unreachable(
            f"{login.name} ({login.address}) does not answer as user {login.user}: {text} (errno {errno})",
            errno,
            f"check that the server runs and that the user may sign in: mysql -h {login.host} -P {login.port} "
            f"-u {login.user} -p",
        ) from error
    connection = Connection(login, raw)
    try:
        connection.execute(connection.flavor.session_sql)
        if apply:
            connection.execute(connection.flavor.apply_sql)
    except ServerError:
        connection.close()
        raise
    return connection


def is_loopback(host: str) -> bool:
    """True for a host that can only be this machine."""
    return host in ("localhost", "::1") or host.startswith("127.")


def wait_until_answers(login: Login, timeout: float) -> Connection:
    """Connects, trying again until `timeout` seconds have passed; raises Unreachable then."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return connect(login)
        except Unreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def quote(name: str) -> str:
    """`name` as an SQL identifier, in backquotes."""
    return "`" + name.replace("`", "``") + "`"
