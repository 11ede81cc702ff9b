"""apply_schema: fills the empty database of a new keyspace from a SQL file."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.checks import primary_answers, refuse
from planner.cluster import Cluster
from planner.schema_file import SchemaFileError, parse_schema
from planner.step import Action, Refusal, Step


@dataclass(frozen=True)
class ApplySchema(Step):
    """Run `sql`, the text of `file`, on the PRIMARY of `keyspace`, in its `database`."""

    kind = "apply_schema"
    action = Action.CREATE
    summary = "fills the empty database of a keyspace from a SQL file"

    keyspace: str
    database: str
    file: str
    sql: str

    @property
    def subject(self) -> str:
        """The keyspace."""
        return self.keyspace

    def done(self, cluster: Cluster) -> bool:
        """True when the keyspace has tables, or had them until a completed move took them away."""
        keyspace = cluster.keyspace(self.keyspace)
        moved_out = any(record.source == self.keyspace for record in cluster.completed)
        return moved_out or (keyspace is not None and bool(keyspace.tables))

    def ready(self, cluster: Cluster) -> tuple[Refusal, ...]:
        """Refuses a keyspace without PRIMARY, and a file whose tables cannot be read."""
        found = [*primary_answers(cluster, (self.keyspace,))]
        try:
            parse_schema(self.sql, self.database)
        except SchemaFileError as error:
            hint = "correct the statement; the file may hold any SQL, but each CREATE TABLE must be understood"
            found.append(refuse("MT109", f"{self.file}: {error}", "statements that MariaDB accepts", hint))
        return tuple(found)

    def effect(self, cluster: Cluster) -> Cluster:
        """The keyspace has the tables that the file creates."""
        keyspace = cluster.keyspace(self.keyspace)
        if keyspace is None:
            return cluster
        try:
            tables = parse_schema(self.sql, self.database)
        except SchemaFileError:  # `ready` has refused the step for it
            return cluster
        return cluster.with_keyspace(replace(keyspace, tables=tables))

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (f"Apply schema {self.file} to database {self.database} of keyspace {self.keyspace}",)
