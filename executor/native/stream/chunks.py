"""Splits a table into ranges of its key, walking the key's own order on the source."""

from __future__ import annotations

from dataclasses import dataclass

from executor.native.servers import Connection
from executor.native.stream.layout import TableLayout

KeyValues = tuple[str, ...]


@dataclass(frozen=True)
class Chunk:
    """The rows of `layout` with keys above `after` and not above `upto`; None is open. `last` ends the table."""

    layout: TableLayout
    after: KeyValues | None
    upto: KeyValues | None

    @property
    def last(self) -> bool:
        """True when no row above this chunk was there when it was planned; it is open at the top, to be sure."""
        return self.upto is None

    @property
    def condition(self) -> str:
        """The SQL condition for its rows."""
        return self.layout.inside(self.after, self.upto)


def next_chunk(connection: Connection, layout: TableLayout, after: KeyValues | None, rows: int) -> Chunk:
    """The chunk of at most about `rows` rows that follows the key `after`."""
    boundary = connection.one(
        f"SELECT {layout.key_expressions} FROM {layout.qualified} FORCE INDEX ({_index(layout)}) "
        f"WHERE {layout.inside(after, None)} ORDER BY {layout.key_order} LIMIT 1 OFFSET {rows - 1}"
    )
    return Chunk(layout, after, None if boundary is None else tuple(str(v) for v in boundary.values()))


def halves(connection: Connection, chunk: Chunk, rows: int) -> tuple[Chunk, Chunk] | None:
    """`chunk`, which holds `rows` rows, as two; None when it cannot be split."""
    if rows < 2:
        return None
    lower = next_chunk(connection, chunk.layout, chunk.after, rows // 2)
    if lower.upto is None or lower.upto == chunk.upto:
        return None
    return lower, Chunk(chunk.layout, lower.upto, chunk.upto)


def _index(layout: TableLayout) -> str:
    return "`" + layout.key_name.replace("`", "``") + "`"
