"""Adds the secondary keys that a table was created without, in one ALTER TABLE, while the stream goes on.

Where the server cannot do that while others write, or did not, it is asked to let nobody write meanwhile.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from executor.crashpoints import reached
from executor.native import sidecar
from executor.native.servers import Connection, ServerError, quote
from executor.native.stream.layout import describe_tables
from planner.cluster import StreamState

ONLINE, WRITES_WAIT, ANY = ", ALGORITHM=INPLACE, LOCK=NONE", ", ALGORITHM=INPLACE, LOCK=SHARED", ""
ER_DUP_KEYNAME = 1061
ER_LOG_TOO_BIG = 1799
"""More was written to the table meanwhile than innodb_online_alter_log_max_size holds."""
NOT_ONLINE = frozenset({1795, 1845, 1846})
"""The server cannot add such keys, FULLTEXT for one, while others write; it can when they wait."""
LOCK_SECONDS = 300
"""How long an ALTER waits for transactions on the table at its end; all of it is done again when that passes."""


@dataclass(frozen=True)
class KeysAdded:
    """How long it took to add `keys` keys to `table`."""

    table: str
    keys: int
    seconds: float


class DeferredKeys:
    """Works off the post-copy actions of one stream in a thread, one table at a time.

    `connect` makes connections to the target. `standing` says why a table is altered while nobody may write to it, ""
    otherwise: the caller should not apply anything meanwhile.
    """

    def __init__(self, connect: Callable[[], Connection], stream_id: int, database: str) -> None:
        self._connect = connect
        self._stream_id = stream_id
        self._database = database
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._begun: set[str] = set()
        self._open = 0
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._changed = threading.Condition()
        self._error: Exception | None = None
        self.standing = ""
        self.added: list[KeysAdded] = []

    def pending(self, connection: Connection) -> dict[str, int]:
        """How many keys are still to be added, by table."""
        rows = connection.query(
            f"SELECT table_name, action FROM {sidecar.SCHEMA}.post_copy_action WHERE vrepl_id=%s", [self._stream_id]
        )
        return {row["table_name"]: len(json.loads(row["action"])) for row in rows}

    def begin(self, table: str) -> None:
        """Adds the keys of `table`, whose rows are copied, as soon as those of tables before it are added."""
        if table in self._begun:
            return
        self._begun.add(table)
        with self._changed:
            self._open += 1
        self._waiting.put(table)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="deferred keys", daemon=True)
            self._thread.start()

    @property
    def busy(self) -> bool:
        """True while keys of a table that was begun are missing. Raises what adding them raised."""
        with self._changed:
            if self._error is not None:
                raise self._error
            return self._open > 0

    def wait(self, seconds: float) -> None:
        """Returns when nothing is left to do, at the latest after `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self._open == 0 or self._error is not None, seconds)

    def close(self) -> None:
        """Ends the thread; a statement that still runs is killed, which leaves its table without the keys."""
        if self._thread is None:
            return
        self._waiting.put(None)
        busy = self._connection
        with self._changed:
            unfinished = self._open > 0 and self._error is None
        if unfinished and busy is not None and busy.open:
            try:
                with self._connect() as killer:
                    killer.execute(f"KILL {busy.thread_id}")
            except ServerError:
                return  # the server is gone, and the statement with it
        self._thread.join(30)

    def _run(self) -> None:
        try:
            while (table := self._waiting.get()) is not None:
                with self._connect() as connection:
                    self._connection = connection
                    settings = connection.flavor.key_settings
                    connection.execute(f"SET SESSION lock_wait_timeout={LOCK_SECONDS}{settings}")
                    self._add(connection, table)
                with self._changed:
                    self._open -= 1
                    self.standing = ""
                    self._changed.notify_all()
        except Exception as error:  # noqa: BLE001 - raised again by `busy`, in the stream's thread
            with self._changed:
                self._error = error
                self.standing = ""
                self._changed.notify_all()

    def _add(self, connection: Connection, table: str) -> None:
        began = time.monotonic()
        where = [self._stream_id, table]
        row = connection.one(
            f"SELECT action FROM {sidecar.SCHEMA}.post_copy_action WHERE vrepl_id=%s AND table_name=%s", where
        )
        if row is None:
            return
        wanted: dict[str, str] = json.loads(row["action"])
        form = ONLINE
        while missing := self._missing(connection, table, wanted):
            additions = ", ".join(f"ADD {definition}" for definition in missing)
            reached("stream:keys_begun")
            try:
                connection.execute(f"ALTER TABLE {quote(self._database)}.{quote(table)} {additions}{form}")
            except ServerError as error:
                if error.errno in NOT_ONLINE and form != ANY:
                    form = self._hold_writes(connection, table, ANY, error)
                elif error.errno == ER_LOG_TOO_BIG and form == ONLINE:
                    form = self._hold_writes(connection, table, WRITES_WAIT, error)
                elif error.errno != ER_DUP_KEYNAME and not error.transient:
                    raise
                # A statement of a process that was killed may still be adding the same keys: look again.
        reached("stream:keys_added")
        connection.execute(f"DELETE FROM {sidecar.SCHEMA}.post_copy_action WHERE vrepl_id=%s AND table_name=%s", where)
        self.added.append(KeysAdded(table, len(wanted), time.monotonic() - began))

    def _hold_writes(self, connection: Connection, table: str, form: str, error: ServerError) -> str:
        self.standing = f"keys are added to {table} while its changes wait: {error.message}"
        sidecar.log(connection, self._stream_id, "Keys Hold Writes", StreamState.COPYING, self.standing)
        return form

    def _missing(self, connection: Connection, table: str, wanted: dict[str, str]) -> list[str]:
        present = {key.name for t in describe_tables(connection, self._database, [table]) for key in t.keys}
        return [definition for name, definition in sorted(wanted.items()) if name not in present]
