"""Copies a table without any key: whole, from one snapshot whose place in the source's binlog is known exactly.

Rows without a key cannot be taken through a change twice, so every change must be either in the snapshot or applied
after it. LOCK TABLES ... READ waits until no transaction that wrote to the table is open. Under it the snapshot is
opened and a marker is committed: what the log holds of the table before the marker is in the snapshot, and nothing
after it is. The lock is held for some milliseconds; it is asked for with a short timeout, and again. Should the
connection that holds it be lost before the marker is written, the UNLOCK fails, and with it the attempt.

A copy that breaks off is begun again with an empty table; until then the table's changes are left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from executor.crashpoints import reached
from executor.errors import MovetablesError
from executor.native import sidecar
from executor.native.servers import Connection, ServerError, quote
from executor.native.stream.apply import StreamStopped
from executor.native.stream.index_zero import MOST_WARNINGS, write_index_zero, zeros_expression
from executor.native.stream.large import LargeValues
from executor.native.stream.layout import TableLayout
from planner.cluster import StreamState

STATEMENT_BYTES = 1_000_000
PACKET_ROOM = 4096
LOCK_SECONDS = 2
PAUSE_SECONDS = 0.2
SHOW_SECONDS = 0.5


class KeylessCopier:
    """Copies tables without a key, one at a time. `connect_source` and `connect_target` make connections.

    `stall_at` applies the source's log up to the marker of the token that it is given; `show` is called after rows
    were copied.
    """

    def __init__(
        self,
        record: sidecar.StreamRecord,
        connect_source: Callable[[], Connection],
        connect_target: Callable[[], Connection],
        stall_at: Callable[[str], None],
        stopping: Callable[[], bool],
        show: Callable[[], None],
    ) -> None:
        self._record = record
        self._connect_source = connect_source
        self._connect_target = connect_target
        self._stall_at = stall_at
        self._stopping = stopping
        self._progressed = show

    def copy(self, layout: TableLayout, target: Connection) -> bool:
        """Copies the table that `layout`, of the source, describes; afterwards its changes are to be applied.

        Returns False when the stream was stopped meanwhile. `target` is the applier's connection, which records how
        far the copy came.
        """
        name = f"{quote(self._record.db_name)}.{quote(layout.name)}"
        with self._connect_source() as reader, self._connect_target() as writer:
            writer.execute(f"TRUNCATE TABLE {name}")
            reached("stream:keyless_emptied")
            token = self._snapshot(layout, reader)
            if token is None:
                return False
            self._stall_at(token)
            if self._stopping():
                return False
            copied, size, shown = 0, 0, time.monotonic()
            into = f"INSERT INTO {name} ({layout.column_list}) VALUES ".encode()
            largest = int(writer.value("SELECT @@max_allowed_packet")) - PACKET_ROOM - len(into)
            for rows, zeros, values in self._statements(layout, reader, min(STATEMENT_BYTES, largest)):
                _write(writer, layout, into, values, rows, zeros, in_pieces=len(values) > largest)
                reached("stream:keyless_written")
                copied, size = copied + rows, size + len(values)
                if time.monotonic() - shown > SHOW_SECONDS:
                    if self._stopping():
                        return False
                    self._show(target, layout.name, copied, size, done=False)
                    shown = time.monotonic()
            self._show(target, layout.name, copied, size, done=True)
        reached("stream:keyless_copied")
        return True

    def _snapshot(self, layout: TableLayout, reader: Connection) -> str | None:
        """Opens the snapshot on `reader`; returns the token of its marker, None when the stream was stopped."""
        with self._connect_source() as locker, self._connect_source() as marker:
            reader.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            locker.execute(f"SET SESSION lock_wait_timeout={LOCK_SECONDS}")
            while not self._stopping():
                try:
                    locker.execute(f"LOCK TABLES {layout.qualified} READ")
                except ServerError as error:
                    if not error.transient:
                        raise
                    time.sleep(PAUSE_SECONDS)  # lets the statements that queued behind our request go first
                    continue
                reader.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
                token = sidecar.write_marker(marker, self._record.keyspace, self._record.workflow, "copy")
                locker.execute("UNLOCK TABLES")  # fails when the lock was lost with its connection
                return token
        return None

    def _statements(self, layout: TableLayout, reader: Connection, most: int) -> Iterator[tuple[int, int, bytes]]:
        """(number of rows, of indexes 0 in them, their tuples with commas), each of `most` bytes, or of one row."""
        piece: list[bytes] = []
        size = zeros = 0
        sql = f"SELECT CAST({layout.tuple_expression} AS BINARY),{zeros_expression(layout)} FROM {layout.qualified}"
        with _rows(reader, sql) as rows:
            for text, zeros_of_row in rows:
                if text is None:
                    raise MovetablesError(
                        f"a row of {layout.name}, which has no key, is larger as text than max_allowed_packet allows",
                        "SET GLOBAL max_allowed_packet=1073741824 on source and target, or give the table a key",
                    )
                if piece and (size + len(text) > most or zeros > MOST_WARNINGS):
                    rest, piece = piece, []
                    yield len(rest), zeros, b",".join(rest)
                    size, zeros = 0, 0
                piece.append(text)
                size += len(text) + 1
                zeros += int(zeros_of_row)
        if piece:
            yield len(piece), zeros, b",".join(piece)

    def _show(self, target: Connection, table: str, rows: int, size: int, *, done: bool) -> None:
        now = time.time()
        with target.transaction():
            row = target.one(
                f"SELECT state FROM {sidecar.SCHEMA}.vreplication WHERE id=%s FOR UPDATE", [self._record.id]
            )
            if row is None or row["state"] != StreamState.COPYING.value:
                raise StreamStopped
            target.execute(
                f"UPDATE {sidecar.SCHEMA}.copy_state SET rows_copied=%s, bytes_copied=%s, done=%s, updated_at=%s, "
                "started_at=IF(started_at=0,%s,started_at) WHERE vrepl_id=%s AND table_name=%s",
                [rows, size, done, now, now, self._record.id, table],
            )
        self._progressed()


def _write(
    writer: Connection, layout: TableLayout, into: bytes, values: bytes, rows: int, zeros: int, *, in_pieces: bool
) -> None:
    with writer.transaction(), LargeValues(writer, f"a row of {layout.name}") as large:
        statement = into + (large.shortened(layout, values) if in_pieces else values)
        if zeros:
            affected, info = write_index_zero(writer, layout, statement, zeros)
            warned = 0
        else:
            affected, info, warned = writer.info(statement)
        if warned or affected != rows:
            raise MovetablesError(
                f"the target did not take {rows} rows of {layout.name} as they are: {info or affected}, {warned} "
                "warnings",
                "compare the table definitions of both sides",
            )


@contextmanager
def _rows(reader: Connection, sql: str) -> Iterator[Iterator[tuple[Any, ...]]]:
    """The rows of `sql`. Whoever stops reading early closes the connection, rather than read a large rest."""
    with reader.stream(sql) as rows:
        try:
            yield rows
        except BaseException:
            reader.raw._force_close()  # type: ignore[attr-defined]
            raise
