"""Finds where a server's answer ends, looking at as few of its bytes as possible.

Source: MySQL client/server protocol, "Command phase". Bytes are fed as they arrive; rows are skipped, not decoded.
"""

from __future__ import annotations

from enum import IntEnum

from executor.native.gateway.packets import (
    MAX_PAYLOAD,
    STATUS_CURSOR_EXISTS,
    STATUS_MORE_RESULTS,
    read_lenenc,
)


class Expect(IntEnum):
    """What the next packet of the answer is."""

    FIRST = 0
    COLUMNS = 1
    COLUMNS_EOF = 2
    ROWS = 3
    PREPARED = 4
    DEFINITIONS = 5
    ONE = 6
    INFILE = 7
    DONE = 8


class ResultReader:
    """The state of reading one answer.

    When `expect` is DONE: `status` holds the last status flags, `failed` tells that an ERR packet ended it. When it is
    INFILE, the server waits for the client's file; call `resume` once the client has sent it.
    """

    __slots__ = ("_continued", "_deprecate_eof", "_left", "_skip", "_tail", "affected", "expect", "failed", "status")

    def __init__(self, expect: Expect, deprecate_eof: bool) -> None:
        self.expect = expect
        self.status = 0
        self.affected = 0
        self.failed = False
        self._deprecate_eof = deprecate_eof
        self._left = 0
        self._skip = 0
        self._tail = b""
        self._continued = False

    def resume(self) -> None:
        """The client's file is sent; the answer goes on."""
        self.expect = Expect.FIRST

    def feed(self, data: bytes) -> None:
        """Takes the next bytes of the answer."""
        pos = 0
        if self._skip:
            if self._skip >= len(data):
                self._skip -= len(data)
                return
            pos, self._skip = self._skip, 0
        if self._tail:
            data = self._tail + data
            self._tail = b""
        end = len(data)
        if self.expect == Expect.FIRST and not pos and end > 5 and data[0] == 1 and 0 < data[4] < 251 and not data[1]:
            pos = self._skip_columns(data, end)
        row_end_limit = MAX_PAYLOAD if self._deprecate_eof else 9
        while pos < end:
            if end - pos < 4:
                self._tail = data[pos:]
                return
            length = data[pos] | data[pos + 1] << 8 | data[pos + 2] << 16
            body = pos + 4
            after = body + length
            if self._continued:
                self._continued = length == MAX_PAYLOAD
            elif self.expect == Expect.ROWS:
                if length and body >= end:
                    self._tail = data[pos:]
                    return
                first = data[body] if length else 0
                if first >= 0xFE and (first == 0xFF or length < row_end_limit):
                    if after > end:
                        self._tail = data[pos:]
                        return
                    self._rows_end(data[body:after])
                else:
                    self._continued = length == MAX_PAYLOAD
            else:
                if after > end:
                    self._tail = data[pos:]
                    return
                self._packet(data[body:after])
            if after > end:
                self._skip = after - end
                return
            pos = after

    def _skip_columns(self, data: bytes, end: int) -> int:
        """The way of most result sets: a column count below 251, and all columns in the first bytes that arrive."""
        left, pos = data[4], 5
        if data[2]:
            return 0
        while left:
            if end - pos < 4:
                return 0
            pos += 4 + (data[pos] | data[pos + 1] << 8 | data[pos + 2] << 16)
            left -= 1
        if pos > end:
            return 0
        self.expect = Expect.ROWS if self._deprecate_eof else Expect.COLUMNS_EOF
        return pos

    def _rows_end(self, payload: bytes) -> None:
        if payload[0] == 0xFF:
            self._end_failed()
        elif self._deprecate_eof:
            self._ok(payload)
        else:
            self._end(int.from_bytes(payload[3:5], "little"))

    def _packet(self, payload: bytes) -> None:
        expect = self.expect
        if expect == Expect.FIRST:
            self._first(payload)
        elif expect == Expect.COLUMNS:
            self._left -= 1
            if self._left == 0:
                self.expect = Expect.ROWS if self._deprecate_eof else Expect.COLUMNS_EOF
        elif expect == Expect.COLUMNS_EOF:
            status = int.from_bytes(payload[3:5], "little")
            if status & STATUS_CURSOR_EXISTS:  # the rows come with COM_STMT_FETCH
                self._end(status)
            else:
                self.expect = Expect.ROWS
        elif expect == Expect.PREPARED:
            if payload[0] == 0xFF:
                self._end_failed()
                return
            columns = int.from_bytes(payload[5:7], "little")
            parameters = int.from_bytes(payload[7:9], "little")
            eofs = 0 if self._deprecate_eof else (columns > 0) + (parameters > 0)
            self._left = columns + parameters + eofs
            self.expect = Expect.DEFINITIONS if self._left else Expect.DONE
        elif expect == Expect.DEFINITIONS:
            self._left -= 1
            if self._left == 0:
                self.expect = Expect.DONE
        elif expect == Expect.ONE:
            if payload[:1] == b"\xff":
                self.failed = True
            self.expect = Expect.DONE
        else:
            raise ValueError(f"the server sent a packet where {expect.name} was expected")

    def _first(self, payload: bytes) -> None:
        first = payload[0]
        if first == 0x00:
            self._ok(payload)
        elif first == 0xFF:
            self._end_failed()
        elif first == 0xFB:
            self.expect = Expect.INFILE
        elif first == 0xFE and len(payload) < 9:  # EOF, as some commands answer
            self._end(int.from_bytes(payload[3:5], "little"))
        else:
            self._left, _ = read_lenenc(payload, 0)
            self.expect = Expect.COLUMNS

    def _ok(self, payload: bytes) -> None:
        self.affected, pos = read_lenenc(payload, 1)
        _, pos = read_lenenc(payload, pos)
        self._end(int.from_bytes(payload[pos : pos + 2], "little"))

    def _end(self, status: int) -> None:
        self.status = status
        self.expect = Expect.FIRST if status & STATUS_MORE_RESULTS else Expect.DONE

    def _end_failed(self) -> None:
        self.failed = True
        self.expect = Expect.DONE
