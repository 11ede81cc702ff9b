"""Records beside the data: the `_movetables` schema on each primary.

It replicates with the data, so a promoted replica has it too. A stream's position is written here in the same
transaction as the rows it covers. Table names and columns follow Vitess's `_vt` where it has them.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from executor.errors import MovetablesError
from executor.native.servers import Connection, Row
from planner.cluster import StreamState
from planner.document import OnDdl

SCHEMA = "_movetables"
FROZEN = "FROZEN"

DDL = (
    f"CREATE DATABASE IF NOT EXISTS {SCHEMA} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.vreplication (
        id BIGINT AUTO_INCREMENT PRIMARY KEY, keyspace VARCHAR(64) NOT NULL, workflow VARCHAR(64) NOT NULL,
        source_keyspace VARCHAR(64) NOT NULL, tables LONGTEXT NOT NULL, options LONGTEXT NOT NULL,
        pos LONGTEXT NOT NULL, state VARCHAR(16) NOT NULL, message VARCHAR(1000) NOT NULL,
        db_name VARCHAR(64) NOT NULL, source_db_name VARCHAR(64) NOT NULL,
        rows_copied BIGINT NOT NULL DEFAULT 0, created_at DOUBLE NOT NULL, time_updated DOUBLE NOT NULL,
        transaction_timestamp DOUBLE NOT NULL DEFAULT 0, time_heartbeat DOUBLE NOT NULL DEFAULT 0,
        time_throttled DOUBLE NOT NULL DEFAULT 0, reason_throttled VARCHAR(1000) NOT NULL DEFAULT '',
        copy_rate DOUBLE NOT NULL DEFAULT 0, copy_end DOUBLE NOT NULL DEFAULT 0,
        UNIQUE KEY (keyspace, workflow)) ENGINE=InnoDB""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.copy_state (
        vrepl_id BIGINT NOT NULL, table_name VARCHAR(64) NOT NULL, lastpk LONGTEXT NULL,
        rows_copied BIGINT NOT NULL DEFAULT 0, rows_total BIGINT NOT NULL DEFAULT 0, done TINYINT NOT NULL DEFAULT 0,
        started_at DOUBLE NOT NULL DEFAULT 0, updated_at DOUBLE NOT NULL DEFAULT 0,
        bytes_copied BIGINT NOT NULL DEFAULT 0,
        PRIMARY KEY (vrepl_id, table_name)) ENGINE=InnoDB""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.post_copy_action (
        vrepl_id BIGINT NOT NULL, table_name VARCHAR(64) NOT NULL, action LONGTEXT NOT NULL,
        PRIMARY KEY (vrepl_id, table_name)) ENGINE=InnoDB""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.vreplication_log (
        id BIGINT AUTO_INCREMENT PRIMARY KEY, vrepl_id BIGINT NOT NULL, type VARCHAR(64) NOT NULL,
        state VARCHAR(16) NOT NULL, created_at DOUBLE NOT NULL, message TEXT NOT NULL, KEY (vrepl_id)) ENGINE=InnoDB""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.journal (
        keyspace VARCHAR(64) NOT NULL, workflow VARCHAR(64) NOT NULL, val LONGTEXT NOT NULL,
        created_at DOUBLE NOT NULL, PRIMARY KEY (keyspace, workflow)) ENGINE=InnoDB""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.vdiff (
        id BIGINT AUTO_INCREMENT PRIMARY KEY, vdiff_uuid VARCHAR(36) NOT NULL UNIQUE, keyspace VARCHAR(64) NOT NULL,
        workflow VARCHAR(64) NOT NULL, state VARCHAR(16) NOT NULL, options LONGTEXT NOT NULL, last_error TEXT NOT NULL,
        created_at DOUBLE NOT NULL, started_at DOUBLE NULL, completed_at DOUBLE NULL, KEY (keyspace, workflow)
        ) ENGINE=InnoDB""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.vdiff_table (
        vdiff_id BIGINT NOT NULL, table_name VARCHAR(64) NOT NULL, state VARCHAR(16) NOT NULL, lastpk LONGTEXT NULL,
        table_rows BIGINT NOT NULL DEFAULT 0, rows_compared BIGINT NOT NULL DEFAULT 0,
        mismatch TINYINT NOT NULL DEFAULT 0, report LONGTEXT NOT NULL, updated_at DOUBLE NOT NULL DEFAULT 0,
        PRIMARY KEY (vdiff_id, table_name)) ENGINE=InnoDB""",
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA}.marker (
        keyspace VARCHAR(64) NOT NULL, workflow VARCHAR(64) NOT NULL, purpose VARCHAR(16) NOT NULL,
        token CHAR(36) NOT NULL, created_at DOUBLE NOT NULL, PRIMARY KEY (keyspace, workflow, purpose)
        ) ENGINE=InnoDB""",
)

ADDED_COLUMNS = {
    ("vreplication", "time_throttled"): "DOUBLE NOT NULL DEFAULT 0",
    ("vreplication", "reason_throttled"): "VARCHAR(1000) NOT NULL DEFAULT ''",
    ("vreplication", "copy_rate"): "DOUBLE NOT NULL DEFAULT 0",
    ("vreplication", "copy_end"): "DOUBLE NOT NULL DEFAULT 0",
    ("copy_state", "bytes_copied"): "BIGINT NOT NULL DEFAULT 0",
}
"""Columns that tables made by version 0.1 lack."""


@dataclass(frozen=True)
class ThrottleLimits:
    """What a copy waits for: `max_replica_lag` in seconds, `max_history_list` in old row versions; 0 means nothing."""

    max_replica_lag: float = 5.0
    max_history_list: int = 1_000_000


@dataclass(frozen=True)
class StreamRecord:
    """One row of `vreplication`: the stream of `workflow`, living on the primary of `keyspace` (its target).

    `db_name` is the target database, `source_db_name` the source's. Times are seconds since the epoch. While rows are
    copied, `copy_rate` is in rows per second, `copy_end` is when it will be done, 0 while unknown, and
    `reason_throttled` says what holds it back.
    """

    id: int
    keyspace: str
    workflow: str
    source_keyspace: str
    tables: tuple[str, ...]
    on_ddl: OnDdl
    pos: str
    state: StreamState
    message: str
    db_name: str
    source_db_name: str
    rows_copied: int
    created_at: float
    time_updated: float
    transaction_timestamp: float
    time_heartbeat: float
    reason_throttled: str = ""
    copy_rate: float = 0.0
    copy_end: float = 0.0
    throttle: ThrottleLimits = ThrottleLimits()

    @property
    def frozen(self) -> bool:
        """True for the forward workflow after its writes were switched away."""
        return self.message == FROZEN


def ensure(connection: Connection) -> None:
    """Creates what is missing of the schema."""
    for statement in DDL:
        connection.execute(statement)
    ensure_columns(connection)


def ensure_columns(connection: Connection) -> None:
    """Adds the columns that tables made by an older version lack. Nothing is locked when none is missing."""
    rows = connection.query(
        "SELECT table_name AS tbl, column_name AS col FROM information_schema.columns WHERE table_schema=%s", [SCHEMA]
    )
    present = {(row["tbl"], row["col"]) for row in rows}
    tables = {table for table, _ in present}
    for (table, column), definition in ADDED_COLUMNS.items():
        if table in tables and (table, column) not in present:
            connection.execute(f"ALTER TABLE {SCHEMA}.{table} ADD COLUMN {column} {definition}")


def exists(connection: Connection) -> bool:
    """True when the schema is there."""
    return connection.value("SELECT 1 FROM information_schema.schemata WHERE schema_name=%s", [SCHEMA]) is not None


def _record(row: Row) -> StreamRecord:
    options = json.loads(row["options"])
    return StreamRecord(
        id=row["id"],
        keyspace=row["keyspace"],
        workflow=row["workflow"],
        source_keyspace=row["source_keyspace"],
        tables=tuple(json.loads(row["tables"])),
        on_ddl=OnDdl(options.get("on_ddl", "IGNORE")),
        pos=row["pos"],
        state=StreamState(row["state"]),
        message=row["message"],
        db_name=row["db_name"],
        source_db_name=row["source_db_name"],
        rows_copied=row["rows_copied"],
        created_at=row["created_at"],
        time_updated=row["time_updated"],
        transaction_timestamp=row["transaction_timestamp"],
        time_heartbeat=row["time_heartbeat"],
        reason_throttled=row.get("reason_throttled", ""),
        copy_rate=row.get("copy_rate", 0.0),
        copy_end=row.get("copy_end", 0.0),
        throttle=ThrottleLimits(**options.get("throttle", {})),
    )


def streams(connection: Connection, keyspace: str | None = None) -> list[StreamRecord]:
    """The streams that live on this server, of one keyspace or of all."""
    where, args = ("WHERE keyspace=%s", [keyspace]) if keyspace else ("", [])
    rows = connection.query(f"SELECT * FROM {SCHEMA}.vreplication {where} ORDER BY keyspace, workflow", args)
    return [_record(row) for row in rows]


def stream(connection: Connection, keyspace: str, workflow: str) -> StreamRecord | None:
    """The stream of one workflow, or None."""
    row = connection.one(f"SELECT * FROM {SCHEMA}.vreplication WHERE keyspace=%s AND workflow=%s", [keyspace, workflow])
    return _record(row) if row else None


def create_stream(
    connection: Connection,
    *,
    keyspace: str,
    workflow: str,
    source_keyspace: str,
    tables: Sequence[str],
    db_name: str,
    source_db_name: str,
    on_ddl: OnDdl = OnDdl.IGNORE,
    throttle: ThrottleLimits | None = None,
    pos: str = "",
    copy: bool,
) -> None:
    """Inserts a Stopped stream unless it is there; with `copy`, one copy_state row per table that is not copied yet.

    Without `copy` the stream starts at `pos` (a reverse stream).
    """
    now = time.time()
    options = json.dumps({"on_ddl": on_ddl.value, "throttle": asdict(throttle or ThrottleLimits())})
    with connection.transaction():
        connection.execute(
            f"INSERT IGNORE INTO {SCHEMA}.vreplication (keyspace, workflow, source_keyspace, tables, options, pos, "
            "state, message, db_name, source_db_name, created_at, time_updated) "
            "VALUES (%s,%s,%s,%s,%s,%s,%s,'',%s,%s,%s,%s)",
            [keyspace, workflow, source_keyspace, json.dumps(list(tables)), options, pos, StreamState.STOPPED.value,
             db_name, source_db_name, now, now],
        )  # fmt: skip
        record = stream(connection, keyspace, workflow)
        if record is None:
            raise MovetablesError(f"workflow {keyspace}.{workflow} vanished while it was created")
        if copy:
            for table in tables:
                connection.execute(
                    f"INSERT IGNORE INTO {SCHEMA}.copy_state (vrepl_id, table_name) VALUES (%s,%s)", [record.id, table]
                )
        log(connection, record.id, "Stream Created", StreamState.STOPPED, "")


def stream_lock(keyspace: str, workflow: str) -> str:
    """The name of the lock on the target's primary that whoever runs the stream holds."""
    name = f"movetables:stream:{keyspace}.{workflow}"
    return name if len(name) <= 64 else f"movetables:stream:{hashlib.sha256(name.encode()).hexdigest()[:40]}"


def set_state(connection: Connection, keyspace: str, workflow: str, state: StreamState, message: str = "") -> None:
    """Sets state and message of a stream; nothing when it is not there."""
    with connection.transaction():
        changed = connection.execute(
            f"UPDATE {SCHEMA}.vreplication SET state=%s, message=%s, time_updated=%s WHERE keyspace=%s AND workflow=%s",
            [state.value, message[:1000], time.time(), keyspace, workflow],
        )
        record = stream(connection, keyspace, workflow)
        if changed and record:
            log(connection, record.id, "State Changed", state, message)


def delete_stream(connection: Connection, keyspace: str, workflow: str) -> None:
    """Deletes a stream with everything recorded of it: copy state, log, VDiffs, markers."""
    record = stream(connection, keyspace, workflow)
    with connection.transaction():
        connection.execute(
            f"DELETE FROM {SCHEMA}.vdiff_table WHERE vdiff_id IN "
            f"(SELECT id FROM {SCHEMA}.vdiff WHERE keyspace=%s AND workflow=%s)",
            [keyspace, workflow],
        )
        connection.execute(f"DELETE FROM {SCHEMA}.vdiff WHERE keyspace=%s AND workflow=%s", [keyspace, workflow])
        if record is not None:
            for table in ("copy_state", "post_copy_action", "vreplication_log"):
                connection.execute(f"DELETE FROM {SCHEMA}.{table} WHERE vrepl_id=%s", [record.id])
            connection.execute(f"DELETE FROM {SCHEMA}.vreplication WHERE id=%s", [record.id])


def log(connection: Connection, stream_id: int, kind: str, state: StreamState, message: str) -> None:
    """Appends a line to the stream's log, such as ``State Changed``."""
    connection.execute(
        f"INSERT INTO {SCHEMA}.vreplication_log (vrepl_id, type, state, created_at, message) VALUES (%s,%s,%s,%s,%s)",
        [stream_id, kind, state.value, time.time(), message],
    )


def write_marker(connection: Connection, keyspace: str, workflow: str, purpose: str) -> str:
    """Commits a marker row on a source primary and returns its token.

    When this returns, everything before the marker in the binlog is visible to readers of that server. The stream of
    `keyspace`.`workflow` meets the marker as a row event of `_movetables.marker`. `purpose` is copy, vdiff or cutover:
    one row for each, so they do not disturb each other.
    """
    token = str(uuid.uuid4())
    connection.execute(
        f"REPLACE INTO {SCHEMA}.marker (keyspace, workflow, purpose, token, created_at) VALUES (%s,%s,%s,%s,%s)",
        [keyspace, workflow, purpose, token, time.time()],
    )
    return token


def delete_markers(connection: Connection, keyspace: str, workflow: str) -> None:
    """Removes the markers of a workflow from a source primary."""
    connection.execute(f"DELETE FROM {SCHEMA}.marker WHERE keyspace=%s AND workflow=%s", [keyspace, workflow])
