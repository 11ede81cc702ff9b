"""MySQL's partial JSON updates (``binlog_row_value_options=PARTIAL_JSON``), made whole again.

Such an event's images after an UPDATE hold, for some JSON columns, only what changed since the image before
(``Json_diff_vector::read_binary`` of ``sql/json_diff.cc``). The image before is complete, so the change is made to its
document, and the rows go on as an ordinary update. The new document travels in them as the literal that it becomes.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import replace

from executor.native.binlog import table_map as t
from executor.native.binlog.events import Malformed, Rows, lenenc
from executor.native.binlog.json_binary import READY, Node, literal, parse
from executor.native.binlog.literals import Layout, layout
from executor.native.binlog.rows import TableVersion

_REPLACE, _INSERT, _REMOVE = range(3)
_PARTIAL_JSON = 1
_LEG = re.compile(r'\[(?P<last>last)?(?:-?(?P<index>\d+))?\]|\.(?:(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<name>[^.\["]+))')


def made_whole(table: TableVersion, rows: Rows) -> Rows:
    """`rows` of a PARTIAL_UPDATE_ROWS event as those of an UPDATE. Raises Malformed."""
    layouts = [layout(column) for column in table.shape]
    walker = _Walker(table, [found for found in layouts if found is not None], rows.body)
    if len(walker.layouts) != len(layouts):
        raise Malformed(f"a column of {table.database}.{table.table} has a type whose length is not known")
    try:
        return replace(rows, body=walker.whole(), as_logged=False)
    except (IndexError, KeyError, TypeError, struct.error) as error:
        raise Malformed(f"a partial update of {table.database}.{table.table} cannot be made whole: {error}") from error


class _Walker:
    def __init__(self, table: TableVersion, layouts: list[Layout], body: bytes) -> None:
        self.table = table
        self.layouts = layouts
        self.body = body
        self.at = 0
        self.json = [i for i, column in enumerate(table.shape) if column.type == t.JSON]

    def whole(self) -> bytes:
        out: list[bytes] = []
        while self.at < len(self.body):
            start = self.at
            before = self._image()
            out.append(self.body[start : self.at])
            options, self.at = lenenc(self.body, self.at)
            partial: set[int] = set()
            if options & _PARTIAL_JSON:
                size = (len(self.json) + 7) // 8
                bits = int.from_bytes(self.body[self.at : self.at + size], "little")
                partial = {column for n, column in enumerate(self.json) if bits >> n & 1}
                self.at += size
            start = self.at
            after = self._image()
            at = start
            for column in sorted(partial & after.keys()):
                first, last = after[column]
                out.append(self.body[at : first - 4])
                old = self.body[slice(*before[column])]
                document = READY + literal(_changed(parse(old), self.body[first:last])).encode()
                out += [struct.pack("<I", len(document)), document]
                at = last
            out.append(self.body[at : self.at])
        return b"".join(out)

    def _image(self) -> dict[int, tuple[int, int]]:
        """Passes over an image; returns where the value of each JSON column that is not NULL begins and ends."""
        size = (len(self.layouts) + 7) // 8
        nulls = int.from_bytes(self.body[self.at : self.at + size], "little")
        self.at += size
        found = {}
        for i, lies in enumerate(self.layouts):
            if nulls >> i & 1:
                continue
            start = self.at + lies.size
            self.at = start
            if lies.variable:
                self.at += int.from_bytes(self.body[start - lies.size : start], "little")
            if i in self.json:
                found[i] = (start, self.at)
        if self.at > len(self.body):
            raise IndexError("cut off")
        return found


def _changed(document: Node, diffs: bytes) -> Node:
    """`document` after the changes of a diff vector."""
    root: list[Node] = [document]
    at = 0
    while at < len(diffs):
        operation = diffs[at]
        length, at = lenenc(diffs, at + 1)
        path = diffs[at : at + length].decode()
        at += length
        value: Node = ""
        if operation != _REMOVE:
            length, at = lenenc(diffs, at)
            value = parse(diffs[at : at + length])
            at += length
        if operation not in (_REPLACE, _INSERT, _REMOVE):
            raise Malformed(f"a partial update of JSON has the operation {operation}, which is not known")
        _apply(root, operation, path, value)
    return root[0]


def _apply(root: list[Node], operation: int, path: str, value: Node) -> None:
    holder: dict[str, Node] | list[Node] = root
    last: int | str = 0
    for leg in _legs(path):
        inner = holder[last]  # type: ignore[index]
        if not isinstance(inner, dict | list):
            if leg in (0, -1):  # the only element of a value that is no array is the value itself
                continue
            raise Malformed(f"a partial update of JSON changes {path}, and there is nothing to be changed")
        if isinstance(inner, dict) and leg in (0, -1):
            continue
        holder, last = inner, leg
    if isinstance(holder, list) and isinstance(last, int):
        if operation == _INSERT:
            holder.insert(last, value)
        elif operation == _REMOVE:
            del holder[last]
        else:
            holder[last] = value
    elif isinstance(holder, dict) and isinstance(last, str):
        if operation == _REMOVE:
            del holder[last]
        else:
            holder[last] = value
    else:
        raise Malformed(f"a partial update of JSON changes {path}, which does not fit the document")


def _legs(path: str) -> list[int | str]:
    """The legs of a JSON path such as ``$.a[0]."b c"[last-1]``; those from the end are negative, -1 the last."""
    legs: list[int | str] = []
    at = 1
    while at < len(path):
        match = _LEG.match(path, at)
        if match is None:
            raise Malformed(f"a partial update of JSON names the path {path}, which cannot be read")
        if match["last"]:
            legs.append(-1 - int(match["index"] or 0))
        elif match["index"] is not None:
            legs.append(int(match["index"]))
        else:
            legs.append(json.loads(match["quoted"]) if match["quoted"] is not None else match["name"])
        at = match.end()
    return legs
