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

FOLLOWING = (StreamState.RUNNING.value, StreamState.COPYING.value)


class StreamStopped(Exception):
    """The stream's record was stopped, deleted or moved on by somebody else; nothing was written."""


class Applier:
    """Collects the changes of whole source transactions and commits them with their last position.

    The position is compared and set: a second applier of the same stream, or one that was told to stop, changes
    nothing and raises StreamStopped. Changes are kept as the last state of each key; deletes are written before rows,
    so that a key whose bytes changed but whose collation calls it equal is not deleted again. Several transactions
    become one as long as their commits are collected, never half of one.
    """

    def __init__(self, connection: Connection, record: sidecar.StreamRecord, layouts: Sequence[TableLayout]) -> None:
        self.connection = connection
        self.stream_id = record.id
        self.position = record.pos
        self._layouts = {layout.name: layout for layout in layouts}
        self._rows: dict[str, dict[Keys, bytes | None]] = {layout.name: {} for layout in layouts}
        self._bytes = 0
        self._open = False

    @property
    def pending_bytes(self) -> int:
        """Bytes of row text collected since the last commit."""
        return self._bytes

    def put(self, table: str, key: Keys, row: bytes) -> None:
        """The row of `key` is now `row`, an SQL tuple."""
        self._rows[table][key] = row
        self._bytes += len(row)

    def delete(self, table: str, key: Keys) -> None:
        """There is no row of `key` any more."""
        self._rows[table][key] = None
        self._bytes += 32

    def spill_if_large(self) -> None:
        """Writes what is collected into the open transaction when it would take too much memory; commits nothing."""
        if self._bytes > SPILL_BYTES:
            self._begin()
            self._write()

    def rollback(self) -> None:
        """Forgets everything collected since the last commit."""
        for rows in self._rows.values():
            rows.clear()
        self._bytes = 0
        if self._open:
            self._open = False
            self.connection.execute("ROLLBACK")

    def commit(self, position: str, timestamp: float, caught_up: bool) -> None:
        """Commits what is collected, and `position` with it.

        `timestamp` is the source's commit time in seconds since the epoch, 0 if unknown; `caught_up` tells that the
        source had nothing more to send. Raises StreamStopped when the record was changed by somebody else, ServerError
        when the server failed; the record tells what was committed.
        """
        try:
            self._begin()
            self._write()
            now = time.time()
            self.connection.execute(
                f"UPDATE {sidecar.SCHEMA}.vreplication SET pos=%s, time_updated=%s, "
                "transaction_timestamp=IF(%s>0,%s,transaction_timestamp), "
                "time_heartbeat=IF(%s,%s,time_heartbeat) WHERE id=%s",
                [position, now, timestamp, timestamp, caught_up, now, self.stream_id],
            )
            self.connection.execute("COMMIT")
        except (StreamStopped, ServerError):
            self._open = False
            if self.connection.open:
                self.connection.execute("ROLLBACK")
            raise
        self._open = False
        self.position = position

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
            raise StreamStopped

    def _write(self) -> None:
        for name, rows in self._rows.items():
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
        self._bytes = 0


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
