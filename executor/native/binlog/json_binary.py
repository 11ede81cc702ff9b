"""MySQL's JSON as it is stored, and the SQL literal that makes exactly that value again.

The layout is that of ``sql-common/json_binary.h``. Most documents are a text that the server parses again. Some values
have no text of their own: decimals, dates, times and byte strings, which JSON text can only show as a number or a
string, and integers whose size makes the parser choose the other sign. Such leaves are put in afterwards::

    JSON_SET(_utf8mb4 X'7b..', _utf8mb4 X'242e2261225b305d', DATE'2024-02-29')
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass

from executor.native.binlog import table_map as t
from executor.native.binlog.decimals import decimal_reader
from executor.native.binlog.events import Malformed, Unsupported
from executor.native.binlog.temporal import date_of_packed, datetime_of_packed, time_of_packed

_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_ARRAY, _LARGE_ARRAY, _LITERAL = range(5)
_INT16, _UINT16, _INT32, _UINT32, _INT64, _UINT64, _DOUBLE, _STRING = range(5, 13)
_OPAQUE = 15
_NUMBERS = {
    _INT16: struct.Struct("<h"),
    _UINT16: struct.Struct("<H"),
    _INT32: struct.Struct("<i"),
    _UINT32: struct.Struct("<I"),
    _INT64: struct.Struct("<q"),
    _UINT64: struct.Struct("<Q"),
    _DOUBLE: struct.Struct("<d"),
}
_SIGNED = frozenset({_INT16, _INT32, _INT64})
_LITERALS = {0: "null", 1: "true", 2: "false"}
_FIRST_PARSED_AS_UNSIGNED = 1 << 32
READY = b"\xff"
"""In the place of a stored document's type: what follows is the literal itself, see `partial.py`."""
_BLOBS = {t.TINY_BLOB: "TINYBLOB", t.BLOB: "BLOB", t.MEDIUM_BLOB: "MEDIUMBLOB", t.LONG_BLOB: "LONGBLOB"}


def utf8(text: str) -> str:
    """`text` as an SQL literal that is free of quoting: ``_utf8mb4 X'61'``."""
    data = text.encode()
    return f"_utf8mb4 X'{data.hex()}'" if data else "_utf8mb4''"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that JSON text cannot show: `text` stands for it there, `expression` is the SQL that makes it."""

    text: str
    expression: str


Node = dict[str, "Node"] | list["Node"] | str | Leaf
"""A document: objects and arrays, and of everything else the JSON text."""


def parse(data: bytes) -> Node:
    """The document that is stored as `data`. Raises Malformed, and Unsupported for a value of an unknown type."""
    if not data:  # what a NOT NULL column holds that was never given a value: JSON null
        return "null"
    try:
        return _value(data[0], data, 1)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise Malformed(f"a JSON document of the binlog is damaged: {error}") from error


def literal(node: Node) -> str:
    """The SQL expression that makes exactly this document."""
    text: list[str] = []
    leaves: list[str] = []
    _write(node, "$", text, leaves)
    document = utf8("".join(text))
    return f"JSON_SET({document},{','.join(leaves)})" if leaves else document


def json_literal(data: bytes) -> str:
    """The SQL expression that makes exactly the document that is stored as `data`. Raises as `parse`."""
    if data[:1] == READY:
        return data[1:].decode()
    return literal(parse(data))


def quoted(text: str) -> str:
    """`text` as a JSON string."""
    return json.dumps(text, ensure_ascii=False)


def _write(node: Node, path: str, text: list[str], leaves: list[str]) -> None:
    if isinstance(node, str):
        text.append(node)
    elif isinstance(node, Leaf):
        text.append(node.text)
        leaves += [utf8(path), node.expression]
    elif isinstance(node, dict):
        separator = "{"
        for key, value in node.items():
            name = quoted(key)
            text.append(f"{separator}{name}: ")
            _write(value, f"{path}.{name}", text, leaves)
            separator = ", "
        text.append("}" if node else "{}")
    else:
        separator = "["
        for i, value in enumerate(node):
            text.append(separator)
            _write(value, f"{path}[{i}]", text, leaves)
            separator = ", "
        text.append("]" if node else "[]")


def _value(kind: int, data: bytes, at: int) -> Node:
    """The value of type `kind` that begins at `at`."""
    if kind in (_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_ARRAY, _LARGE_ARRAY):
        return _container(kind, data, at)
    if kind == _LITERAL:
        return _literal(data[at])
    if kind in _NUMBERS:
        return _number(kind, _NUMBERS[kind].unpack_from(data, at)[0])
    if kind == _STRING:
        size, at = _length(data, at)
        return quoted(_exactly(data, at, size).decode())
    if kind == _OPAQUE:
        size, start = _length(data, at + 1)
        return _opaque(data[at], _exactly(data, start, size))
    raise Unsupported(f"a JSON document holds a value of type {kind}, which is not known")


def _container(kind: int, data: bytes, start: int) -> Node:
    """An object or array: number of elements, size, then the entries; offsets count from `start`."""
    large = kind in (_LARGE_OBJECT, _LARGE_ARRAY)
    offset, number = (struct.Struct("<I"), 4) if large else (struct.Struct("<H"), 2)
    (count,) = offset.unpack_from(data, start)
    at = start + 2 * number
    keys: list[str] = []
    if kind in (_SMALL_OBJECT, _LARGE_OBJECT):
        for _ in range(count):
            (where,) = offset.unpack_from(data, at)
            (size,) = struct.unpack_from("<H", data, at + number)
            keys.append(_exactly(data, start + where, size).decode())
            at += number + 2
    values: list[Node] = []
    for _ in range(count):
        inner = data[at]
        if inner == _LITERAL or inner in (_INT16, _UINT16) or (large and inner in (_INT32, _UINT32)):
            values.append(_value(inner, data, at + 1))
        else:
            values.append(_value(inner, data, start + offset.unpack_from(data, at + 1)[0]))
        at += 1 + number
    return dict(zip(keys, values, strict=True)) if kind in (_SMALL_OBJECT, _LARGE_OBJECT) else values


def _literal(value: int) -> str:
    if value not in _LITERALS:
        raise Malformed(f"a JSON document holds the literal {value}, which is not known")
    return _LITERALS[value]


def _number(kind: int, value: float) -> Node:
    text = repr(value)
    if kind in _SIGNED and value >= _FIRST_PARSED_AS_UNSIGNED:
        return Leaf(text, text)
    if kind not in _SIGNED and kind != _DOUBLE and value < _FIRST_PARSED_AS_UNSIGNED:
        return Leaf(text, f"CAST({text} AS UNSIGNED)")
    return text


def _opaque(kind: int, value: bytes) -> Node:
    if kind == t.NEWDECIMAL:
        precision, scale = value[0], value[1]
        text = decimal_reader(precision, scale)(value[2:])
        return Leaf(text, _decimal(text, precision, scale))
    if kind in (t.DATE, t.TIME, t.DATETIME, t.TIMESTAMP):
        return _temporal(kind, int.from_bytes(value, "little", signed=True))
    shown = f"X'{value.hex()}'"
    if kind == t.VARCHAR:
        return Leaf("null", shown)
    if kind == t.BIT:
        number = int.from_bytes(value, "big")
        return Leaf("null", _of_column(str(number), f"BIT({8 * len(value)})"))
    if kind == t.STRING:
        return Leaf("null", _of_column(shown, f"BINARY({len(value)})"))
    if kind in _BLOBS:
        return Leaf("null", _of_column(shown, _BLOBS[kind]))
    raise Unsupported(f"a JSON document holds a value of column type {kind}, which cannot be written again")


def _decimal(text: str, precision: int, scale: int) -> str:
    """The SQL that makes a decimal with the precision that it is stored with, though no client can see that.

    A number that is written down has as many digits as it shows, a CAST makes groups of nine before the point, a column
    has as many as it was declared with, but none before the point for what is less than one.
    """
    number = text if scale else f"{text}."
    shown = len(text.lstrip("-").partition(".")[0])
    if precision - scale == shown:
        return number
    if precision - scale == (shown + 8) // 9 * 9:
        return f"CAST({number} AS DECIMAL({min(precision, 65)},{scale}))"
    return _of_column(number, f"DECIMAL({precision},{scale})")


def _temporal(kind: int, packed: int) -> Leaf:
    if kind == t.DATE:
        text = date_of_packed(packed)
        return Leaf("null", f"DATE'{text}'")
    if kind == t.TIME:
        text = time_of_packed(packed)
        return Leaf("null", f"TIME'{text}'")
    text = datetime_of_packed(packed)
    if kind == t.DATETIME:
        return Leaf("null", f"TIMESTAMP'{text}'")
    return Leaf("null", _of_column(f"TIMESTAMP'{text}'", "TIMESTAMP(6)"))


def _of_column(value: str, column_type: str) -> str:
    """A JSON value made from a column of a type: only columns have types such as BLOB or BIT."""
    return (
        "(SELECT JSON_EXTRACT(JSON_ARRAY(v),'$[0]') FROM "
        f"JSON_TABLE(JSON_ARRAY({value}),'$[*]' COLUMNS(v {column_type} PATH '$')) AS j)"
    )


def _length(data: bytes, at: int) -> tuple[int, int]:
    """A length of 7 bits per byte, and the offset behind it."""
    length = shift = 0
    while True:
        byte = data[at]
        at += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return length, at
        shift += 7


def _exactly(data: bytes, at: int, size: int) -> bytes:
    found = data[at : at + size]
    if len(found) != size:
        raise Malformed("a JSON document of the binlog is cut off")
    return found
