"""The MySQL wire format: framing, length-encoded integers, and the few packets that the gateway builds itself.

Source: MySQL client/server protocol, "Basic packets" and "Text resultset". Payloads are bytes without their header; a
payload of 16 MiB - 1 or more travels as several packets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_PAYLOAD = 0xFFFFFF

COM_QUIT, COM_INIT_DB, COM_QUERY, COM_FIELD_LIST = 0x01, 0x02, 0x03, 0x04
COM_STATISTICS, COM_PROCESS_INFO, COM_PROCESS_KILL, COM_PING, COM_CHANGE_USER = 0x09, 0x0A, 0x0C, 0x0E, 0x11
COM_STMT_PREPARE, COM_STMT_EXECUTE, COM_STMT_SEND_LONG_DATA = 0x16, 0x17, 0x18
COM_STMT_CLOSE, COM_STMT_RESET, COM_SET_OPTION, COM_STMT_FETCH, COM_RESET_CONNECTION = 0x19, 0x1A, 0x1B, 0x1C, 0x1F

CLIENT_LONG_PASSWORD, CLIENT_FOUND_ROWS, CLIENT_LONG_FLAG, CLIENT_CONNECT_WITH_DB = 1, 2, 4, 8
CLIENT_LOCAL_FILES, CLIENT_IGNORE_SPACE, CLIENT_PROTOCOL_41, CLIENT_INTERACTIVE = 128, 256, 512, 1024
CLIENT_SSL = 2048
CLIENT_TRANSACTIONS, CLIENT_SECURE_CONNECTION = 8192, 32768
CLIENT_MULTI_STATEMENTS, CLIENT_MULTI_RESULTS, CLIENT_PS_MULTI_RESULTS = 1 << 16, 1 << 17, 1 << 18
CLIENT_PLUGIN_AUTH, CLIENT_CONNECT_ATTRS, CLIENT_PLUGIN_AUTH_LENENC, CLIENT_DEPRECATE_EOF = (
    1 << 19,
    1 << 20,
    1 << 21,
    1 << 24,
)

STATUS_IN_TRANS, STATUS_AUTOCOMMIT, STATUS_MORE_RESULTS, STATUS_CURSOR_EXISTS = 1, 2, 8, 64


@dataclass(frozen=True)
class ErrorPacket:
    """An ERR packet: error number, five characters of SQL state, text in the client's character set."""

    errno: int
    sqlstate: str
    message: bytes

    @classmethod
    def parse(cls, payload: bytes) -> ErrorPacket:
        """Reads the payload of an ERR packet, with or without an SQL state."""
        errno = int.from_bytes(payload[1:3], "little")
        if payload[3:4] == b"#":
            return cls(errno, payload[4:9].decode("latin1"), payload[9:])
        return cls(errno, "HY000", payload[3:])

    def payload(self) -> bytes:
        """The bytes to send."""
        return b"\xff" + self.errno.to_bytes(2, "little") + b"#" + self.sqlstate.encode() + self.message


def frame(payload: bytes, seq: int = 0) -> bytes:
    """`payload` with its header, split where it is too long; `seq` is the number of the first packet."""
    length = len(payload)
    if length < MAX_PAYLOAD:
        return length.to_bytes(3, "little") + bytes((seq & 255,)) + payload
    parts = []
    for start in range(0, length + 1, MAX_PAYLOAD):
        part = payload[start : start + MAX_PAYLOAD]
        parts += [len(part).to_bytes(3, "little"), bytes((seq & 255,)), part]
        seq += 1
    return b"".join(parts)


def frames(payloads: Iterable[bytes], seq: int = 1) -> bytes:
    """Several payloads, one after the other, numbered from `seq`."""
    parts = []
    for payload in payloads:
        parts.append(frame(payload, seq))
        seq += len(payload) // MAX_PAYLOAD + 1
    return b"".join(parts)


def lenenc(value: int) -> bytes:
    """`value` as a length-encoded integer."""
    if value < 251:
        return bytes((value,))
    if value < 1 << 16:
        return b"\xfc" + value.to_bytes(2, "little")
    if value < 1 << 24:
        return b"\xfd" + value.to_bytes(3, "little")
    return b"\xfe" + value.to_bytes(8, "little")


def lenenc_bytes(value: bytes) -> bytes:
    """`value` with its length in front."""
    return lenenc(len(value)) + value


def read_lenenc(data: bytes, pos: int) -> tuple[int, int]:
    """The length-encoded integer at `pos`, and the position after it."""
    first = data[pos]
    if first < 251:
        return first, pos + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first, 0)
    return int.from_bytes(data[pos + 1 : pos + 1 + size], "little"), pos + 1 + size


def read_lenenc_bytes(data: bytes, pos: int) -> tuple[bytes | None, int]:
    """The length-encoded string at `pos` (None for NULL), and the position after it."""
    if data[pos] == 0xFB:
        return None, pos + 1
    size, pos = read_lenenc(data, pos)
    return data[pos : pos + size], pos + size


def read_nul(data: bytes, pos: int) -> tuple[bytes, int]:
    """The NUL-terminated string at `pos`, and the position after its NUL."""
    end = data.find(b"\0", pos)
    if end < 0:
        return data[pos:], len(data)
    return data[pos:end], end + 1


def ok(status: int, affected_rows: int = 0, header: int = 0, warnings: int = 0) -> bytes:
    """The payload of an OK packet; `header` 0xFE makes it the one that ends a result set."""
    return (
        bytes((header,)) + lenenc(affected_rows) + b"\0" + status.to_bytes(2, "little") + warnings.to_bytes(2, "little")
    )


def eof(status: int) -> bytes:
    """The payload of an EOF packet."""
    return b"\xfe\0\0" + status.to_bytes(2, "little")


def _column(name: bytes) -> bytes:
    fields = b"\x03def\0\0\0" + lenenc_bytes(name) + lenenc_bytes(name)
    collation, length, var_string, not_null = 45, 1024, 0xFD, 1  # utf8mb4_general_ci
    return (
        fields
        + b"\x0c"
        + collation.to_bytes(2, "little")
        + length.to_bytes(4, "little")
        + bytes((var_string,))
        + not_null.to_bytes(2, "little")
        + b"\0\0\0"
    )


def result_set(
    columns: Sequence[str], rows: Iterable[Sequence[str | None]], status: int, *, deprecate_eof: bool
) -> list[bytes]:
    """The payloads of a text result set of strings."""
    payloads = [lenenc(len(columns)), *(_column(name.encode()) for name in columns)]
    if not deprecate_eof:
        payloads.append(eof(status))
    for row in rows:
        payloads.append(b"".join(b"\xfb" if v is None else lenenc_bytes(v.encode()) for v in row))
    payloads.append(ok(status, header=0xFE) if deprecate_eof else eof(status))
    return payloads


def text_rows(payloads: Sequence[bytes], *, deprecate_eof: bool) -> list[tuple[bytes | None, ...]]:
    """The rows of a whole text result set, given all of its payloads."""
    columns, _ = read_lenenc(payloads[0], 0)
    rows = []
    for payload in payloads[1 + columns + (0 if deprecate_eof else 1) : -1]:
        pos, row = 0, []
        for _ in range(columns):
            value, pos = read_lenenc_bytes(payload, pos)
            row.append(value)
        rows.append(tuple(row))
    return rows
