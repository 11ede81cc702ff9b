"""Events put aside until it is known whether they count: in memory first, on disk when they are many."""

from __future__ import annotations

import struct
import tempfile
import weakref
from collections.abc import Iterator

from executor.native.binlog.events import Event

MEMORY_BYTES = 8_000_000
_HEAD = struct.Struct("<BIIIHI")


class HeldEvents:
    """A list of events of any length, in little memory. `close()` forgets it and gives the disk space back."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115  (lives as long as this object)
        self.size = 0
        # Whoever reads a stream may drop it at any time, with transactions that are still undecided.
        self.close = weakref.finalize(self, self._file.close)

    def append(self, event: Event) -> None:
        """Adds an event at the end."""
        self._file.write(
            _HEAD.pack(event.type, event.timestamp, event.server_id, event.log_pos, event.flags, len(event.body))
        )
        self._file.write(event.body)
        self.size += _HEAD.size + len(event.body)

    def truncate(self, size: int) -> None:
        """Forgets what was added since `size` was the size."""
        self._file.seek(size)
        self._file.truncate()
        self.size = size

    def replay(self) -> Iterator[Event]:
        """The events in their order, once; the list is closed behind the last."""
        self._file.seek(0)
        while head := self._file.read(_HEAD.size):
            kind, timestamp, server_id, log_pos, flags, length = _HEAD.unpack(head)
            yield Event(kind, timestamp, server_id, log_pos, flags, self._file.read(length))
        self.close()
