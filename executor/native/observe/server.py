"""The facts of one server that decide whether tables can be moved from or to it."""

from __future__ import annotations

import os
from pathlib import Path

from executor.native.flavor import CASCADES_VARIABLE
from executor.native.observe.privileges import missing_privileges
from executor.native.servers import Connection
from planner.cluster import Server

_VARIABLES = (
    "log_bin",
    "binlog_format",
    "binlog_row_image",
    "binlog_row_metadata",
    "binlog_order_commits",
    "read_only",
    "gtid_mode",
    CASCADES_VARIABLE,
    "lower_case_table_names",
    "sql_require_primary_key",
    "max_allowed_packet",
    "local_infile",
)


def observe_server(connection: Connection, database: str, data_dir: Path | None) -> Server:
    """Facts of the server behind `connection`; privileges as needed on `database`.

    `data_dir` is the server's data folder when it is on this machine, for its free space. Raises ServerError.
    """
    variables = {
        row["Variable_name"]: row["Value"]
        for row in connection.query(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN {_VARIABLES}")
    }
    mariadb = connection.flavor.mariadb
    return Server(
        address=connection.login.address,
        flavor=connection.flavor.name,
        version=str(connection.value("SELECT VERSION()")),
        uuid=str(connection.value(connection.flavor.uuid_sql)),
        log_bin=variables.get("log_bin") == "ON",
        binlog_format=variables.get("binlog_format", "ROW"),
        binlog_row_image=variables.get("binlog_row_image", "FULL"),
        binlog_row_metadata=variables.get("binlog_row_metadata", "NO_LOG"),
        # MariaDB has no such switch: InnoDB's commit_ordered always makes commits visible in binlog order.
        binlog_order_commits=mariadb or variables.get("binlog_order_commits") == "ON",
        gtid=mariadb or variables.get("gtid_mode") == "ON",
        logs_cascades=variables.get(CASCADES_VARIABLE) == "OFF",
        read_only=variables.get("read_only", "OFF") != "OFF",
        lower_case_table_names=int(variables.get("lower_case_table_names", "0")),
        requires_primary_key=variables.get("sql_require_primary_key") == "ON",
        max_allowed_packet=int(variables.get("max_allowed_packet", "0")),
        local_infile=variables.get("local_infile") == "ON",
        missing_privileges=missing_privileges(connection, database),
        free_bytes=_free_bytes(data_dir),
    )


def _free_bytes(data_dir: Path | None) -> int | None:
    if data_dir is None:
        return None
    try:
        stat = os.statvfs(data_dir)
    except OSError:
        return None  # not made yet; None means unknown
    return stat.f_bavail * stat.f_frsize
