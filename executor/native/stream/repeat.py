"""Repeats a DDL statement of the source on the target, once, whatever is killed when.

DDL commits by itself, so it cannot be atomic with the stream's position. What the tables looked like before is noted
in the stream's log first. A stream that meets a statement again that it has noted tells by the definitions whether it
took effect: servers do ALTER, TRUNCATE and CREATE INDEX as a whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import re

from executor.crashpoints import reached
from executor.errors import MovetablesError
from executor.native import sidecar
from executor.native.binlog.transactions import Statement
from executor.native.flavor import ER_NO_SUCH_TABLE, STRICT_SQL_MODE
from executor.native.servers import Connection, ServerError, quote
from executor.native.stream.ddl import without_database
from planner.cluster import StreamState

_LOG = "DDL"
_MODES = {
    1 << 0: "REAL_AS_FLOAT",
    1 << 1: "PIPES_AS_CONCAT",
    1 << 2: "ANSI_QUOTES",
    1 << 3: "IGNORE_SPACE",
    1 << 20: "NO_BACKSLASH_ESCAPES",
}
"""Bits of a logged sql_mode that decide what a statement means; the others decide what is an error."""
_UNPREDICTABLE = re.compile(
    r"\b(?:UUID|UUID_SHORT|SYS_GUID|RAND|CONNECTION_ID|USER|CURRENT_USER)\s*\(\s*\)|\b(?:RANDOM_BYTES|SYSDATE)\s*\("
    r"|(?<!ON UPDATE )\b(?:NOW|CURRENT_TIMESTAMP|LOCALTIME|LOCALTIMESTAMP|CURRENT_TIME|UTC_TIMESTAMP)\s*\(\s*[1-6]\s*\)"
    r"|(?<!CURRENT_)\bTIMESTAMP\b[^,]*\bDEFAULT\s+['\"]|\b(?:MODIFY|CHANGE)\b[^,]*\sTIMESTAMP\b",
    re.IGNORECASE,
)


class Repeater:
    """Runs statements on the target of the stream `record`, on the applier's `connection` while nothing is open."""

    def __init__(self, connection: Connection, record: sidecar.StreamRecord) -> None:
        self._connection = connection
        self._record = record

    def run(self, statement: Statement, gtid: str, timestamp: int) -> None:
        """Runs `statement`, which the source ran as `gtid` at `timestamp` (Unix seconds), unless it took effect before.

        Raises ServerError when the connection broke or the same may succeed later, MovetablesError when the target
        refuses it, or when what it does to the rows cannot be told from its text.
        """
        sql = _runnable(statement, self._record.source_db_name)
        before = self._definitions()
        noted = self._noted(gtid)
        if noted is not None and noted != before:
            sidecar.log(self._connection, self._record.id, "DDL Found Done", StreamState.RUNNING, gtid)
            return
        if noted is None:
            text = json.dumps({"gtid": gtid, "before": before, "sql": sql[:10_000]})
            sidecar.log(self._connection, self._record.id, _LOG, StreamState.RUNNING, text)
        reached("stream:ddl_noted")
        try:
            self._execute(sql, statement.sql_mode or 0, timestamp)
        except ServerError as error:
            if not error.curable:
                self._forget()
                raise MovetablesError(error.message, error.hint) from error
            raise
        reached("stream:ddl_done")

    def _execute(self, sql: str, sql_mode: int, timestamp: int) -> None:
        modes = ",".join([STRICT_SQL_MODE, *(name for bit, name in _MODES.items() if sql_mode & bit)])
        # As native replication does: DEFAULT CURRENT_TIMESTAMP gives the rows that are there the same time.
        self._connection.execute(f"SET sql_mode='{modes}', timestamp={timestamp or 'DEFAULT'}")
        try:
            self._connection.execute(f"USE {quote(self._record.db_name)}")
            self._connection.execute(sql)
        finally:
            if self._connection.open:
                self._connection.execute(f"SET sql_mode='{STRICT_SQL_MODE}', timestamp=DEFAULT")

    def _noted(self, gtid: str) -> str | None:
        text = self._connection.value(
            f"SELECT message FROM {sidecar.SCHEMA}.vreplication_log WHERE vrepl_id=%s AND type=%s "
            "ORDER BY id DESC LIMIT 1",
            [self._record.id, _LOG],
        )
        note = json.loads(text) if text else {}
        return str(note["before"]) if note.get("gtid") == gtid else None

    def _forget(self) -> None:
        self._connection.execute(
            f"DELETE FROM {sidecar.SCHEMA}.vreplication_log WHERE vrepl_id=%s AND type=%s", [self._record.id, _LOG]
        )

    def _definitions(self) -> str:
        """A digest of how all tables of the stream are defined; the next AUTO_INCREMENT does not count."""
        digest = hashlib.sha256()
        for table in sorted(self._record.tables):
            try:
                row = self._connection.one(f"SHOW CREATE TABLE {quote(self._record.db_name)}.{quote(table)}")
            except ServerError as error:
                if error.errno != ER_NO_SUCH_TABLE:
                    raise
                row = None
            text = str(row["Create Table"]) if row else "missing"
            digest.update(re.sub(r"\bAUTO_INCREMENT=\d+ ?", "", text).encode() + b"\0")
        return digest.hexdigest()


def _runnable(statement: Statement, database: str) -> str:
    """The text to run in the target's database. Raises MovetablesError when it would not do there what it did."""
    try:
        sql = statement.raw.decode("ascii")
    except UnicodeDecodeError:
        sql = _decoded(statement)
    if _UNPREDICTABLE.search(sql):
        raise MovetablesError(
            f"rows would get other values than on the source, because it reads a clock, a time zone or chance: "
            f"{sql[:200]}",
            "the table must be copied again: set the move to state absent, apply, set it back and apply",
        )
    # Left qualified, it would be done to the source once more on a server that holds both databases.
    return without_database(sql, database, statement.sql_mode)


def _decoded(statement: Statement) -> str:
    try:
        return statement.raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MovetablesError(
            f"the statement is not in UTF-8: {statement.sql[:200]}",
            "run it on the target by hand, in the same character set, and set on_ddl: EXEC_IGNORE until it was passed",
        ) from error
