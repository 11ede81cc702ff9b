"""One stream from its record to its end: copy what is not copied yet, then follow the source for as long as it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from executor.errors import MovetablesError
from executor.native import sidecar
from executor.native.binlog.wire import BinlogClient
from executor.native.servers import Connection, Login, connect, quote
from executor.native.stream.apply import Applier, StreamStopped
from executor.native.stream.copying import Copying
from executor.native.stream.follow import Follower, StopAtDdl
from executor.native.stream.layout import TableLayout, describe_tables, layout_of
from executor.native.stream.throttle import Throttle
from planner.cluster import StreamState

SERVER_ID_BASE = 1_900_000_000
"""Server ids of our binlog clients start here; the id of the stream's record and its keyspace are mixed in."""


XA_SECONDS = 30.0


class StreamBusy(MovetablesError):
    """Another process runs this stream."""


class Stream:
    """The stream of `workflow` in `keyspace`. `source` and `target` are the primaries' logins,
    `replicas` gives those of the target's replicas, whose lag holds a copy back.

    `went_on` is called whenever something was carried over, so that what had kept the stream before is over.

    `run` returns when the stream was stopped, and raises when it cannot go on: ServerError when a server failed (try
    again), StreamBusy (try again), any other MovetablesError when a human must look.
    """

    def __init__(
        self,
        source: Login,
        target: Login,
        keyspace: str,
        workflow: str,
        stopping: Callable[[], bool],
        workers: int = 3,
        replicas: Callable[[], Sequence[Login]] = tuple,
        went_on: Callable[[], None] = lambda: None,
    ) -> None:
        self._source_login = source
        self._target_login = target
        self.keyspace = keyspace
        self.workflow = workflow
        self._stopping = stopping
        self._workers = workers
        self._replicas = replicas
        self._went_on = went_on

    def run(self) -> None:
        """Runs until the record says Stopped or Error, or `stopping` answers True."""
        with ExitStack() as stack:
            target = stack.enter_context(connect(self._target_login, apply=True, local_files=True))
            # Held by the applying connection itself: whoever loses the connection has lost the lock and the
            # transaction with it. The position's compare-and-set guards what the lock cannot.
            if target.value("SELECT GET_LOCK(%s, 0)", [sidecar.stream_lock(self.keyspace, self.workflow)]) != 1:
                raise StreamBusy(f"stream {self.keyspace}.{self.workflow} is run by another process")
            source = stack.enter_context(connect(self._source_login))
            sidecar.ensure(target)
            sidecar.ensure(source)
            record = sidecar.stream(target, self.keyspace, self.workflow)
            if record is None or record.state not in (StreamState.COPYING, StreamState.RUNNING):
                return
            if not record.pos:
                record = self._first_position(source, target, record)
            layouts = self._layouts(target, record)
            target.execute(f"USE {quote(record.db_name)}")  # the fence's triggers are faster so, see `connect`
            client = BinlogClient(self._source_login, record.pos, _server_id(record))
            stack.callback(client.close)
            applier = Applier(target, record, layouts)
            stack.callback(applier.rest)
            describe = lambda: self._layouts(target, record)  # noqa: E731
            follower = Follower(client, applier, record, layouts, self._stopping, describe, self._went_on)
            try:
                if record.state is StreamState.COPYING:
                    self._copy(source, target, record, layouts, follower)
                follower.follow()
            except StreamStopped:
                return
            except StopAtDdl as stop:
                sidecar.set_state(target, self.keyspace, self.workflow, StreamState.STOPPED, stop.message)

    def _first_position(
        self, source: Connection, target: Connection, record: sidecar.StreamRecord
    ) -> sidecar.StreamRecord:
        # A marker first: a server that has never written a transaction has no position to start from.
        sidecar.write_marker(source, self.keyspace, self.workflow, "copy")
        position = source.position()
        self._wait_for_prepared(source)
        target.execute(f"UPDATE {sidecar.SCHEMA}.vreplication SET pos=%s WHERE id=%s AND pos=''", [position, record.id])
        fresh = sidecar.stream(target, self.keyspace, self.workflow)
        if fresh is None or not fresh.pos:
            raise StreamBusy(f"stream {self.keyspace}.{self.workflow} was deleted while it started")
        return fresh

    def _wait_for_prepared(self, source: Connection) -> None:
        """Rows of a prepared XA transaction are in the binlog before the position, and visible only after it."""
        deadline = time.monotonic() + XA_SECONDS
        while prepared := source.query("XA RECOVER"):
            if time.monotonic() > deadline:
                names = ", ".join(_shown(row["data"]) for row in prepared[:3])
                raise MovetablesError(
                    f"the source has prepared XA transactions ({names}), whose rows a copy would miss",
                    "commit or roll them back (XA RECOVER lists them), then apply again",
                )
            time.sleep(0.05)

    def _layouts(self, target: Connection, record: sidecar.StreamRecord) -> list[TableLayout]:
        """Layouts of the target's tables: what is written there decides which columns are needed."""
        tables = describe_tables(target, record.db_name, record.tables)
        missing = set(record.tables) - {table.name for table in tables}
        if missing:
            raise MovetablesError(
                f"tables {', '.join(sorted(missing))} are missing on the target of {self.keyspace}.{self.workflow}",
                "cancel the move and create it again",
            )
        return [layout_of(record.db_name, table) for table in tables]

    def _copy(
        self,
        source: Connection,
        target: Connection,
        record: sidecar.StreamRecord,
        layouts: Sequence[TableLayout],
        follower: Follower,
    ) -> None:
        throttle = Throttle(record.id, record.throttle, self._source_login, self._replicas)
        logins = (self._source_login, self._target_login)
        Copying(
            record, layouts, logins, source, target, follower, self._stopping, throttle, self._workers, self._went_on
        ).run()
        if not self._stopping():
            self._become_running(target, record)

    def _become_running(self, target: Connection, record: sidecar.StreamRecord) -> None:
        with target.transaction():
            now = time.time()
            changed = target.execute(
                f"UPDATE {sidecar.SCHEMA}.vreplication SET state=%s, message='', time_updated=%s, time_heartbeat=%s "
                "WHERE id=%s AND state=%s",
                [StreamState.RUNNING.value, now, now, record.id, StreamState.COPYING.value],
            )
            if not changed:
                raise StreamStopped(record.id)
            sidecar.log(target, record.id, "State Changed", StreamState.RUNNING, "copy finished")


def _shown(xid: str | bytes) -> str:
    """The name of an XA transaction, which MariaDB gives as bytes."""
    return repr(xid.decode("utf-8", "backslashreplace") if isinstance(xid, bytes) else xid)


def _server_id(record: sidecar.StreamRecord) -> int:
    """A server id that no server and no other stream uses: two clients with one id throw each other out."""
    mixed = sum((i + 1) * byte for i, byte in enumerate(f"{record.keyspace}.{record.workflow}".encode()))
    return SERVER_ID_BASE + (mixed * 1009 + record.id) % 100_000_000
