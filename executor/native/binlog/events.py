"""Binlog events, parsed from bytes."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from executor.errors import MovetablesError


class UnknownEvent(MovetablesError):
    """An event of a type that is not known to be harmless."""


class Unsupported(MovetablesError):
    """Something in the log that the stream cannot carry over faithfully."""


class RowsKind(enum.Enum):
    """What happened to the rows of one event."""

    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it came: header fields, and the body without header and checksum."""

    type: int
    timestamp: int
    server_id: int
    log_pos: int
    flags: int
    body: bytes


@dataclass(frozen=True, slots=True)
class TableMap:
    """Describes the table of the rows that follow."""

    table_id: int
    database: str
    table: str


@dataclass(frozen=True, slots=True)
class Rows:
    """Row images of one statement, not decoded; `body` begins with the first row's null bits."""

    kind: RowsKind
    table_id: int
    body: bytes
