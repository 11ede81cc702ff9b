"""Row images of the binlog, decoded into SQL literals by a function that is generated per table version.

Python builds no value it does not need: one struct call reads a run of fixed-size columns, an f-string writes the
row. The generated source holds positions and numbers only, never a name that came from a server.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from executor.native.binlog.events import Malformed, Rows, RowsKind, Unsupported
from executor.native.binlog.literals import Layout, layout, refusal
from executor.native.binlog.table_map import Column, TableMap

Image = tuple[tuple[bytes, ...], bytes]
"""(key, row): the literals of the key columns, and the row as an SQL tuple such as ``b"(1,X'6162',NULL)"``."""

Decoder = Callable[[Rows], list[tuple[Image, ...]]]
"""Row images of one event: (after,) for INSERT, (before,) for DELETE, (before, after) for UPDATE."""

_Reader = Callable[[bytes], list[Image]]


@dataclass(frozen=True, eq=False)
class TableVersion:
    """One shape of a table, as the log described it when rows were written. The same shape is the same object.

    `columns` are all columns in the table's order, generated ones too; `shape` says more about each; `key` names the
    primary key's; `described` is the log's own description, behind the name.
    """

    database: str
    table: str
    columns: tuple[str, ...]
    shape: tuple[Column, ...] = field(repr=False)
    key: tuple[str, ...]
    described: bytes = field(repr=False)
    _decoders: dict[tuple[tuple[str, ...], tuple[str, ...], bool], Decoder] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, table_map: TableMap) -> TableVersion:
        """The version that a table map describes. Raises Unsupported when the log does not name the columns."""
        name = f"{table_map.database}.{table_map.table}"
        if not table_map.named:
            raise Unsupported(
                f"the binlog does not name the columns of {name}, so its rows cannot be read",
                "on the source: SET GLOBAL binlog_row_metadata=FULL; then the table must be copied again",
            )
        names = tuple(column.name for column in table_map.columns)
        key = tuple(names[i] for i in table_map.key)
        return cls(table_map.database, table_map.table, names, table_map.columns, key, table_map.described)

    def decoder(self, columns: Sequence[str], key: Sequence[str], before_rows: bool = True) -> Decoder:
        """A function that renders the row images of one event; made once per arguments.

        `columns` in the order wanted; `key` names the key columns. Without `before_rows`, images of rows before
        UPDATE and DELETE have the key only, and b'' as their row, which is faster. Raises Unsupported for a column
        that is not in this version of the table or whose type cannot be written. The function raises Malformed.
        """
        wanted = (tuple(columns), tuple(key), before_rows)
        if wanted not in self._decoders:
            self._decoders[wanted] = _compile(self, *wanted)
        return self._decoders[wanted]

    def indexes(self, names: Sequence[str]) -> list[int]:
        """The positions of columns. Raises Unsupported for one that is not there or cannot be written."""
        result = []
        for name in names:
            if name not in self.columns:
                raise Unsupported(
                    f"{self.database}.{self.table} has no column {name} in the binlog, but {', '.join(self.columns)}",
                    "was the table altered on the source while it was being moved?",
                )
            index = self.columns.index(name)
            why = refusal(self.shape[index])
            if why:
                raise Unsupported(f"{self.database}.{self.table}.{name} {why}")
            result.append(index)
        return result


def _compile(version: TableVersion, columns: tuple[str, ...], key: tuple[str, ...], before_rows: bool) -> Decoder:
    shown, keys = version.indexes(columns), version.indexes(key)
    source = _Source(version)
    both = source.function("both", [(shown if before_rows else [], keys), (shown, keys)])
    after = source.function("after", [(shown, keys)])
    before = after if before_rows else source.function("before", [([], keys)])

    def decode(rows: Rows) -> list[tuple[Image, ...]]:
        try:
            if rows.kind is RowsKind.UPDATE:
                images = iter(both(rows.body))
                return list(zip(images, images, strict=True))
            return list(zip((after if rows.kind is RowsKind.INSERT else before)(rows.body)))
        except (struct.error, IndexError) as error:
            raise Malformed(f"rows of {version.database}.{version.table} in the binlog are cut off: {error}") from error

    return decode


class _Source:
    """Writes functions that read images of one table version."""

    def __init__(self, version: TableVersion) -> None:
        self.version = version
        self.names: dict[str, Any] = {"from_bytes": int.from_bytes, "ZERO": b"\0", "Malformed": Malformed}
        self.layouts: list[Layout] = []
        for column in version.shape:
            found = layout(column)
            if found is None:
                raise Unsupported(f"{version.database}.{version.table}.{column.name} {refusal(column)}")
            self.layouts.append(found)

    def function(self, name: str, images: list[tuple[list[int], list[int]]]) -> _Reader:
        """A function of the images' bytes; `images` has (columns of the row, of the key) of each that alternates."""
        lines: list[str] = []
        for shown, keys in images:
            lines += self._image(shown, keys)
        parameters = ", ".join(f"{each}={each}" for each in self.names)
        table = f"{self.version.database}.{self.version.table}"
        source = [
            f"def {name}(d, {parameters}):",
            " end = len(d)",
            " out = []",
            " append = out.append",
            " p = 0",
            " while p < end:",
            *("  " + line for line in lines),
            " if p != end:",
            f"  raise Malformed({('rows of ' + table + ' in the binlog are cut off')!r})",
            " return out",
        ]
        scope: dict[str, Any] = dict(self.names)
        exec("\n".join(source), scope)
        reader: _Reader = scope[name]
        return reader

    def _image(self, shown: list[int], keys: list[int]) -> list[str]:
        size = (len(self.layouts) + 7) // 8
        nullable = sum(1 << i for i, column in enumerate(self.version.shape) if column.nullable)
        if not nullable:
            return [f"p += {size}", *self._columns(shown, keys, False), *self._append(shown, keys, False)]
        bits = "d[p]" if size == 1 else f"from_bytes(d[p:p + {size}], 'little')"
        return [
            f"nulls = {bits} & {nullable}",
            f"p += {size}",
            "if nulls:",
            *(" " + line for line in self._columns(shown, keys, True) + self._append(shown, keys, True)),
            "else:",
            *(" " + line for line in self._columns(shown, keys, False) + self._append(shown, keys, False)),
        ]

    def _columns(self, shown: list[int], keys: list[int], nulls: bool) -> list[str]:
        """Lines that read every column; with `nulls`, those that may be NULL one by one."""
        lines: list[str] = []
        run: list[int] = []
        needed = {*shown, *keys}
        for i, column in enumerate(self.version.shape):
            if nulls and column.nullable:
                lines += self._run(run, needed)
                run = []
                read = self._run([i], needed)
                if i in needed:
                    read.append(f'x{i} = f"{self._piece(i)}"')
                    lines += [f"if nulls & {1 << i}:", f" x{i} = 'NULL'", "else:", *(" " + line for line in read)]
                else:
                    lines += [f"if not nulls & {1 << i}:", *(" " + line for line in read)]
                continue
            run.append(i)
            if self.layouts[i].variable:
                lines += self._run(run, needed)
                run = []
        return lines + self._run(run, needed)

    def _run(self, run: list[int], needed: set[int]) -> list[str]:
        """Lines that read fixed-size columns, of which the last may be the length of a variable one."""
        if not run:
            return []
        size = sum(self.layouts[i].size for i in run)
        taken = [i for i in run if i in needed or self.layouts[i].variable]
        lines = []
        if taken:
            codes = "".join(self.layouts[i].code if i in taken else f"{self.layouts[i].size}x" for i in run)
            unpack = f"unpack{codes}"
            self.names[unpack] = struct.Struct("<" + codes).unpack_from
            lines.append(f"{''.join(f'x{i}, ' for i in taken)}= {unpack}(d, p)")
        last = self.layouts[run[-1]]
        if last.variable:
            x = f"x{run[-1]}"
            lines += [f"p += {size}", f"e = p + {last.length.format(x=x)}"]
            if run[-1] in needed:
                lines.append(f"{x} = d[p:e]")
            lines.append("p = e")
        else:
            lines.append(f"p += {size}")
        for i in run:
            if i in needed and self.layouts[i].convert:
                function = f"f{i}"
                if self.layouts[i].reader is not None:
                    self.names[function] = self.layouts[i].reader
                lines.append(f"x{i} = {self.layouts[i].convert.format(x=f'x{i}', f=function)}")
        return lines

    def _piece(self, i: int) -> str:
        return self.layouts[i].piece.format(x=f"x{i}")

    def _append(self, shown: list[int], keys: list[int], nulls: bool) -> list[str]:
        def piece(i: int) -> str:
            return f"{{x{i}}}" if nulls and self.version.shape[i].nullable else self._piece(i)

        key = "".join(f'f"{piece(i)}".encode(), ' for i in keys)
        row = f'f"({",".join(piece(i) for i in shown)})".encode()' if shown else "b''"
        return [f"append((({key}), {row}))"]
