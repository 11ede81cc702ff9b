"""The tables of a keyspace as its primary holds them, with everything the planner asks about them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from executor.native.cutover.fence import PREFIX, is_fenced, standing
from executor.native.flavor import ER_NO_SUCH_TABLE
from executor.native.servers import Connection, ServerError, quote
from executor.native.stream.layout import describe_tables
from planner.checks_special import PERIOD, SEQUENCE_DEFAULT, WITHOUT_OVERLAPS
from planner.cluster import ForeignKey, Table

_PASSIVE = ("RESTRICT", "NO ACTION")
_PERIOD = re.compile(r"(?m)^\s*PERIOD FOR ")
_WITHOUT_OVERLAPS = re.compile(r"(?m)^\s*(?:PRIMARY|UNIQUE) KEY .* WITHOUT OVERLAPS\)")


def observe_tables(
    connection: Connection, database: str, believed_fenced: Collection[str] | None = None
) -> tuple[Table, ...]:
    """The base tables of `database`, by name. Raises ServerError.

    Our user cannot see triggers without the privilege TRIGGER; `believed_fenced` then says which tables are fenced.
    """
    fences = standing(connection, database)
    keys = _foreign_keys(connection, database)
    triggers = _triggers(connection, database)
    special = _special(connection, database) if connection.flavor.mariadb else {}
    return tuple(
        replace(
            table,
            foreign_keys=tuple(sorted(keys.get(table.name, ()))),
            empty=_is_empty(connection, database, table.name),
            fenced=is_fenced(fences.get(table.name)) if believed_fenced is None else table.name in believed_fenced,
            triggers=tuple(triggers.get(table.name, ())),
            special=tuple(special.get(table.name, ())),
        )
        for table in describe_tables(connection, database)
    )


def observe_others(connection: Connection, database: str) -> tuple[tuple[str, str], ...]:
    """(name, kind) of what is in `database` beside base tables, such as views and MariaDB's sequences, by name."""
    rows = connection.query(
        "SELECT table_name AS name, table_type AS kind FROM information_schema.tables "
        "WHERE table_schema=%s AND table_type<>'BASE TABLE' ORDER BY table_name",
        [database],
    )
    return tuple((row["name"], row["kind"]) for row in rows)


def _special(connection: Connection, database: str) -> dict[str, list[str]]:
    """What few tables of MariaDB have, see `planner.checks_special`. No view of the server's names periods."""
    found: dict[str, list[str]] = {}
    for row in connection.query(
        "SELECT DISTINCT table_name AS tbl FROM information_schema.columns "
        "WHERE table_schema=%s AND column_default LIKE '%%nextval(%%' ORDER BY table_name",
        [database],
    ):
        found.setdefault(row["tbl"], []).append(SEQUENCE_DEFAULT)
    for row in connection.query(  # a period has a check that it does not end before it begins
        "SELECT DISTINCT table_name AS tbl FROM information_schema.check_constraints "
        "WHERE constraint_schema=%s AND level='Table' AND check_clause REGEXP '^`.*` < `.*`$' ORDER BY table_name",
        [database],
    ):
        shown = connection.one(f"SHOW CREATE TABLE {quote(database)}.{quote(row['tbl'])}")
        definition = str(shown["Create Table"]) if shown is not None else ""
        if _PERIOD.search(definition):
            found.setdefault(row["tbl"], []).append(PERIOD)
        if _WITHOUT_OVERLAPS.search(definition):
            found.setdefault(row["tbl"], []).append(WITHOUT_OVERLAPS)
    return found


def _is_empty(connection: Connection, database: str, table: str) -> bool:
    try:
        return connection.value(f"SELECT 1 FROM {quote(database)}.{quote(table)} LIMIT 1") is None
    except ServerError as error:
        if error.errno == ER_NO_SUCH_TABLE:
            return True  # dropped between two statements
        raise


def _triggers(connection: Connection, database: str) -> dict[str, list[str]]:
    rows = connection.query(
        "SELECT event_object_table AS tbl, trigger_name AS name FROM information_schema.triggers "
        "WHERE trigger_schema=%s ORDER BY event_object_table, trigger_name",
        [database],
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        if not row["name"].startswith(PREFIX):
            found.setdefault(row["tbl"], []).append(row["name"])
    return found


def _foreign_keys(connection: Connection, database: str) -> dict[str, list[ForeignKey]]:
    rows = connection.query(
        "SELECT table_name AS tbl, constraint_name AS name, column_name AS col, referenced_table_schema AS db, "
        "referenced_table_name AS ref FROM information_schema.key_column_usage "
        "WHERE table_schema=%s AND referenced_table_name IS NOT NULL "
        "ORDER BY table_name, constraint_name, ordinal_position",
        [database],
    )
    cascading = {
        (row["tbl"], row["name"])
        for row in connection.query(
            "SELECT table_name AS tbl, constraint_name AS name FROM information_schema.referential_constraints "
            "WHERE constraint_schema=%s AND (delete_rule NOT IN %s OR update_rule NOT IN %s)",
            [database, _PASSIVE, _PASSIVE],
        )
    }
    keys: dict[str, dict[str, ForeignKey]] = {}
    for row in rows:
        found = keys.setdefault(row["tbl"], {})
        known = found.get(row["name"])
        columns = (*known.columns, row["col"]) if known else (row["col"],)
        cascades = (row["tbl"], row["name"]) in cascading
        found[row["name"]] = ForeignKey(row["name"], columns, row["db"], row["ref"], cascades)
    return {table: list(found.values()) for table, found in keys.items()}
