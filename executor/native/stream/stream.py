"""One stream from its record to its end: copy what is not copied yet, then follow the source for as long as it runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from executor.crashpoints import reached
from executor.errors import MovetablesError
from executor.native import sidecar
from executor.native.binlog.wire import BinlogClient
from executor.native.servers import Connection, Login, connect, quote
from executor.native.stream import copy
from executor.native.stream.apply import Applier, StreamStopped
from executor.native.stream.copy import Copier, CopyState, read_copy_states
from executor.native.stream.follow import Follower, StopAtDdl
from executor.native.stream.layout import TableLayout, describe_tables, layout_of
from planner.cluster import StreamState

SERVER_ID_BASE = 1_900_000_000
"""Server ids of our binlog clients start here; the id of the stream's record and its keyspace are mixed in."""


XA_SECONDS = 30.0


class StreamBusy(MovetablesError):
    """Another process runs this stream."""


class Stream:
    """The stream of `workflow` in `keyspace`. `source` and `target` are the primaries' logins.

    `run` returns when the stream was stopped, and raises when it cannot go on: ServerError when a server failed (try
    again), StreamBusy (try again), any other MovetablesError when a human must look.
    """

    def __init__(
        self, source: Login, target: Login, keyspace: str, workflow: str, stopping: Callable[[], bool], workers: int = 3
    ) -> None:
        self._source_login = source
        self._target_login = target
        self.keyspace = keyspace
        self.workflow = workflow
        self._stopping = stopping
        self._workers = workers

    def run(self) -> None:
        """Runs until the record says Stopped or Error, or `stopping` answers True."""
        with ExitStack() as stack:
            target = stack.enter_context(connect(self._target_login, apply=True))
            # Held by the applying connection itself: whoever loses the connection has lost the lock and the
            # transaction with it. The position's compare-and-set guards what the lock cannot.
            if target.value("SELECT GET_LOCK(%s, 0)", [sidecar.stream_lock(self.keyspace, self.workflow)]) != 1:
                raise StreamBusy(f"stream {self.keyspace}.{self.workflow} is run by another process")
            source = stack.enter_context(connect(self._source_login))
            sidecar.ensure_columns(target)
            record = sidecar.stream(target, self.keyspace, self.workflow)
            if record is None or record.state not in (StreamState.COPYING, StreamState.RUNNING):
                return
            if not record.pos:
                record = self._first_position(source, target, record)
            layouts = self._layouts(target, record)
            client = BinlogClient(self._source_login, record.pos, _server_id(record))
            stack.callback(client.close)
            applier = Applier(target, record, layouts)
            follower = Follower(
                client, applier, record, layouts, self._stopping, lambda sql: self._run_ddl(target, record, sql)
            )
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
                names = ", ".join(repr(row["data"]) for row in prepared[:3])
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
        states = read_copy_states(target, record.id)
        if any(not state.done for state in states):
            self._record_totals(source, target, record, states)
            copier = Copier(
                record.id,
                [_on(layout, record.source_db_name) for layout in layouts],
                record.db_name,
                lambda: connect(self._source_login),
                lambda: connect(self._target_login, apply=True, local_files=True),
                self._workers,
            )
            try:
                while any(not state.done for state in states) and not self._stopping():
                    self._stall_at_marker(source, follower)
                    if self._stopping():
                        return  # not at the marker: what a chunk would read now may be older than what was applied
                    states = copier.copy_batch(states, target, copy.BATCH_SECONDS)
                    reached("stream:chunks_copied")
            finally:
                copier.close()
        if self._stopping():
            return
        # Past everything that the last chunks may have seen, so that the tables are equal before they count as copied.
        self._stall_at_marker(source, follower)
        if self._stopping():
            return
        self._run_post_copy_actions(target, record)
        self._become_running(target, record)

    def _stall_at_marker(self, source: Connection, follower: Follower) -> None:
        follower.follow(sidecar.write_marker(source, self.keyspace, self.workflow, "copy"))

    def _record_totals(
        self, source: Connection, target: Connection, record: sidecar.StreamRecord, states: Sequence[CopyState]
    ) -> None:
        rows = {t.name: t.rows for t in describe_tables(source, record.source_db_name, record.tables)}
        for state in states:
            target.execute(
                f"UPDATE {sidecar.SCHEMA}.copy_state SET rows_total=GREATEST(rows_total,%s) "
                "WHERE vrepl_id=%s AND table_name=%s",
                [rows.get(state.table, 0), record.id, state.table],
            )

    def _run_post_copy_actions(self, target: Connection, record: sidecar.StreamRecord) -> None:
        actions = target.query(
            f"SELECT table_name, action FROM {sidecar.SCHEMA}.post_copy_action WHERE vrepl_id=%s", [record.id]
        )
        for row in actions:
            present = {
                key.name for table in describe_tables(target, record.db_name, [row["table_name"]]) for key in table.keys
            }
            wanted: dict[str, str] = json.loads(row["action"])
            missing = [definition for name, definition in sorted(wanted.items()) if name not in present]
            if missing:
                table = f"{quote(record.db_name)}.{quote(row['table_name'])}"
                target.execute(f"ALTER TABLE {table} {', '.join(f'ADD {definition}' for definition in missing)}")
            target.execute(
                f"DELETE FROM {sidecar.SCHEMA}.post_copy_action WHERE vrepl_id=%s AND table_name=%s",
                [record.id, row["table_name"]],
            )

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

    def _run_ddl(self, target: Connection, record: sidecar.StreamRecord, sql: str) -> Sequence[TableLayout]:
        target.execute(f"USE {quote(record.db_name)}")
        target.execute(sql)
        return self._layouts(target, record)


def _on(layout: TableLayout, database: str) -> TableLayout:
    return TableLayout(database, layout.name, layout.columns, layout.key, layout.key_name, layout.generated)


def _server_id(record: sidecar.StreamRecord) -> int:
    """A server id that no server and no other stream uses: two clients with one id throw each other out."""
    mixed = sum((i + 1) * byte for i, byte in enumerate(f"{record.keyspace}.{record.workflow}".encode()))
    return SERVER_ID_BASE + (mixed * 1009 + record.id) % 100_000_000
