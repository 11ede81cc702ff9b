"""Changes of one table on their way from the source's binlog to the target, in the order in which they count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from executor.errors import MovetablesError
from executor.native.binlog.events import Format, Rows, RowsKind
from executor.native.binlog.pieces import RowsChange
from executor.native.binlog.rows import Decoder, TableVersion
from executor.native.stream.layout import TableLayout
from executor.native.stream.match import matching_row

CHANGE_BYTES = 200
"""About what Python keeps for one change beside the text of its row."""

Keys = tuple[bytes, ...]


@dataclass
class Changes:
    """Decoded changes. `rows` holds the last state of each key, None for a row that is gone.

    `ordered` holds the changes of a table without a key instead: (True, the condition that the row matches that is
    gone) or (False, a new row).
    """

    rows: dict[Keys, bytes | None] = field(default_factory=dict)
    ordered: list[tuple[bool, bytes]] = field(default_factory=list)

    def add(self, later: Changes) -> None:
        """Takes over what `later` holds."""
        self.rows.update(later.rows)
        self.ordered += later.ordered

    def read(self, rows: Rows, layout: TableLayout, decode: Decoder) -> int:
        """Takes over the row images of one event; returns about the bytes of memory that they take."""
        kind, images = rows.kind, decode(rows)
        if not layout.key:
            return self._read_in_order(kind, images, layout)
        if kind is RowsKind.DELETE:
            for (before,) in images:
                self.rows[before[0]] = None
            return CHANGE_BYTES * len(images)
        size = CHANGE_BYTES * len(images)
        if kind is RowsKind.INSERT:
            for ((key, row),) in images:
                self.rows[key] = row
                size += len(row)
            return size
        if kind is not RowsKind.UPDATE:
            raise MovetablesError(f"rows of {layout.name} were changed by {kind.value}, which is unknown here")
        for before, (key, row) in images:
            if before[0] != key:
                self.rows[before[0]] = None
            self.rows[key] = row
            size += len(row)
        return size

    def _read_in_order(
        self, kind: RowsKind, images: Sequence[tuple[tuple[Keys, bytes], ...]], layout: TableLayout
    ) -> int:
        size = 0
        for image in images:
            if kind is not RowsKind.INSERT:
                self.ordered.append((True, matching_row(layout, image[0][0])))
                size += CHANGE_BYTES + len(self.ordered[-1][1])
            if kind is not RowsKind.DELETE:
                self.ordered.append((False, image[-1][1]))
                size += CHANGE_BYTES + len(image[-1][1])
        return size


@dataclass
class RowEvents:
    """Rows events of one version of the table that were not decoded; `decode` does it.

    `format` is the format event that says how they look.
    """

    table: TableVersion
    format: Format
    decode: Decoder
    events: list[Rows]

    def continued_by(self, table: TableVersion, source_format: Format) -> bool:
        """True when events of that version and format may be added."""
        return self.table is table and self.format == source_format

    def decoded(self, layout: TableLayout) -> Changes:
        """The same changes, decoded."""
        changes = Changes()
        for rows in self.events:
            changes.read(rows, layout, self.decode)
        return changes


class TableChanges:
    """What happened to the table of `layout`: `parts` in order, `size` is about the bytes of memory that they take."""

    def __init__(self, layout: TableLayout) -> None:
        self.layout = layout
        self.parts: list[Changes | RowEvents] = []
        self.size = 0

    @property
    def ends_in_events(self) -> bool:
        """True when the last changes are events that were not decoded."""
        return bool(self.parts) and isinstance(self.parts[-1], RowEvents)

    def decode(self, change: RowsChange, decode: Decoder) -> None:
        """Adds the rows of an event, decoded: of several changes of one key only the last is kept."""
        last = self.parts[-1] if self.parts else None
        if not isinstance(last, Changes):
            self.parts.append(last := Changes())
        self.size += last.read(change.rows, self.layout, decode)

    def keep(self, change: RowsChange, decode: Decoder, source_format: Format) -> None:
        """Adds an event as it is; `decode` is what would decode it, `source_format` as in `RowEvents`."""
        last = self.parts[-1] if self.parts else None
        if not isinstance(last, RowEvents) or not last.continued_by(change.table, source_format):
            self.parts.append(last := RowEvents(change.table, source_format, decode, []))
        last.events.append(change.rows)
        self.size += len(change.rows.body) + CHANGE_BYTES

    def add(self, later: TableChanges) -> None:
        """Takes over what `later` holds, and empties it."""
        for part in later.parts:
            last = self.parts[-1] if self.parts else None
            if isinstance(last, Changes) and isinstance(part, Changes):
                last.add(part)
            elif (
                isinstance(last, RowEvents)
                and isinstance(part, RowEvents)
                and last.continued_by(part.table, part.format)
            ):
                last.events += part.events
            else:
                self.parts.append(part)
        self.size += later.size
        later.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self.parts = []
        self.size = 0
