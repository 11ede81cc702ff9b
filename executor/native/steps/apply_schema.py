"""Fills the empty database of a new keyspace from a SQL file, all of it or nothing."""

from __future__ import annotations

from executor.backend import Progress, Statement
from executor.errors import Refused
from executor.native.access import Access
from executor.native.servers import Connection, quote
from executor.native.sqltext import split_statements
from executor.native.steps.base import on, server_of
from planner.cluster import Cluster
from planner.steps.apply_schema import ApplySchema


def perform(step: ApplySchema, access: Access, progress: Progress) -> None:
    """Runs the file in a scratch database and renames its tables over in one statement.

    DDL commits by itself, so a file that stopped half way would look like a schema that is there.
    """
    progress.update(f"running {step.file} in {step.database}")
    with access.connect_primary(step.keyspace) as primary:
        if _objects(primary, step.database):
            return
        scratch = f"{step.database[:40]}_movetables_new"
        primary.execute(f"DROP DATABASE IF EXISTS {quote(scratch)}")
        primary.execute(f"CREATE DATABASE {quote(scratch)}")
        primary.execute(f"USE {quote(scratch)}")
        for statement in split_statements(step.sql):
            primary.execute(statement)
        objects = _objects(primary, scratch)
        others = [name for name, kind in objects if kind != "BASE TABLE"]
        if others:
            primary.execute(f"DROP DATABASE {quote(scratch)}")
            raise Refused(
                f"{step.file} creates {', '.join(others)}, which is no table",
                "keep only tables and their rows in initial_schema; create the rest afterwards",
            )
        if objects:
            moves = ", ".join(
                f"{quote(scratch)}.{quote(name)} TO {quote(step.database)}.{quote(name)}" for name, _ in objects
            )
            primary.execute(f"RENAME TABLE {moves}")
        primary.execute(f"DROP DATABASE {quote(scratch)}")


def _objects(connection: Connection, database: str) -> list[tuple[str, str]]:
    rows = connection.query(
        "SELECT table_name AS name, table_type AS kind FROM information_schema.tables WHERE table_schema=%s "
        "ORDER BY table_name",
        [database],
    )
    return [(row["name"], row["kind"]) for row in rows]


def statements(step: ApplySchema, cluster: Cluster) -> tuple[Statement, ...]:
    """Those of the file."""
    return on(server_of(cluster, step.keyspace), *split_statements(step.sql))
