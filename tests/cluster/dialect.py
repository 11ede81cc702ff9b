"""Statements of tests: written for MariaDB, put into MySQL's words where it has others."""

from __future__ import annotations

import re

from executor.native.servers import Connection

_SEQUENCE = re.compile(r"\bseq_(\d+)_to_(\d+)(?:_step_(\d+))?\b(?! AS\b)")
_ROWS = (
    "(WITH RECURSIVE numbers (seq) AS (SELECT {first} UNION ALL SELECT seq + {step} FROM numbers "
    "WHERE seq + {step} <= {last}) SELECT seq FROM numbers) AS {name}"
)


def spoken(sql: str, connection: Connection) -> str:
    """`sql` for the server of `connection`: MariaDB's sequence tables (``seq_1_to_10``) are derived tables on MySQL.

    MySQL must have been prepared with `allow_sequences` for long ones.
    """
    return sql if connection.flavor.mariadb else _SEQUENCE.sub(_rows, sql)


def allow_sequences(connection: Connection) -> None:
    """Lets later connections to a MySQL server recurse as deep as a sequence of a test is long."""
    if not connection.flavor.mariadb:
        connection.execute("SET GLOBAL cte_max_recursion_depth=100000000")


def _rows(match: re.Match[str]) -> str:
    first, last, step = match.groups()
    return _ROWS.format(first=first, last=last, step=step or 1, name=match[0])


def wait_until_applied(replica: Connection, position: str) -> None:
    """Waits until a replica has applied everything up to `position`."""
    function = "MASTER_GTID_WAIT" if replica.flavor.mariadb else "WAIT_FOR_EXECUTED_GTID_SET"
    assert replica.value(f"SELECT {function}(%s, 15)", [position]) == 0, f"{position} was not applied"
