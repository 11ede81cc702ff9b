"""What a column of one kind of server becomes on the other, or why there is nothing that is exactly the same.

Values must arrive byte for byte, and a unique key must call the same rows equal. How other text is sorted and compared
may differ in detail: the closest collation is taken there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from planner.checks_special import PERIOD
from planner.cluster import Cluster, Column, Table
from planner.document import Move

MARIADB, MYSQL = "MariaDB", "MySQL"

_ONLY_MARIADB = {
    "uuid": "it sorts and compares otherwise as anything that MySQL has",
    "inet4": "MySQL has nothing that compares addresses alike",
    "inet6": "MySQL has nothing that compares addresses alike",
}
_ONLY_MYSQL = {
    "json": "MariaDB keeps JSON as text, without the types of its numbers, dates and byte strings",
    "vector": "MariaDB has it from 11.7 on, in a form of its own",
}
_LARGEST_SCALE_OF_MYSQL = 30
_DECIMAL = re.compile(r"decimal\(\d+,(\d+)\)")

_EXACT = {
    "utf8mb4_0900_bin": "utf8mb4_nopad_bin",
}
"""MySQL's collation -> MariaDB's that compares every two strings alike, and the other way round."""

_CLOSE_IN_MARIADB = {
    "utf8mb4_0900_ai_ci": "utf8mb4_uca1400_nopad_ai_ci",
    "utf8mb4_0900_as_ci": "utf8mb4_uca1400_nopad_as_ci",
    "utf8mb4_0900_as_cs": "utf8mb4_uca1400_nopad_as_cs",
}
_CLOSE_IN_MYSQL = {
    "utf8mb4_uca1400_ai_ci": "utf8mb4_unicode_520_ci",
    "utf8mb4_unicode_nopad_ci": "utf8mb4_0900_ai_ci",
    "utf8mb4_unicode_520_nopad_ci": "utf8mb4_0900_ai_ci",
    "utf8mb4_general_nopad_ci": "utf8mb4_0900_ai_ci",
    **{close: name for name, close in _CLOSE_IN_MARIADB.items()},
}
_ONLY_COLLATIONS_OF_MYSQL = re.compile(r"_0900_|^gb18030_")
_ONLY_COLLATIONS_OF_MARIADB = re.compile(r"_nopad_|_uca1400_|_croatian_|_myanmar_|_thai_520_")


@dataclass(frozen=True, order=True)
class Note:
    """Something of a moved table that is `found` on the source and `becomes` something else on the target.

    `effect` says what a reviewer should know of it.
    """

    move: str
    table: str
    column: str
    found: str
    becomes: str
    effect: str


def kinds(cluster: Cluster, move: Move) -> tuple[str, str] | None:
    """The kinds of server that hold source and target, if both are known and are not the same."""
    sides = [cluster.primary(name) for name in (move.source, move.target)]
    source, target = (side.server.flavor if side is not None and side.server is not None else "" for side in sides)
    return (source, target) if source and target and source != target else None


def notes(cluster: Cluster, move: Move) -> Iterable[Note]:
    """All in the tables of `move` that is not refused, and is not quite the same on the other kind of server."""
    found, source = kinds(cluster, move), cluster.keyspace(move.source)
    if found is None or source is None:
        return
    target = found[1]
    for table in (source.table(name) for name in move.tables):
        for column in table.columns if table is not None else ():
            assert table is not None
            for before, after, effect in _changes(column, target):
                yield Note(move.name, table.name, column.name, before, after, effect)


def _changes(column: Column, target: str) -> Iterable[tuple[str, str, str]]:
    there = collation(column.collation, target) if column.collation is not None else None
    if column.collation is not None and there is not None and there != column.collation:
        exact = same_order(column.collation, target)
        yield (
            f"collation {column.collation}",
            there,
            "both compare alike" if exact else "the closest one; how text is sorted and compared differs in detail",
        )
    if target == MARIADB and column.data_type in ("float", "double"):
        yield "-0.0", "0.0", "MariaDB keeps no negative zero"


def collation(name: str, target: str) -> str | None:
    """The collation to use for `name` on a server of the other kind, `target`; None when there is none close to it."""
    if target == MARIADB:
        if name in _EXACT:
            return _EXACT[name]
        return _CLOSE_IN_MARIADB.get(name) if _ONLY_COLLATIONS_OF_MYSQL.search(name) else name
    exact = {theirs: ours for ours, theirs in _EXACT.items()}
    if name in exact:
        return exact[name]
    return _CLOSE_IN_MYSQL.get(name) if _ONLY_COLLATIONS_OF_MARIADB.search(name) else name


def same_order(name: str, target: str) -> bool:
    """True when `collation` compares every two strings as `name` does."""
    found = collation(name, target)
    return found == name or name in _EXACT or name in _EXACT.values()


def obstacles(table: Table, target: str) -> Iterable[tuple[str, str, str]]:
    """(what, why, what to do) of all in `table` that a server of the other kind, `target`, cannot keep exactly."""
    unique = {name for key in table.keys if key.unique for name in key.columns}
    names = {column.name for column in table.columns}
    for column in table.columns:
        yield from _column(table, column, target, unique=column.name in unique)
    if target == MYSQL and PERIOD in table.special:
        yield (
            f"table {table.name} has a PERIOD",
            "MySQL has no periods",
            f"ALTER TABLE `{table.name}` DROP PERIOD FOR ...; or leave it out with exclude: [{table.name}]",
        )
    for key in table.keys:
        if target == MARIADB and not names.issuperset(key.columns):
            yield (
                f"key {key.name} of {table.name} is over an expression",
                "MariaDB has no such keys",
                f"ALTER TABLE `{table.name}` DROP KEY `{key.name}`; a generated column can carry a key on both",
            )


def _column(table: Table, column: Column, target: str, *, unique: bool) -> Iterable[tuple[str, str, str]]:
    what = f"column {table.name}.{column.name} is of type {column.column_type}"
    leave = f"change the column, or leave the table out with exclude: [{table.name}]"
    missing = _ONLY_MARIADB if target == MYSQL else _ONLY_MYSQL
    if column.data_type in missing:
        yield what, missing[column.data_type], leave
    scale = _DECIMAL.match(column.column_type)
    if target == MYSQL and scale and int(scale[1]) > _LARGEST_SCALE_OF_MYSQL:
        yield what, f"MySQL has {_LARGEST_SCALE_OF_MYSQL} digits behind the point at most", leave
    if column.collation is None:
        return
    found = collation(column.collation, target)
    what = f"column {table.name}.{column.name} has collation {column.collation}"
    modify = f"on the source: ALTER TABLE `{table.name}` MODIFY `{column.name}` {column.column_type} COLLATE"
    if found is None:
        yield what, f"{target} has none like it", f"{modify} one that both kinds of servers have"
    elif unique and not same_order(column.collation, target):
        yield (
            what,
            f"it is part of a unique key, and {found}, the closest that {target} has, calls other strings equal",
            f"{modify} one that both kinds of servers have, such as {column.charset}_bin",
        )
