"""Hands rows events on to the target as they came, by its BINLOG statement, as `mysqlbinlog | mysql` does.

Nothing is decoded and no trigger fires, so bulk changes arrive at about the speed of the server's own replication. The
server finds the rows by their primary key and refuses what does not fit (a row to change that is not there, a key that
is taken); whoever collected the events decodes them then, and writes them as SQL, which does not care what was there.
"""

from __future__ import annotations

import struct
import time
from binascii import b2a_base64
from collections.abc import Iterator, Sequence

from executor.native.binlog.events import HEADER, EventType, Format, Rows, RowsKind
from executor.native.binlog.pieces import RowsChange
from executor.native.binlog.rows import TableVersion
from executor.native.servers import Connection, ServerError
from executor.native.stream.changes import RowEvents
from executor.native.stream.layout import TableLayout
from planner.column_types import FLOATS, NUMBERS

LEAST_BYTES = 4000
"""Rows events from this size on are handed on; servers write events of 8 KiB. Smaller ones are decoded, and changes of
the same row are made one, which costs the target less."""
STATEMENT_BYTES = 1_000_000
REFUSED_SECONDS = 60.0
"""For so long nothing is handed on after the target refused something, which it will do again soon."""

_TABLE_ID = 1
_END_OF_STATEMENT, _NO_FOREIGN_KEY_CHECKS, _COMPLETE_ROWS = 0x01, 0x02, 0x08
_V1 = {RowsKind.INSERT: 23, RowsKind.UPDATE: 24, RowsKind.DELETE: 25}
_V2 = {RowsKind.INSERT: 30, RowsKind.UPDATE: 31, RowsKind.DELETE: 32}
_NO_EXTRA_DATA = struct.pack("<H", 2)
_PACKET_ROOM = 4096
_CONVERSIONS = {True: "slave_type_conversions", False: "replica_type_conversions"}
_MISSING_OR_TAKEN = frozenset({1032, 1062})  # ER_KEY_NOT_FOUND, ER_DUP_ENTRY
_SAVEPOINT = "_movetables_events"


class RowEventWriter:
    """Runs BINLOG statements on `connection`, whose server is of the source's kind.

    `wanted` and `write` may be called by two threads.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._mariadb = connection.flavor.mariadb
        packet = int(connection.value("SELECT @@max_allowed_packet")) - _PACKET_ROOM
        self._most = min(STATEMENT_BYTES, packet) * 3 // 4
        self._largest = packet * 3 // 4 - _PACKET_ROOM
        # With conversions allowed, a column of another type would take what fits of a value.
        self._allowed = not connection.value(f"SELECT @@global.{_CONVERSIONS[self._mariadb]}")
        self._server_id = int(connection.value("SELECT @@global.server_id"))
        self._refused_until = 0.0
        self._told: Format | None = None
        self._fitting: dict[TableVersion, bool] = {}

    def forget(self) -> None:
        """The target's tables may have changed."""
        self._fitting.clear()

    def wanted(self, change: RowsChange, layout: TableLayout, source_format: Format, *, follows: bool) -> bool:
        """True when an event should be handed on.

        `source_format` is the source's format event; `follows` tells that the event comes behind one of its
        transaction that is handed on.
        """
        size = len(change.rows.body)
        if (size < LEAST_BYTES and not follows) or size > self._largest - _PACKET_ROOM or not self._allowed:
            return False
        if source_format.mariadb is not self._mariadb or not change.rows.as_logged:
            return False
        if time.monotonic() < self._refused_until:
            return False
        fitting = self._fitting.get(change.table)
        if fitting is None:
            fitting = self._fitting[change.table] = _fits(change.table, layout)
        return fitting

    def prepare(self, source_format: Format) -> None:
        """Tells the server how the events look that will be written. Not in a transaction.

        Raises ServerError when the same may succeed later.
        """
        if self._told == source_format or not self._allowed:
            return
        # Without checksums: ours would be new ones.
        event = self._event(EventType.FORMAT, source_format.body[:-5] + b"\0" + source_format.body[-4:])
        try:
            self._connection.execute(_binlog([event]))
            if not self._mariadb:  # what follows is not a part of the log that the format event began
                self._connection.execute("SET SESSION gtid_next='AUTOMATIC'")
        except ServerError as error:
            self._give_up(error)
            return
        self._told = source_format

    def write(self, part: RowEvents, layout: TableLayout) -> bool:
        """Writes all of `part`, or nothing: then the answer is False. A transaction must be open.

        Raises ServerError when the same may succeed later.
        """
        if self._told != part.format or time.monotonic() < self._refused_until:
            return False
        connection = self._connection
        connection.execute(f"SAVEPOINT {_SAVEPOINT}")
        try:
            for events in self._grouped(part.events):
                connection.execute(_binlog([self._table_map(part.table, layout), *events]))
        except ServerError as error:
            self._give_up(error)
            connection.execute(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")
            return False
        finally:
            if connection.open:
                connection.execute("SET timestamp=DEFAULT")  # it is the events' now
        connection.execute(f"RELEASE SAVEPOINT {_SAVEPOINT}")
        return True

    def _give_up(self, error: ServerError) -> None:
        if error.curable:
            raise error
        self._refused_until = time.monotonic() + REFUSED_SECONDS
        self._allowed = error.errno in _MISSING_OR_TAKEN

    def _grouped(self, rows: Sequence[Rows]) -> Iterator[list[bytes]]:
        """The events in groups for one statement each; the last of a group ends the statement."""
        group: list[Rows] = []
        size = 0
        for each in rows:
            if group and size + len(each.body) > self._most:
                yield self._ended(group)
                group, size = [], 0
            group.append(each)
            size += len(each.body)
        if group:
            yield self._ended(group)

    def _ended(self, group: Sequence[Rows]) -> list[bytes]:
        return [self._rows(rows, last=rows is group[-1]) for rows in group]

    def _rows(self, rows: Rows, *, last: bool) -> bytes:
        flags = _NO_FOREIGN_KEY_CHECKS | rows.flags & _COMPLETE_ROWS | (_END_OF_STATEMENT if last else 0)
        head = _TABLE_ID.to_bytes(6, "little") + struct.pack("<H", flags)
        width = bytes([rows.width]) if rows.width < 251 else b"\xfc" + struct.pack("<H", rows.width)
        extra = b"" if self._mariadb else _NO_EXTRA_DATA
        kind = (_V1 if self._mariadb else _V2)[rows.kind]
        return self._event(kind, b"".join((head, extra, width, rows.before, rows.after, rows.body)))

    def _table_map(self, table: TableVersion, layout: TableLayout) -> bytes:
        database, name = layout.database.encode(), layout.name.encode()
        names = b"".join((bytes([len(database)]), database, b"\0", bytes([len(name)]), name, b"\0"))
        return self._event(EventType.TABLE_MAP, _TABLE_ID.to_bytes(6, "little") + b"\1\0" + names + table.described)

    def _event(self, kind: int, body: bytes) -> bytes:
        return HEADER.pack(int(time.time()), kind, self._server_id, HEADER.size + len(body), 0, 0) + body


def _binlog(events: Sequence[bytes]) -> bytes:
    return b"BINLOG '" + b2a_base64(b"".join(events), newline=False) + b"'"


def _fits(table: TableVersion, layout: TableLayout) -> bool:
    """True when the target's columns are the source's, in the same order.

    Types and lengths are compared by the server itself; the character sets and members of ENUM and SET by whoever
    looks after DDL, because SQL has the same bytes and numbers in it.
    """
    if layout.generated or layout.key_name != "PRIMARY" or len(table.columns) != len(layout.columns):
        return False
    return all(
        here.name == there.name
        and here.nullable == there.nullable
        and (there.data_type not in NUMBERS | FLOATS or here.unsigned == ("unsigned" in there.column_type))
        for here, there in zip(table.shape, layout.columns, strict=True)
    )
