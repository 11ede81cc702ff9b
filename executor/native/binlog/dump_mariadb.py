"""Asks a MariaDB server for its binlog: what a replica with GTIDs and capability 4 sends."""

from __future__ import annotations

import struct

from pymysql.constants import COMMAND

from executor.native.binlog.positions import Position
from executor.native.servers import Connection

_CAPABILITY_GTID = 4


def request(connection: Connection, position: Position, server_id: int, heartbeat: float) -> tuple[int, bytes]:
    """Prepares the session; returns (command, its payload). `heartbeat` in seconds."""
    connection.execute("SET @master_binlog_checksum = @@global.binlog_checksum")
    connection.execute(f"SET @mariadb_slave_capability = {_CAPABILITY_GTID}")
    connection.execute(f"SET @master_heartbeat_period = {int(heartbeat * 1_000_000_000)}")
    connection.execute("SET @slave_connect_state = %s", (position.resume.text,))
    connection.execute("SET @slave_gtid_strict_mode = 1")
    connection.execute("SET @slave_gtid_ignore_duplicates = 0")
    return COMMAND.COM_BINLOG_DUMP, struct.pack("<IHI", 4, 0, server_id)
