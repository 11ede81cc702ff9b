"""MySQL's compressed transactions (``binlog_transaction_compression``): one event that holds the others.

The layout is that of ``Transaction_payload_event`` in ``libs/mysql/binlog/event/control_events.h``: fields of a type, a
length and a value, then the compressed events, which carry no checksums.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO, cast

import zstandard

from executor.native.binlog.events import HEADER, Event, Malformed, Unsupported, lenenc, where

_END, _SIZE, _COMPRESSION, _UNCOMPRESSED_SIZE = range(4)
_ZSTD, _NONE = 0, 255
_CHUNK = 1 << 18
_FIELDS = 64  # bytes that the fields before the compressed events fit in


def inner_events(event: Event) -> Iterator[Event]:
    """The events of a TRANSACTION_PAYLOAD event, unpacked as they are asked for.

    Raises Malformed for a payload that is cut off, Unsupported for a compression that is not known.
    """
    packed: IO[bytes] = io.BytesIO(event.body) if event.file is None else event.file
    body = packed.read(_FIELDS)
    at = 0
    compression, announced = _ZSTD, None
    while True:
        field, at = lenenc(body, at)
        if field == _END:
            break
        length, at = lenenc(body, at)
        if field == _COMPRESSION:
            compression, _ = lenenc(body, at)
        elif field == _UNCOMPRESSED_SIZE:
            announced, _ = lenenc(body, at)
        elif field != _SIZE:
            raise Malformed(f"{where(event)} has a field of type {field}, which is not known")
        at += length
    packed.seek(at)
    if compression == _NONE:
        return _split(packed, None, event)
    if compression != _ZSTD:
        raise Unsupported(f"{where(event)} is compressed by method {compression}, and only zstd (0) is known")
    reader = zstandard.ZstdDecompressor().stream_reader(packed, read_size=_CHUNK, read_across_frames=True)
    return _split(cast(IO[bytes], reader), announced, event)


def _split(reader: IO[bytes], announced: int | None, outer: Event) -> Iterator[Event]:
    found = 0
    try:
        while head := _exactly(reader, HEADER.size, outer, end_allowed=True):
            timestamp, kind, server_id, size, _log_pos, flags = HEADER.unpack(head)
            body = _exactly(reader, size - HEADER.size, outer)
            found += size
            yield Event(kind, timestamp, server_id, outer.log_pos, flags, body)
    except zstandard.ZstdError as error:
        raise Malformed(f"{where(outer)} cannot be unpacked: {error}") from error
    finally:
        if outer.file is not None:
            outer.file.close()
    if announced not in (None, found):
        raise Malformed(f"{where(outer)} holds {found} bytes of events, and {announced} were announced")


def _exactly(reader: IO[bytes], size: int, outer: Event, *, end_allowed: bool = False) -> bytes:
    data = reader.read(size)
    while len(data) < size:
        more = reader.read(size - len(data))
        if not more:
            break
        data += more
    if len(data) == size or (end_allowed and not data):
        return data
    raise Malformed(f"{where(outer)} ends within one of its events")
