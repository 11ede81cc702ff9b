"""What the decoder says about rows is what the servers' own programs print: mysqlbinlog and mariadb-binlog."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from executor.native.binlog.positions import parse
from executor.native.binlog.transactions import Commit, RowsChange, TransactionReader
from executor.native.binlog.wire import BinlogClient
from executor.native.local import mysqld
from executor.native.local.local_server import LocalServer
from executor.native.local.server import start, stop
from executor.native.servers import Connection, connect

COLUMNS = {
    "i": "BIGINT UNSIGNED",
    "b": "BIGINT",
    "s": "SMALLINT",
    "m": "MEDIUMINT",
    "t": "TINYINT UNSIGNED",
    "dc": "DECIMAL(20,5)",
    "f": "FLOAT",
    "db": "DOUBLE",
    "bt": "BIT(13)",
    "y": "YEAR",
    "d": "DATE",
    "dt": "DATETIME(3)",
    "ts": "TIMESTAMP(6) NULL",
    "tm": "TIME(2)",
    "c": "CHAR(70)",
    "v": "VARCHAR(300)",
    "bl": "BLOB",
    "bi": "BINARY(6)",
    "e": "ENUM('a','b')",
    "se": "SET('x','y')",
}
LINE = re.compile(rb"^###   @(\d+)=(NULL|'.*'|.*?) +/\* (\w+)")
TEXTS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="'\\"), max_size=60)


def number(low: int, high: int) -> st.SearchStrategy[str]:
    return (st.sampled_from([low, -1 if low else 0, 0, high]) | st.integers(low, high)).map(str)


def quoted(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return texts.map(lambda text: f"'{text}'")


MOMENTS = st.integers(86400 * 10**6, 2**31 * 10**6 - 1).map(
    lambda n: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=n)
)
CLOCK = st.times().map(lambda at: f"{at:%H:%M:%S.%f}"[:11])
VALUES: dict[str, st.SearchStrategy[str]] = {
    "i": number(0, 2**64 - 1),
    "b": number(-(2**63), 2**63 - 1),
    "s": number(-(2**15), 2**15 - 1),
    "m": number(-(2**23), 2**23 - 1),
    "t": number(0, 255),
    "dc": st.decimals(-(10**14), 10**14, places=5).map(str),
    "f": st.floats(allow_nan=False, allow_infinity=False, width=32).map(lambda x: f"'{x!r}'"),
    "db": st.floats(allow_nan=False, allow_infinity=False).map(lambda x: f"'{x!r}'"),
    "bt": number(0, 2**13 - 1),
    "y": st.sampled_from(["0", "1901", "2000", "2155"]),
    "d": quoted(st.sampled_from(["0000-00-00", "2024-00-10", "9999-12-31"]) | st.dates(date(1000, 1, 1)).map(str)),
    "dt": quoted(MOMENTS.map(lambda at: f"{at:%F %T.%f}"[:23])),
    "ts": quoted(MOMENTS.map(lambda at: f"{at:%F %T.%f}")),
    "tm": quoted(st.tuples(st.sampled_from(["", "-"]), CLOCK.filter(lambda text: text > "00:00:01")).map("".join)),
    "c": quoted(TEXTS),
    "v": quoted(TEXTS),
    "bl": quoted(TEXTS),
    "bi": quoted(TEXTS.map(lambda text: text[:6])),
    "e": st.sampled_from(["1", "2"]),
    "se": st.sampled_from(["0", "1", "2", "3"]),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, template: Path, flavor: str, ports: Any) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("binlog_text") / "server"
    made = LocalServer("source", folder, ports.take(), 10, "secret", flavor)
    start(made, template)
    yield made
    stop(made)


@pytest.fixture(scope="module")
def source(server: LocalServer) -> Iterator[Connection]:
    with connect(server.login) as connection:
        connection.execute("CREATE DATABASE d")
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        connection.execute(f"CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, {columns})")
        yield connection


def program(server: LocalServer) -> list[str]:
    """The command that prints a binlog of the server."""
    if server.flavor == "mariadb":
        return [shutil.which("mariadb-binlog") or "mariadb-binlog", "--no-defaults"]
    command = mysqld.program()
    at = command.index("--no-defaults")
    return [*command[: at - 1], str(Path(command[at - 1]).parents[1] / "bin" / "mysqlbinlog"), "--no-defaults"]


def printed(server: LocalServer, file: str) -> list[list[tuple[bytes, str]]]:
    """(value, type) of every column of every image, as the server's program prints them."""
    command = [*program(server), "-vv", "--base64-output=DECODE-ROWS", str(server.data / file)]
    output = subprocess.run(command, capture_output=True, check=True, env={"TZ": "UTC"}).stdout
    images: list[list[tuple[bytes, str]]] = []
    for line in output.split(b"\n"):
        found = LINE.match(line)
        if found:
            if found[1] == b"1":
                images.append([])
            images[-1].append((found[2], found[3].decode()))
    return images


def same(shown: bytes, kind: str, literal: str) -> bool:
    """True when a printed value and a literal are the same value."""
    text = shown.decode()
    if literal == "NULL" or text == "NULL":
        return literal == text
    if text.startswith("b'"):
        return int(text[2:-1], 2) == int(literal)
    if kind in ("FLOAT", "DOUBLE"):
        value = float(literal[1:-1])
        return f"{value:g}" == f"{float(text):g}" if kind == "FLOAT" else value == float(text)
    if kind == "DECIMAL":
        return Decimal(text) == Decimal(literal)
    if kind == "YEAR" and text == "1900":  # the programs do not know year 0000, which is stored as 0 years after 1900
        return literal == "0"
    if kind == "DATE":
        return text.replace(":", "-") == literal
    if kind == "TIMESTAMP":
        at = datetime.fromisoformat(literal[1:-1]).replace(tzinfo=UTC)
        return f"{int(at.timestamp())}.{at.microsecond:06d}" == text
    if kind in ("STRING", "VARSTRING", "BLOB"):
        data = bytes.fromhex(literal[2:-1]) if literal.startswith("X") else b""
        return text.encode()[1:-1] == data.rstrip(b"\0")
    if not text.startswith("'"):  # an integer, and in brackets as it is without a sign
        return literal in text.replace("(", "").replace(")", "").split()
    return text == literal


@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    rows=st.lists(st.fixed_dictionaries({n: st.just("NULL") | v for n, v in VALUES.items()}), min_size=1, max_size=8)
)
def test_rows_are_what_the_servers_own_program_prints(
    server: LocalServer, source: Connection, rows: list[dict[str, str]]
) -> None:
    source.execute("FLUSH BINARY LOGS")
    status = "SHOW MASTER STATUS" if source.flavor.mariadb else "SHOW BINARY LOG STATUS"
    file = str(source.query(status)[0]["File"])
    begin = source.position()
    values = ",".join(f"({','.join(row[name] for name in COLUMNS)})" for row in rows)
    source.execute(f"INSERT INTO d.t ({','.join(COLUMNS)}) VALUES {values}")
    source.execute("UPDATE d.t SET i=1 LIMIT 2")
    source.execute("DELETE FROM d.t")
    end = parse(source.position())

    client = BinlogClient(server.login, begin, 4_000_000)
    reader = TransactionReader(client, lambda database, table: (database, table) == ("d", "t"))
    position, decoded = parse(begin), list[list[str]]()
    names = ["id", *COLUMNS]
    while position != end:
        piece = reader.next()
        if isinstance(piece, RowsChange):
            for images in piece.table.decoder([], names)(piece.rows):
                decoded += [[literal.decode() for literal in key] for key, _row in images]
        elif isinstance(piece, Commit):
            position = piece.after(position)
    client.close()

    shown = printed(server, file)
    assert len(shown) == len(decoded) >= 2 * len(rows)
    for texts, literals in zip(shown, decoded, strict=True):
        for name, (text, kind), literal in zip(names, texts, literals, strict=True):
            assert same(text, kind, literal), (name, text, kind, literal)
