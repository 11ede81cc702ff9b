"""Events parsed from bytes, and what the reader makes of sequences that no healthy server sends."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import cast

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from executor.errors import MovetablesError
from executor.native.binlog import events as e
from executor.native.binlog.events import Event, EventType, Malformed, Rows, RowsKind, UnknownEvent, Unsupported
from executor.native.binlog.payload import inner_events
from executor.native.binlog.positions import GtidId, MysqlGtid, Position, parse
from executor.native.binlog.rows import TableVersion
from executor.native.binlog.table_map import Column, TableMap, parse_table_map
from executor.native.binlog.transactions import Begin, Commit, Rollback, RowsChange, TransactionReader
from executor.native.binlog.wire import BinlogClient

# What MariaDB 10.11 wrote for a table of these columns: id int unsigned primary key,
# y year, u bigint unsigned, c char(5) latin1, b binary(6), t text, e enum, s set, v int virtual, st int stored,
# bb bit(9), d decimal(10,2) unsigned, f float.
TABLE_MAP = (
    b"\x12\x00\x00\x00\x00\x00\x01\x00\x01a\x00\x01t\x00\r\x03\r\x08\xfe\xfe\xfc\xfe\xfe\x03\x03\x10\xf6\x04\x0e\xfe\x05\xfe"
    b"\x06\x02\xf7\x01\xf8\x01\x01\x01\n\x02\x04\xfe\x1f\x01\x01\xe4\x03\x03\x08?-\x04\x1d\x02id\x01y\x01u\x01c\x01b\x01t"
    b"\x01e\x01s\x01v\x02st\x02bb\x01d\x01f\n\x01-\x05\x05\x02\x01x\x01y\x06\x05\x02\x01a\x01b\x08\x01\x00"
)
ROWS = (
    b"\x12\x00\x00\x00\x00\x00\x01\x00\r\xff\x1f\x00\xe0\x01\x00\x00\x00d\x05\x00\x00\x00\x00\x00\x00\x00\x03abc\x02xx\x05"
    b"\x00hello\x02\x03\x02\x00\x00\x00\x02\x00\x00\x00\x00\x05\x80\x00\x00\x012\x00\x00\xc0?\xfe\xfc\x02\x00\x00\x00\x03"
    b"\x00\x00\x00\x03\x00\x00\x00"
)
FORMAT = struct.pack("<H50sI", 4, b"10.11.6-MariaDB-log", 0) + bytes(45)
GTID = struct.pack("<QIB6x", 7, 0, 0)
COLUMNS = ["id", "y", "u", "c", "b", "t", "e", "s", "bb", "d", "f"]


def event(kind: int, body: bytes = b"", flags: int = 0) -> Event:
    return Event(kind, 1_700_000_000, 10, 4711, flags, body)


class Recorded:
    """Events that were recorded, in the place of a connection."""

    def __init__(self, *events: Event) -> None:
        self.events: Iterator[Event] = iter(events)
        self.position: Position = parse("")
        self.written = None

    def read(self) -> Event:
        return next(self.events)


def reader(*events: Event) -> TransactionReader:
    recorded = Recorded(event(EventType.FORMAT, FORMAT, e.ARTIFICIAL), *events)
    return TransactionReader(cast(BinlogClient, recorded), lambda _database, table: table == "t")


def test_table_map() -> None:
    table_map = parse_table_map(event(EventType.TABLE_MAP, TABLE_MAP))
    assert (table_map.table_id, table_map.database, table_map.table) == (18, "a", "t")
    assert [c.name for c in table_map.columns] == "id y u c b t e s v st bb d f".split()
    assert [c.name for c in table_map.columns if c.unsigned] == ["id", "y", "u", "d"]
    assert [c.collation for c in table_map.columns if c.collation] == [8, 63, 45]
    assert [c.name for c in table_map.columns if not c.nullable] == ["id"]
    assert table_map.key == (0,)


def test_rows() -> None:
    version = TableVersion.of(parse_table_map(event(EventType.TABLE_MAP, TABLE_MAP)))
    rows = e.parse_rows(event(EventType.WRITE_ROWS_V1, ROWS))
    assert rows.full
    assert version.decoder(COLUMNS, version.key)(rows) == [
        (((b"1",), b"(1,2000,5,X'616263',X'787800000000',X'68656c6c6f',2,3,5,1.50,'1.5')"),),
        (((b"2",), b"(2,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL)"),),
    ]


@pytest.mark.parametrize("cut", [1, 5, 20, 60])
def test_rows_that_are_cut_off_are_an_error(cut: int) -> None:
    version = TableVersion.of(parse_table_map(event(EventType.TABLE_MAP, TABLE_MAP)))
    rows = e.parse_rows(event(EventType.WRITE_ROWS_V1, ROWS[:-cut]))
    with pytest.raises(Malformed, match=r"a\.t"):
        version.decoder(COLUMNS, version.key)(rows)


def test_a_missing_column_names_the_table_and_what_there_is() -> None:
    version = TableVersion.of(parse_table_map(event(EventType.TABLE_MAP, TABLE_MAP)))
    with pytest.raises(Unsupported, match=r"a\.t has no column nope .*bb, d, f"):
        version.decoder(["id", "nope"], ["id"])


def test_names_never_become_code() -> None:
    name = '"); raise SystemExit("'
    column = Column(name, 3, 0, True, False, None)
    version = TableVersion.of(TableMap(1, name, name, (column,), (0,)))
    rows = Rows(RowsKind.INSERT, 1, 0, 1, b"", b"\x01", b"\x00\xff\xff\xff\xff\x01")
    assert version.decoder([name], [name])(rows) == [(((b"-1",), b"(-1)"),), (((b"NULL",), b"(NULL)"),)]


@given(st.binary(max_size=400))
def test_uncompress(data: bytes) -> None:
    packed = b"\x82" + len(data).to_bytes(2, "big") + zlib.compress(data)
    assert e.uncompress(packed) == data


@pytest.mark.parametrize("data", [b"", b"\x92\x00\x01x", b"\x81\x05" + zlib.compress(b"abc"), b"\x02\x00"])
def test_uncompress_refuses_what_it_does_not_know(data: bytes) -> None:
    with pytest.raises(MovetablesError):
        e.uncompress(data)


@pytest.mark.parametrize("kind", [0, 1, 20, 43, 164, 172, 255])
def test_an_unknown_event_stops_the_stream_and_is_named(kind: int) -> None:
    with pytest.raises(UnknownEvent, match=rf"type {kind} .* position 4711"):
        reader(event(kind)).next()


def test_an_unknown_event_that_says_so_may_be_passed_over() -> None:
    found = reader(event(99, flags=e.IGNORABLE), event(EventType.GTID, GTID))
    assert isinstance(found.next(), Begin)


def test_a_transaction_without_a_gtid_stops_the_stream() -> None:
    with pytest.raises(Unsupported, match="without a GTID") as caught:
        reader(event(EventType.ANONYMOUS_GTID)).next()
    assert "gtid_mode=ON" in caught.value.hint


# What MySQL 9.7 wrote.
GTID_LOG = bytes.fromhex(
    "00b1cb8ee7e68e11f1bfa002fc0000000106000000000000000205000000000000000800000000000000f25298abdf60"
)
GTID_TAGGED = bytes.fromhex(
    "027a00000002c5022d0339029d039903390222c503fd02810204f103000000020408060a666f6f5f3108140a1c0c7fa44e98abdf600610850412"
    "83120b"
)
MYSQL_UUID = "b1cb8ee7-e68e-11f1-bfa0-02fc00000001"


@pytest.mark.parametrize(
    ("kind", "body", "gtid"),
    [
        (EventType.GTID_LOG, GTID_LOG, MysqlGtid(MYSQL_UUID, "", 6)),
        (EventType.GTID_TAGGED, GTID_TAGGED, MysqlGtid(MYSQL_UUID, "foo_1", 2)),
    ],
)
def test_the_gtids_of_mysql(kind: EventType, body: bytes, gtid: MysqlGtid) -> None:
    assert reader(event(kind, body)).next() == Begin(gtid, 1_700_000_000, 10)


@pytest.mark.parametrize("size", [1, 300, 5_000_000])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_payload_holds_events_of_any_size(size: int, compressed: bool) -> None:
    plain = b"".join(
        e.HEADER.pack(7, kind, 10, 19 + len(body), 0, 0) + body for kind, body in [(2, b"a" * size), (16, b"b")]
    )
    packed = zstandard.compress(plain) if compressed else plain
    fields = b"\x02" + (b"\x01\x00" if compressed else b"\x03\xfc\xff\x00")
    fields += b"\x03\x09\xfe" + len(plain).to_bytes(8, "little") + b"\x00"
    found = list(inner_events(event(EventType.TRANSACTION_PAYLOAD, fields + packed)))
    assert [(inner.type, inner.body) for inner in found] == [(2, b"a" * size), (16, b"b")]
    assert found[0].log_pos == 4711
    with pytest.raises(Malformed):
        list(inner_events(event(EventType.TRANSACTION_PAYLOAD, fields + packed[:-3])))


def test_a_payload_of_an_unknown_compression_is_refused() -> None:
    with pytest.raises(Unsupported, match="method 7"):
        inner_events(event(EventType.TRANSACTION_PAYLOAD, b"\x02\x01\x07\x00"))


def test_an_incident_stops_the_stream() -> None:
    with pytest.raises(Unsupported, match="incident"):
        reader(event(EventType.INCIDENT)).next()


def test_a_transaction_that_the_source_did_not_finish_before_it_crashed_does_not_count() -> None:
    found = reader(
        event(EventType.GTID, GTID),
        event(EventType.TABLE_MAP, TABLE_MAP),
        event(EventType.WRITE_ROWS_V1, ROWS),
        event(EventType.FORMAT, b"", e.ARTIFICIAL),
        event(EventType.STOP),
        event(EventType.FORMAT),
        event(EventType.GTID, GTID),
        event(EventType.XID),
    )
    assert [type(found.next()) for _ in range(3)] == [Begin, RowsChange, Rollback]
    assert found.next() == Begin(GtidId(0, 10, 7), 1_700_000_000, 10)
    assert found.next() == Commit(GtidId(0, 10, 7), 1_700_000_000)


def test_the_rollback_of_an_unfinished_transaction_keeps_the_position() -> None:
    found = reader(event(EventType.GTID, GTID), event(EventType.FORMAT))
    found.next()
    rollback = found.next()
    assert isinstance(rollback, Rollback)
    assert not rollback.complete


@pytest.mark.parametrize(
    "events",
    [
        [event(EventType.XID)],
        [event(EventType.WRITE_ROWS_V1, ROWS)],
        [event(EventType.GTID, GTID), event(EventType.GTID, GTID)],
        [event(EventType.GTID, GTID), event(EventType.WRITE_ROWS_V1, ROWS)],
    ],
)
def test_events_out_of_order_are_an_error(events: list[Event]) -> None:
    found = reader(*events)
    for _ in events[1:]:
        found.next()
    with pytest.raises(Malformed):
        found.next()
