"""The events that begin a transaction, of either flavour.

MariaDB's is ``Gtid_log_event`` of its ``sql/log_event.h``. MySQL has one of a fixed layout, and one for GTIDs with a
tag (8.3 and later) in the format of its serialization library (``libs/mysql/serialization``): numbers of a variable
length, each field behind its number.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass

from executor.native.binlog.events import Event, EventType, Malformed, where, xa_name
from executor.native.binlog.gtid_list import GtidId
from executor.native.binlog.gtid_set import MysqlGtid

_STANDALONE = 1
_GROUP_COMMIT = 2
_PREPARED_XA = 64
_COMPLETED_XA = 128
_START_ALTER = 2
_COMMIT_ALTER = 4
_ROLLBACK_ALTER = 8
_UUID_FIELD, _NUMBER_FIELD, _TAG_FIELD = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Gtid:
    """A transaction begins.

    `standalone` is True when it is one statement without an end of its own, None when only the first statement tells
    (MySQL). `xa_prepared` names the XA transaction of which this is the first part, where the event says so (MariaDB).
    `alter` is 'start', 'commit' or 'rollback' for the halves of a two-phase ALTER (``binlog_alter_two_phase``), else
    ''.
    """

    id: GtidId | MysqlGtid
    standalone: bool | None
    xa_prepared: str = ""
    alter: str = ""


def parse_gtid_event(event: Event) -> Gtid:
    """A GTID event of either flavour. Raises Malformed."""
    if event.type == EventType.GTID:
        return _mariadb(event)
    if event.type == EventType.GTID_LOG:
        (number,) = struct.unpack_from("<q", event.body, 17)
        return Gtid(MysqlGtid(str(uuid.UUID(bytes=event.body[1:17])), "", number), None)
    return Gtid(_tagged(event), None)


def _mariadb(event: Event) -> Gtid:
    body = event.body
    sequence, domain, flags = struct.unpack_from("<QIB", body)
    at = 13
    if flags & _GROUP_COMMIT:
        at += 8
    xa = ""
    if flags & (_PREPARED_XA | _COMPLETED_XA):
        form, gtrid_length, bqual_length = struct.unpack_from("<IBB", body, at)
        middle = at + 6 + gtrid_length
        xa = xa_name(form, body[at + 6 : middle], body[middle : middle + bqual_length])
        at = middle + bqual_length
    extra = body[at] if at < len(body) else 0
    alter = ""
    for flag, name in ((_START_ALTER, "start"), (_COMMIT_ALTER, "commit"), (_ROLLBACK_ALTER, "rollback")):
        if extra & flag:
            alter = name
    standalone = bool(flags & _STANDALONE)
    return Gtid(GtidId(domain, event.server_id, sequence), standalone, xa if flags & _PREPARED_XA else "", alter)


def _tagged(event: Event) -> MysqlGtid:
    """The GTID in a GTID_TAGGED event: fields 1 to 3; what comes behind them does not concern us."""
    body = event.body
    version, at = _number(body, 0)
    _size, at = _number(body, at)
    _last_needed, at = _number(body, at)
    if version != 1:
        raise Malformed(f"{where(event)} is of serialization version {version}, and only 1 is known")
    source, tag, number = "", "", 0
    while at < len(body):
        field, at = _number(body, at)
        if field == _UUID_FIELD:
            parts = []
            for _ in range(16):
                part, at = _number(body, at)
                parts.append(part)
            source = str(uuid.UUID(bytes=bytes(parts)))
        elif field == _NUMBER_FIELD:
            value, at = _number(body, at)
            number = value >> 1  # the lowest bit is the sign
        elif field == _TAG_FIELD:
            length, at = _number(body, at)
            tag = body[at : at + length].decode("ascii")
            return MysqlGtid(source, tag, number)
        else:
            _flags, at = _number(body, at)
    raise Malformed(f"{where(event)} names no tag")


def _number(body: bytes, at: int) -> tuple[int, int]:
    """A number and the offset behind it: the ones at the bottom of the first byte count the bytes that follow it."""
    first = body[at]
    more = (~first & (first + 1)).bit_length() - 1  # trailing ones
    if more == 8:
        return int.from_bytes(body[at + 1 : at + 9], "little"), at + 9
    return int.from_bytes(body[at : at + more + 1], "little") >> more + 1, at + more + 1
