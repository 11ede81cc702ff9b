"""Whether the tables of a move can be moved: each check returns every refusal it finds, not the first."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from planner import translation
from planner.checks import refuse
from planner.checks_special import not_a_table, special_refusals
from planner.cluster import Cluster, Keyspace, Table
from planner.column_types import SUPPORTED_TYPES as SUPPORTED_TYPES
from planner.document import Move
from planner.moves import forward, leftovers, same_move, tables_in
from planner.step import Refusal

DISK_HEADROOM = 1.5


def movable(cluster: Cluster, move: Move) -> tuple[Refusal, ...]:
    """Everything that speaks against copying the tables of `move`, whose keyspaces both have a PRIMARY that answers."""
    source = cluster.keyspace(move.source)
    if source is None:
        return ()
    found = [*_nothing(source, move)]
    for name in move.tables:
        table = source.table(name)
        if table is None:
            found.extend(tuple(not_a_table(source, name)) or _unknown(cluster, source, move, name))
        else:
            found.extend(table_refusals(move.source, table))
        found.extend(_untranslatable(cluster, move, table))
    found.extend(special_refusals(cluster, source, move))
    found.extend(foreign_keys(source, move))
    found.extend(cascades(cluster, source, move))
    found.extend(_other_workflows(cluster, move))
    found.extend(_target(cluster, move))
    found.extend(_disk(cluster, move))
    return tuple(found)


def _nothing(source: Keyspace, move: Move) -> Iterable[Refusal]:
    if not move.tables:
        have = ", ".join(table.name for table in source.tables) or "none"
        hint = f"keyspace {source.name} has these tables: {have}"
        yield refuse("MT208", "no tables to move", "at least one table in tables: that is not in exclude:", hint)


def _unknown(cluster: Cluster, source: Keyspace, move: Move, name: str) -> Iterable[Refusal]:
    found = f"table(s) not found in source keyspace {source.name}: {name}"
    names = [table.name for table in source.tables]
    close = get_close_matches(name, names, n=1)
    if tables_in(cluster, move.target, (name,)) and forward(cluster, move) is None:
        hint = f"it lives in {move.target} already: take it out of tables:"
    elif close:
        hint = f"did you mean {close[0]}?"
    else:
        hint = f"keyspace {source.name} has these tables: {', '.join(names) or 'none'}"
    yield refuse("MT201", found, "tables that exist", hint)


def table_refusals(keyspace: str, table: Table) -> Iterable[Refusal]:
    """Refuses other engines than InnoDB, tables with triggers, and unsupported columns."""
    name = f"{keyspace}.{table.name}"
    if table.engine.lower() != "innodb":
        hint = f"ALTER TABLE `{table.name}` ENGINE=InnoDB; or leave it out with exclude: [{table.name}]"
        yield refuse("MT204", f"table {name} is kept by {table.engine}", "InnoDB", hint)
    yield from trigger_refusals(keyspace, table)
    for column in table.columns:
        if column.data_type.lower() not in SUPPORTED_TYPES:
            yield refuse(
                "MT203",
                f"column {name}.{column.name} is of type {column.column_type}",
                "a supported column type",
                f"change the column, or leave the table out with exclude: [{table.name}]",
            )


def trigger_refusals(keyspace: str, table: Table) -> Iterable[Refusal]:
    """Refuses a table with triggers; before writes are switched it is asked again, of both sides."""
    if table.triggers:
        yield refuse(
            "MT210",
            f"table {keyspace}.{table.name} has triggers: {', '.join(table.triggers)}",
            "no triggers on moved tables: they would be missing in the target, and fire again in the reverse stream",
            f"DROP TRIGGER `{table.triggers[0]}`; and do its work in the application, or leave the table out",
        )


def _untranslatable(cluster: Cluster, move: Move, table: Table | None) -> Iterable[Refusal]:
    flavors = translation.kinds(cluster, move)
    if table is None or flavors is None:
        return
    here, there = flavors
    for what, why, hint in translation.obstacles(table, there):
        expected = f"what {there} can keep exactly: {why}"
        yield refuse("MT211", f"{what}, and {move.source} is {here}, {move.target} {there}", expected, hint)


def foreign_keys(source: Keyspace, move: Move) -> Iterable[Refusal]:
    """Refuses foreign keys that the move would cut, in both directions."""
    for table in source.tables:
        for key in table.foreign_keys:
            target = key.referenced_table
            inside = key.referenced_database in ("", source.database)
            if table.name in move.tables and not (inside and target in move.tables):
                other = target if inside else f"{key.referenced_database}.{target}"
                what = f"foreign key {key.name} of moved table {table.name} refers to {other}, which is not moved"
                hint = f"move {other} as well, or drop it: ALTER TABLE `{table.name}` DROP FOREIGN KEY `{key.name}`;"
            elif table.name not in move.tables and inside and target in move.tables:
                what = (
                    f"foreign key {key.name} of table {table.name}, which is not moved, refers to moved table {target}"
                )
                hint = f"move {table.name} as well, or: ALTER TABLE `{table.name}` DROP FOREIGN KEY `{key.name}`;"
            else:
                continue
            yield refuse("MT206", what, "foreign keys within the moved tables", hint)


def cascades(cluster: Cluster, source: Keyspace, move: Move) -> Iterable[Refusal]:
    """Refuses foreign keys that change rows of moved tables where a server does not log what they change.

    Both servers count: the reverse stream reads the target's log. The rows would differ without anybody noticing.
    """
    primaries = [cluster.primary(name) for name in (move.source, move.target)]
    silent = [tablet for tablet in primaries if tablet and tablet.server and not tablet.server.logs_cascades]
    if not silent:
        return
    for table in source.tables:
        for key in table.foreign_keys:
            if table.name in move.tables and key.cascades:
                names = " and ".join(f"{tablet.keyspace} ({tablet.alias})" for tablet in silent)
                yield refuse(
                    "MT212",
                    f"foreign key {key.name} of {move.source}.{table.name} changes rows by ON DELETE or ON UPDATE, "
                    f"which is not written to the binary log of {names}",
                    "RESTRICT or NO ACTION, or servers that log it: MySQL 9.6 and later with "
                    "innodb_native_foreign_keys=OFF",
                    "make it again without the action, and let the application do its work: "
                    f"ALTER TABLE `{table.name}` DROP FOREIGN KEY `{key.name}`;",
                )


def _other_workflows(cluster: Cluster, move: Move) -> Iterable[Refusal]:
    for workflow in cluster.workflows:
        own = (workflow.target, workflow.name) in {(move.target, move.name), (move.source, move.reverse_name)}
        shared = sorted(set(workflow.tables) & set(move.tables))
        if own or not shared or not {workflow.source, workflow.target} & {move.source, move.target}:
            continue
        name = f"{workflow.target}.{workflow.name}"
        found = f"table {', '.join(shared)} is part of workflow {name}"
        hint = f"complete or cancel {name} first, or take the table out of one of the two moves"
        yield refuse("MT205", found, "a table to be in one workflow only", hint)


def _target(cluster: Cluster, move: Move) -> Iterable[Refusal]:
    workflow = forward(cluster, move)
    if workflow is not None and same_move(workflow, move):
        return
    for left in leftovers(cluster, move):
        hint = f"set state: absent for {move.name} and apply: that removes what was left behind"
        yield refuse("MT209", f"an interrupted command left {left}", "no fence without a workflow", hint)
    for table in tables_in(cluster, move.target, move.tables):
        if table.fenced:
            continue
        state = "is empty" if table.empty else f"has about {table.rows} rows"
        found = f"table {move.target}.{table.name} already exists and {state}"
        hint = f"if nobody needs it, on the primary of {move.target}: DROP TABLE `{table.name}`;"
        yield refuse("MT207", found, "no table of that name in the target", hint)

    keyspace = cluster.keyspace(move.target)
    for name, kind in keyspace.others if keyspace is not None else ():
        if name in move.tables:
            hint = f"drop it on the primary of {move.target}, or rename it"
            yield refuse("MT207", f"{move.target}.{name} already exists and is of kind {kind}", "no such name", hint)


def _disk(cluster: Cluster, move: Move) -> Iterable[Refusal]:
    primary = cluster.primary(move.target)
    if forward(cluster, move) is not None or primary is None or primary.server is None:
        return
    free = primary.server.free_bytes
    need = int(sum(t.data_length for t in tables_in(cluster, move.source, move.tables)) * DISK_HEADROOM)
    if free is not None and need > free:
        yield refuse(
            "MT309",
            f"{_size(free)} are free on {primary.alias} ({primary.host}:{primary.port})",
            f"at least {_size(need)} (1.5 times the tables' data)",
            "free some space there, or move fewer tables at a time",
        )


def _size(size: int) -> str:
    """``1.5 GiB`` of 1610612736 bytes."""
    amount, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{size} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"
