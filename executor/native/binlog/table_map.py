"""The event that describes a table before its rows come: column types, and with full metadata names and signs.

Optional metadata is a sequence of (type, length, value); its types are those of ``Optional_metadata_field_type`` in
MariaDB's ``sql/log_event.h``, and the same in MySQL, but MariaDB counts geometries among the columns that have a
character set.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from executor.native.binlog.events import Event, Malformed, lenenc

DECIMAL, TINY, SHORT, LONG, FLOAT, DOUBLE, NULL, TIMESTAMP = range(8)
LONGLONG, INT24, DATE, TIME, DATETIME, YEAR, NEWDATE, VARCHAR, BIT = range(8, 17)
TIMESTAMP2, DATETIME2, TIME2 = range(17, 20)
BLOB_COMPRESSED, VARCHAR_COMPRESSED = 140, 141
VECTOR, JSON = 242, 245
NEWDECIMAL, ENUM, SET, TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB, VAR_STRING, STRING, GEOMETRY = range(246, 256)

BINARY = 63
"""The collation number of byte strings."""

_METADATA_SIZE = {
    **dict.fromkeys((FLOAT, DOUBLE, BLOB, TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, GEOMETRY, BLOB_COMPRESSED), 1),
    **dict.fromkeys((VECTOR, JSON), 1),
    **dict.fromkeys((TIME2, DATETIME2, TIMESTAMP2), 1),
    **dict.fromkeys((VARCHAR, VARCHAR_COMPRESSED, BIT, NEWDECIMAL, STRING, VAR_STRING, ENUM, SET), 2),
}
_SIGNED = frozenset({TINY, SHORT, INT24, LONG, LONGLONG, NEWDECIMAL, FLOAT, DOUBLE, YEAR})
_CHARACTER = frozenset({VARCHAR, VAR_STRING, STRING, BLOB, TINY_BLOB, MEDIUM_BLOB, LONG_BLOB})
_CHARACTER |= {VARCHAR_COMPRESSED, BLOB_COMPRESSED, VECTOR}

_SIGNEDNESS, _DEFAULT_CHARSET, _COLUMN_CHARSET, _COLUMN_NAME, _SIMPLE_KEY, _KEY_WITH_PREFIX = 1, 2, 3, 4, 8, 9


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `name` is '' and `collation` None where the log does not say.

    `type` is the column's type on the wire, with ENUM and SET told apart from STRING. `meta` is per type: bytes of the
    longest value (character types, BLOB: size of its length), precision and scale (NEWDECIMAL: precision * 256 +
    scale), bits (BIT), digits of the fraction (TIME2, DATETIME2, TIMESTAMP2), bytes (ENUM, SET).
    """

    name: str
    type: int
    meta: int
    nullable: bool
    unsigned: bool
    collation: int | None


@dataclass(frozen=True, slots=True)
class TableMap:
    """A table's id for the rows that follow, and its shape. `key` holds the positions of the primary key's columns.

    `described` is the body of the event behind the table's name.
    """

    table_id: int
    database: str
    table: str
    columns: tuple[Column, ...]
    key: tuple[int, ...]
    described: bytes = b""

    @property
    def named(self) -> bool:
        """True when the log names the columns: ``binlog_row_metadata=FULL``."""
        return all(column.name for column in self.columns)


def parse_name(event: Event) -> tuple[int, str, str]:
    """(table id, database, table) of a TABLE_MAP event."""
    table_id, database, table, _end = _name(event.body)
    return table_id, database, table


def _name(body: bytes) -> tuple[int, str, str, int]:
    at = 9
    middle = at + body[8]
    end = middle + 2 + body[middle + 1]
    return int.from_bytes(body[:6], "little"), body[at:middle].decode(), body[middle + 2 : end].decode(), end + 1


def parse_table_map(event: Event, mariadb: bool = True) -> TableMap:
    """A TABLE_MAP event, of MariaDB or MySQL. Raises Malformed for a column type that has no known layout."""
    body = event.body
    table_id, database, table, at = _name(body)
    described = body[at:]
    count, at = lenenc(body, at)
    types = list(body[at : at + count])
    size, at = lenenc(body, at + count)
    metas = _metas(types, body[at : at + size], f"{database}.{table}")
    at += size
    nulls = int.from_bytes(body[at : at + (count + 7) // 8], "little")
    optional = dict(_optional(body, at + (count + 7) // 8))
    unsigned = _unsigned(types, optional.get(_SIGNEDNESS))
    collations = _collations(types, optional, _CHARACTER | {GEOMETRY} if mariadb else _CHARACTER)
    names = list(_names(optional.get(_COLUMN_NAME, b""))) or [""] * count
    if len(names) != count:
        raise Malformed(f"the binlog names {len(names)} of the {count} columns of {database}.{table}")
    columns = tuple(
        Column(names[i], types[i], metas[i], bool(nulls >> i & 1), unsigned[i], collations[i]) for i in range(count)
    )
    return TableMap(table_id, database, table, columns, _key(optional), described)


def _metas(types: list[int], data: bytes, table: str) -> list[int]:
    """One number per column; replaces STRING by ENUM or SET in `types` where that is what the column is."""
    metas = []
    at = 0
    for i, kind in enumerate(types):
        size = _METADATA_SIZE.get(kind, 0)
        low, high = (*data[at : at + size], 0, 0)[:2]
        at += size
        if kind == STRING:
            # The high bits of the length are hidden, inverted, in two bits of the real type.
            types[i] = low | 0x30 if low & 0x30 != 0x30 else low
            metas.append(high | ((low & 0x30) ^ 0x30) << 4)
        elif kind == BIT:
            metas.append(high * 8 + low)
        elif kind == NEWDECIMAL:
            metas.append(low * 256 + high)
        else:
            metas.append(low | high << 8)
    if at != len(data):
        raise Malformed(f"the binlog describes the columns of {table} in {len(data)} bytes; {at} were understood")
    return metas


def _optional(body: bytes, at: int) -> Iterable[tuple[int, bytes]]:
    while at < len(body):
        kind = body[at]
        size, at = lenenc(body, at + 1)
        yield kind, body[at : at + size]
        at += size


def _unsigned(types: list[int], bits: bytes | None) -> list[bool]:
    result = []
    n = 0
    for kind in types:
        if kind in _SIGNED and bits is not None:
            result.append(bool(bits[n // 8] >> (7 - n % 8) & 1))
            n += 1
        else:
            result.append(False)
    return result


def _collations(types: list[int], optional: dict[int, bytes], having: frozenset[int]) -> list[int | None]:
    characters = [i for i, kind in enumerate(types) if kind in having]
    if _COLUMN_CHARSET in optional:
        found = _numbers(optional[_COLUMN_CHARSET])
    elif _DEFAULT_CHARSET in optional:
        default, *pairs = _numbers(optional[_DEFAULT_CHARSET])
        exceptions = dict(zip(pairs[::2], pairs[1::2], strict=True))
        found = [exceptions.pop(n, default) for n in range(len(characters))]
        found += exceptions.values()
    else:
        return [None] * len(types)
    if len(found) != len(characters):
        raise Malformed(f"the binlog names {len(found)} character sets of {len(characters)} columns that have one")
    by_column = dict(zip(characters, found, strict=True))
    return [by_column.get(i) for i in range(len(types))]


def _key(optional: dict[int, bytes]) -> tuple[int, ...]:
    if _SIMPLE_KEY in optional:
        return tuple(_numbers(optional[_SIMPLE_KEY]))
    return tuple(_numbers(optional.get(_KEY_WITH_PREFIX, b"")))[::2]


def _numbers(data: bytes) -> list[int]:
    result = []
    at = 0
    while at < len(data):
        number, at = lenenc(data, at)
        result.append(number)
    return result


def _names(data: bytes) -> Iterable[str]:
    at = 0
    while at < len(data):
        size, at = lenenc(data, at)
        yield data[at : at + size].decode()
        at += size
