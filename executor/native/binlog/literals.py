"""How a column's value lies in a row image, and the SQL literal that means exactly that value.

Literals are text that every session with `STRICT_SQL_MODE` and ``time_zone='+00:00'`` stores as the same value:
integers, YEAR, ENUM (its index), SET and BIT (their bits) as numbers; decimals as digits; floats as the shortest text
that reads back as the same bits, quoted, so that -0 keeps its sign; dates and times quoted; everything of characters
or bytes as ``X'..'``, which is free of any character set conversion: so are geometries (SRID and WKB, as both servers
keep them), MySQL's vectors, and MariaDB's UUID and INET columns. MySQL's JSON is an expression, see `json_binary.py`.

The layouts are those of ``Field::pack`` in the servers' ``sql/field.cc``. A column of MySQL 5.5's temporal format has
no length of its fraction in the binlog, so it is refused.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

from executor.native.binlog import table_map as t
from executor.native.binlog.decimals import Reader, decimal_reader, decimal_size
from executor.native.binlog.events import Malformed
from executor.native.binlog.json_binary import json_literal
from executor.native.binlog.table_map import Column
from executor.native.binlog.temporal import date_text, datetime_reader, time_reader, timestamp_reader

_INTEGERS: Final = {t.TINY: ("b", "B"), t.SHORT: ("h", "H"), t.LONG: ("i", "I"), t.LONGLONG: ("q", "Q")}
_BLOBS: Final = frozenset({t.BLOB, t.TINY_BLOB, t.MEDIUM_BLOB, t.LONG_BLOB})
_OLD_TEMPORAL: Final = frozenset({t.TIMESTAMP, t.TIME, t.DATETIME})


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a value lies and how it is written, as pieces of generated source.

    `code`: struct code (little-endian) of the value, or of its length if `variable`; `size` its bytes.
    `length`: expression of the length from the unpacked `{x}`; only if `variable`.
    `convert`: expression that turns the unpacked `{x}` into what `piece` shows, '' for none; `reader` is its function
    `{f}`. `piece`: part of an f-string with `{x}`.
    """

    code: str
    size: int
    variable: bool = False
    length: str = "{x}"
    convert: str = ""
    piece: str = "{{{x}}}"
    reader: Reader | None = None


def layout(column: Column) -> Layout | None:
    """The layout of a column's values, or None for a type whose length cannot even be told."""
    kind, meta = column.type, column.meta
    if kind in _INTEGERS:
        code = _INTEGERS[kind][column.unsigned]
        return Layout(code, {"b": 1, "h": 2, "i": 4, "q": 8}[code.lower()])
    if kind == t.INT24:
        return Layout("3s", 3, convert=f"from_bytes({{x}}, 'little', signed={not column.unsigned})")
    if kind in (t.FLOAT, t.DOUBLE):
        return Layout("f", 4, piece="'{{{x}!r}}'") if kind == t.FLOAT else Layout("d", 8, piece="'{{{x}!r}}'")
    if kind == t.YEAR:
        return Layout("B", 1, convert="{x} and {x} + 1900")
    if kind in (t.ENUM, t.SET, t.BIT):
        size = (meta + 7) // 8 if kind == t.BIT else meta
        return Layout(f"{size}s", size, convert=f"from_bytes({{x}}, '{'big' if kind == t.BIT else 'little'}')")
    if kind == t.NEWDECIMAL:
        precision, scale = divmod(meta, 256)
        return _fixed(decimal_size(precision, scale), decimal_reader(precision, scale), "{{{x}}}")
    return _temporal(kind, meta) or _characters(column)


def _fixed(size: int, reader: Reader, piece: str) -> Layout:
    return Layout(f"{size}s", size, convert="{f}({x})", piece=piece, reader=reader)


def _temporal(kind: int, meta: int) -> Layout | None:
    fraction = (meta + 1) // 2
    if kind in (t.DATE, t.NEWDATE):
        return _fixed(3, date_text, "'{{{x}}}'")
    if kind == t.DATETIME2:
        return _fixed(5 + fraction, datetime_reader(meta), "'{{{x}}}'")
    if kind == t.TIMESTAMP2:
        return _fixed(4 + fraction, timestamp_reader(meta), "'{{{x}}}'")
    if kind == t.TIME2:
        return _fixed(3 + fraction, time_reader(meta), "'{{{x}}}'")
    return None


def _characters(column: Column) -> Layout | None:
    kind, meta = column.type, column.meta
    convert = "f\"X'{{{x}.hex()}}'\" if {x} else \"''\""
    if kind == t.STRING and column.collation == t.BINARY and meta:
        convert = f"f\"X'{{{{{{x}}.ljust({meta}, ZERO).hex()}}}}'\""  # the log leaves trailing zero bytes out
    if kind in (t.VARCHAR, t.VAR_STRING, t.STRING):
        code, size = ("B", 1) if meta < 256 else ("H", 2)
        return Layout(code, size, variable=True, convert=convert)
    if kind in _BLOBS:
        return _blob(meta, convert)
    if kind in (t.GEOMETRY, t.VECTOR):
        return _blob(meta, convert)
    if kind == t.JSON:
        return _blob(meta, "{f}({x})", json_literal)
    if kind == t.VARCHAR_COMPRESSED:
        code, size = ("B", 1) if meta < 256 else ("H", 2)
        return Layout(code, size, variable=True, convert="{f}({x})", reader=compressed_literal)
    if kind == t.BLOB_COMPRESSED:
        return _blob(meta, "{f}({x})", compressed_literal)
    return None


def _blob(size: int, convert: str, reader: Reader | None = None) -> Layout | None:
    if size == 3:
        return Layout("3s", 3, True, "from_bytes({x}, 'little')", convert, reader=reader)
    code = {1: "B", 2: "H", 4: "I"}.get(size)
    return Layout(code, size, True, convert=convert, reader=reader) if code else None


def compressed_literal(data: bytes) -> str:
    """The value of a MariaDB COMPRESSED column: a header byte, then the value, or its length and zlib data.

    The header holds the method (0 none, 8 zlib), whether the zlib data has no header of its own, and the size of the
    length, which is big-endian (``Field_longstr::compress`` of ``sql/field.cc``). Raises Malformed.
    """
    if data and data[0] == 0:
        plain = data[1:]
    elif data and data[0] >> 4 == 8:
        start = 1 + (data[0] & 7)
        plain = zlib.decompress(data[start:], -zlib.MAX_WBITS if data[0] & 8 else zlib.MAX_WBITS)
        if len(plain) != int.from_bytes(data[1:start], "big"):
            raise Malformed("a COMPRESSED column of the binlog does not have the length that it says")
    elif data:
        raise Malformed(f"a COMPRESSED column of the binlog begins with byte {data[0]}, which is not known")
    else:
        plain = b""
    return f"X'{plain.hex()}'" if plain else "''"


def refusal(column: Column) -> str:
    """Why a column's values cannot be written as literals, '' when they can. For messages, behind the column's name."""
    if column.type in _OLD_TEMPORAL:
        return (
            "is stored in the temporal format of MySQL 5.5, which has no fraction length in the binlog "
            "(SET GLOBAL mysql56_temporal_format=ON; ALTER TABLE ... FORCE)"
        )
    return "" if layout(column) else f"is of binlog type {column.type}, which is not supported"
