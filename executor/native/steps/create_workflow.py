"""MoveTables create: the stream's record, the rules, the target tables and their fence."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from executor.backend import Progress, Statement
from executor.crashpoints import reached
from executor.errors import MovetablesError
from executor.native import sidecar
from executor.native.access import Access
from executor.native.create_table import create, translated
from executor.native.cutover.fence import create_statements, raise_fence
from executor.native.servers import Connection, quote
from executor.native.steps.base import change_topology, database_of, on, server_of
from executor.native.stream.layout import describe_tables
from executor.native.topology import TopologyState
from planner import routing
from planner.cluster import Cluster
from planner.steps.create_workflow import CreateWorkflow

_AUTO_INCREMENT = re.compile(r" AUTO_INCREMENT=\d+(?=[^')]*$)")
_KEY_LINE = re.compile(r"^\s*((?:FULLTEXT |SPATIAL )?KEY `((?:[^`]|``)+)` .*?),?$")

DEFER_BYTES = 16 << 20
"""Tables of this size get their secondary keys after the copy, unless the plan says otherwise."""


def perform(step: CreateWorkflow, access: Access, progress: Progress) -> None:
    """Creates what is missing. The record comes first, so that everything after it is known to be ours.

    What was made is removed again when the target refuses a table.
    """
    move = step.move
    source_database, target_database = access.database(move.source), access.database(move.target)
    with (
        access.connect_primary(move.source) as source,
        access.connect_primary(move.target, apply=True) as target,
    ):
        sidecar.ensure(source)
        sidecar.ensure(target)
        # A server that we do not manage may not have the keyspace's database yet.
        target.execute(f"CREATE DATABASE IF NOT EXISTS {quote(target_database)}")
        sidecar.create_stream(
            target,
            keyspace=move.target,
            workflow=move.name,
            source_keyspace=move.source,
            tables=move.tables,
            db_name=target_database,
            source_db_name=source_database,
            on_ddl=move.on_ddl,
            throttle=sidecar.ThrottleLimits(move.throttle_max_replica_lag, move.throttle_max_history_list),
            copy=True,
        )
        reached("create:stream")
        # Before the tables, or names would be ambiguous to gateways for a moment.
        change_topology(access, lambda state: _with_rules(state, step))
        reached("create:rules")
        progress.update("creating the target tables")
        try:
            present = {table.name for table in describe_tables(target, target_database)}
            for table in move.tables:
                if table not in present:
                    _create_table(step, source, source_database, target, target_database, table)
        except MovetablesError:
            _undo(step, access, target, target_database, present)
            raise
        reached("create:tables")
        raise_fence(target, target_database, move.tables, move.timeout)


def _with_rules(state: TopologyState, step: CreateWorkflow) -> TopologyState:
    move = step.move
    rules = routing.with_move_created(state.routing_rules, move.source, move.target, move.tables)
    changed = state.with_denied(move.target, move.tables, True)
    return replace(changed, routing_rules=rules)


def _create_table(
    step: CreateWorkflow,
    source: Connection,
    source_database: str,
    target: Connection,
    target_database: str,
    table: str,
) -> None:
    row = source.one(f"SHOW CREATE TABLE {quote(source_database)}.{quote(table)}")
    if row is None:
        raise MovetablesError(f"table {table} of {step.move.source} vanished", "plan again")
    definition = _AUTO_INCREMENT.sub("", str(row["Create Table"]))
    definition = translated(definition, source.flavor, target.flavor)
    target.execute(f"USE {quote(target_database)}")
    deferred = _deferred_keys(source, source_database, table, definition, step.move.defer_secondary_keys)
    if deferred:
        record = sidecar.stream(target, step.move.target, step.move.name)
        if record is None:
            raise MovetablesError(f"workflow {step.subject} vanished while it was created", "plan again")
        target.execute(
            f"REPLACE INTO {sidecar.SCHEMA}.post_copy_action (vrepl_id, table_name, action) VALUES (%s,%s,%s)",
            [record.id, table, json.dumps(deferred)],
        )
    create(target, definition)
    if deferred:
        drops = ", ".join(f"DROP KEY {quote(name)}" for name in sorted(deferred))
        target.execute(f"ALTER TABLE {quote(table)} {drops}")


def _deferred_keys(
    source: Connection, database: str, table: str, definition: str, wanted: bool | None
) -> dict[str, str]:
    """The keys to add after the copy, as ``{name: definition}``; unless the plan says, where a table's are large.

    To add them the server reads the whole table again. That is little beside what it saves where keys are large, and
    not where long rows have small keys.
    """
    if wanted is False or "FOREIGN KEY" in definition:
        return {}
    referenced = source.value(
        "SELECT COUNT(*) FROM information_schema.key_column_usage "
        "WHERE referenced_table_schema=%s AND referenced_table_name=%s",
        [database, table],
    )
    size = source.value(
        "SELECT index_length FROM information_schema.tables WHERE table_schema=%s AND table_name=%s", [database, table]
    )
    if referenced or (wanted is None and int(size or 0) < DEFER_BYTES):
        return {}
    keys = _secondary_keys(definition)
    if wanted is None:  # others wait while a server adds those of other kinds
        keys = {name: text for name, text in keys.items() if text.startswith("KEY")}
    return keys


def _secondary_keys(definition: str) -> dict[str, str]:
    """The keys of a CREATE TABLE that are not unique, as ``{name: definition}``.

    Unique keys stay: without them the copy could hold duplicates that only the end would show.
    """
    auto_increment = set(re.findall(r"^\s*`((?:[^`]|``)+)` .*\bAUTO_INCREMENT\b", definition, re.MULTILINE))
    found = {}
    for line in definition.splitlines():
        match = _KEY_LINE.match(line)
        if match and not any(f"`{column}`" in match[1] for column in auto_increment):
            found[match[2].replace("``", "`")] = match[1]
    return found


def _undo(step: CreateWorkflow, access: Access, target: Connection, target_database: str, present: set[str]) -> None:
    move = step.move
    for table in move.tables:
        if table not in present:
            target.execute(f"DROP TABLE IF EXISTS {quote(target_database)}.{quote(table)}")
    sidecar.delete_stream(target, move.target, move.name)
    change_topology(access, lambda state: _without_rules(state, step))


def _without_rules(state: TopologyState, step: CreateWorkflow) -> TopologyState:
    move = step.move
    rules = routing.without_move(state.routing_rules, move.source, move.target, move.tables)
    return replace(state.with_denied(move.target, move.tables, False), routing_rules=rules)


def statements(step: CreateWorkflow, cluster: Cluster) -> tuple[Statement, ...]:
    """The target tables and their fence; the tables' definitions are the source's at the time."""
    move = step.move
    database = database_of(cluster, move.target)
    source = database_of(cluster, move.source)
    sql = []
    for table in move.tables:
        sql.append(f"CREATE TABLE {quote(database)}.{quote(table)} /* as on {quote(source)}.{quote(table)} */")
        sql.extend(create_statements(database, table))
    return on(server_of(cluster, move.target), *sql)
