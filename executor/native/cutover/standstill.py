"""What a stream waits for at this moment, as its target shows it: who runs it, and what their statement stands at."""

from __future__ import annotations

import re
import time

from executor.native import sidecar
from executor.native.cutover.fence import blockers
from executor.native.servers import Connection, Row, ServerError
from planner.cluster import StreamState

LONG_SECONDS = 3
SILENT_SECONDS = 5.0
SHOWN = 100
ER_SPECIFIC_ACCESS_DENIED = 1227
_FOLLOWING = (StreamState.RUNNING, StreamState.COPYING)
_VALUES = re.compile(r"\s+(?:VALUES|WHERE|SELECT)\b.*", re.DOTALL | re.IGNORECASE)


def standstill(connection: Connection, record: sidecar.StreamRecord) -> str:
    """What holds the stream of `record`, which lives behind `connection`; "" when nothing does that can be seen.

    A statement of the stream's own, or of its copy, that has run for `LONG_SECONDS` is named with what it waits for;
    values of rows are not shown. That nobody runs the stream is said when it has shown no sign of life for
    `SILENT_SECONDS`. Raises ServerError.
    """
    if record.state not in _FOLLOWING:
        return ""
    runner = connection.value("SELECT IS_USED_LOCK(%s)", [sidecar.stream_lock(record.keyspace, record.workflow)])
    if runner is None:
        alive = max(record.time_updated, record.time_heartbeat)
        silent = time.time() - alive > SILENT_SECONDS
        return "no process runs this stream: is `movetables serve` running?" if silent else ""
    rows = [row for row in connection.processes() if _long(row) and _ours(row, int(runner), record)]
    if not rows:
        return _large_transaction(connection, int(runner))
    longest = max(rows, key=lambda row: int(row["Time"]))
    text = f"{connection.login.name} has been at a statement for {longest['Time']} s ({longest['State'] or 'running'}"
    if progress := float(longest.get("Progress") or 0):
        text += f", {progress:.0f} % of this stage"
    return f"{text}): {_shown(longest)}{_waited_for(connection, longest)}"


def _large_transaction(connection: Connection, runner: int) -> str:
    row = _transaction(connection, runner)
    if row is None or row["seconds"] < LONG_SECONDS:
        return ""
    return f"one transaction of the source is being written for {row['seconds']} s, {row['changes']:,} rows so far"


def _long(row: Row) -> bool:
    return row["Command"] == "Query" and int(row["Time"] or 0) >= LONG_SECONDS


def _ours(row: Row, runner: int, record: sidecar.StreamRecord) -> bool:
    """The statement of the connection that holds the stream's lock, or one that copies into the stream's database."""
    text = str(row["Info"] or "")
    copies = text.startswith(("REPLACE", "INSERT", "LOAD DATA", "ALTER TABLE")) and f"`{record.db_name}`." in text
    return row["Id"] == runner or (copies and record.state is StreamState.COPYING)


def _shown(row: Row) -> str:
    text = _VALUES.sub(" ...", " ".join(str(row["Info"] or "").split()))
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def _waited_for(connection: Connection, row: Row) -> str:
    """Which transactions are open when the statement stands at a lock."""
    found = _transaction(connection, int(row["Id"]))
    if (found is not None and found["state"] == "LOCK WAIT") or "lock" in str(row["State"]).lower():
        return f"; it waits for a lock: {blockers(connection, int(row['Id']))}"
    return ""


def _transaction(connection: Connection, thread_id: int) -> Row | None:
    try:
        return connection.one(
            "SELECT trx_state AS state, trx_rows_modified AS changes, "
            "TIMESTAMPDIFF(SECOND, trx_started, NOW()) AS seconds "
            "FROM information_schema.innodb_trx WHERE trx_mysql_thread_id=%s",
            [thread_id],
        )
    except ServerError as error:
        if error.errno != ER_SPECIFIC_ACCESS_DENIED:
            raise
        return None
