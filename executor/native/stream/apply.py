"""Writes source changes to the target: coalesced per key, atomic with the position that covers them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from executor.native import sidecar
from executor.native.servers import Connection, ServerError
from executor.native.stream.layout import TableLayout
from planner.cluster import StreamState

STATEMENT_BYTES = 1_000_000
KEYS_PER_DELETE = 500
SPILL_BYTES = 16_000_000

Keys = tuple[bytes, ...]
Rows = dict[Keys, bytes | None]

FOLLOWING = (StreamState.RUNNING.value, StreamState.COPYING.value)


class StreamStopped(Exception):
    """The stream's record was stopped, deleted or moved on by somebody else; nothing was written."""


class Applier:
    """Collects the changes of whole source transactions and commits them with their last position.

    The position is compared and set: a second applier of the same stream, or one that was told to stop, changes
    nothing and raises StreamStopped. Changes are kept as the last state of each key; deletes are written before rows,
    so that a key whose bytes changed but whose collation calls it equal is not deleted again. Several transactions
    become one as long as their commits are collected, never half of one.

    The transaction being read is kept apart from those that are complete until `seal`, so that `discard` takes back
    nothing else.
    """

    def __init__(self, connection: Connection, record: sidecar.StreamRecord, layouts: Sequence[TableLayout]) -> None:
        self.connection = connection
        self.stream_id = record.id
        self.position = record.pos
        self._sealed_position = record.pos
        self._layouts: dict[str, TableLayout] = {}
        self._current: dict[str, Rows] = {}
        self._sealed: dict[str, Rows] = {}
        self.replace_layouts(layouts)
        self._current_bytes = self._sealed_bytes = 0
        self._open = False

    @property
    def pending_bytes(self) -> int:
        """Bytes of row text of complete transactions that are not committed yet."""
        return self._sealed_bytes

    @property
    def ahead(self) -> bool:
        """True when complete transactions wait for `commit`, even if they changed nothing of ours."""
        return self._sealed_position != self.position

    def replace_layouts(self, layouts: Sequence[TableLayout]) -> None:
        """From now on the tables look like this. Only when nothing is collected."""
        self._layouts = {layout.name: layout for layout in layouts}
        self._current = {layout.name: {} for layout in layouts}
        self._sealed = {layout.name: {} for layout in layouts}

    def put(self, table: str, key: Keys, row: bytes) -> None:
        """The row of `key` is now `row`, an SQL tuple."""
        self._current[table][key] = row
        self._current_bytes += len(row)

    def delete(self, table: str, key: Keys) -> None:
        """There is no row of `key` any more."""
        self._current[table][key] = None
        self._current_bytes += 32

    def spill_if_large(self) -> None:
        """Writes the transaction being read into the open target transaction when it would take too much memory.

        Complete transactions before it are committed first, so that `discard` can still take it back alone.
        """
        if self._current_bytes > SPILL_BYTES:
            if not self._open:
                if self.ahead:
                    self.commit(0.0, caught_up=False)
                self._begin()
            self._write(self._current)
            self._current_bytes = 0

    def seal(self, position: str) -> None:
        """The transaction being read is complete; `position` covers it."""
        for table, rows in self._current.items():
            if rows:
                self._sealed[table].update(rows)
                rows.clear()
        self._sealed_bytes += self._current_bytes
        self._current_bytes = 0
        self._sealed_position = position

    def discard(self) -> None:
        """Forgets the transaction being read: it was rolled back."""
        for rows in self._current.values():
            rows.clear()
        self._current_bytes = 0
        if self._open:
            self._open = False
            self.connection.execute("ROLLBACK")

    def commit(self, timestamp: float, *, caught_up: bool) -> None:
        """Commits everything sealed, and its position with it.

        `timestamp` is the source's commit time in seconds since the epoch, 0 if unknown; `caught_up` tells that the
        source had nothing more to send. Raises StreamStopped when the record was changed by somebody else, ServerError
        when the server failed; the record tells what was committed.
        """
        try:
            self._begin()
            self._write(self._sealed)
            now = time.time()
            self.connection.execute(
                f"UPDATE {sidecar.SCHEMA}.vreplication SET pos=%s, time_updated=%s, "
                "transaction_timestamp=IF(%s>0,%s,transaction_timestamp), "
                "time_heartbeat=IF(%s,%s,time_heartbeat) WHERE id=%s",
                [self._sealed_position, now, timestamp, timestamp, caught_up, now, self.stream_id],
            )
            self.connection.execute("COMMIT")
        except ServerError:
            if self.connection.open:
                self.connection.execute("ROLLBACK")
            raise
        self._open = False
        self._sealed_bytes = 0
        self.position = self._sealed_position

    def _begin(self) -> None:
        if self._open:
            return
        self.connection.execute("START TRANSACTION")
        self._open = True
        row = self.connection.one(
            f"SELECT pos, state FROM {sidecar.SCHEMA}.vreplication WHERE id=%s FOR UPDATE", [self.stream_id]
        )
        if row is None or row["pos"] != self.position or row["state"] not in FOLLOWING:
            self._open = False
            self.connection.execute("ROLLBACK")
            raise StreamStopped(self.stream_id)

    def _write(self, collected: dict[str, Rows]) -> None:
        for name, rows in collected.items():
            if rows:
                layout = self._layouts[name]
                gone = [key for key, row in rows.items() if row is None]
                for start in range(0, len(gone), KEYS_PER_DELETE):
                    keys = [[part.decode() for part in key] for key in gone[start : start + KEYS_PER_DELETE]]
                    self.connection.execute(f"DELETE FROM {layout.qualified} WHERE {layout.matching(keys)}")
                for values in _grouped([row for row in rows.values() if row is not None]):
                    self.connection.execute(
                        f"REPLACE INTO {layout.qualified} ({layout.column_list}) VALUES ".encode() + values
                    )
                rows.clear()


def _grouped(rows: Sequence[bytes]) -> Iterator[bytes]:
    """`rows` joined by commas into pieces of about STATEMENT_BYTES; a larger row is a piece of its own."""
    piece: list[bytes] = []
    size = 0
    for row in rows:
        if piece and size + len(row) > STATEMENT_BYTES:
            yield b",".join(piece)
            piece, size = [], 0
        piece.append(row)
        size += len(row) + 1
    if piece:
        yield b",".join(piece)
