"""Tables that are not like others, and names that others would be taken for: what a move cannot carry over."""

from __future__ import annotations

from collections.abc import Iterable

from planner.checks import refuse
from planner.cluster import Cluster, Keyspace, Table
from planner.document import Move, SourceTables
from planner.step import Refusal

LONGEST_NAME = 64
"""Characters that both servers allow in the name of a table."""

WITHOUT_OVERLAPS, SEQUENCE_DEFAULT, PERIOD = "WITHOUT OVERLAPS", "sequence default", "period"
"""Values of `Table.special`: a key over a period, a column that takes its default from a sequence, a period."""

_SPECIAL = {
    WITHOUT_OVERLAPS: (
        "has a key that is WITHOUT OVERLAPS",
        "keys that REPLACE works with, which MariaDB does not do for these",
        "make the key again without the period",
    ),
    SEQUENCE_DEFAULT: (
        "takes the default of a column from a sequence",
        "defaults that the target can compute: sequences are not moved",
        "give the column another default, or AUTO_INCREMENT",
    ),
}


def special_refusals(cluster: Cluster, source: Keyspace, move: Move) -> Iterable[Refusal]:
    """Refuses names that cannot stand in routing rules or be renamed, and tables that the target cannot have."""
    for name in move.tables:
        yield from _name(cluster, source, move, name)
        table = source.table(name)
        if table is not None:
            yield from _table(cluster, source, move, table)


def not_a_table(source: Keyspace, name: str) -> Iterable[Refusal]:
    """Refuses a view, a sequence or a table that keeps its history, as such."""
    kind = dict(source.others).get(name)
    if kind is None:
        return
    hint = f"leave it out with exclude: [{name}]"
    if kind == "SYSTEM VERSIONED":
        hint += f"; or, without its history: ALTER TABLE `{name}` DROP SYSTEM VERSIONING;"
    else:
        hint += ", and create it in the target by hand"
    yield refuse("MT215", f"{source.name}.{name} is of kind {kind}", "an ordinary table", hint)


def _name(cluster: Cluster, source: Keyspace, move: Move, name: str) -> Iterable[Refusal]:
    first, dot, _ = name.partition(".")
    what = f"the name of table {source.name}.{name}"
    hint = f"rename the table, or leave it out with exclude: [{name}]"
    if "@" in name:
        yield refuse("MT213", f"{what} has an @", "names without @, which sets the tablet type apart in rules", hint)
    elif dot and cluster.keyspace(first) is not None:
        expected = f"a name that does not begin like {first}.<table>, which in rules is a table of keyspace {first}"
        yield refuse("MT213", f"{what} begins with a keyspace and a dot", expected, hint)
    if move.source_tables is SourceTables.RENAME and len(f"_{name}_old") > LONGEST_NAME:
        yield refuse(
            "MT216",
            f"_{name}_old, as table {source.name}.{name} would be called in the end, has {len(name) + 5} characters",
            f"at most {LONGEST_NAME}",
            "use cleanup: {source_tables: keep} or drop, or a shorter name",
        )


def _table(cluster: Cluster, source: Keyspace, move: Move, table: Table) -> Iterable[Refusal]:
    for kind in table.special:
        if kind in _SPECIAL:
            found, expected, hint = _SPECIAL[kind]
            yield refuse("MT215", f"table {source.name}.{table.name} {found}", expected, hint)
    target = cluster.primary(move.target)
    if target is None or target.server is None or not target.server.requires_primary_key:
        return
    if not any(key.name == "PRIMARY" for key in table.keys):
        yield refuse(
            "MT214",
            f"table {source.name}.{table.name} has no primary key",
            f"one, because sql_require_primary_key is ON on {target.alias} ({target.host}:{target.port})",
            "add a primary key to the table, or on that server: SET GLOBAL sql_require_primary_key = OFF;",
        )
