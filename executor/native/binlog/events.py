"""Binlog events, parsed from bytes.

The layouts are those of MariaDB's ``sql/log_event.h`` and MySQL's ``libs/mysql/binlog/event``; the types below 160 mean
the same in both, those above are MariaDB's. Every event type that is not known to be harmless is an error: an event
that is skipped without understanding it may be a change that is lost.
"""

from __future__ import annotations

import enum
import struct
import zlib
from dataclasses import dataclass
from typing import IO

from executor.errors import MovetablesError

HEADER = struct.Struct("<IBIIIH")  # timestamp, type, server id, size, end position, flags
ARTIFICIAL = 0x20  # header flag: made up by the sender, not in the file
IN_USE = 0x01  # header flag of a format event: the file is still open
IGNORABLE = 0x80  # header flag: whoever does not know the event may skip it


class UnknownEvent(MovetablesError):
    """An event of a type that is not known to be harmless."""


class Unsupported(MovetablesError):
    """Something in the log that the stream cannot carry over faithfully."""


class Malformed(MovetablesError):
    """Bytes that are not what the format of their event says."""


class EventType(enum.IntEnum):
    """The event types that the stream knows."""

    QUERY = 2
    STOP = 3
    ROTATE = 4
    INTVAR = 5
    APPEND_BLOCK = 9
    DELETE_FILE = 11
    RAND = 13
    USER_VAR = 14
    FORMAT = 15
    XID = 16
    BEGIN_LOAD_QUERY = 17
    EXECUTE_LOAD_QUERY = 18
    TABLE_MAP = 19
    WRITE_ROWS_V1 = 23
    UPDATE_ROWS_V1 = 24
    DELETE_ROWS_V1 = 25
    INCIDENT = 26
    HEARTBEAT = 27
    IGNORABLE = 28
    ROWS_QUERY = 29
    WRITE_ROWS = 30
    UPDATE_ROWS = 31
    DELETE_ROWS = 32
    GTID_LOG = 33
    ANONYMOUS_GTID = 34
    PREVIOUS_GTIDS = 35
    TRANSACTION_CONTEXT = 36
    VIEW_CHANGE = 37
    XA_PREPARE = 38
    PARTIAL_UPDATE_ROWS = 39
    TRANSACTION_PAYLOAD = 40
    HEARTBEAT_V2 = 41
    GTID_TAGGED = 42
    ANNOTATE_ROWS = 160
    BINLOG_CHECKPOINT = 161
    GTID = 162
    GTID_LIST = 163
    START_ENCRYPTION = 164
    QUERY_COMPRESSED = 165
    WRITE_ROWS_COMPRESSED_V1 = 166
    UPDATE_ROWS_COMPRESSED_V1 = 167
    DELETE_ROWS_COMPRESSED_V1 = 168
    WRITE_ROWS_COMPRESSED = 169
    UPDATE_ROWS_COMPRESSED = 170
    DELETE_ROWS_COMPRESSED = 171


class RowsKind(enum.Enum):
    """What happened to the rows of one event."""

    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


_I, _U, _D = RowsKind.INSERT, RowsKind.UPDATE, RowsKind.DELETE
ROWS: dict[int, tuple[RowsKind, int, bool]] = {
    23: (_I, 8, False),
    24: (_U, 8, False),
    25: (_D, 8, False),
    30: (_I, 10, False),
    31: (_U, 10, False),
    32: (_D, 10, False),
    39: (_U, 10, False),
    166: (_I, 8, True),
    167: (_U, 8, True),
    168: (_D, 8, True),
    169: (_I, 10, True),
    170: (_U, 10, True),
    171: (_D, 10, True),
}
"""Rows event types: what they did, the length of the post-header, whether the images are compressed."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it came: header fields, and the body without header and checksum.

    `timestamp` in Unix seconds of the source's clock, `log_pos` the end of the event in its file (0 if artificial).
    `file` holds the body of a transaction payload that is too large for memory; `body` is empty then.
    """

    type: int
    timestamp: int
    server_id: int
    log_pos: int
    flags: int
    body: bytes
    file: IO[bytes] | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """Row images of one statement, not decoded.

    `body` begins with the null bits of the first image. `width` is the number of columns; `before` and `after` are the
    bitmaps of the columns present in those images (b'' where the kind has no such image). `as_logged` is False when
    `body` was put together here, as no server would write it (see `partial.py`).
    """

    kind: RowsKind
    table_id: int
    flags: int
    width: int
    before: bytes
    after: bytes
    body: bytes
    as_logged: bool = True

    @property
    def full(self) -> bool:
        """True when every image has every column: ``binlog_row_image=FULL``."""
        whole = (1 << self.width) - 1
        return all(int.from_bytes(bits, "little") & whole == whole for bits in (self.before, self.after) if bits)


@dataclass(frozen=True, slots=True)
class Query:
    """A statement: DDL, the end of a transaction, or a change logged as a statement.

    `sql` is in the client's character set `charset` (a collation number; None if not logged), `sql_mode` a number.
    """

    database: str
    sql: bytes
    error: int
    sql_mode: int | None
    charset: int | None

    @property
    def text(self) -> str:
        """The statement for reading: bytes that are not UTF-8 are shown as escapes."""
        return self.sql.decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class Format:
    """How the events of a binlog file look; the server tells when it begins. `body` is that of the whole event."""

    server_version: str
    body: bytes

    @property
    def mariadb(self) -> bool:
        """True when MariaDB wrote the file."""
        return "MariaDB" in self.server_version


@dataclass(frozen=True, slots=True)
class Rotate:
    """The next events come from another file."""

    file: str
    position: int


@dataclass(frozen=True, slots=True)
class XaPrepare:
    """The end of the first part of an XA transaction, or of an XA transaction committed in one phase."""

    one_phase: bool
    name: str


def xa_name(form: int, gtrid: bytes, bqual: bytes) -> str:
    """The name of an XA transaction as both servers write it in their statements: ``X'61',X'',1``."""
    return f"X'{gtrid.hex()}',X'{bqual.hex()}',{form}"


def where(event: Event) -> str:
    """Where an event is, for messages."""
    return f"an event of type {event.type} that ends at binlog position {event.log_pos}"


def unknown(event: Event) -> UnknownEvent:
    """The error for an event whose type is not known to be harmless."""
    name = EventType(event.type).name if event.type in EventType.__members__.values() else "unknown"
    return UnknownEvent(
        f"the binlog holds {where(event)} ({name}), written by server id {event.server_id}; it may hold changes "
        "that this version cannot read",
        "sources are MariaDB 10.6 and later, with unencrypted binlogs, and MySQL 8.4 and later",
    )


def lenenc(body: bytes, at: int) -> tuple[int, int]:
    """A length-encoded integer at `at`: (value, offset behind it)."""
    first = body[at]
    if first < 251:
        return first, at + 1
    size = {252: 2, 253: 3, 254: 8}.get(first)
    if size is None:
        raise Malformed(f"a length of the binlog begins with byte {first}")
    return int.from_bytes(body[at + 1 : at + 1 + size], "little"), at + 1 + size


def uncompress(data: bytes) -> bytes:
    """What MariaDB compressed with ``log_bin_compress``: a header byte, the length (big-endian), zlib data."""
    if not data or data[0] & 0xF0 != 0x80:
        raise Malformed(f"compressed binlog data begins with {data[:1].hex() or 'nothing'}; only zlib (80) is known")
    start = 1 + (data[0] & 7)
    size = int.from_bytes(data[1:start], "big")
    plain = zlib.decompress(data[start:])
    if len(plain) != size:
        raise Malformed(f"compressed binlog data holds {len(plain)} bytes, and {size} were announced")
    return plain


def parse_rows(event: Event) -> Rows:
    """A rows event of any version, compressed or not. Images are not looked at, nor made whole (`partial.py`)."""
    kind, post_header, compressed = ROWS[event.type]
    body = event.body
    table_id = int.from_bytes(body[:6], "little")
    (flags,) = struct.unpack_from("<H", body, 6)
    at = post_header
    if post_header == 10:
        at = 8 + int.from_bytes(body[8:10], "little")
    width, at = lenenc(body, at)
    size = (width + 7) // 8
    first = body[at : at + size]
    at += size
    second = b""
    if kind is RowsKind.UPDATE:
        second = body[at : at + size]
        at += size
    data = uncompress(body[at:]) if compressed else body[at:]
    if kind is RowsKind.INSERT:
        return Rows(kind, table_id, flags, width, b"", first, data)
    return Rows(kind, table_id, flags, width, first, second, data)


def parse_query(event: Event) -> Query:
    """A QUERY, QUERY_COMPRESSED or EXECUTE_LOAD_QUERY event."""
    body = event.body
    _thread, _seconds, database_length, error, status_length = struct.unpack_from("<IIBHH", body)
    at = 26 if event.type == EventType.EXECUTE_LOAD_QUERY else 13
    status = body[at : at + status_length]
    at += status_length
    database = body[at : at + database_length].decode("utf-8", "backslashreplace")
    sql = body[at + database_length + 1 :]
    if event.type == EventType.QUERY_COMPRESSED:
        sql = uncompress(sql)
    sql_mode, charset = _status(status)
    return Query(database, sql, error, sql_mode, charset)


def _status(status: bytes) -> tuple[int | None, int | None]:
    """`sql_mode` and client collation from a query's status variables; they come before any that we do not know."""
    sql_mode: int | None = None
    charset: int | None = None
    fixed = {0: 4, 3: 4, 7: 2, 8: 2, 9: 8, 10: 4, 13: 3, 128: 3, 129: 8}
    at = 0
    while at < len(status):
        code = status[at]
        at += 1
        if code == 1:
            sql_mode = int.from_bytes(status[at : at + 8], "little")
            at += 8
        elif code == 4:
            charset = int.from_bytes(status[at : at + 2], "little")
            at += 6
        elif code == 2:
            at += status[at] + 2
        elif code in (5, 6):
            at += status[at] + 1
        elif code in fixed:
            at += fixed[code]
        else:
            break
    return sql_mode, charset


def parse_format(body: bytes) -> Format:
    """A FORMAT_DESCRIPTION event's body including what follows it: one byte of checksum kind and 4 bytes."""
    _version, server = struct.unpack_from("<H50s", body)
    return Format(server.rstrip(b"\0").decode("ascii", "replace"), body)


def parse_rotate(event: Event) -> Rotate:
    """A ROTATE event."""
    return Rotate(event.body[8:].decode("utf-8", "replace"), int.from_bytes(event.body[:8], "little"))


def parse_xa_prepare(event: Event) -> XaPrepare:
    """An XA_PREPARE event."""
    one_phase, form, gtrid_length, bqual_length = struct.unpack_from("<BIII", event.body)
    middle = 13 + gtrid_length
    gtrid, bqual = event.body[13:middle], event.body[middle : middle + bqual_length]
    return XaPrepare(bool(one_phase), xa_name(form, gtrid, bqual))
