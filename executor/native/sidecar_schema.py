"""The tables of the sidecar, made and brought up to date: an older version of movetables may have made them."""

from __future__ import annotations

import re

from executor.errors import MovetablesError
from executor.native.servers import Connection, ServerError

SCHEMA = "_movetables"
ER_DUP_FIELDNAME = 1060
ER_TABLEACCESS_DENIED = 1142

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

ADDED = frozenset(
    {
        ("vreplication", "time_throttled"),
        ("vreplication", "reason_throttled"),
        ("vreplication", "copy_rate"),
        ("vreplication", "copy_end"),
        ("copy_state", "bytes_copied"),
    }
)
"""Columns that tables made by version 0.1 lack, and that may be added to rows which are there."""


class WrongSidecar(MovetablesError):
    """The sidecar's tables are not those of this version, and cannot be made so."""


def declared() -> dict[str, dict[str, str]]:
    """The columns of every table, as ``{table: {column: definition}}``, as `DDL` has them."""
    found = {}
    for statement in DDL[1:]:
        name, body = re.split(r"\s*\(", statement, maxsplit=1)
        parts = re.split(r",\s*(?![^(]*\))", body[: body.rindex(")")])
        columns = (part.strip().split(None, 1) for part in parts)
        found[name.rpartition(".")[2]] = {column: rest for column, rest in columns if column.islower()}
    return found


def ensure(connection: Connection) -> None:
    """Creates what is missing of the schema, and adds the columns that tables of an older version lack.

    Nothing is written, and nothing locked, when all is there. Raises WrongSidecar when a table lacks a column that
    cannot be added, or when our user may not add it.
    """
    present = _present(connection)
    lacking = _lacking(connection, present)
    if set(declared()) - set(present):
        for statement in DDL:
            connection.execute(statement)
    for table, column in lacking:
        _add(connection, table, column)


def check(connection: Connection) -> None:
    """Raises WrongSidecar when the schema cannot be read: a table, or a column that was always there, is missing."""
    present = _present(connection)
    _lacking(connection, present)
    if missing := sorted(set(declared()) - set(present)):
        raise WrongSidecar(
            f"the schema {SCHEMA} of {connection.login.name} lacks the tables {', '.join(missing)}",
            "start `movetables serve` of this version: it makes them",
        )


def _present(connection: Connection) -> dict[str, set[str]]:
    rows = connection.query(
        "SELECT table_name AS tbl, column_name AS col FROM information_schema.columns WHERE table_schema=%s", [SCHEMA]
    )
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["tbl"], set()).add(row["col"])
    return found


def _lacking(connection: Connection, present: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Columns to be added. Raises WrongSidecar for one that must be there."""
    lacking = [
        (table, column)
        for table, columns in declared().items()
        for column in columns
        if table in present and column not in present[table]
    ]
    unknown = [f"{table}.{column}" for table, column in lacking if (table, column) not in ADDED]
    if unknown:
        raise WrongSidecar(
            f"the schema {SCHEMA} of {connection.login.name} was not made by a version that this one knows: "
            f"{', '.join(unknown)} is missing",
            "cancel or complete its moves with the version that began them; or, if there are none: "
            f"DROP DATABASE {SCHEMA}",
        )
    return lacking


def _add(connection: Connection, table: str, column: str) -> None:
    statement = f"ALTER TABLE {SCHEMA}.{table} ADD COLUMN {column} {declared()[table][column]}"
    try:
        connection.execute(statement)
    except ServerError as error:
        if error.errno == ER_TABLEACCESS_DENIED:
            raise WrongSidecar(
                f"{SCHEMA}.{table} of {connection.login.name} was made by an older version, and our user may not add "
                f"column {column}: {error.message}",
                f"GRANT ALTER ON {SCHEMA}.* to it, or as an administrator: {statement}",
            ) from error
        if error.errno != ER_DUP_FIELDNAME:  # another process was quicker
            raise
