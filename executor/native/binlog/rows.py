"""Row images of the binlog, decoded into SQL literals by a function that is generated per table version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from executor.native.binlog.events import Rows, TableMap

Image = tuple[tuple[bytes, ...], bytes]
"""(key, row): the literals of the key columns, and the row as an SQL tuple of literals such as ``b"(1,X'6162',NULL)"``."""

Decoder = Callable[[Rows], list[tuple[Image, ...]]]
"""Row images of one event: (after,) for INSERT, (before,) for DELETE, (before, after) for UPDATE."""


@dataclass(frozen=True, eq=False)
class TableVersion:
    """One shape of a table, as the log described it when rows were written. The same shape is the same object."""

    database: str
    table: str
    columns: tuple[str, ...]

    def decoder(self, columns: Sequence[str], key: Sequence[str]) -> Decoder:
        """A function that renders the row images of one event; made once per (columns, key).

        `columns` in the order wanted; `key` names the key columns. Raises Unsupported for a column that is not in this
        version of the table or whose type cannot be rendered.
        """
        raise NotImplementedError

    @classmethod
    def of(cls, table_map: TableMap) -> TableVersion:
        """The version that a table map describes."""
        raise NotImplementedError
