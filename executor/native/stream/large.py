"""Hands large values to a server in pieces, so that neither they nor what holds them must fit into a packet.

No statement and no function makes a value that is larger than `max_allowed_packet` of the server, and no parameter of
a prepared statement may be. But LOAD DATA LOCAL reads its file from packets of any size, and what it reads into a user
variable stays there. A statement then names the variable where the literal would stand. Measured on both servers:
16 MiB with a `max_allowed_packet` of 1 MiB take 0.1 to 0.3 s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from executor.errors import MovetablesError
from executor.native.servers import Connection
from executor.native.sidecar import SCHEMA
from executor.native.stream.layout import TableLayout
from executor.native.stream.literals import split_row

LARGE_VALUE = 64 << 10
"""Values of fewer bytes stay in the statement."""
PIECE = 256 << 10
_FORMAT = (
    r"CHARACTER SET binary FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\'' ESCAPED BY '\\' "
    r"LINES TERMINATED BY '\n'"
)
_LARGE_HEX = re.compile(rb"(_utf8mb4 )?X'[0-9a-f]{%d,}'" % LARGE_VALUE)
RAISE_PACKET = "on the target: SET GLOBAL local_infile=1 (or SET GLOBAL max_allowed_packet=1073741824)"
"""What lets the target take a row that is larger than its packets."""


class LargeValues:
    """User variables of `connection` that hold large values of `what`, for one statement; the context forgets them.

    `connection` must have been made with `local_files`, and be in a transaction: LOAD DATA needs a table, so a row of
    the sidecar's markers comes and goes. Raises MovetablesError when the server has `local_infile` off.
    """

    def __init__(self, connection: Connection, what: str) -> None:
        self._connection = connection
        self._what = what
        self._count = 0
        self._purpose = f"large {connection.thread_id}"

    def variable(self, pieces: Iterable[bytes]) -> bytes:
        """The variable for a value whose bytes are `pieces`."""
        return self._load(piece.replace(b"\\", b"\\\\").replace(b"'", b"\\'") for piece in pieces)

    def shortened(self, layout: TableLayout, row: bytes) -> bytes:
        """`row`, a tuple of literals as the stream or `rendered.py` writes them, with variables for large ones."""
        literals = split_row(row)
        json = [column.data_type == "json" for column in layout.columns]
        json += [False] * (len(literals) - len(json))
        return b"(" + b",".join(map(self._of_literal, literals, json)) + b")"

    def in_condition(self, condition: bytes) -> bytes:
        """`condition`, in which the stream's literals stand, with variables for large ones."""
        return _LARGE_HEX.sub(lambda found: self._of_literal(found[0], found[1] is not None), condition)

    def _of_literal(self, literal: bytes, json: bool) -> bytes:
        if len(literal) < LARGE_VALUE:
            return literal
        if json and literal.startswith(b"JSON_SET("):  # the document, then paths and what has no text
            document, *rest = split_row(literal.removeprefix(b"JSON_SET"))
            return b"JSON_SET(" + b",".join((self._of_literal(document, True), *rest)) + b")"
        if json:
            found = self._of_text(literal.removeprefix(b"_utf8mb4 "))
            return b"CONVERT(" + found + b" USING utf8mb4)" if found else literal
        return self._of_text(literal) or literal

    def _of_text(self, literal: bytes) -> bytes | None:
        end = len(literal) - 1
        if literal.startswith(b"X'"):
            starts = range(2, end, 2 * PIECE)
            return self.variable(bytes.fromhex(literal[at : min(at + 2 * PIECE, end)].decode()) for at in starts)
        if literal.startswith(b"'"):  # LOAD DATA reads what QUOTE writes
            return self._load(literal[at : min(at + PIECE, end)] for at in range(1, end, PIECE))
        return None

    def _load(self, escaped: Iterable[bytes]) -> bytes:
        name = f"@_movetables_large_{self._count}"
        self._count += 1
        found = self._connection.one("SELECT @@max_allowed_packet AS packet, @@global.local_infile AS allowed")
        if not found or not found["allowed"]:
            raise MovetablesError(
                f"{self._what} is larger than max_allowed_packet of {self._connection.login.name} "
                f"({found['packet'] if found else 'unknown'} bytes) allows, and local_infile is off there, which would "
                "let it in by pieces",
                f"{RAISE_PACKET}; then start the stream again",
            )
        statement = (
            f"LOAD DATA LOCAL INFILE 'value' REPLACE INTO TABLE {SCHEMA}.marker {_FORMAT} ({name}) "
            f"SET keyspace='', workflow='', purpose='{self._purpose}', token='', created_at=0"
        )
        _, info, warned = self._connection.load(statement, _packets(escaped, int(found["packet"]) // 2))
        if warned:
            raise MovetablesError(f"{self._connection.login.name} did not take a large value as it is: {info}")
        return name.encode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._count and self._connection.open:
            self._connection.execute("SET " + ",".join(f"@_movetables_large_{i}=NULL" for i in range(self._count)))
            if kind is not None:
                return  # the row goes with the transaction
            self._connection.execute(
                f"DELETE FROM {SCHEMA}.marker WHERE keyspace='' AND workflow='' AND purpose='{self._purpose}'"
            )


def _packets(escaped: Iterable[bytes], largest: int) -> Iterator[bytes]:
    yield b"'"
    for piece in escaped:
        for at in range(0, len(piece), largest):
            yield piece[at : at + largest]
    yield b"'"
