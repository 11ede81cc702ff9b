"""How the rows of one table are written as text: its columns, its key, and each value as an SQL literal.

The source server renders every row as an SQL tuple such as ``(1,'alice',X'00ff',NULL)``, so that Python only moves
bytes; `rendered.py` says how each type is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from executor.native.servers import Connection, Row, quote
from executor.native.stream.rendered import SUPPORTED_TYPES as SUPPORTED_TYPES
from executor.native.stream.rendered import literal_expression as literal_expression
from planner.cluster import Column, Key, Table


@dataclass(frozen=True)
class TableLayout:
    """The table `database`.`name`: the `columns` that are copied and the `key` columns, none for a table without a key.

    `generated` names the columns that are not copied, because the target computes them. Those that are NOT NULL are in
    `defaulted` too, and are written as DEFAULT: while triggers stand on a table, MySQL finds no value in a computed
    column that an INSERT does not name (errno 1048).
    """

    database: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[Column, ...]
    key_name: str
    generated: tuple[str, ...] = ()
    defaulted: tuple[str, ...] = ()

    @property
    def qualified(self) -> str:
        """The name as an SQL identifier."""
        return f"{quote(self.database)}.{quote(self.name)}"

    @property
    def column_list(self) -> str:
        """The columns of a row as it is written, as SQL identifiers with commas: the copied ones, then `defaulted`."""
        return ",".join(quote(name) for name in (*(column.name for column in self.columns), *self.defaulted))

    @property
    def row_end(self) -> str:
        """What follows the last copied column's literal in a row that is written: DEFAULT for each of `defaulted`."""
        return ",DEFAULT" * len(self.defaulted) + ")"

    @property
    def tuple_expression(self) -> str:
        """An SQL expression whose text is one row as a tuple of literals, in the order of `column_list`."""
        parts = ",',',".join(literal_expression(column) for column in self.columns)
        return f"CONCAT('(',{parts},'{self.row_end}')"

    @property
    def key_expressions(self) -> str:
        """One SQL expression per key column, its literal as text, with commas.

        ORDER BY takes an alias for the column of that name, so the aliases are names that no table has.
        """
        return ",".join(f"{literal_expression(column)} AS _movetables_key_{i}" for i, column in enumerate(self.key))

    @property
    def key_order(self) -> str:
        """The key columns as SQL identifiers, with commas: the order in which rows are walked."""
        return ",".join(quote(column.name) for column in self.key)

    def inside(self, after: Sequence[str] | None, upto: Sequence[str] | None) -> str:
        """A condition for the rows with a key above `after` and not above `upto`, each a key as literals; None = open.

        Written out as a chain of ORs, because MariaDB does not use an index for ``(a, b) > (x, y)``.
        """
        names = [quote(column.name) for column in self.key]
        parts = []
        if after is not None:
            parts.append(_beyond(names, after, ">", strict=True))
        if upto is not None:
            parts.append(_beyond(names, upto, "<", strict=False))
        return " AND ".join(parts) or "TRUE"

    def matching(self, keys: Sequence[Sequence[str]]) -> str:
        """A condition for the rows with one of `keys`, each a key as literals."""
        names = [quote(column.name) for column in self.key]
        if len(names) == 1:
            return f"{names[0]} IN ({','.join(key[0] for key in keys)})"
        return " OR ".join(
            "(" + " AND ".join(f"{name}={value}" for name, value in zip(names, key, strict=True)) + ")" for key in keys
        )


def _beyond(names: Sequence[str], bound: Sequence[str], operator: str, *, strict: bool) -> str:
    name, value = names[0], bound[0]
    if len(names) == 1:
        return f"{name}{operator}{'' if strict else '='}{value}"
    rest = _beyond(names[1:], bound[1:], operator, strict=strict)
    # The first conjunct repeats what the second says, so that the range optimiser bounds the scan by it.
    return f"({name}{operator}={value} AND ({name}{operator}{value} OR ({name}={value} AND {rest})))"


def layout_of(database: str, table: Table) -> TableLayout:
    """The layout of a described table. Raises MovetablesError when it has an unsupported column."""
    key: Key | None = table.copy_key()
    columns = tuple(column for column in table.columns if not column.generated)
    for column in columns:
        literal_expression(column)
    by_name = {column.name: column for column in table.columns}
    generated = tuple(column.name for column in table.columns if column.generated)
    names = key.columns if key is not None else ()
    name = key.name if key is not None else ""
    defaulted = tuple(column.name for column in table.columns if column.generated and not column.nullable)
    return TableLayout(database, table.name, columns, tuple(by_name[n] for n in names), name, generated, defaulted)


def describe_tables(connection: Connection, database: str, names: Sequence[str] | None = None) -> tuple[Table, ...]:
    """The base tables of `database` as information_schema describes them, all or those of `names`, by name.

    Not `empty` nor `fenced`: those cost further statements. Every column has an alias: MySQL answers with the names of
    its own columns, which are in capitals.
    """
    if names is not None and not names:
        return ()
    only, args = "", [database]
    if names is not None:
        only, args = f" AND table_name IN ({','.join(['%s'] * len(names))})", [database, *names]
    tables = connection.query(
        "SELECT table_name AS name, engine AS engine, IFNULL(table_rows,0) AS row_count, "
        "IFNULL(data_length,0) AS bytes "
        f"FROM information_schema.tables WHERE table_schema=%s{only} AND table_type='BASE TABLE' ORDER BY table_name",
        args,
    )
    columns = _by_table(
        connection.query(
            "SELECT table_name AS tbl, column_name AS name, column_type AS column_type, data_type AS data_type, "
            "is_nullable AS is_nullable, character_set_name AS cs, collation_name AS coll, extra AS extra, "
            "generation_expression AS expr "
            f"FROM information_schema.columns WHERE table_schema=%s{only} ORDER BY table_name, ordinal_position",
            args,
        )
    )
    indexes = _by_table(
        connection.query(
            "SELECT table_name AS tbl, index_name AS name, column_name AS col, non_unique AS non_unique, "
            "nullable AS nullable, sub_part AS sub_part "
            f"FROM information_schema.statistics WHERE table_schema=%s{only} "
            "ORDER BY table_name, index_name, seq_in_index",
            args,
        )
    )
    return tuple(
        Table(
            name=row["name"],
            columns=tuple(_column(c) for c in columns.get(row["name"], ())),
            keys=_keys(indexes.get(row["name"], [])),
            engine=row["engine"] or "",
            rows=int(row["row_count"]),
            data_length=int(row["bytes"]),
        )
        for row in tables
    )


def _by_table(rows: list[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["tbl"], []).append(row)
    return found


def _column(row: dict[str, object]) -> Column:
    return Column(
        name=str(row["name"]),
        column_type=str(row["column_type"]),
        data_type=str(row["data_type"]),
        nullable=row["is_nullable"] == "YES",
        charset=None if row["cs"] is None else str(row["cs"]),
        collation=None if row["coll"] is None else str(row["coll"]),
        generated=bool(row["expr"]) or "GENERATED" in str(row["extra"]).replace("DEFAULT_GENERATED", ""),
    )


def _keys(rows: list[dict[str, object]]) -> tuple[Key, ...]:
    names = sorted({str(row["name"]) for row in rows})
    return tuple(
        Key(
            name=name,
            columns=tuple(str(row["col"]) for row in rows if row["name"] == name),
            unique=all(not row["non_unique"] for row in rows if row["name"] == name),
            nullable=any(row["nullable"] == "YES" for row in rows if row["name"] == name),
            prefix=any(row["sub_part"] is not None or row["col"] is None for row in rows if row["name"] == name),
        )
        for name in names
    )
