"""A connection that receives a server's binlog as raw events.

Signing in and the session are PyMySQL's; the packets of the stream are read here, many per system call. What is asked
for is the flavour's: `dump_mariadb.py`, `dump_mysql.py`.
"""

from __future__ import annotations

import contextlib
import io
import select
import socket
import tempfile
import zlib
from collections.abc import Iterator
from itertools import chain

from executor.native.binlog import dump_mariadb, dump_mysql
from executor.native.binlog.events import HEADER, IN_USE, Event, EventType, Malformed
from executor.native.binlog.positions import GtidSet, Position, parse
from executor.native.flavor import MINIMUM_MARIADB, MINIMUM_MYSQL
from executor.native.servers import Login, ServerError, connect

_LOST = 2013  # CR_SERVER_LOST
_BINLOG_ERROR = 1236  # ER_MASTER_FATAL_ERROR_READING_BINLOG
_CHUNK = 1 << 18
_WHOLE_PACKET = 0xFFFFFF
_MISSED_HEARTBEATS = 10
_LEAST_TIMEOUT = 10.0
_FIRST_EVENT_TIMEOUT = 300.0  # the source looks for the position in its files before it sends anything
_COPY_AGAIN = (
    "the stream cannot go on from here, so the tables must be copied again: set the move to state absent, apply, set "
    "it back and apply; keep binlogs longer than a stream may stand still (binlog_expire_logs_seconds)"
)


class PositionLost(ServerError):
    """The source cannot continue after the position that was asked for: the log is gone, or it is another server's."""


class BinlogClient:
    """Receives every event after `position`. One thread reads; `close` may be called from any.

    `position` is a GTID list such as ``0-1-100,1-2-5``, `server_id` must be unique among the replicas of the source
    (the source ends an older stream of the same id), `heartbeat` is in seconds: the source says that it is idle that
    often. Raises Unreachable, and ServerError for a server that is too old or does not allow replication. That a
    position is lost (PositionLost) is mostly seen by `read` only.

    `written` is what the source had written when the stream began, where heartbeats before that do not mean that it is
    idle: a MySQL server also sends them while it looks for the position in its files. None elsewhere.
    """

    def __init__(self, login: Login, position: str, server_id: int, heartbeat: float = 0.5) -> None:
        self.login = login
        self.position = parse(position)
        if not self.position:
            raise ServerError(
                f"{login.name} ({login.address}): a stream needs a position to start from, and none was given",
                _BINLOG_ERROR,
                "SELECT @@global.gtid_binlog_pos (MySQL: gtid_executed) is the present position; it is empty while "
                "nothing was written",
            )
        self.written: Position | None = None
        self._checksum = False
        self._closed = False
        self._buffer = bytearray()
        self._at = 0
        self._timeout = max(_LEAST_TIMEOUT, _MISSED_HEARTBEATS * heartbeat)
        self._connection = connect(login)
        try:
            self._socket = self._dump(server_id, heartbeat)
        except BaseException:
            self._connection.close()
            raise

    def _dump(self, server_id: int, heartbeat: float) -> socket.socket:
        connection = self._connection
        flavor = connection.flavor
        if flavor.version < (MINIMUM_MARIADB if flavor.mariadb else MINIMUM_MYSQL):
            raise ServerError(
                f"{self.login.name} ({self.login.address}) is {flavor.name} {flavor.version[0]}.{flavor.version[1]}; "
                "streams read MariaDB 10.6 and later, and MySQL 8.4 and later",
                _BINLOG_ERROR,
                "use a later server as the source",
            )
        if isinstance(self.position, GtidSet) is flavor.mariadb:
            raise PositionLost(
                f"{self.login.name} ({self.login.address}) is {flavor.name}, which cannot continue after "
                f"{self.position.text}: that is a position of the other kind of server",
                _BINLOG_ERROR,
                _COPY_AGAIN,
            )
        if not flavor.mariadb:
            self.written = parse(connection.position())
        dump = dump_mariadb if flavor.mariadb else dump_mysql
        command, payload = dump.request(connection, self.position, server_id, heartbeat)
        self._checksum = connection.value("SELECT @master_binlog_checksum AS c") == "CRC32"
        # A new stream of the same server id waits for this one, if it is stuck, for as long as that.
        connection.execute("SET net_write_timeout = 120")
        raw = connection.raw
        raw._execute_command(command, payload)  # type: ignore[attr-defined]
        found: socket.socket = raw._sock  # type: ignore[attr-defined]
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        found.settimeout(_FIRST_EVENT_TIMEOUT)
        return found

    def read(self) -> Event:
        """The next event; blocks until one arrives.

        Raises PositionLost, and ServerError: `lost` when the connection broke, was closed, or nothing came for ten
        heartbeats (at least 10 s). Raises Malformed for an event that fails its checksum. The stream is over then.
        """
        packet = self._physical_packet()
        if len(packet) == _WHOLE_PACKET:
            if packet[0] == 0 and packet[5] == EventType.TRANSACTION_PAYLOAD:
                return self._payload(packet)
            packet = b"".join((packet, *self._continued()))
        if packet[0] == 0xFF:
            raise self._refused(packet)
        if packet[0] == 0xFE:
            raise self._lost("the source ended the stream")
        timestamp, kind, server_id, size, log_pos, flags = HEADER.unpack_from(packet, 1)
        end = len(packet)
        if size != end - 1:
            raise Malformed(f"{self.login.name}: an event of type {kind} says {size} bytes, and {end - 1} arrived")
        if kind == EventType.FORMAT:
            self._checksum = packet[end - 5] == 1
            if self._checksum:
                self._verify(packet, end, kind, log_pos, flags)
            return Event(kind, timestamp, server_id, log_pos, flags, packet[20:])
        if self._checksum:
            self._verify(packet, end, kind, log_pos, 0)
            end -= 4
        return Event(kind, timestamp, server_id, log_pos, flags, packet[20:end])

    def _verify(self, packet: bytes, end: int, kind: int, log_pos: int, flags: int) -> None:
        found = zlib.crc32(memoryview(packet)[1 : end - 4])
        if flags & IN_USE:  # the server sets this flag after it has computed the checksum
            plain = bytearray(packet[1 : end - 4])
            plain[17] &= ~IN_USE & 0xFF
            found = zlib.crc32(plain)
        self._compare(found, packet[end - 4 : end], kind, log_pos)

    def _compare(self, found: int, checksum: bytes, kind: int, log_pos: int) -> None:
        if found != int.from_bytes(checksum, "little"):
            raise Malformed(
                f"{self.login.name}: the event of type {kind} that ends at position {log_pos} fails its checksum",
                "the binlog file or the network is damaged: look at the source's error log and disks",
            )

    def pending(self) -> bool:
        """True when at least a part of a next event has already arrived, so that `read` will not wait for long."""
        if self._at < len(self._buffer):
            return True
        try:
            ready, _, _ = select.select([self._socket], [], [], 0)
        except (OSError, ValueError):  # closed by another thread: read() says so
            return True
        return bool(ready)

    def close(self) -> None:
        """Ends the stream; a `read` that waits in another thread raises ServerError (`lost`). May be called twice."""
        self._closed = True
        with contextlib.suppress(OSError):  # it was not connected any more
            self._socket.shutdown(socket.SHUT_RDWR)
        self._connection.raw._force_close()  # type: ignore[attr-defined]

    def _payload(self, packet: bytes) -> Event:
        """A transaction payload of more than 16 MiB: its body goes to disk as it arrives."""
        timestamp, kind, server_id, size, log_pos, flags = HEADER.unpack_from(packet, 1)
        left = size - 4 if self._checksum else size  # bytes that the checksum is of
        file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by whoever reads it)
        try:
            crc, arrived, body = 0, 0, packet[20:]
            parts = chain((packet[1:],), self._continued())
            for part in parts:
                crc = zlib.crc32(part[: max(0, left - arrived)], crc)
                arrived += len(part)
                file.write(body or part)
                body = b""
            if arrived != size:
                raise Malformed(f"{self.login.name}: a transaction payload says {size} bytes, and {arrived} arrived")
            if self._checksum:
                file.seek(-4, io.SEEK_END)
                self._compare(crc, file.read(4), kind, log_pos)
                file.truncate(file.tell() - 4)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return Event(kind, timestamp, server_id, log_pos, flags, b"", file)

    def _physical_packet(self) -> bytes:
        length = self._physical()
        start = self._at + 4
        self._at = start + length
        return bytes(memoryview(self._buffer)[start : start + length])

    def _continued(self) -> Iterator[bytes]:
        """The packets that continue one of 16 MiB - 1 bytes: the first that is shorter is the last."""
        while True:
            packet = self._physical_packet()
            yield packet
            if len(packet) < _WHOLE_PACKET:
                return

    def _physical(self) -> int:
        """Waits until one whole physical packet is in the buffer; returns its length."""
        self._fill(4)
        at = self._at
        length = int.from_bytes(self._buffer[at : at + 3], "little")
        self._fill(4 + length)
        return length

    def _fill(self, size: int) -> None:
        if len(self._buffer) - self._at >= size:
            return
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        while len(self._buffer) < size:
            try:
                chunk = self._socket.recv(max(_CHUNK, min(size - len(self._buffer), 1 << 22)))
            except TimeoutError as error:
                raise self._lost(f"nothing came for {self._socket.gettimeout():.0f} s, not even a heartbeat") from error
            except (OSError, ValueError) as error:
                raise self._lost(str(error)) from error
            if not chunk:
                raise self._lost("the source closed the connection")
            self._buffer += chunk
        if self._socket.gettimeout() == _FIRST_EVENT_TIMEOUT:
            self._socket.settimeout(self._timeout)

    def _lost(self, text: str) -> ServerError:
        if self._closed:
            text = "the stream was closed"
        return ServerError(f"{self.login.name} ({self.login.address}): replication stream lost: {text}", _LOST)

    def _refused(self, packet: bytes) -> ServerError:
        errno = int.from_bytes(packet[1:3], "little")
        message = packet[3:]
        if message[:1] == b"#":
            message = message[6:]
        text = message.decode("utf-8", "replace")
        # The next log cannot be found by a server whose history was reset while it sent the log before.
        lost = ("GTID" in text and "GTID_MODE" not in text) or "purged" in text or "could not find next log" in text
        if errno == _BINLOG_ERROR and lost:
            return PositionLost(
                f"{self.login.name} ({self.login.address}) cannot continue after {self.position.text}: {text} "
                f"(errno {errno})",
                errno,
                _COPY_AGAIN,
            )
        return ServerError(f"{self.login.name} ({self.login.address}): {text} (errno {errno})", errno)
