"""Column types by how their values are written, under the names that information_schema gives them."""

from __future__ import annotations

INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
NUMBERS = INTEGERS | {"decimal"}
FLOATS = frozenset({"float", "double"})
AS_NUMBER = frozenset({"bit", "enum", "set", "year"})
"""Written as the number behind the value: bits, index, members, year."""
TEMPORAL = frozenset({"date", "time", "datetime", "timestamp"})
ADDRESSES = frozenset({"uuid", "inet4", "inet6"})
TEXT = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"})
BINARY = frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"})
SHAPES = frozenset(
    {"geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon"}
    | {"geometrycollection", "geomcollection"}
)
BYTES = BINARY | SHAPES | {"vector"}
"""Kept as bytes that no character set belongs to."""
SUPPORTED_TYPES = NUMBERS | FLOATS | AS_NUMBER | TEMPORAL | ADDRESSES | TEXT | BYTES | {"json"}
"""What can be moved; every other type is refused by name (MT203)."""
UTF8 = frozenset({"utf8mb4", "utf8mb3", "utf8", "ascii"})
"""Character sets whose text is valid utf8mb4 as it is."""
