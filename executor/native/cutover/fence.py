"""Denied tables, enforced in the server: three triggers per table that refuse every write but our own.

The triggers are created under LOCK TABLES ... WRITE. Getting that lock waits for every open transaction that has used
the tables, so when it is granted nothing is in flight, and when it is released every later write meets the triggers.
A session that has set ``@movetables_apply`` passes: that is how streams write to fenced tables. TRUNCATE and DDL are
not stopped by triggers.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

from executor.errors import TimedOut
from executor.native.flavor import FENCE_MESSAGE
from executor.native.servers import Connection, Row, ServerError, quote

EVENTS = ("INSERT", "UPDATE", "DELETE")
PREFIX = "_movetables_fence_"

ER_LOCK_WAIT_TIMEOUT = 1205
ER_SPECIFIC_ACCESS_DENIED = 1227


def trigger_name(table: str, event: str) -> str:
    """The name of one fence trigger: short enough for a table name of 64 characters, one of a kind in its schema."""
    return f"{PREFIX}{event.lower()}_{hashlib.sha256(table.encode()).hexdigest()[:16]}"


def create_statements(database: str, table: str) -> tuple[str, ...]:
    """The statements that fence a table which has no fence."""
    return tuple(
        f"CREATE TRIGGER {quote(database)}.{quote(trigger_name(table, event))} BEFORE {event} "
        f"ON {quote(database)}.{quote(table)} FOR EACH ROW "
        f"IF @movetables_apply IS NULL THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{FENCE_MESSAGE}'; END IF"
        for event in EVENTS
    )


def drop_statements(database: str, table: str) -> tuple[str, ...]:
    """The statements that remove a table's fence, whole or in part."""
    return tuple(_drop_statement(database, table, event) for event in EVENTS)


def _drop_statement(database: str, table: str, event: str) -> str:
    return f"DROP TRIGGER IF EXISTS {quote(database)}.{quote(trigger_name(table, event))}"


def standing(connection: Connection, database: str) -> dict[str, set[str]]:
    """The fence triggers that stand in `database`, as ``{table: {event, ...}}``; see `is_fenced`."""
    found: dict[str, set[str]] = {}
    for row in _fence_triggers(connection, database):
        found.setdefault(row["tbl"], set()).add(row["event"])
    return found


def _fence_triggers(connection: Connection, database: str) -> list[Row]:
    return connection.query(
        "SELECT event_object_table AS tbl, event_manipulation AS event, trigger_name AS name "
        "FROM information_schema.triggers WHERE trigger_schema=%s AND trigger_name LIKE %s",
        [database, PREFIX.replace("_", r"\_") + "%"],
    )


def is_fenced(events: set[str] | None) -> bool:
    """True when the triggers of a table, as `standing` gives them, refuse every kind of write."""
    return events is not None and events == set(EVENTS)


def raise_fence(
    connection: Connection,
    database: str,
    tables: Sequence[str],
    timeout: float,
    on_wait: Callable[[str], None] = lambda _reason: None,
) -> None:
    """Fences `tables`; returns when no write of anybody else can happen any more. Idempotent.

    Tables whose triggers all stand are left alone, without a lock: they were created under one. So a cutover can be
    undone while a stream that was halted in the middle of a transaction still holds the fenced tables of the target.
    The lock is asked for with a short lock_wait_timeout and asked for again, so that a long transaction delays other
    clients by at most about a second at a time. Raises TimedOut after `timeout` seconds; some tables may keep some of
    their triggers then, and `lower_fence` removes them.
    """
    deadline = time.monotonic() + timeout
    present = standing(connection, database)
    if all(is_fenced(present.get(table)) for table in tables):
        return
    locks = ", ".join(f"{quote(database)}.{quote(table)} WRITE" for table in sorted(tables))
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimedOut(
                f"the tables {', '.join(sorted(tables))} could not be locked within {timeout:g}s: "
                f"{blockers(connection)}",
                "end the transaction that holds them, or raise cutover.timeout in the plan",
            )
        connection.execute(f"SET SESSION lock_wait_timeout={1 if left < 4 else 2}")
        try:
            connection.execute(f"LOCK TABLES {locks}")
            break
        except ServerError as error:
            if not error.transient:
                raise
            on_wait(f"waiting for open transactions on {', '.join(sorted(tables))}")
            time.sleep(0.1)  # lets the statements that queued behind our request go first
    try:
        present = standing(connection, database)
        for table in sorted(tables):
            if is_fenced(present.get(table)):
                continue
            for statement in (*drop_statements(database, table), *create_statements(database, table)):
                connection.execute(statement)
    finally:
        if connection.open:
            connection.execute("UNLOCK TABLES")


def lower_fence(connection: Connection, database: str, tables: Sequence[str], timeout: float = 30.0) -> None:
    """Removes the fence of `tables`, even if one was renamed since: its triggers went with it. Idempotent.

    Raises TimedOut when readers hold a table for `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    names = {row["name"] for row in _fence_triggers(connection, database)}
    for table in sorted(tables):
        for event in EVENTS:
            if trigger_name(table, event) in names:
                _until(connection, _drop_statement(database, table, event), deadline, table)


def _until(connection: Connection, statement: str, deadline: float, table: str) -> None:
    connection.execute("SET SESSION lock_wait_timeout=2")
    while True:
        try:
            connection.execute(statement)
            return
        except ServerError as error:
            if not error.transient or time.monotonic() > deadline:
                if error.errno == ER_LOCK_WAIT_TIMEOUT:
                    raise TimedOut(
                        f"the fence of {table} could not be removed: {blockers(connection)}",
                        "end the statement that uses the table, then apply again",
                    ) from error
                raise


def blockers(connection: Connection, waiting: int = 0) -> str:
    """The oldest open transactions but those of `connection` and of the connection `waiting`, in words for a user."""
    try:
        rows = _transactions(connection, waiting)
    except ServerError as error:
        if error.errno != ER_SPECIFIC_ACCESS_DENIED:
            raise
        return "what holds them can only be seen with the privilege PROCESS"
    if not rows:
        return "no open transaction is to be seen, perhaps a statement or LOCK TABLES holds them"
    return "open transactions: " + ", ".join(f"connection {row['id']} for {row['seconds']}s" for row in rows)


def _transactions(connection: Connection, waiting: int) -> list[Row]:
    return connection.query(
        "SELECT trx_mysql_thread_id AS id, TIMESTAMPDIFF(SECOND, trx_started, NOW()) AS seconds "
        "FROM information_schema.innodb_trx WHERE trx_mysql_thread_id NOT IN (CONNECTION_ID(), %s) "
        "ORDER BY trx_started LIMIT 3",
        [waiting],
    )
