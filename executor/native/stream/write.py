"""Writes the collected changes of one table to the target, and holds the server's answer against what was sent.

Only the last state of each key is written: deletes first, so that a key whose bytes changed but whose collation calls
it equal is not deleted again, then rows. A table without a key gets its changes one by one in the source's order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from executor.errors import MovetablesError
from executor.native.servers import Connection, ServerError, quote
from executor.native.stream.changes import Changes
from executor.native.stream.index_zero import refused_by_strict_mode, rows_at_once, write_index_zero, zeros_in
from executor.native.stream.large import RAISE_PACKET, LargeValues
from executor.native.stream.layout import TableLayout

STATEMENT_BYTES = 1_000_000
KEYS_PER_DELETE = 500
_PACKET_ROOM = 4096
_SHOWN = 200
_ROW_ALIAS = "`_movetables_row`"


class _HoldsIndexZero(Exception):
    """A strict session did not take a row because of its ENUM's index 0; nothing was written."""


class TableWriter:
    """Writes changes of the target's table `layout`, whose unique keys and largest packet it asks for once."""

    def __init__(self, connection: Connection, layout: TableLayout) -> None:
        self._connection = connection
        self.layout = layout
        self._largest = int(connection.value("SELECT @@max_allowed_packet")) - _PACKET_ROOM
        others = connection.value(
            "SELECT COUNT(*) FROM information_schema.statistics WHERE table_schema=%s AND table_name=%s "
            "AND non_unique=0 AND index_name<>%s",
            [layout.database, layout.name, layout.key_name],
        )
        # A key takes 3072 bytes at most, twice as many in hexadecimal, and the columns' names with it.
        self._keys_per_delete = max(1, min(KEYS_PER_DELETE, self._largest // (7000 + 70 * len(layout.key))))
        self._row_end = layout.row_end.encode()
        into = f"INTO {layout.qualified} ({layout.column_list}) VALUES "
        self._insert = f"INSERT {into}".encode()
        # Two rows may swap the values of another unique key: only REPLACE takes such rows one by one. But it deletes
        # and inserts where an UPDATE would leave the other indexes alone.
        self._upsert, self._after = (
            (f"REPLACE {into}".encode(), b"") if others else (self._insert, self._on_duplicate())
        )

    def _on_duplicate(self) -> bytes:
        names = [quote(column.name) for column in self.layout.columns]
        if self._connection.flavor.mariadb:
            return f" ON DUPLICATE KEY UPDATE {','.join(f'{name}=VALUES({name})' for name in names)}".encode()
        new = ",".join(f"{name}={_ROW_ALIAS}.{name}" for name in names)
        return f" AS {_ROW_ALIAS} ON DUPLICATE KEY UPDATE {new}".encode()

    def write(self, changes: Changes) -> None:
        """Writes `changes`.

        Raises ServerError when the same may succeed later, MovetablesError when the target refuses or changes a value,
        takes another number of rows than it was given, or a row is larger than its max_allowed_packet.
        """
        gone = [key for key, row in changes.rows.items() if row is None]
        for start in range(0, len(gone), self._keys_per_delete):
            keys = [[part.decode() for part in key] for key in gone[start : start + self._keys_per_delete]]
            sql = f"DELETE FROM {self.layout.qualified} WHERE {self.layout.matching(keys)}".encode()
            if self._run(sql, ())[0] > len(keys):
                raise self._unexpected("deleted more rows than there were keys", sql)
        self._put(self._upsert, self._after, [row for row in changes.rows.values() if row is not None])
        self._write_ordered(changes.ordered)

    def _write_ordered(self, ordered: Sequence[tuple[bool, bytes]]) -> None:
        new: list[bytes] = []
        for gone, text in ordered:
            if not gone:
                new.append(text)
                continue
            self._put(self._insert, b"", new)
            new = []
            with LargeValues(self._connection, f"a row of {self.layout.name} that is to be deleted") as large:
                condition = large.in_condition(text) if len(text) > self._largest // 2 else text
                sql = f"DELETE FROM {self.layout.qualified} WHERE ".encode() + condition + b" LIMIT 1"
                if self._run(sql, ())[0] != 1:
                    raise self._unexpected("has no row that matches the one that went on the source", sql)
        self._put(self._insert, b"", new)

    def _put(self, before: bytes, after: bytes, rows: Sequence[bytes]) -> None:
        if self.layout.defaulted:
            rows = [row[:-1] + self._row_end for row in rows]
        for group in _grouped(rows, min(STATEMENT_BYTES, self._largest - len(before) - len(after))):
            try:
                self._put_group(before, after, group)
            except _HoldsIndexZero:
                most = rows_at_once(self.layout)
                for start in range(0, len(group), most):
                    part = group[start : start + most]
                    self._put_group(before, after, part, zeros_in(self.layout, part))

    def _put_group(self, before: bytes, after: bytes, group: list[bytes], zeros: int = 0) -> None:
        if len(group) == 1 and len(before) + len(group[0]) + len(after) > self._largest:
            what = f"a row of {self.layout.name}, {group[0][:_SHOWN].decode('utf-8', 'replace')}...,"
            with LargeValues(self._connection, what) as large:
                self._put_rows(before, after, [large.shortened(self.layout, group[0])], zeros)
        else:
            self._put_rows(before, after, group, zeros)

    def _put_rows(self, before: bytes, after: bytes, group: list[bytes], zeros: int) -> None:
        sql = b"".join((before, b",".join(group), after))
        if zeros:
            _, info = write_index_zero(self._connection, self.layout, sql, zeros)
        else:
            _, info = self._run(sql, group)
        found = re.search(r"Records: (\d+)", info)
        if len(group) > 1 and (found is None or int(found[1]) != len(group)):
            raise self._unexpected(f"took {info or 'an unknown number'} of {len(group)} rows", before)

    def _run(self, sql: bytes, rows: Sequence[bytes]) -> tuple[int, str]:
        if len(sql) > self._largest:
            raise MovetablesError(
                f"a row of {self.layout.name} takes {len(sql)} bytes as a statement, more than the target's "
                f"max_allowed_packet ({self._largest + _PACKET_ROOM}) allows",
                f"{RAISE_PACKET}; then start the stream again",
            )
        try:
            affected, info, warnings = self._connection.info(sql)
        except ServerError as error:
            if error.curable:
                raise
            if refused_by_strict_mode(error, self.layout) and zeros_in(self.layout, rows):
                raise _HoldsIndexZero from error
            raise self._refused(error.message, rows) from error
        if warnings:
            found = self._connection.query("SHOW WARNINGS LIMIT 1")
            text = f"{found[0]['Message']} (errno {found[0]['Code']})" if found else f"{warnings} warnings"
            raise self._refused(text, rows)
        return affected, info

    def _refused(self, text: str, rows: Sequence[bytes]) -> MovetablesError:
        at = re.search(r"at row (\d+)", text)
        number = int(at[1]) if at else 1
        shown = rows[number - 1][:_SHOWN].decode("utf-8", "replace") if 0 < number <= len(rows) else ""
        return MovetablesError(
            f"the target does not take a row of {self.layout.name} as it is: {text}" + (f": {shown}" if shown else ""),
            f"the columns are {self.layout.column_list}; make the target's definition take the value, or correct it on "
            "the source; then start the stream again",
        )

    def _unexpected(self, what: str, sql: bytes) -> MovetablesError:
        return MovetablesError(
            f"the target's table {self.layout.name} {what}: {sql[:_SHOWN].decode('utf-8', 'replace')}",
            "did anybody write to the target? the table must be copied again: set the move to state absent, apply, set "
            "it back and apply",
        )


def _grouped(rows: Sequence[bytes], most: int) -> Iterator[list[bytes]]:
    """`rows` in groups of at most `most` bytes; a larger row is a group of its own."""
    group: list[bytes] = []
    size = 0
    for row in rows:
        if group and size + len(row) > most:
            yield group
            group, size = [], 0
        group.append(row)
        size += len(row) + 1
    if group:
        yield group
