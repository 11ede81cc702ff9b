"""What the binlog alone does not tell about a source: what a statement reaches, how tables are defined, its clock.

Each function opens a connection of its own: they are needed seldom.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from executor.native.flavor import CASCADES_VARIABLE
from executor.native.servers import Connection, Login, connect
from executor.native.stream.layout import TableLayout, describe_tables
from planner.cluster import Column

TIMEOUT = 10.0
LACKS_SECONDS = 20.0
_REACHING = (
    ("view", "SELECT table_name AS name FROM information_schema.views WHERE table_name IN %s"),
    ("trigger of", "SELECT event_object_table AS name FROM information_schema.triggers WHERE event_object_table IN %s"),
    ("routine", "SELECT routine_name AS name FROM information_schema.routines WHERE routine_name IN %s"),
)


def reaches_further(source: Login, names: Collection[str]) -> str:
    """What one of `names` is that may change other tables than it names: ``view v``; '' when nothing is.

    A change through a view, and what a trigger or a function does, is not told by the text of the statement that
    caused it. When no table has any of the names now, it may have been a view. Raises ServerError.
    """
    if not names:
        return ""
    with connect(source, read_timeout=TIMEOUT) as connection:
        for kind, sql in _REACHING:
            found = connection.value(sql, [tuple(sorted(names))])
            if found is not None:
                return f"{kind} {found}"
        tables = "SELECT 1 FROM information_schema.tables WHERE table_type='BASE TABLE' AND table_name IN %s LIMIT 1"
        gone = connection.value(tables, [tuple(sorted(names))]) is None
    return "something that is gone" if gone else ""


def differing(source: Login, database: str, layouts: Sequence[TableLayout]) -> str:
    """The first column of which the same bytes mean something else on both sides, described; '' when there is none.

    Rows come as bytes of the source's character set and as numbers of ENUM and SET members. Raises ServerError.
    """
    with connect(source, read_timeout=TIMEOUT) as connection:
        tables = {table.name: table for table in describe_tables(connection, database, [t.name for t in layouts])}
    for layout in layouts:
        if layout.name not in tables:
            continue
        here = {column.name: column for column in tables[layout.name].columns}
        for there in layout.columns:
            column = here.get(there.name)
            if column is not None and (why := _difference(column, there)):
                return f"{layout.name}.{there.name} {why}"
    return ""


def _difference(here: Column, there: Column) -> str:
    if here.charset and there.charset and _charset(here) != _charset(there):
        return f"is in {here.charset} on the source and in {there.charset} on the target"
    listed = here.data_type in ("enum", "set") and there.data_type == here.data_type
    if listed and not there.column_type.startswith(here.column_type.rstrip(")")):
        return f"is {here.column_type} on the source and {there.column_type} on the target"
    return ""


def _charset(column: Column) -> str:
    return {"utf8": "utf8mb3"}.get(column.charset or "", column.charset or "")


def logs_cascades(source: Login) -> bool:
    """True when what foreign keys change by themselves is in the source's binlog. Raises ServerError."""
    with connect(source, read_timeout=TIMEOUT) as connection:
        row = connection.one("SHOW GLOBAL VARIABLES LIKE %s", [CASCADES_VARIABLE])
    return row is not None and row["Value"] == "OFF"


def lacks(source: Login, position: str, stopping: Callable[[], bool]) -> str:
    """What of `position` the source does not have, '' when it has everything. Raises ServerError.

    Asked again for some seconds: a server sends a transaction before it counts it as done. Only MySQL needs to be
    asked: it goes on behind a position that it never reached, while MariaDB refuses.
    """
    deadline = time.monotonic() + LACKS_SECONDS
    with connect(source, read_timeout=TIMEOUT) as connection:
        while not connection.flavor.mariadb:
            sql = "SELECT GTID_SUBTRACT(%s, @@global.gtid_executed)"
            lacking = str(connection.value(sql, [position]) or "")
            if not lacking or time.monotonic() > deadline or stopping():
                return lacking
            time.sleep(0.05)
    return ""


def clock_offset(server: Login) -> float:
    """Seconds that this machine's clock is ahead of `server`'s. Raises ServerError."""
    with connect(server, read_timeout=TIMEOUT) as connection:
        return offset_of(connection)


def offset_of(connection: Connection) -> float:
    """Seconds that this machine's clock is ahead of the server's behind `connection`. Raises ServerError."""
    before = time.time()
    theirs = float(connection.value("SELECT UNIX_TIMESTAMP(NOW(6))"))
    return (before + time.time()) / 2 - theirs
