"""Shared records of the cluster, kept in a schema of one MySQL-compatible server named by the inventory.

Everything that must change together is one `TopologyState`, and `update` commits a whole new state at once under the
row lock of its version. So routing rules, denied tables and the switching mark move in one commit, and a watcher
needs only to poll `version`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from executor.errors import MovetablesError
from executor.native.flavor import ER_BAD_DB, ER_NO_SUCH_TABLE
from executor.native.servers import Connection, Login, ServerError, connect
from planner.cluster import CompletedMove, MirrorRule, RoutingRule, TabletType

_T = TypeVar("_T")

SCHEMA = "movetables_topo"

DDL = (
    f"CREATE DATABASE IF NOT EXISTS {SCHEMA} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.topo_version (
        id TINYINT PRIMARY KEY, version BIGINT NOT NULL) ENGINE=InnoDB""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.keyspace (
        name VARCHAR(64) PRIMARY KEY, database_name VARCHAR(64) NOT NULL, denied_tables LONGTEXT NOT NULL
        ) ENGINE=InnoDB""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.tablet (
        alias VARCHAR(64) PRIMARY KEY, keyspace VARCHAR(64) NOT NULL, type VARCHAR(16) NOT NULL,
        host VARCHAR(255) NOT NULL, port INT NOT NULL, managed TINYINT NOT NULL,
        primary_term_start VARCHAR(32) NOT NULL) ENGINE=InnoDB""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.document (
        name VARCHAR(64) PRIMARY KEY, body LONGTEXT NOT NULL) ENGINE=InnoDB""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.lock_holder (
        name VARCHAR(64) PRIMARY KEY, holder VARCHAR(255) NOT NULL, pid INT NOT NULL, run VARCHAR(36) NOT NULL,
        command TEXT NOT NULL, since DOUBLE NOT NULL, heartbeat DOUBLE NOT NULL, thread_id BIGINT NOT NULL
        ) ENGINE=InnoDB""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.run (
        id VARCHAR(36) PRIMARY KEY, plan VARCHAR(255) NOT NULL, fingerprint VARCHAR(64) NOT NULL,
        holder VARCHAR(255) NOT NULL, command TEXT NOT NULL, state VARCHAR(16) NOT NULL, message TEXT NOT NULL,
        started_at DOUBLE NOT NULL, ended_at DOUBLE NULL) ENGINE=InnoDB""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.run_step (
        run VARCHAR(36) NOT NULL, position INT NOT NULL, step VARCHAR(255) NOT NULL, state VARCHAR(16) NOT NULL,
        message TEXT NOT NULL, started_at DOUBLE NULL, ended_at DOUBLE NULL, PRIMARY KEY (run, position)
        ) ENGINE=InnoDB""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.gateway (
        id VARCHAR(64) PRIMARY KEY, host VARCHAR(255) NOT NULL, port INT NOT NULL, pid INT NOT NULL,
        heartbeat DOUBLE NOT NULL, seen_version BIGINT NOT NULL) ENGINE=InnoDB""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.stream_trouble (
        keyspace VARCHAR(64) NOT NULL, workflow VARCHAR(64) NOT NULL, val LONGTEXT NOT NULL,
        PRIMARY KEY (keyspace, workflow)) ENGINE=InnoDB""",
    f"INSERT IGNORE INTO {SCHEMA}.topo_version VALUES (1, 1)",
)


@dataclass(frozen=True, order=True)
class KeyspaceRecord:
    """A keyspace that the topology knows."""

    name: str
    database: str
    denied_tables: tuple[str, ...] = ()


@dataclass(frozen=True, order=True)
class TabletRecord:
    """A tablet that the topology knows. `primary_term_start` is RFC 3339 in UTC, "" unless PRIMARY."""

    alias: str
    keyspace: str
    type: TabletType
    host: str
    port: int
    managed: bool
    primary_term_start: str = ""


@dataclass(frozen=True, order=True)
class CutoverRecord:
    """An unfinished cutover of the workflow `workflow` in keyspace `keyspace`; what undoing or finishing it needs.

    `phase` is a word of executor.native.cutover.phases. `reverse_position` is the target's position before traffic
    moved. `run` is the run that began it.
    """

    keyspace: str
    workflow: str
    source: str
    tables: tuple[str, ...]
    phase: str
    reverse_replication: bool = True
    reverse_position: str = ""
    run: str = ""


@dataclass(frozen=True)
class TopologyState:
    """Everything that `update` may change together. `switching` are ``keyspace.table`` names whose writes wait."""

    version: int = 0
    keyspaces: tuple[KeyspaceRecord, ...] = ()
    tablets: tuple[TabletRecord, ...] = ()
    routing_rules: tuple[RoutingRule, ...] = ()
    mirror_rules: tuple[MirrorRule, ...] = ()
    switching: tuple[str, ...] = ()
    cutovers: tuple[CutoverRecord, ...] = ()
    completed: tuple[CompletedMove, ...] = ()

    def keyspace(self, name: str) -> KeyspaceRecord | None:
        """The keyspace of that name, or None."""
        return next((keyspace for keyspace in self.keyspaces if keyspace.name == name), None)

    def tablet(self, alias: str) -> TabletRecord | None:
        """The tablet of that alias, or None."""
        return next((tablet for tablet in self.tablets if tablet.alias == alias), None)

    def primary(self, keyspace: str) -> TabletRecord | None:
        """The PRIMARY of a keyspace, or None."""
        return next((t for t in self.tablets if t.keyspace == keyspace and t.type is TabletType.PRIMARY), None)

    def cutover(self, keyspace: str, workflow: str) -> CutoverRecord | None:
        """The unfinished cutover of that workflow, or None."""
        return next((c for c in self.cutovers if (c.keyspace, c.workflow) == (keyspace, workflow)), None)

    def with_keyspace(self, keyspace: KeyspaceRecord) -> TopologyState:
        """This state with `keyspace` added, or in the place of the one of that name."""
        others = (other for other in self.keyspaces if other.name != keyspace.name)
        return replace(self, keyspaces=tuple(sorted((*others, keyspace))))

    def with_tablet(self, tablet: TabletRecord) -> TopologyState:
        """This state with `tablet` added, or in the place of the one of that alias."""
        others = (other for other in self.tablets if other.alias != tablet.alias)
        return replace(self, tablets=tuple(sorted((*others, tablet))))

    def with_cutover(self, cutover: CutoverRecord) -> TopologyState:
        """This state with `cutover` added, or in the place of the one of that workflow."""
        return replace(
            self,
            cutovers=tuple(sorted((*self.without_cutover(cutover.keyspace, cutover.workflow).cutovers, cutover))),
        )

    def without_cutover(self, keyspace: str, workflow: str) -> TopologyState:
        """This state without an unfinished cutover of that workflow."""
        rest = tuple(c for c in self.cutovers if (c.keyspace, c.workflow) != (keyspace, workflow))
        return replace(self, cutovers=rest)

    def with_denied(self, keyspace: str, tables: tuple[str, ...], denied: bool) -> TopologyState:
        """This state with `tables` added to, or removed from, the denied tables of `keyspace`."""
        record = self.keyspace(keyspace)
        if record is None:
            return self
        rest = set(record.denied_tables) - set(tables)
        names = tuple(sorted(rest | set(tables) if denied else rest))
        return self.with_keyspace(replace(record, denied_tables=names))


def _encode(state: TopologyState) -> dict[str, str]:
    return {
        "routing_rules": json.dumps([[rule.from_table, rule.to_table] for rule in state.routing_rules]),
        "mirror_rules": json.dumps([[r.from_table, r.to_table, r.percent] for r in state.mirror_rules]),
        "switching": json.dumps(state.switching),
        "cutovers": json.dumps([vars(cutover) for cutover in state.cutovers]),
        "completed": json.dumps([vars(move) for move in state.completed]),
    }


def _decode_documents(rows: list[dict[str, Any]]) -> dict[str, Any]:
    body = {row["name"]: json.loads(row["body"]) for row in rows}
    return {
        "routing_rules": tuple(RoutingRule(*rule) for rule in body.get("routing_rules", ())),
        "mirror_rules": tuple(MirrorRule(*rule) for rule in body.get("mirror_rules", ())),
        "switching": tuple(body.get("switching", ())),
        "cutovers": tuple(CutoverRecord(**c | {"tables": tuple(c["tables"])}) for c in body.get("cutovers", ())),
        "completed": tuple(CompletedMove(**m | {"tables": tuple(m["tables"])}) for m in body.get("completed", ())),
    }


class Topology:
    """The records, over one connection that is made again when it breaks. Not for use by two threads."""

    def __init__(self, login: Login, read_timeout: float = 30.0) -> None:
        self.login = login
        self._read_timeout = read_timeout
        self._connection: Connection | None = None

    def connection(self) -> Connection:
        """The connection, made if there is none. Raises Unreachable."""
        if self._connection is None or not self._connection.open:
            self._connection = connect(self.login, read_timeout=self._read_timeout)
        return self._connection

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def create(self) -> None:
        """Creates what is missing of the schema."""
        for statement in DDL:
            self.connection().execute(statement)

    def exists(self) -> bool:
        """True when the schema is there."""
        found = self.connection().value("SELECT 1 FROM information_schema.schemata WHERE schema_name=%s", [SCHEMA])
        return found is not None

    def version(self) -> int:
        """The number that every change raises."""
        return int(self._retried(lambda c: c.value(f"SELECT version FROM {SCHEMA}.topo_version")))

    def read(self) -> TopologyState:
        """The whole state, from one snapshot; an empty state when there is no schema yet."""
        try:
            return self._retried(self._read_snapshot)
        except ServerError as error:
            if error.errno in (ER_BAD_DB, ER_NO_SUCH_TABLE):
                return TopologyState()
            raise

    def update(self, change: Callable[[TopologyState], TopologyState]) -> TopologyState:
        """Commits ``change(state)`` as the new state and returns it.

        `change` must be pure and idempotent: it runs again when the outcome of a commit is unknown or the
        transaction met a deadlock. Nothing is written when it returns an equal state.
        """

        def run(connection: Connection) -> TopologyState:
            with connection.transaction():
                connection.value(f"SELECT version FROM {SCHEMA}.topo_version FOR UPDATE")
                before = self._load(connection)
                after = change(before)
                if replace(after, version=before.version) == before:
                    return before
                after = replace(after, version=before.version + 1)
                self._store(connection, before, after)
                return after

        return self._retried(run)

    def _retried(self, act: Callable[[Connection], _T], attempts: int = 5) -> _T:
        for attempt in range(1, attempts + 1):
            try:
                return act(self.connection())
            except ServerError as error:
                if error.lost:
                    self.close()
                if attempt == attempts or not (error.lost or error.transient):
                    raise
        raise MovetablesError("unreachable code")  # pragma: no cover

    def _read_snapshot(self, connection: Connection) -> TopologyState:
        connection.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        try:
            return self._load(connection)
        finally:
            if connection.open:
                connection.execute("COMMIT")

    @staticmethod
    def _load(connection: Connection) -> TopologyState:
        version = int(connection.value(f"SELECT version FROM {SCHEMA}.topo_version"))
        keyspaces = tuple(
            KeyspaceRecord(row["name"], row["database_name"], tuple(json.loads(row["denied_tables"])))
            for row in connection.query(f"SELECT * FROM {SCHEMA}.keyspace ORDER BY name")
        )
        tablets = tuple(
            TabletRecord(
                row["alias"],
                row["keyspace"],
                TabletType(row["type"]),
                row["host"],
                row["port"],
                bool(row["managed"]),
                row["primary_term_start"],
            )
            for row in connection.query(f"SELECT * FROM {SCHEMA}.tablet ORDER BY alias")
        )
        documents = _decode_documents(connection.query(f"SELECT name, body FROM {SCHEMA}.document"))
        return TopologyState(version, keyspaces, tablets, **documents)

    @staticmethod
    def _store(connection: Connection, before: TopologyState, after: TopologyState) -> None:
        for gone_keyspace in {k.name for k in before.keyspaces} - {k.name for k in after.keyspaces}:
            connection.execute(f"DELETE FROM {SCHEMA}.keyspace WHERE name=%s", [gone_keyspace])
        for keyspace in sorted(set(after.keyspaces) - set(before.keyspaces)):
            connection.execute(
                f"REPLACE INTO {SCHEMA}.keyspace (name, database_name, denied_tables) VALUES (%s, %s, %s)",
                [keyspace.name, keyspace.database, json.dumps(keyspace.denied_tables)],
            )
        for gone_tablet in {t.alias for t in before.tablets} - {t.alias for t in after.tablets}:
            connection.execute(f"DELETE FROM {SCHEMA}.tablet WHERE alias=%s", [gone_tablet])
        for tablet in sorted(set(after.tablets) - set(before.tablets)):
            connection.execute(
                f"REPLACE INTO {SCHEMA}.tablet (alias, keyspace, type, host, port, managed, primary_term_start) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s)",
                [
                    tablet.alias,
                    tablet.keyspace,
                    tablet.type.value,
                    tablet.host,
                    tablet.port,
                    tablet.managed,
                    tablet.primary_term_start,
                ],
            )
        old, new = _encode(before), _encode(after)
        for name in sorted(new):
            if new[name] != old[name]:
                connection.execute(f"REPLACE INTO {SCHEMA}.document (name, body) VALUES (%s, %s)", [name, new[name]])
        connection.execute(f"UPDATE {SCHEMA}.topo_version SET version=%s", [after.version])
