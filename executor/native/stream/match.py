"""A condition that exactly one state of a row fulfils, for tables without a key: every byte of every column counts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from executor.native.servers import quote
from executor.native.stream.large import LARGE_VALUE, PIECE
from executor.native.stream.layout import TableLayout
from planner.cluster import Column
from planner.column_types import AS_NUMBER, BINARY, BYTES, FLOATS, TEXT


def matching_row(layout: TableLayout, values: Sequence[bytes]) -> bytes:
    """The condition for the rows that hold `values`, literals as the stream writes them, of all columns of `layout`."""
    parts = (_equal(column, value) for column, value in zip(layout.columns, values, strict=True))
    return b" AND ".join(parts)


def _equal(column: Column, value: bytes) -> bytes:
    name = quote(column.name).encode()
    if value == b"NULL":
        return name + b" IS NULL"
    if column.data_type in TEXT | BINARY and len(value) > LARGE_VALUE:  # the whole might not fit into a packet
        return b"SHA2(" + name + b",512)='" + _sha512(value) + b"'"
    if column.data_type in TEXT | BYTES:  # a collation would not see case or trailing spaces
        return b"HEX(" + name + b")=HEX(" + value + b")"
    if column.data_type in AS_NUMBER:
        return b"CAST(" + name + b" AS UNSIGNED)=" + value
    if column.data_type in FLOATS:  # as text too, because -0 equals 0
        return name + b"=" + value + b" AND CONCAT(" + name + b"*1e0)=CONCAT(" + value + b"*1e0)"
    if column.data_type == "json":
        shown = b"CAST(CAST(%s AS CHAR) AS BINARY)"
        return shown % name + b"=" + shown % (b"CAST(" + value + b" AS JSON)")
    return name + b"=" + value


def _sha512(literal: bytes) -> bytes:
    """The hash of the bytes of ``X'6162'``, in hexadecimal."""
    found = hashlib.sha512()
    for at in range(2, len(literal) - 1, 2 * PIECE):
        found.update(bytes.fromhex(literal[at : min(at + 2 * PIECE, len(literal) - 1)].decode()))
    return found.hexdigest().encode()
