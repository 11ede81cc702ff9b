"""Rows of every type, taken from a real server's binlog and written again as literals, arrive byte for byte."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executor.native.binlog.events import RowsKind, Unsupported
from executor.native.binlog.positions import parse
from executor.native.binlog.transactions import Commit, RowsChange, TransactionReader
from executor.native.binlog.wire import BinlogClient
from executor.native.flavor import STRICT_SQL_MODE
from executor.native.local.local_server import LocalServer
from executor.native.local.server import start, stop
from executor.native.servers import Connection, connect, quote
from executor.native.stream.layout import TableLayout, describe_tables, layout_of
from executor.native.stream.rendered import literal_expression
from executor.native.vdiff.normal import row_hash
from planner.column_types import FLOATS
from tests.cluster.conftest import Pairing, Templates, dispose

STREAM_ID = 4_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, template: Path, flavor: str, ports: Any) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("binlog_rows") / "server"
    server = LocalServer("source", folder, ports.take(), 10, "secret", flavor)
    start(server, template)
    try:
        yield server
    finally:
        stop(server)


@pytest.fixture(scope="module")
def target(
    tmp_path_factory: pytest.TempPathFactory, templates: Templates, pairing: Pairing, ports: Any
) -> Iterator[Connection]:
    """A connection to a server of the target's flavour, set up as a stream's is."""
    folder = tmp_path_factory.mktemp("binlog_rows") / "target"
    server = LocalServer("target", folder, ports.take(), 11, "secret", pairing.target)
    start(server, templates(pairing.target))
    try:
        with connect(server.login, apply=True) as connection:
            connection.execute("CREATE DATABASE d CHARACTER SET utf8mb4")
            yield connection
    finally:
        dispose(server)


@pytest.fixture(scope="module")
def source(server: LocalServer) -> Iterator[Connection]:
    with connect(server.login) as connection:
        connection.execute("CREATE DATABASE d CHARACTER SET utf8mb4")
        yield connection


class Stream:
    """Reads the rows that are written to one table after another."""

    def __init__(self, server: LocalServer, position: str) -> None:
        self.client = BinlogClient(server.login, position, STREAM_ID)
        self.table = ""
        self.last = parse(position)
        self.reader = TransactionReader(self.client, lambda database, table: (database, table) == ("d", self.table))

    def rows(self, end: str, table: str) -> list[RowsChange]:
        """The changes of a table up to a position, which is the one of its last transaction."""
        self.table = table
        changes: list[RowsChange] = []
        while True:
            piece = self.reader.next()
            if isinstance(piece, RowsChange):
                changes.append(piece)
            if isinstance(piece, Commit):
                self.last = piece.after(self.last)
                if self.last == parse(end):
                    return changes

    def skip(self, to: str) -> None:
        """Reads over everything up to a position."""
        if self.last != parse(to):
            self.rows(to, "")


@pytest.fixture(scope="module")
def stream(server: LocalServer, source: Connection) -> Iterator[Stream]:
    found = Stream(server, source.position())
    yield found
    found.client.close()


@contextmanager
def loose(connection: Connection) -> Iterator[Connection]:
    """The connection with an application's sql_mode, that stores what strict servers refuse."""
    connection.execute("SET sql_mode='ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO'")
    yield connection
    connection.execute(f"SET sql_mode='{STRICT_SQL_MODE}'")


@dataclass(frozen=True)
class Kind:
    """A column type and SQL literals of its values."""

    sql: str
    values: st.SearchStrategy[str]
    key: bool = True


def integers(sql: str, bits: int) -> list[Kind]:
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    edges = st.sampled_from([low, low + 1, -1, 0, 1, high])
    return [
        Kind(sql, (edges | st.integers(low, high)).map(str)),
        Kind(
            f"{sql} unsigned", (st.sampled_from([0, 1, 2 * high, 2 * high + 1]) | st.integers(0, 2 * high + 1)).map(str)
        ),
    ]


def hexed(data: bytes) -> str:
    return f"X'{data.hex()}'"


def compress(connection: Connection, on: bool) -> None:
    """Lets the connection's changes be logged in compressed events, or not."""
    if connection.flavor.mariadb:
        connection.execute("SET GLOBAL log_bin_compress_min_len=10")
        connection.execute(f"SET GLOBAL log_bin_compress={int(on)}")
    else:
        connection.execute(f"SET SESSION binlog_transaction_compression={int(on)}")


def create(connection: Connection, table: str, columns: str) -> None:
    connection.execute(f"DROP TABLE IF EXISTS d.{table}")
    connection.execute(f"CREATE TABLE d.{table} ({columns})")


def quoted(text: str) -> str:
    return f"'{text}'"


@st.composite
def decimal_kinds(draw: st.DrawFn) -> Kind:
    precision = draw(st.integers(1, 65))
    scale = draw(st.integers(0, min(precision, 30)))
    top = 10**precision - 1

    def text(number: int) -> str:
        digits = f"{abs(number):0{scale + 1}d}"
        return ("-" if number < 0 else "") + (f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits)

    numbers = st.sampled_from([0, 1, -1, top, -top]) | st.integers(-top, top)
    return Kind(f"decimal({precision},{scale})", numbers.map(text))


DATES = st.sampled_from(
    ["0000-00-00", "2024-00-10", "2024-05-00", "0000-06-01", "9999-12-31", "1000-01-01", "2024-02-30"]
)
DATES |= st.dates(date(1, 1, 1)).map(str)


@st.composite
def temporal_kinds(draw: st.DrawFn) -> Kind:
    digits = draw(st.integers(0, 6))
    fraction = st.integers(0, 10**digits - 1).map(lambda n: f".{n:0{digits}d}" if digits else "")
    clock = st.times().map(lambda at: f"{at:%H:%M:%S}")
    moments = st.integers(1, 2**31 - 1).map(
        lambda n: f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=n):%F %T}"
    )
    if digits:
        moments |= st.just("1970-01-01 00:00:00")
    spans = st.tuples(st.sampled_from(["", "-"]), st.integers(0, 838), clock).map(
        lambda p: f"{p[0]}{p[1]:02d}{p[2][2:]}"
    )
    values = {
        "datetime": st.tuples(DATES, clock, fraction).map(lambda p: f"{p[0]} {p[1]}{p[2]}"),
        "timestamp": st.just("0000-00-00 00:00:00") | st.tuples(moments, fraction).map("".join),
        "time": st.sampled_from(["-838:59:59", "838:59:59", "-00:00:00"]) | st.tuples(spans, fraction).map("".join),
    }
    name = draw(st.sampled_from(sorted(values)))
    return Kind(f"{name}({digits}) {'null default null' if name == 'timestamp' else ''}", values[name].map(quoted))


@st.composite
def string_kinds(draw: st.DrawFn) -> Kind:
    length = draw(st.sampled_from([0, 1, 20, 63, 64, 100, 255]))
    charset, encoding, most = draw(
        st.sampled_from(
            [
                ("utf8mb4", "utf-8", 0x10FFFF),
                ("latin1", "latin-1", 0xFF),
                ("ucs2", "utf-16-be", 0xFFFF),
                ("gbk", "ascii", 127),
            ]
        )
    )
    alphabet = st.characters(max_codepoint=most, exclude_categories=("Cs",)).filter(
        lambda char: charset != "latin1" or not 0x80 <= ord(char) < 0xA0
    )
    special = st.sampled_from(["", " ", "a ", "A", "a", "'", "\\", "a\0", "\0", "''", '"'])
    texts = (special | st.text(alphabet, max_size=length)).map(lambda text: hexed(text[:length].encode(encoding)))
    name = draw(
        st.sampled_from([f"char({length})", f"varchar({length})", "tinytext", "text", "mediumtext", "longtext"])
    )
    return Kind(f"{name} character set {charset}", texts, key=False)


@st.composite
def byte_kinds(draw: st.DrawFn) -> Kind:
    length = draw(st.sampled_from([0, 1, 8, 16, 255]))
    data = st.sampled_from([b"", b"\0", b"a\0", b"\0a", b"\xff", b" ", b"'\\"]) | st.binary(max_size=length)
    name = draw(st.sampled_from([f"binary({length})", f"varbinary({length * 3})", "tinyblob", "blob", "longblob"]))
    return Kind(name, data.map(lambda found: hexed(found[:length])), key=False)


@st.composite
def sets_and_bits(draw: st.DrawFn) -> Kind:
    count = draw(st.sampled_from([1, 8, 9, 17, 33, 64]))
    name = draw(st.sampled_from(["bit", "set", "enum"]))
    members = ",".join(f"'v{i}'" for i in range(count if name == "set" else count * 5))
    masks = (st.sampled_from([0, 1, (1 << count) - 1, 1 << (count - 1)]) | st.integers(0, (1 << count) - 1)).map(str)
    if name == "bit":
        return Kind(f"bit({count})", masks)
    if name == "set":
        return Kind(f"set({members})", masks)
    return Kind(f"enum({members})", st.integers(1, count * 5).map(str))


@st.composite
def geometries(draw: st.DrawFn) -> str:
    """Geometries as both servers keep them: SRID, then WKB."""
    srid = struct.pack("<I", draw(st.sampled_from([0, 4326])))

    def point() -> bytes:
        return struct.pack("<dd", draw(st.floats(-90, 90)), draw(st.floats(-90, 90)))

    shape = draw(st.sampled_from(["point", "line", "multipoint", "empty"]))
    count = draw(st.integers(2, 5))
    if shape == "point":
        body = b"\x01\1\0\0\0" + point()
    elif shape == "line":
        body = b"\x01\2\0\0\0" + struct.pack("<I", count) + b"".join(point() for _ in range(count))
    elif shape == "multipoint":
        points = b"".join(b"\x01\1\0\0\0" + point() for _ in range(count))
        body = b"\x01\4\0\0\0" + struct.pack("<I", count) + points
    else:
        body = b"\x01\7\0\0\0\0\0\0\0"
    return hexed(srid + body)


def of_column(value: str, kind: str) -> str:
    return (
        f"(SELECT JSON_EXTRACT(JSON_ARRAY(v), '$[0]') FROM JSON_TABLE(JSON_ARRAY({value}), '$[*]' "
        f"COLUMNS (v {kind} PATH '$')) AS j)"
    )


JSON_LEAVES = st.one_of(
    st.sampled_from(
        [
            *(
                "NULL",
                "TRUE",
                "FALSE",
                "''",
                "1.50",
                "-0.001",
                "CAST(1.5 AS DECIMAL(65,30))",
                "CAST(7 AS DECIMAL(9,0))",
            ),
            *("DATE'2024-02-29'", "DATE'0000-00-00'", "TIME'-838:59:59'", "TIME'10:11:12.345678'", "TIME'00:00:00'"),
            *(
                "TIMESTAMP'9999-12-31 23:59:59.999999'",
                "TIMESTAMP'2024-03-31 02:30:00'",
                "X'ff00'",
                "CAST('' AS BINARY)",
            ),
            *("-0e0", "0e0", "1e0", "1e25", "4.9e-324", "1.7976931348623157e308", "18446744073709551615", "4294967296"),
            of_column("X'00ff'", "BLOB"),
            of_column("X'00ff'", "TINYBLOB"),
            of_column("X'00ff'", "LONGBLOB"),
            of_column("X'00ff'", "BINARY(2)"),
            of_column("5", "BIT(9)"),
            of_column("TIMESTAMP'2024-03-31 02:30:00.123456'", "TIMESTAMP(6)"),
        ]
    ),
    st.integers(-(1 << 63), (1 << 63) - 1).map(str),
    st.integers(0, (1 << 64) - 1).map(lambda n: f"CAST({n} AS UNSIGNED)"),
    st.sampled_from([2**8, 2**15, 2**16, 2**31, 2**32, 2**63]).map(lambda n: f"CAST({n - 1} AS UNSIGNED)"),
    st.sampled_from([2**15, 2**16, 2**31, 2**32, 2**63]).map(lambda n: str(n - 1)),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda x: f"CAST('{x!r}' AS DOUBLE)"),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=200).map(lambda x: f"_utf8mb4 {hexed(x.encode())}"),
)
NAMES = st.sampled_from(["a", "b", "", '"', "\\", "a.b", "é😀", "[0]", "$", "\n", "x" * 300, "last"])


def objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.dictionaries(NAMES, inner, max_size=6)
    return pairs.map(lambda d: f"JSON_OBJECT({','.join(f'_utf8mb4 {hexed(k.encode())},{v}' for k, v in d.items())})")


DOCUMENTS = st.recursive(
    JSON_LEAVES.map(lambda leaf: f"JSON_EXTRACT(JSON_ARRAY({leaf}), '$[0]')"),
    lambda inner: (
        objects(inner | JSON_LEAVES)
        | st.lists(inner | JSON_LEAVES, max_size=6).map(lambda found: f"JSON_ARRAY({','.join(found)})")
    ),
    max_leaves=20,
)
DECIMALS = (
    "JSON_ARRAY(1.5, 5., -0.5, 0., 1.50, CAST(1.5 AS DECIMAL(10,4)), CAST(0 AS DECIMAL(65,30)), -99999999999.9, "
    "0.001, -0.0)"
)
LARGE_DOCUMENT = (
    "JSON_OBJECT('a', REPEAT('x', 70000), 'b', CAST(5 AS UNSIGNED), 'c', JSON_ARRAY(DATE'2024-01-01', 70000))"
)

OF_MYSQL = st.one_of(
    st.just(Kind("json", DOCUMENTS | st.sampled_from([DECIMALS, LARGE_DOCUMENT]), False)),
    st.just(
        Kind("vector(3)", st.lists(st.floats(-1e9, 1e9, width=32), min_size=1, max_size=3).map(
            lambda found: hexed(struct.pack(f"<{len(found)}f", *found))), False)
    ),
)  # fmt: skip
OF_MARIADB = st.one_of(
    st.just(Kind("uuid", st.uuids().map(lambda found: f"'{found}'"))),
    st.just(Kind("uuid", st.uuids(version=1).map(lambda found: f"'{found}'") | st.just(f"'{UUID(int=0)}'"))),
    st.just(Kind("inet4", st.ip_addresses(v=4).map(lambda found: f"'{found}'"))),
    st.just(Kind("inet6", st.ip_addresses(v=6).map(lambda found: f"'{found}'"))),
    st.sampled_from(["varchar(200) compressed", "text compressed", "varchar(300) compressed character set latin1"]).map(
        lambda sql: Kind(sql, st.sampled_from(["''", "'a'", "REPEAT('b', 150)", "REPEAT('c', 200)"]), False)
    ),
    st.sampled_from(["blob compressed", "varbinary(2000) compressed", "longblob compressed"]).map(
        lambda sql: Kind(sql, st.binary(max_size=300).map(hexed) | st.just("REPEAT(X'0001', 999)"), False)
    ),
)  # fmt: skip

KINDS: st.SearchStrategy[Kind] = st.one_of(
    st.sampled_from(
        [
            *integers("tinyint", 8),
            *integers("smallint", 16),
            *integers("mediumint", 24),
            *integers("int", 32),
            *integers("bigint", 64),
            Kind("year", st.sampled_from([0, 1901, 1970, 2000, 2155]).map(str)),
            Kind("date", DATES.map(quoted)),
            Kind(
                "json",
                st.sampled_from(["{}", "null", '{"a": 1.0}', '"é"']).map(
                    lambda text: f"_utf8mb4 {hexed(text.encode())}"
                ),
                False,
            ),
            Kind("geometry", geometries(), False),
        ]
    ),
    st.sampled_from(
        [
            Kind("double", st.floats(allow_nan=False, allow_infinity=False).map(lambda x: quoted(repr(x)))),
            Kind("float", st.floats(allow_nan=False, allow_infinity=False, width=32).map(lambda x: quoted(repr(x)))),
            Kind("float(8,3)", st.floats(-9999, 9999).map(lambda x: quoted(repr(x)))),
            Kind("double(20,5) unsigned", st.floats(0, 1e14).map(lambda x: quoted(repr(x)))),
        ]
    ),
    decimal_kinds(),
    temporal_kinds(),
    string_kinds(),
    byte_kinds(),
    sets_and_bits(),
)


@dataclass(frozen=True)
class Case:
    kinds: tuple[Kind, ...]
    nullable: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]
    key_at: int
    compressed: bool

    @property
    def columns(self) -> list[str]:
        names = [f"c{i}" for i in range(len(self.kinds))]
        names.insert(self.key_at, "id")
        return names

    def ddl(self) -> str:
        lines = [
            f"c{i} {kind.sql} {'' if self.nullable[i] or 'null default' in kind.sql else 'not null'}"
            for i, kind in enumerate(self.kinds)
        ]
        lines.insert(self.key_at, "id int not null primary key")
        return ", ".join(lines)

    def literals(self, n: int) -> str:
        values = list(self.rows[n])
        values.insert(self.key_at, str(n))
        return f"({','.join(values)})"


def kinds_of(flavor: str) -> st.SearchStrategy[Kind]:
    """Every type of a server, its own ones often."""
    return st.one_of(KINDS, OF_MARIADB if flavor == "mariadb" else OF_MYSQL)


def cases(flavor: str) -> st.SearchStrategy[Case]:
    """Tables of the types of one server."""
    return cases_of(kinds_of(flavor))


@st.composite
def cases_of(draw: st.DrawFn, of: st.SearchStrategy[Kind]) -> Case:
    kinds = tuple(draw(st.lists(of, min_size=1, max_size=9)))
    nullable = tuple(draw(st.booleans()) for _ in kinds)
    row = st.tuples(*(st.just("NULL") | k.values if n else k.values for k, n in zip(kinds, nullable, strict=True)))
    rows = tuple(draw(st.lists(row, min_size=1, max_size=6)))
    return Case(kinds, nullable, rows, draw(st.integers(0, len(kinds))), draw(st.booleans()))


def across(kind: Kind, pairing: Pairing) -> Kind:
    """`kind` with the values that both servers of a mixed pair can hold."""
    if pairing.source == "mysql" and kind.sql.startswith(("float", "double")):
        digits = 3 if kind.sql.startswith("float(") else 400  # MariaDB keeps no negative zero
        return replace(kind, values=kind.values.filter(lambda text: not is_negative_zero(text, digits)))
    if pairing.target == "mysql" and kind.sql.startswith("time("):
        return replace(kind, values=kind.values.filter(lambda text: "838:59:59." not in text))
    if pairing.target == "mysql" and kind.sql.startswith("timestamp("):
        return replace(kind, values=kind.values.filter(lambda text: "1970-01-01 00:00:00." not in text))
    return kind


def is_negative_zero(text: str, digits: int) -> bool:
    value = round(float(text.strip("'")), digits)
    return value == 0 and math.copysign(1, value) < 0


def rendered(
    connection: Connection, columns: list[str], table: str = "s"
) -> tuple[TableLayout, list[tuple[bytes, ...]], list[str]]:
    """A table's layout, its rows as the literals that a copy makes of them, and as VDiff hashes them."""
    layout = layout_of("d", describe_tables(connection, "d", [table])[0])
    assert [column.name for column in layout.columns] == columns
    texts = ", ".join(f"CAST({literal_expression(c)} AS BINARY) AS {quote(c.name)}" for c in layout.columns)
    rows = connection.query(f"SELECT {texts}, {row_hash(layout.columns)} AS hashed FROM d.{table} ORDER BY id")
    return layout, [tuple(row[name] for name in columns) for row in rows], [row["hashed"] for row in rows]


def same(layout: TableLayout, row: tuple[bytes, ...]) -> tuple[object, ...]:
    """A row of literals, with numbers where the two servers have several texts for one."""
    return tuple(
        struct.pack("f" if column.data_type == "float" else "d", float(text.strip(b"'")))
        if column.data_type in FLOATS and text != b"NULL"
        else text
        for column, text in zip(layout.columns, row, strict=True)
    )


@pytest.mark.servers("mariadb-mysql", "mysql-mariadb")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_every_type_that_both_have_arrives_at_the_other_kind_of_server(
    source: Connection, target: Connection, stream: Stream, pairing: Pairing, data: st.DataObject
) -> None:
    """By the stream, which decodes the log, and by the copy, which has the source render its rows. VDiff agrees."""
    permitted = KINDS.filter(lambda kind: (kind.sql, pairing.source) != ("json", "mysql"))  # MT211
    case = data.draw(cases_of(permitted.map(lambda kind: across(kind, pairing))))
    # The JSON of MariaDB is text.
    definition = case.ddl().replace(" json ", " longtext character set utf8mb4 collate utf8mb4_bin ")
    create(source, "s", case.ddl())
    stream.skip(source.position())
    compress(source, case.compressed)
    with loose(source) as writer:
        writer.execute(f"INSERT INTO d.s VALUES {','.join(case.literals(n) for n in range(len(case.rows)))}")
    changes = stream.rows(source.position(), "s")
    streamed = [row for c in changes for ((_key, row),) in c.table.decoder(case.columns, ["id"])(c.rows)]
    layout, here, hashes = rendered(source, case.columns)
    for written in (streamed, [b"(" + b",".join(row) + b")" for row in here]):
        create(target, "s", definition)
        _, info, warnings = target.info(b"INSERT INTO d.s VALUES " + b",".join(written))
        assert warnings == 0, info
        _, there, hashes_there = rendered(target, case.columns)
        assert [same(layout, row) for row in there] == [same(layout, row) for row in here]
        assert hashes_there == hashes


def content(connection: Connection, table: str, columns: list[str]) -> list[dict[str, object]]:
    shown = ", ".join(f"HEX(CAST({quote(name)} AS BINARY)) AS {quote(name)}" for name in columns)
    return connection.query(f"SELECT {shown} FROM d.{table} ORDER BY id")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_every_type_arrives_byte_for_byte(source: Connection, stream: Stream, flavor: str, data: st.DataObject) -> None:
    case = data.draw(cases(flavor))
    create(source, "s", case.ddl())
    create(source, "t", case.ddl())
    stream.skip(source.position())
    compress(source, case.compressed)
    with loose(source) as writer:
        writer.execute(f"INSERT INTO d.s VALUES {','.join(case.literals(n) for n in range(len(case.rows)))}")
    inserted = stream.rows(source.position(), "s")
    columns = case.columns
    images = [image for change in inserted for (image,) in change.table.decoder(columns, ["id"])(change.rows)]
    assert [key for key, _row in images] == [(b"%d" % n,) for n in range(len(case.rows))]

    source.execute(b"INSERT INTO d.t VALUES " + b",".join(row for _key, row in images))
    assert content(source, "t", columns) == content(source, "s", columns)
    again = stream.rows(source.position(), "t")
    assert b"".join(c.rows.body for c in again) == b"".join(c.rows.body for c in inserted)

    _, copied, hashes = rendered(source, columns)
    source.execute("DELETE FROM d.t")
    source.execute(b"INSERT INTO d.t VALUES " + b",".join(b"(" + b",".join(row) + b")" for row in copied))
    assert content(source, "t", columns) == content(source, "s", columns)
    assert rendered(source, columns, "t")[1:] == (copied, hashes)
    stream.skip(source.position())

    source.execute("UPDATE d.s SET id = id + 100")
    updated = stream.rows(source.position(), "s")
    pairs = [pair for change in updated for pair in change.table.decoder(columns, ["id"])(change.rows)]
    assert [before for before, _after in pairs] == images
    assert [after[0] for _before, after in pairs] == [(b"%d" % (n + 100),) for n in range(len(case.rows))]
    keys_only = [p for c in updated for p in c.table.decoder(columns, ["id"], before_rows=False)(c.rows)]
    assert [(b[0], a) for b, a in keys_only] == [(b[0], a) for b, a in pairs]
    source.execute("DELETE FROM d.t")
    source.execute(b"REPLACE INTO d.t VALUES " + b",".join(after[1] for _before, after in pairs))
    assert content(source, "t", columns) == content(source, "s", columns)

    source.execute("DELETE FROM d.s")
    deleted = stream.rows(source.position(), "s")
    assert all(change.kind is RowsKind.DELETE for change in deleted)
    gone = [image for change in deleted for (image,) in change.table.decoder(columns, ["id"])(change.rows)]
    assert gone == [after for _before, after in pairs]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_key_literals_find_their_row(source: Connection, stream: Stream, flavor: str, data: st.DataObject) -> None:
    kind = data.draw(kinds_of(flavor).filter(lambda k: k.key and "null default" not in k.sql))
    value = data.draw(kind.values)
    create(source, "k", f"a {kind.sql} NOT NULL, b VARBINARY(20) NOT NULL, PRIMARY KEY (a, b)")
    stream.skip(source.position())
    with loose(source) as writer:
        writer.execute(f"INSERT INTO d.k VALUES ({value}, X'27005c20')")
    (change,) = stream.rows(source.position(), "k")
    (((key, _row),),) = change.table.decoder(["b", "a"], ["a", "b"])(change.rows)
    assert change.table.key == ("a", "b")
    assert source.execute(b"DELETE FROM d.k WHERE a = %b AND b = %b" % key) == 1


def test_columns_may_be_left_out_and_reordered(source: Connection, stream: Stream) -> None:
    create(
        source,
        "g",
        "id INT PRIMARY KEY, v INT AS (id + 1) VIRTUAL, p INT AS (id + 2) STORED, "
        't TEXT, u INT UNSIGNED INVISIBLE, `we``ird, "name" {x}` INT',
    )
    source.execute(
        "INSERT INTO d.g (id, t, u, `we``ird, \"name\" {x}`) VALUES (1, 'a', 4294967295, 9), (2, NULL, NULL, NULL)"
    )
    (change,) = stream.rows(source.position(), "g")
    assert change.table.columns == ("id", "v", "p", "t", "u", 'we`ird, "name" {x}')
    decoder = change.table.decoder(['we`ird, "name" {x}', "u", "id"], ["id"])
    assert decoder(change.rows) == [(((b"1",), b"(9,4294967295,1)"),), (((b"2",), b"(NULL,NULL,2)"),)]
    assert change.table.decoder(['we`ird, "name" {x}', "u", "id"], ["id"]) is decoder


@pytest.mark.servers("mariadb")
def test_the_temporal_format_of_mysql_5_5_is_refused(server: LocalServer, source: Connection, stream: Stream) -> None:
    source.execute("SET GLOBAL mysql56_temporal_format = OFF")
    with connect(server.login) as other:
        create(other, "old", "id INT PRIMARY KEY, at DATETIME")
    source.execute("SET GLOBAL mysql56_temporal_format = ON")
    source.execute("INSERT INTO d.old VALUES (1, '2024-01-01')")
    (change,) = stream.rows(source.position(), "old")
    with pytest.raises(Unsupported, match=r"d\.old\.at is stored in the temporal format of MySQL 5\.5"):
        change.table.decoder(["id"], ["id"])


CHANGES = (
    "JSON_SET(j, '$.a', {leaf})",
    "JSON_SET(j, '$.list[1]', {leaf}, '$.\"b c\".\"\"', {leaf})",
    "JSON_REPLACE(j, '$.list[0]', {leaf}, '$.n', {leaf})",
    "JSON_REMOVE(j, '$.a', '$.list[0]')",
    "JSON_SET(j, '$.list[last]', {leaf}, '$.new', JSON_ARRAY({leaf}, 1))",
    "JSON_REPLACE(j, '$', JSON_ARRAY({leaf}))",
    "JSON_SET(j, '$.a[0]', {leaf}, '$.n[last]', {leaf})",
    "JSON_SET(j, '$.a[1]', {leaf}, '$[0].list[last-1]', {leaf})",
    "JSON_SET(j, '$.list[7]', {leaf})",
)


@pytest.mark.servers("mysql")
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_partial_updates_of_json_are_made_whole(source: Connection, stream: Stream, data: st.DataObject) -> None:
    columns = "id INT PRIMARY KEY, x VARCHAR(300), j JSON, n INT NULL, k JSON NULL, b LONGBLOB"
    for table in ("s", "t"):
        create(source, table, columns)
    leaves = JSON_LEAVES
    for n in range(3):
        document = (
            f"JSON_OBJECT('a', {data.draw(leaves)}, 'list', JSON_ARRAY({data.draw(leaves)}, {data.draw(leaves)}), "
            f"'b c', JSON_OBJECT('', 1), 'n', {data.draw(leaves)}, 'padding', REPEAT('p', 300))"
        )
        source.execute(f"INSERT INTO d.s VALUES ({n}, 'é', {document}, NULL, {document}, REPEAT('b', 300))")
    stream.skip(source.position())
    source.execute("SET SESSION binlog_row_value_options=PARTIAL_JSON")
    changes = st.sampled_from(CHANGES).map(lambda sql: sql.replace("{leaf}", data.draw(leaves)))
    source.execute(f"UPDATE d.s SET j={data.draw(changes)}, n=id")
    source.execute(f"UPDATE d.s SET j={data.draw(changes)}, k={data.draw(changes).replace('(j,', '(k,')}")
    source.execute("UPDATE d.s SET x='y' WHERE id=1")
    updated = stream.rows(source.position(), "s")
    source.execute("SET SESSION binlog_row_value_options=''")
    names = ["id", "x", "j", "n", "k", "b"]
    assert updated
    for change in updated:
        for _before, after in change.table.decoder(names, ["id"])(change.rows):
            source.execute(b"REPLACE INTO d.t VALUES " + after[1])
    assert content(source, "t", names) == content(source, "s", names)

    def stored(table: str) -> list[object]:
        stream.skip(source.position())
        source.execute(f"UPDATE d.{table} SET id = id + 100")
        found = stream.rows(source.position(), table)
        return [change.table.decoder(names, ["id"])(change.rows) for change in found]

    assert stored("s") == stored("t")
