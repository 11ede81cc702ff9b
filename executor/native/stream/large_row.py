"""Copies one row that is too large for a packet or for our memory: its large values travel in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from executor.errors import MovetablesError
from executor.native.servers import Connection, ServerError, quote
from executor.native.stream.chunks import Chunk
from executor.native.stream.index_zero import refused_by_strict_mode, write_index_zero, zeros_expression
from executor.native.stream.large import LARGE_VALUE, LargeValues
from executor.native.stream.rendered import literal_expression
from planner.cluster import Column
from planner.column_types import BINARY, TEXT

READ_BYTES = 2 << 20
"""So much of a value is read at once; the source looks the row up again each time."""


class RowTooLarge(Exception):
    """The row does not fit into a packet even without the values that can travel in pieces."""


def copy_large_row(source: Connection, target: Connection, chunk: Chunk, database: str, largest: int) -> int | None:
    """Copies the row of `chunk` into `database`; returns how many bytes it has, None when it is not one row any more.

    `largest` is the size in bytes that a statement for the target may have. `target` must have been made with
    `local_files`. Raises RowTooLarge, ServerError, and MovetablesError when the target does not take the row as it is.
    """
    layout = chunk.layout
    with _snapshot(source):
        pieces = [column for column in layout.columns if column.data_type in TEXT | BINARY]
        lengths = "".join(f"IFNULL(OCTET_LENGTH({quote(c.name)}),0) AS _movetables_{i}," for i, c in enumerate(pieces))
        found = source.query(f"SELECT {lengths}{zeros_expression(layout)} AS zeros {_from(chunk)} LIMIT 2")
        if len(found) != 1:
            return None
        large = {
            column.name: length
            for i, column in enumerate(pieces)
            if (length := int(found[0][f"_movetables_{i}"])) >= LARGE_VALUE
        }
        size = sum(large.values())
        with target.transaction(), LargeValues(target, f"a row of {layout.name}") as values:
            literals = []
            for column in layout.columns:
                if column.name in large:
                    literals.append(values.variable(_pieces(source, chunk, column, large[column.name])))
                    continue
                literal = source.value(f"SELECT CAST({literal_expression(column)} AS BINARY) {_from(chunk)}")
                if literal is None:
                    raise RowTooLarge
                literals.append(bytes(literal))
                size += len(literal)
            into = f"REPLACE INTO {quote(database)}.{quote(layout.name)} ({layout.column_list}) VALUES "
            row = b"(" + b",".join(literals) + layout.row_end.encode()
            statement = into.encode() + values.shortened(layout, row)
            if len(statement) > largest:
                raise RowTooLarge
            _write(target, chunk, statement, int(found[0]["zeros"]))
    return size


def _write(target: Connection, chunk: Chunk, statement: bytes, zeros: int) -> None:
    try:
        _, info, warned = target.info(statement)
    except ServerError as error:
        if not zeros or not refused_by_strict_mode(error, chunk.layout):
            raise
        write_index_zero(target, chunk.layout, statement, zeros)
        return
    if warned:
        raise MovetablesError(
            f"the target did not take a row of {chunk.layout.name} as it is: {info or 'no information'}, "
            f"{warned} warnings",
            "compare the table definitions of both sides",
        )


def _pieces(source: Connection, chunk: Chunk, column: Column, length: int) -> Iterator[bytes]:
    name = quote(column.name) if column.data_type in BINARY else f"CAST({quote(column.name)} AS BINARY)"
    for at in range(1, length + 1, READ_BYTES):
        piece = source.value(f"SELECT SUBSTRING({name},{at},{READ_BYTES}) {_from(chunk)}")
        if piece is None or len(piece) != min(READ_BYTES, length + 1 - at):
            raise MovetablesError(f"the source gave no {length} bytes of column {column.name} of {chunk.layout.name}")
        yield bytes(piece)


def _from(chunk: Chunk) -> str:
    return f"FROM {chunk.layout.qualified} FORCE INDEX ({quote(chunk.layout.key_name)}) WHERE {chunk.condition}"


@contextmanager
def _snapshot(source: Connection) -> Iterator[None]:
    """One state of the row, not pieces of several."""
    source.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    source.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
    try:
        yield
    finally:
        if source.open:
            source.execute("ROLLBACK")
