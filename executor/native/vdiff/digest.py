"""Reads one side of a comparison: the digest of a range of keys, or its rows one by one.

The digest is one hash of the normal form (`normal.py`) of all rows of the range, in key order, computed inside the
server. Two servers that order the rows differently (another collation of the key) get different digests of equal rows:
that costs a closer look, and hides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from executor.errors import MovetablesError
from executor.native.servers import Connection, quote
from executor.native.stream.layout import TableLayout, literal_expression
from executor.native.vdiff.normal import row_hash, rows_hash
from planner.cluster import Column
from planner.column_types import BINARY, TEXT

Connect = Callable[[], Connection]
KeyValues = tuple[str, ...]


@dataclass(frozen=True)
class Digest:
    """All rows of a range: how many, and the hash of their bytes; "" when they were too long for the server.

    `seconds` is how long the server took.
    """

    count: int
    hash: str
    seconds: float = field(default=0.0, compare=False)

    @property
    def whole(self) -> bool:
        """False when the digest does not cover every row; it is then equal to nothing."""
        return self.count == 0 or bool(self.hash)

    def same(self, other: Digest) -> bool:
        """True when both ranges hold the same rows, byte by byte."""
        return self.whole and self == other


@dataclass(frozen=True)
class RowDigest:
    """One row: its `key` as literals and the hash of its bytes. `sample` is its columns as text, when asked for."""

    key: KeyValues
    hash: str
    sample: tuple[str | None, ...] = ()


def _condition(layout: TableLayout, condition: str) -> str:
    return f"FROM {layout.qualified} FORCE INDEX ({quote(layout.key_name)}) WHERE {condition}"


def prepare(connection: Connection) -> Connection:
    """`connection`, able to digest as much text at once as the server allows."""
    connection.execute("SET SESSION group_concat_max_len=@@max_allowed_packet")
    return connection


def digest(connection: Connection, layout: TableLayout, after: KeyValues | None, upto: KeyValues | None) -> Digest:
    """The digest of the rows above `after` and not above `upto`. `connection` went through `prepare`."""
    # A range scan of the primary key delivers its order by itself; a secondary key may lose to a scan of the table.
    order = "" if layout.key_name == "PRIMARY" else layout.key_order
    began = time.monotonic()
    row = connection.one(
        f"SELECT COUNT(*) AS n, {rows_hash(layout.columns, order)} AS h "
        + _condition(layout, layout.inside(after, upto))
    )
    # A text that was cut at group_concat_max_len still has a hash; only the warning tells.
    cut = connection.raw._result.warning_count  # type: ignore[attr-defined]
    if row is None:
        raise MovetablesError(f"{connection.login.name} did not answer a count of {layout.qualified}")
    return Digest(int(row["n"]), "" if cut or row["h"] is None else str(row["h"]), time.monotonic() - began)


def boundary(
    connection: Connection, layout: TableLayout, after: KeyValues | None, upto: KeyValues | None, rows: int
) -> KeyValues | None:
    """The key of row number `rows` of the range; None when the range has fewer."""
    row = connection.one(
        f"SELECT {layout.key_expressions} {_condition(layout, layout.inside(after, upto))} "
        f"ORDER BY {layout.key_order} LIMIT 1 OFFSET {rows - 1}"
    )
    return None if row is None else tuple(str(value) for value in row.values())


def range_rows(
    connection: Connection, layout: TableLayout, after: KeyValues | None, upto: KeyValues | None
) -> dict[str, RowDigest]:
    """Every row of a small range, by its key's identity."""
    return _rows(connection, layout, layout.inside(after, upto), "", ())


def rows_of(
    connection: Connection,
    layout: TableLayout,
    keys: Sequence[KeyValues],
    suffix: str = "",
    sample: Sequence[str] = (),
) -> dict[str, RowDigest]:
    """The rows with one of `keys`, by the key's identity. `suffix` is SQL such as ``FOR UPDATE``.

    `sample` are SQL expressions of what a sample of a row shows.
    """
    return _rows(connection, layout, layout.matching(keys), suffix, sample) if keys else {}


def _rows(
    connection: Connection, layout: TableLayout, condition: str, suffix: str, sample: Sequence[str]
) -> dict[str, RowDigest]:
    shown = "".join(f", {shown} AS s{i}" for i, shown in enumerate(sample))
    rows = connection.query(
        f"SELECT {identity_expression(layout)} AS id, {row_hash(layout.columns)} AS h, {layout.key_expressions}"
        f"{shown} {_condition(layout, condition)} {suffix}"
    )
    width = len(layout.key)
    found: dict[str, RowDigest] = {}
    for row in rows:
        identity, hashed, *rest = row.values()
        key = tuple(str(value) for value in rest[:width])
        if hashed is None:
            raise MovetablesError(
                f"a row of {layout.name} is larger as text than max_allowed_packet of {connection.login.name} allows "
                f"(key {', '.join(key)})",
                "SET GLOBAL max_allowed_packet=1073741824 on source and target",
            )
        if str(identity) in found:
            raise MovetablesError(
                f"two rows of {layout.name} have keys that are taken for equal: ({', '.join(key)}) and "
                f"({', '.join(found[str(identity)].key)})",
                "please report this, with the collations of the key's columns",
            )
        found[str(identity)] = RowDigest(key, str(hashed), tuple(None if v is None else str(v) for v in rest[width:]))
    return found


def identity_expression(layout: TableLayout) -> str:
    """An SQL expression with the same text for keys that the server takes for equal.

    So that a key whose bytes differ (``a`` and ``A``, -0.0 and 0.0) is one row that differs and not two.
    """
    return f"CONCAT_WS(',',{','.join(_identity(column) for column in layout.key)})"


def _identity(column: Column) -> str:
    name = quote(column.name)
    if column.data_type in TEXT:
        collation = column.collation or ""
        pads = "nopad" not in collation and "_0900_" not in collation
        text = f"RTRIM({name})" if pads else name
        return f"HEX({text})" if collation.endswith("_bin") else f"HEX(WEIGHT_STRING({text}))"
    if column.data_type in ("float", "double"):
        return f"CONCAT({name}+0e0+0e0)"  # -0.0 + 0.0 is 0.0
    return literal_expression(column)


def text_expression(column: Column, most: int = 0) -> str:
    """An SQL expression of a column's value as text that people can read, exact, NULL for NULL.

    Bytes are hexadecimal, after ``0x``; so is text in which a byte is no character of its set. `readable` makes text of
    what is text. Of a value with more than `most` characters (0: of none) only some more than that are there.
    """
    name = quote(column.name)
    if column.data_type in BINARY:
        return f"CONCAT('0x',HEX({f'LEFT({name},{4 * most + 4})' if most > 0 else name}))"
    if column.data_type in TEXT or column.data_type == "json":
        text = f"CONVERT({name} USING utf8mb4)"
        if not (column.charset or "utf8mb4").startswith("utf8mb"):
            lossless = f"HEX(CONVERT({text} USING {column.charset}))=HEX({name})"
            text = f"IF({lossless},{text},CONCAT('0x',HEX({name})))"
        return f"LEFT({text},{most + 1})" if most > 0 else text
    if column.data_type in ("float", "double"):
        return f"CONCAT({name}*1e0)"
    if column.data_type == "bit":
        return f"CONCAT(CAST({name} AS UNSIGNED))"
    return f"CONCAT({name})"


def readable(column: Column, text: str, most: int = 0) -> str:
    """`text` of `text_expression` as samples show it: bytes that are printable UTF-8 are shown as what they say."""
    if column.data_type not in BINARY:
        return text
    given = bytes.fromhex(text.removeprefix("0x"))
    cut = 3 if most > 0 and len(given) > 4 * most else 0  # bytes of a last character that is not whole
    for missing in range(cut + 1):
        try:
            said = given[: len(given) - missing].decode()
        except UnicodeDecodeError:
            continue
        return said if said.isprintable() else text
    return text
