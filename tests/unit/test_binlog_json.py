"""MySQL's JSON as it is stored, and partial updates of it; the stored documents are what MySQL 9.7 wrote."""

from __future__ import annotations

import re
import struct

import pytest

from executor.native.binlog import table_map as t
from executor.native.binlog.events import Event, Malformed, Rows, RowsKind, Unsupported
from executor.native.binlog.held import MEMORY_BYTES, HeldEvents
from executor.native.binlog.json_binary import json_literal
from executor.native.binlog.partial import made_whole
from executor.native.binlog.rows import TableVersion
from executor.native.binlog.table_map import Column, TableMap

MIXED = bytes.fromhex("0002002c0012000100130001000214000c29006162030015000501000b0d0004010000000000000004c002c3a9")


def readable(literal: str) -> str:
    """A literal with its texts as texts."""
    return re.sub(r"_utf8mb4 X'([0-9a-f]*)'", lambda found: repr(bytes.fromhex(found[1]).decode()), literal)


@pytest.mark.parametrize(
    ("stored", "literal"),
    [
        ("", "'null'"),
        ("0400", "'null'"),
        ("0200000400", "'[]'"),
        ("0000000400", "'{}'"),
        ("0affffffffffffffff", "'18446744073709551615'"),
        (MIXED.hex(), """'{"a": [1, -2.5, true], "b": "é"}'"""),
        (
            "000200380012000100130001000f1400021e0061620a080000000000bab21902001a000f0a000f14000b08e05ef8335dfffffff60403028132",
            """JSON_SET('{"a": null, "b": [null, 1.50]}','$."a"',DATE'2024-02-29',"""
            """'$."b"[0]',TIME'-10:11:12.500000','$."b"[1]',1.50)""",
        ),
        (
            "0205003000060500091300091b000f23000f260000f2052a01000000ffffffff000000000f01ff0c08000000053144b219",
            "JSON_SET('[5, 5000000000, 4294967295, null, null]','$[0]',CAST(5 AS UNSIGNED),'$[1]',5000000000,"
            "'$[3]',X'ff','$[4]',TIMESTAMP'2024-01-02 03:04:05.000000')",
        ),
    ],
)
def test_stored_documents(stored: str, literal: str) -> None:
    assert readable(json_literal(bytes.fromhex(stored))) == literal


@pytest.mark.parametrize("cut", [1, 3, 10, 30])
def test_a_document_that_is_cut_off_is_an_error(cut: int) -> None:
    with pytest.raises(Malformed):
        json_literal(MIXED[:-cut])


@pytest.mark.parametrize("stored", ["0e00", "0ff203010203"])
def test_a_value_of_an_unknown_type_is_an_error(stored: str) -> None:
    with pytest.raises(Unsupported):
        json_literal(bytes.fromhex(stored))


COLUMNS = (Column("id", t.LONG, 0, False, False, None), Column("j", t.JSON, 4, True, False, None))
VERSION = TableVersion.of(TableMap(1, "d", "t", COLUMNS, (0,)))


def changed(*diffs: tuple[int, str, bytes]) -> str:
    """The document MIXED after a partial update."""
    packed = b""
    for operation, path, value in diffs:
        packed += bytes([operation, len(path)]) + path.encode() + (bytes([len(value)]) + value if value else b"")
    before = b"\0" + struct.pack("<iI", 7, len(MIXED)) + MIXED
    after = b"\1\1\0" + struct.pack("<iI", 7, len(packed)) + packed
    rows = Rows(RowsKind.UPDATE, 1, 0, 2, b"\3", b"\3", before + after)
    ((_before, (_key, row)),) = VERSION.decoder(["j"], ["id"])(made_whole(VERSION, rows))
    return readable(row.decode())


TRUE, SEVEN = b"\4\1", b"\5\7\0"


@pytest.mark.parametrize(
    ("diffs", "document"),
    [
        ([(0, "$.a[1]", SEVEN)], '{"a": [1, 7, true], "b": "é"}'),
        ([(0, "$.a[last]", SEVEN)], '{"a": [1, -2.5, 7], "b": "é"}'),
        ([(0, "$.a[last-2]", SEVEN)], '{"a": [7, -2.5, true], "b": "é"}'),
        ([(1, "$.a[1]", TRUE)], '{"a": [1, true, -2.5, true], "b": "é"}'),
        ([(1, '$."c d"', TRUE)], '{"a": [1, -2.5, true], "b": "é", "c d": true}'),
        ([(2, "$.a[0]", b""), (2, "$.b", b"")], '{"a": [-2.5, true]}'),
        ([(0, "$[0].b[last]", SEVEN)], '{"a": [1, -2.5, true], "b": 7}'),
    ],
)
def test_partial_updates(diffs: list[tuple[int, str, bytes]], document: str) -> None:
    assert changed(*diffs) == f"('{document}')"


@pytest.mark.parametrize("diff", [(0, "$.a.b.c", TRUE), (3, "$.a", TRUE), (0, "$**.a", TRUE), (0, "$.b[3]", TRUE)])
def test_a_partial_update_that_does_not_fit_is_an_error(diff: tuple[int, str, bytes]) -> None:
    with pytest.raises(Malformed):
        changed(diff)


@pytest.mark.parametrize("size", [0, 10, MEMORY_BYTES])
def test_held_events_come_again_as_they_were(size: int) -> None:
    events = [Event(kind, 1_700_000_000, 10, 4711, 128, bytes([kind]) * size) for kind in range(1, 4)]
    held = HeldEvents()
    held.append(events[0])
    before = held.size
    held.append(events[1])
    held.truncate(before)
    held.append(events[2])
    assert list(held.replay()) == [events[0], events[2]]
