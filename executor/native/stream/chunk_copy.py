"""Copies single chunks: the source renders the rows as one text, and the target reads it.

Each thread has a pair of connections of its own. A chunk may be copied twice: the second read replaces what the first
wrote, and later deletes are replayed. So a write whose outcome is unknown is simply done again.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from executor.errors import MovetablesError
from executor.native.flavor import GROUP_CONCAT_MAX_LEN
from executor.native.servers import Connection, ServerError, quote
from executor.native.stream.chunks import Chunk, halves
from executor.native.stream.index_zero import (
    refused_by_strict_mode,
    rows_at_once,
    write_index_zero,
    zeros_expression,
)
from executor.native.stream.large import RAISE_PACKET
from executor.native.stream.large_row import RowTooLarge, copy_large_row
from executor.native.stream.load import LoadForm, load_form

TEXT_BYTES = 8 << 20
"""More than this is not read at once: pymysql holds a text three times for a moment, and there are several threads."""
PACKET_ROOM = 4096
LOAD_PIECE = 1 << 20
ATTEMPTS = 8

Connect = Callable[[], Connection]


@dataclass(frozen=True)
class Copied:
    """What was copied: rows, and the bytes of their text."""

    rows: int
    size: int


@dataclass(frozen=True)
class _Pair:
    source: Connection
    target: Connection
    source_packet: int
    target_packet: int
    takes_files: bool
    """The target reads what is sent by LOAD DATA LOCAL."""

    @property
    def loads(self) -> bool:
        """Whole chunks may be loaded: both sides are of the same kind."""
        return self.takes_files and self.source.flavor.name == self.target.flavor.name


@dataclass(frozen=True)
class _Read:
    """What the source gave of a chunk: the number of `rows`, and their `text` unless it is too large.

    `numbered_zero`: the table has a row numbered 0. MariaDB's LOAD DATA gives a row whose AUTO_INCREMENT column is 0
    another number, whatever the sql_mode, when the table has triggers. `zeros`: so many ENUM values have index 0.
    """

    rows: int
    text: bytes | None
    numbered_zero: bool
    zeros: int


class _NotLoaded(Exception):
    """The target did not take all rows of a LOAD DATA as they are; nothing was written."""


class ChunkCopier:
    """Copies chunks into `database` of the target, from any number of threads.

    `connect_source` and `connect_target` make connections; the target's may write to fenced tables and load local
    files. `auto_increment` has the AUTO_INCREMENT column of each table that has one.
    """

    def __init__(
        self,
        connect_source: Connect,
        connect_target: Connect,
        database: str,
        auto_increment: Mapping[str, str],
    ) -> None:
        self._auto_increment = auto_increment
        self._connect_source = connect_source
        self._connect_target = connect_target
        self._database = database
        self._local = threading.local()
        self._connections: list[Connection] = []
        self._not_loaded: set[str] = set()

    def close(self) -> None:
        """Closes every connection. Only when no chunk is being copied."""
        for connection in self._connections:
            connection.close()

    def copy(self, chunk: Chunk) -> Copied:
        """Copies one chunk; tried again when a server broke off. Raises ServerError when it failed for good."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._copy(self._pair(), chunk)
            except ServerError as error:
                torn = self._torn
                if error.lost or torn:
                    self._drop_pair()
                if attempt == ATTEMPTS or not (error.lost or error.transient or torn):
                    raise
                time.sleep(min(2.0, 0.05 * 2**attempt))
        raise MovetablesError("unreachable code")  # pragma: no cover

    def _copy(self, pair: _Pair, chunk: Chunk) -> Copied:
        form = self._form(pair, chunk)
        if form is None:
            return self._insert(pair, chunk)
        try:
            return self._load(pair, chunk, form)
        except _NotLoaded:
            # The INSERT is how rows are written by rule, and its error is the one to show.
            self._not_loaded.add(chunk.layout.name)
            return self._insert(pair, chunk)

    def _form(self, pair: _Pair, chunk: Chunk) -> LoadForm | None:
        if not pair.loads or chunk.layout.name in self._not_loaded:
            return None
        return load_form(chunk.layout, self._database, pair.source.flavor)

    def _load(self, pair: _Pair, chunk: Chunk, form: LoadForm) -> Copied:
        found = self._read(pair, chunk, form.expression, r"\n", TEXT_BYTES)
        count, text = found.rows, found.text
        if count == 0:
            return Copied(0, 0)
        if found.numbered_zero or found.zeros:
            return self._insert(pair, chunk)
        if text is None:
            return self._in_halves(pair, chunk, count) or self._insert(pair, chunk)
        size = min(LOAD_PIECE, pair.target_packet // 2)
        self._loaded(pair, form, count, (text[at : at + size] for at in range(0, len(text), size)))
        return Copied(count, len(text))

    def _loaded(self, pair: _Pair, form: LoadForm, count: int, pieces: Iterator[bytes]) -> None:
        # In a transaction, so that a file that breaks off in the middle leaves nothing.
        try:
            with pair.target.transaction():
                _, info, warned = pair.target.load(form.statement, pieces)
                if warned or _records(info) != count:
                    raise _NotLoaded(info)
        except ServerError as error:
            if error.curable or not pair.target.open:
                raise
            raise _NotLoaded(error.message) from error

    def _insert(self, pair: _Pair, chunk: Chunk, limit: int = TEXT_BYTES) -> Copied:
        layout = chunk.layout
        limit = min(limit, pair.target_packet - PACKET_ROOM)
        found = self._read(pair, chunk, layout.tuple_expression, ",", limit)
        count, text = found.rows, found.text
        if count == 0:
            return Copied(0, 0)
        if text is None:
            if (parts := self._in_halves(pair, chunk, count)) is not None:
                return parts
            if pair.takes_files:
                return self._in_pieces(pair, chunk)
            if limit == TEXT_BYTES:  # one row may be as large as the servers allow
                return self._insert(pair, chunk, pair.source_packet)
            raise self._too_large(pair, chunk)
        statement = (
            f"REPLACE INTO {quote(self._database)}.{quote(layout.name)} ({layout.column_list}) VALUES ".encode() + text
        )
        try:
            _, info, warned = pair.target.info(statement)
        except ServerError as error:
            if not found.zeros or not refused_by_strict_mode(error, layout):
                raise
            if count > rows_at_once(layout) and (parts := self._in_halves(pair, chunk, count)) is not None:
                return parts
            with pair.target.transaction():
                _, info = write_index_zero(pair.target, layout, statement, found.zeros)
            warned = 0
        _check(chunk, count, info, warned)
        return Copied(count, len(text))

    def _read(self, pair: _Pair, chunk: Chunk, row: str, separator: str, limit: int) -> _Read:
        """The rows of a chunk, each as the expression `row` renders it.

        No text when it is larger than `limit` or than the source allows.
        """
        limit = min(limit, pair.source_packet - PACKET_ROOM)
        if self._local.limit != limit:
            pair.source.execute(f"SET SESSION group_concat_max_len={limit}")
            self._local.limit = limit
        layout = chunk.layout
        numbered = self._auto_increment.get(layout.name)
        zeros = zeros_expression(layout)
        zero = f"EXISTS(SELECT 1 FROM {layout.qualified} WHERE {quote(numbered)}=0)" if numbered else "0"
        found = pair.source.one(
            f"SELECT COUNT(*) AS n, CAST(GROUP_CONCAT({row} SEPARATOR '{separator}') AS BINARY) AS texts, "
            f"{zero} AS numbered_zero, {'SUM(' + zeros + ')' if zeros != '0' else zeros} AS zeros "
            f"FROM {layout.qualified} FORCE INDEX ({quote(layout.key_name)}) WHERE {chunk.condition}"
        )
        warnings = pair.source.raw._result.warning_count  # type: ignore[attr-defined]
        if found is None:
            raise MovetablesError(f"the source gave no answer to a count of {layout.name}")
        text: bytes | None = found["texts"]
        whole = text if not warnings and text is not None and len(text) < limit else None
        return _Read(int(found["n"]), whole, bool(found["numbered_zero"]), int(found["zeros"] or 0))

    def _in_halves(self, pair: _Pair, chunk: Chunk, count: int) -> Copied | None:
        parts = halves(pair.source, chunk, count)
        if parts is None:
            return None
        one, two = (self._copy(pair, part) for part in parts)
        return Copied(one.rows + two.rows, one.size + two.size)

    def _in_pieces(self, pair: _Pair, chunk: Chunk) -> Copied:
        self._local.limit = 0
        pair.source.execute(f"SET SESSION group_concat_max_len={GROUP_CONCAT_MAX_LEN}")  # JSON's parts are joined so
        try:
            size = copy_large_row(pair.source, pair.target, chunk, self._database, pair.target_packet - PACKET_ROOM)
        except RowTooLarge as error:
            raise self._too_large(pair, chunk) from error
        return self._copy(pair, chunk) if size is None else Copied(1, size)

    def _too_large(self, pair: _Pair, chunk: Chunk) -> MovetablesError:
        layout = chunk.layout
        found = pair.source.one(f"SELECT {layout.key_expressions} FROM {layout.qualified} WHERE {chunk.condition}")
        key = ", ".join(str(value) for value in (found or {}).values())
        return MovetablesError(
            f"row ({key}) of {layout.name} is larger as text than max_allowed_packet allows, which is "
            f"{pair.source_packet} bytes on the source and {pair.target_packet} on the target",
            f"{RAISE_PACKET}, and the latter on the source too if need be; then start the stream again",
        )

    @property
    def _torn(self) -> bool:
        pair: _Pair | None = getattr(self._local, "pair", None)
        return pair is not None and not (pair.source.open and pair.target.open)

    def _pair(self) -> _Pair:
        if getattr(self._local, "pair", None) is None:
            source, target = self._connect_source(), self._connect_target()
            self._connections += [source, target]
            self._local.limit = 0
            self._local.pair = _Pair(
                source,
                target,
                int(source.value("SELECT @@max_allowed_packet")),
                int(target.value("SELECT @@max_allowed_packet")),
                bool(target.value("SELECT @@global.local_infile")),
            )
        pair: _Pair = self._local.pair
        return pair

    def _drop_pair(self) -> None:
        pair: _Pair | None = getattr(self._local, "pair", None)
        if pair is not None:
            pair.source.close()
            pair.target.close()
        self._local.pair = None


def _check(chunk: Chunk, count: int, info: str, warned: int) -> None:
    if warned or not (count == 1 or _records(info) == count):  # no text is given after a single row
        raise MovetablesError(
            f"the target did not take {count} rows of {chunk.layout.name} as they are: {info or 'no information'}, "
            f"{warned} warnings",
            "compare the table definitions of both sides",
        )


def _records(info: str) -> int | None:
    """The number of rows in the server's text after a multi-row statement, ``Records: 5  Duplicates: 0 ...``."""
    match = re.search(r"Records: (\d+)", info)
    return int(match[1]) if match else None
