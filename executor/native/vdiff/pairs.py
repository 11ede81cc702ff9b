"""How each table is compared: its layout on both sides, and whether ranges of its key mean the same there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from executor.errors import Refused
from executor.native import sidecar
from executor.native.servers import Connection
from executor.native.stream.layout import TableLayout, describe_tables, layout_of
from planner.cluster import Table
from planner.column_types import FLOATS, TEXT

CHUNK_BYTES = 4_000_000
MIN_ROWS, MAX_ROWS = 100, 20_000


@dataclass(frozen=True)
class Pair:
    """A table on both sides, in chunks of about `chunk_rows` rows of its key's order; `whole` when that cannot be."""

    source: TableLayout
    target: TableLayout
    chunk_rows: int
    whole: bool = False


def pairs_of(
    source: Connection, target: Connection, stream: sidecar.StreamRecord, names: Sequence[str]
) -> dict[str, Pair]:
    """The pair of every table of `names`. Raises Refused when one cannot be compared."""
    there = {table.name: table for table in describe_tables(source, stream.source_db_name, names)}
    here = {table.name: table for table in describe_tables(target, stream.db_name, names)}
    pairs = {}
    for name in names:
        for side, database, found in (
            ("source", stream.source_db_name, there),
            ("target", stream.db_name, here),
        ):
            if name not in found:
                raise Refused(
                    f"table {name} is not in database {database} of the {side}", "SHOW TABLES there tells what is"
                )
        table = there[name]
        layout = as_text(layout_of(stream.source_db_name, table), here[name])
        size = table.data_length // max(table.rows, 1)
        rows = max(MIN_ROWS, min(MAX_ROWS, CHUNK_BYTES // (2 * size + 16)))
        other = _target_layout(layout, stream.db_name, here[name])
        whole = not layout.key or not _same_order(layout, here[name], source.flavor == target.flavor)
        pairs[name] = Pair(layout, other, rows, whole)
    return pairs


def as_text(source: TableLayout, table: Table) -> TableLayout:
    """`source` with JSON as text where the target has it as text: MariaDB knows no other."""
    there = {column.name: column.data_type for column in table.columns}
    columns = tuple(
        replace(column, data_type="longtext", charset="utf8mb4")
        if column.data_type == "json" and there.get(column.name) != "json"
        else column
        for column in source.columns
    )
    return replace(source, columns=columns)


def _target_layout(source: TableLayout, database: str, table: Table) -> TableLayout:
    """How the columns of `source` are read on the target. Raises Refused when one, or the key, is not there."""
    columns = {column.name: column for column in table.columns}
    missing = [column.name for column in (*source.columns, *source.key) if column.name not in columns]
    if missing:
        raise Refused(
            f"table {table.name} of the target has no column {', '.join(sorted(set(missing)))}, which the source has",
            "compare SHOW CREATE TABLE of both sides",
        )
    if not source.key:
        return replace(source, database=database)
    names = tuple(column.name for column in source.key)
    key = next((key for key in table.keys if key.columns == names and key.unique and not key.prefix), None)
    if key is None:
        raise Refused(
            f"table {table.name} of the target has no unique key ({', '.join(names)}), which the source has",
            "compare SHOW CREATE TABLE of both sides",
        )
    # Its values are rendered by the source's types, so that equal text means equal values of the source's type.
    return replace(source, database=database, key_name=key.name)


def _same_order(layout: TableLayout, table: Table, same_server: bool) -> bool:
    """True when both sides order and match the key alike.

    A collation of one name may be of two versions on MySQL and MariaDB; those by bytes are not.
    """
    there = {column.name: column for column in table.columns}
    for column in layout.key:
        if column.data_type in FLOATS and not same_server:
            return False  # ordered alike, but each server writes some of them in another way
        if column.data_type not in TEXT:
            continue
        collation = column.collation or ""
        if collation != (there[column.name].collation or "") or not (same_server or collation.endswith("_bin")):
            return False
    return True
