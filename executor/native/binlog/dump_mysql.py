"""Asks a MySQL server for its binlog: what a replica with ``SOURCE_AUTO_POSITION`` sends."""

from __future__ import annotations

import struct

from pymysql.constants import COMMAND

from executor.native.binlog.positions import GtidSet, Position
from executor.native.servers import Connection

_FIRST_EVENT = 4  # the offset that every file begins at; the set decides what is sent


def request(connection: Connection, position: Position, server_id: int, heartbeat: float) -> tuple[int, bytes]:
    """Prepares the session; returns (command, its payload). `heartbeat` in seconds."""
    # Servers before 8.0.26 know the old names only.
    for word in ("source", "master"):
        connection.execute(f"SET @{word}_binlog_checksum = @@global.binlog_checksum")
        connection.execute(f"SET @{word}_heartbeat_period = {int(heartbeat * 1_000_000_000)}")
    encoded = position.encoded if isinstance(position, GtidSet) else b""
    head = struct.pack("<HIIQI", 0, server_id, 0, _FIRST_EVENT, len(encoded))
    return COMMAND.COM_BINLOG_DUMP_GTID, head + encoded
