"""How a column's value lies in a row image, and the SQL literal that means exactly that value.

Literals are text that every session with `STRICT_SQL_MODE` and ``time_zone='+00:00'`` stores as the same value:
integers, YEAR, ENUM (its index), SET and BIT (their bits) as numbers; decimals as digits; floats as the shortest text
that reads back as the same bits, quoted, so that -0 keeps its sign; dates and times quoted; everything of characters
or bytes as ``X'..'``, which is free of any character set conversion.

The layouts are those of ``Field::pack`` in MariaDB's ``sql/field.cc`` and of ``my_decimal2bin``,
``my_time_packed_to_binary`` and their like. A column of MySQL 5.5's temporal format has no length of its fraction in
the binlog, so it is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final

from executor.native.binlog import table_map as t
from executor.native.binlog.table_map import Column

Reader = Callable[[bytes], str]
"""Bytes of a value -> text."""

_UNIX_EPOCH: Final = date(1970, 1, 1).toordinal()
_DIGITS_TO_BYTES: Final = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
_INTEGERS: Final = {t.TINY: ("b", "B"), t.SHORT: ("h", "H"), t.LONG: ("i", "I"), t.LONGLONG: ("q", "Q")}
_BLOBS: Final = frozenset({t.BLOB, t.TINY_BLOB, t.MEDIUM_BLOB, t.LONG_BLOB})
_OLD_TEMPORAL: Final = frozenset({t.TIMESTAMP, t.TIME, t.DATETIME})


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a value lies and how it is written, as pieces of generated source.

    `code`: struct code (little-endian) of the value, or of its length if `variable`; `size` its bytes.
    `length`: expression of the length from the unpacked `{x}`; only if `variable`.
    `convert`: expression that turns the unpacked `{x}` into what `piece` shows, '' for none; `reader` is its function
    `{f}`. `piece`: part of an f-string with `{x}`. `refusal` says why the value cannot be written ('' if it can).
    """

    code: str
    size: int
    variable: bool = False
    length: str = "{x}"
    convert: str = ""
    piece: str = "{{{x}}}"
    reader: Reader | None = None
    refusal: str = ""


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
        return _blob(meta, convert, "")
    if kind == t.GEOMETRY:
        return _blob(meta, convert, "a geometry")
    if kind == t.VARCHAR_COMPRESSED:
        code, size = ("B", 1) if meta < 256 else ("H", 2)
        return Layout(code, size, variable=True, refusal="a COMPRESSED column")
    if kind == t.BLOB_COMPRESSED:
        return _blob(meta, convert, "a COMPRESSED column")
    return None


def _blob(size: int, convert: str, refusal: str) -> Layout | None:
    if size == 3:
        return Layout("3s", 3, True, "from_bytes({x}, 'little')", convert, refusal=refusal)
    code = {1: "B", 2: "H", 4: "I"}.get(size)
    return Layout(code, size, True, convert=convert, refusal=refusal) if code else None


def refusal(column: Column) -> str:
    """Why a column's values cannot be written as literals, '' when they can. For messages, behind the column's name."""
    if column.type in _OLD_TEMPORAL:
        return (
            "is stored in the temporal format of MySQL 5.5, which has no fraction length in the binlog "
            "(SET GLOBAL mysql56_temporal_format=ON; ALTER TABLE ... FORCE)"
        )
    found = layout(column)
    if found is None:
        return f"is of binlog type {column.type}, which is not supported"
    return f"is {found.refusal}, which is not supported" if found.refusal else ""


def decimal_size(precision: int, scale: int) -> int:
    """Bytes of a DECIMAL(precision, scale) in a row image."""
    whole, fraction = precision - scale, scale
    return whole // 9 * 4 + _DIGITS_TO_BYTES[whole % 9] + fraction // 9 * 4 + _DIGITS_TO_BYTES[fraction % 9]


@lru_cache(maxsize=4096)
def decimal_reader(precision: int, scale: int) -> Reader:
    """Reads a DECIMAL(precision, scale) as exact text, such as ``-12.50``.

    On the wire: big-endian groups of nine digits in four bytes, the odd digits of the whole part first and those of the
    fraction last; a negative number has all bits inverted; then the first bit is inverted.
    """
    size = decimal_size(precision, scale)
    whole = precision - scale
    groups = [whole % 9, *[9] * (whole // 9), *[9] * (scale // 9), scale % 9]
    terms: dict[bool, list[str]] = {True: [], False: []}  # of the whole part, of the fraction
    bits, digits = size * 8, precision
    for count in groups:
        width = _DIGITS_TO_BYTES[count] * 8
        bits -= width
        digits -= count
        if count:
            power = 10 ** (digits - scale if digits >= scale else digits)
            terms[digits >= scale].append(f"(v >> {bits} & {(1 << width) - 1}) * {power}")
    text = f"{{{' + '.join(terms[True]) or '0'}}}"
    if scale:
        text += f".{{{' + '.join(terms[False])}:0{scale}d}}"
    top = 1 << (size * 8 - 1)
    source = f"""
def read(data, from_bytes=int.from_bytes):
    v = from_bytes(data, 'big')
    if v & {top}:
        v ^= {top}
        return f"{text}"
    v ^= {top - 1}
    return f"-{text}"
"""
    scope: dict[str, Reader] = {}
    exec(source, scope)
    return scope["read"]


@lru_cache(maxsize=1 << 16)
def _date(day: int) -> str:
    """(year * 16 + month) * 32 + day as text."""
    return f"{day >> 9:04d}-{day >> 5 & 15:02d}-{day & 31:02d}"


@lru_cache(maxsize=1 << 16)
def _datetime_day(day: int) -> str:
    """(year * 13 + month) * 32 + day as text."""
    year, month = divmod(day >> 5, 13)
    return f"{year:04d}-{month:02d}-{day & 31:02d}"


@lru_cache(maxsize=1 << 17)
def _clock(packed: int) -> str:
    """(hour * 64 + minute) * 64 + second as text."""
    return f"{packed >> 12:02d}:{packed >> 6 & 63:02d}:{packed & 63:02d}"


@lru_cache(maxsize=1 << 16)
def _unix_day(days: int) -> str:
    return date.fromordinal(_UNIX_EPOCH + days).isoformat()


@lru_cache(maxsize=1 << 17)
def _unix_clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def date_text(data: bytes) -> str:
    """A DATE; zero parts are kept: ``0000-00-00``, ``2024-00-10``."""
    return _date(int.from_bytes(data, "little"))


def _fraction(value: int, digits: int) -> str:
    """The stored fraction as text: a column of an odd number of digits stores one more, which is 0."""
    stored = digits + digits % 2
    return f".{value:0{stored}d}"[: digits + 1]


@lru_cache(maxsize=16)
def datetime_reader(digits: int) -> Reader:
    """Reads a DATETIME(digits); zero parts are kept."""

    def read(data: bytes) -> str:
        value = int.from_bytes(data[:5], "big") - 0x8000000000
        text = f"{_datetime_day(value >> 17)} {_clock(value & 0x1FFFF)}"
        return text + _fraction(int.from_bytes(data[5:], "big"), digits) if digits else text

    return read


@lru_cache(maxsize=16)
def timestamp_reader(digits: int) -> Reader:
    """Reads a TIMESTAMP(digits) as text in UTC; all zero bits are MariaDB's zero timestamp."""
    empty = bytes(4 + (digits + 1) // 2)
    zero = "0000-00-00 00:00:00" + (_fraction(0, digits) if digits else "")

    def read(data: bytes) -> str:
        if data == empty:
            return zero
        days, seconds = divmod(int.from_bytes(data[:4], "big"), 86400)
        text = f"{_unix_day(days)} {_unix_clock(seconds)}"
        return text + _fraction(int.from_bytes(data[4:], "big"), digits) if digits else text

    return read


@lru_cache(maxsize=16)
def time_reader(digits: int) -> Reader:
    """Reads a TIME(digits), from -838:59:59.999999 to 838:59:59.999999."""
    bits = (digits + 1) // 2 * 8
    offset = 0x800000 << bits
    mask = (1 << bits) - 1

    def read(data: bytes) -> str:
        value = int.from_bytes(data, "big") - offset
        sign = "-" if value < 0 else ""
        value = abs(value)
        text = sign + _clock(value >> bits & 0x3FFFFF)
        return text + _fraction(value & mask, digits) if digits else text

    return read
