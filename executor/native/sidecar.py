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
from executor.native.sidecar_schema import SCHEMA as SCHEMA
from executor.native.sidecar_schema import check as check
from executor.native.sidecar_schema import ensure as ensure
from planner.cluster import StreamState
from planner.document import OnDdl

FROZEN = "FROZEN"


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
    `keyspace`.`workflow` meets the marker as a row event of `_movetables.marker`. `purpose` is copy, vdiff, cutover or
    silence: one row for each, so they do not disturb each other.
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
