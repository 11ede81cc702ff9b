"""The stream of transactions of a real server: its pieces, what it refuses, and resuming from any position."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executor.errors import MovetablesError
from executor.native.binlog import wire
from executor.native.binlog.events import Malformed, Unsupported
from executor.native.binlog.positions import Position, parse
from executor.native.binlog.transactions import (
    Begin,
    Commit,
    Idle,
    Piece,
    Rollback,
    RowsChange,
    Statement,
    StatementKind,
    TransactionReader,
)
from executor.native.binlog.wire import BinlogClient, PositionLost
from executor.native.local.local_server import LocalServer
from executor.native.local.server import start, stop
from executor.native.servers import Connection, ServerError, connect

STREAM_ID = 4_000_001


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, template: Path, flavor: str, ports: Any) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("binlog_stream") / "server"
    server = LocalServer("source", folder, ports.take(), 10, "secret", flavor)
    start(server, template)
    try:
        yield server
    finally:
        stop(server)


@pytest.fixture
def source(server: LocalServer) -> Iterator[Connection]:
    with connect(server.login) as connection:
        connection.execute("DROP DATABASE IF EXISTS d")
        connection.execute("CREATE DATABASE d")
        connection.execute("CREATE TABLE d.a (id INT PRIMARY KEY, v VARCHAR(20))")
        connection.execute("CREATE TABLE d.b (id INT PRIMARY KEY, v LONGBLOB)")
        connection.execute("CREATE TABLE d.other (id INT PRIMARY KEY)")
        connection.execute("CREATE TABLE d.plain (id INT PRIMARY KEY) ENGINE=MyISAM")
        yield connection


@contextmanager
def reading(server: LocalServer, position: str, heartbeat: float = 0.2) -> Iterator[TransactionReader]:
    client = BinlogClient(server.login, position, STREAM_ID, heartbeat)
    try:
        yield TransactionReader(client, lambda database, table: database == "d" and table in ("a", "b"))
    finally:
        client.close()


def pieces(server: LocalServer, position: str) -> list[Piece]:
    """Everything after a position, up to the source's first heartbeat."""
    with reading(server, position) as reader:
        found = []
        while not isinstance(piece := reader.next(), Idle):
            found.append(piece)
        return found


def after(found: list[Piece], position: str) -> Position:
    """The position that a stream has saved after these pieces."""
    reached = parse(position)
    for piece in found:
        if isinstance(piece, Commit | Rollback):
            reached = piece.after(reached)
    assert parse(reached.text) == reached
    return reached


def until(condition: Callable[[], bool]) -> None:
    """Waits for a condition, ten seconds at most."""
    pause = threading.Event()
    for _ in range(1000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come true")


def shown(found: list[Piece]) -> list[str]:
    """The pieces in short: kinds, tables, keys, statements."""
    result = []
    for piece in found:
        if isinstance(piece, RowsChange):
            keys = [
                ">".join(b",".join(key).decode() for key, _row in images)
                for images in piece.table.decoder(piece.table.columns, piece.table.key)(piece.rows)
            ]
            result.append(f"{piece.kind.value} {piece.table.table} {' '.join(keys)}")
        elif isinstance(piece, Statement):
            result.append(f"{piece.kind.value}: {piece.sql}")
        else:
            result.append(type(piece).__name__)
    return result


def test_a_transaction_over_several_tables_is_one_piece_after_the_other(
    server: LocalServer, source: Connection
) -> None:
    begin = source.position()
    with source.transaction():
        source.execute("INSERT INTO d.a VALUES (1, 'x'), (2, 'y')")
        source.execute("INSERT INTO d.other VALUES (1)")
        source.execute("INSERT INTO d.b VALUES (1, 'x')")
        source.execute("UPDATE d.a, d.b SET a.v = 'z', b.id = 7 WHERE a.id = b.id")
        source.execute("UPDATE d.a SET id = id + 1 ORDER BY id DESC")
        source.execute("SAVEPOINT s")
        source.execute("DELETE FROM d.a")
        source.execute("ROLLBACK TO SAVEPOINT s")
        source.execute("DELETE FROM d.a WHERE id = 3")
    found = pieces(server, begin)
    assert shown(found) == [
        "Begin",
        "INSERT a 1 2",
        "INSERT b 1",
        "UPDATE a 1>1",
        "UPDATE b 1>7",
        "UPDATE a 2>3 1>2",
        "DELETE a 3",
        "Commit",
    ]
    first, last = found[0], found[-1]
    assert isinstance(first, Begin)
    assert isinstance(last, Commit)
    assert first.gtid == last.gtid
    assert last.after(parse(begin)) == parse(source.position())
    assert first.server_id == 10


def test_the_same_shape_is_the_same_table_version(server: LocalServer, source: Connection) -> None:
    begin = source.position()
    source.execute("INSERT INTO d.a VALUES (1, 'x')")
    source.execute("FLUSH TABLES")  # gives the table another id
    source.execute("INSERT INTO d.a VALUES (2, 'x')")
    source.execute("ALTER TABLE d.a ADD COLUMN w INT")
    source.execute("INSERT INTO d.a VALUES (3, 'x', 4)")
    one, two, three = (piece.table for piece in pieces(server, begin) if isinstance(piece, RowsChange))
    assert one is two
    assert three.columns == ("id", "v", "w")


@pytest.mark.servers("mysql")
def test_statements_of_mysql(server: LocalServer, source: Connection) -> None:
    begin = source.position()
    source.execute("ALTER TABLE d.a ADD COLUMN w INT, ALGORITHM=INSTANT")
    source.execute("CREATE TABLE d.c (id INT PRIMARY KEY) SELECT 1 AS id")
    source.execute("TRUNCATE d.a")
    source.execute("ANALYZE TABLE d.a")
    source.execute("INSERT INTO d.plain VALUES (1)")
    source.execute("CREATE USER someone")
    found = shown(pieces(server, begin))
    statements = [" ".join(line.split()[:3]) for line in found if ": " in line]
    assert statements == [
        "ddl: ALTER TABLE",
        "ddl: CREATE TABLE",
        "ddl: TRUNCATE d.a",
        "other: ANALYZE TABLE",
        "other: CREATE USER",
    ]
    assert found.count("Begin") == found.count("Commit") == 6


@pytest.mark.servers("mariadb")
def test_statements(server: LocalServer, source: Connection) -> None:
    begin = source.position()
    source.execute("ALTER TABLE d.a ADD COLUMN w INT")
    source.execute("SET SESSION binlog_alter_two_phase = 1")
    source.execute("ALTER TABLE d.a DROP COLUMN w")
    source.execute("CREATE TABLE d.c (id INT PRIMARY KEY) SELECT 1 AS id")
    source.execute("TRUNCATE d.a")
    source.execute("ANALYZE TABLE d.a")
    source.execute("INSERT INTO d.plain VALUES (1)")
    found = shown(pieces(server, begin))
    statements = [" ".join(line.split()[:3]) for line in found if ": " in line]
    assert statements == [
        "ddl: ALTER TABLE",
        "ddl: ALTER TABLE",
        "ddl: CREATE TABLE",
        "ddl: TRUNCATE d.a",
        "other: ANALYZE TABLE",
    ]
    assert found.count("Begin") == found.count("Commit") == 7


def test_a_change_logged_as_a_statement_is_reported(server: LocalServer, source: Connection) -> None:
    begin = source.position()
    source.execute("SET SESSION binlog_format = STATEMENT")
    source.execute("SET SESSION insert_id = 5, @x = 3, rand_seed1 = 3")
    source.execute("USE d")
    source.execute("INSERT INTO a VALUES (@x, FLOOR(RAND() * 9))")
    statement = next(piece for piece in pieces(server, begin) if isinstance(piece, Statement))
    assert statement.kind is StatementKind.DML
    assert statement.sql == "INSERT INTO a VALUES (@x, FLOOR(RAND() * 9))"
    assert statement.database == "d"


@pytest.mark.servers("mariadb")
def test_rows_without_any_metadata_are_refused(server: LocalServer, source: Connection) -> None:
    source.execute("INSERT INTO d.a VALUES (1, 'x')")
    begin = source.position()
    source.execute("SET GLOBAL binlog_row_metadata = NO_LOG")
    source.execute("UPDATE d.a SET v = 'y'")
    source.execute("SET GLOBAL binlog_row_metadata = FULL")
    with pytest.raises(Unsupported, match=r"d\.a") as caught:
        pieces(server, begin)
    assert "binlog_row_metadata=FULL" in caught.value.hint


@pytest.mark.parametrize(
    ("setting", "sql", "said"),
    [
        ("binlog_row_image = MINIMAL", "UPDATE d.a SET v = 'y'", "binlog_row_image=FULL"),
        ("binlog_row_image = NOBLOB", "UPDATE d.b SET id = 2", "binlog_row_image=FULL"),
        ("binlog_row_image = MINIMAL", "INSERT INTO d.a (id) VALUES (9)", "binlog_row_image=FULL"),
        ("binlog_row_metadata = MINIMAL", "UPDATE d.a SET v = 'y'", "binlog_row_metadata=FULL"),
    ],
)
def test_rows_that_are_not_complete_are_refused(
    server: LocalServer, source: Connection, setting: str, sql: str, said: str
) -> None:
    source.execute("INSERT INTO d.a VALUES (1, 'x')")
    source.execute("INSERT INTO d.b VALUES (1, 'x')")
    begin = source.position()
    if "metadata" in setting:
        source.execute(f"SET GLOBAL {setting}")
    else:
        source.execute(f"SET SESSION {setting}")
    source.execute(sql)
    source.execute("SET GLOBAL binlog_row_metadata = FULL")
    with pytest.raises(Unsupported, match=r"d\.(a|b)") as caught:
        pieces(server, begin)
    assert said in caught.value.hint


def test_the_same_on_a_table_that_nobody_wants_is_no_matter(server: LocalServer, source: Connection) -> None:
    source.execute("CREATE TABLE d.big (id INT PRIMARY KEY, v VARCHAR(20))")
    begin = source.position()
    source.execute("SET SESSION binlog_row_image = MINIMAL")
    source.execute("INSERT INTO d.big (id) VALUES (1)")
    assert shown(pieces(server, begin)) == ["Begin", "Commit"]


def xa(source: Connection, table: str, *ends: str) -> None:
    source.execute("XA START 'x'")
    source.execute(f"INSERT INTO d.{table} (id) VALUES (77)")
    source.execute("XA END 'x'")
    for end in ends:
        source.execute(end)


def test_rows_of_an_xa_transaction_come_when_it_is_committed(server: LocalServer, source: Connection) -> None:
    begin = source.position()
    xa(source, "a", "XA PREPARE 'x'", "XA COMMIT 'x'")
    found = pieces(server, begin)
    assert shown(found) == ["Begin", "Commit", "Begin", "INSERT a 77", "Commit"]
    assert after(found, begin) == parse(source.position())


def test_rows_of_an_xa_transaction_that_is_rolled_back_never_come(server: LocalServer, source: Connection) -> None:
    begin = source.position()
    xa(source, "a", "XA PREPARE 'x'", "XA ROLLBACK 'x'")
    found = pieces(server, begin)
    assert shown(found) == ["Begin", "Commit", "Begin", "Commit"]
    assert after(found, begin) == parse(source.position())


def test_an_xa_transaction_elsewhere_or_in_one_phase_passes(server: LocalServer, source: Connection) -> None:
    begin = source.position()
    xa(source, "other", "XA PREPARE 'x'", "XA ROLLBACK 'x'")
    xa(source, "a", "XA COMMIT 'x' ONE PHASE")
    assert shown(pieces(server, begin)) == ["Begin", "Commit", "Begin", "Commit", "Begin", "INSERT a 77", "Commit"]


@pytest.mark.parametrize("decision", ["COMMIT", "ROLLBACK"])
def test_a_stream_that_starts_again_between_the_parts_of_xa_transactions_loses_nothing(
    server: LocalServer, source: Connection, decision: str
) -> None:
    position = parse(source.position())
    with connect(server.login) as one, connect(server.login) as two:
        xa(one, "a", "XA PREPARE 'x'")
        source.execute("INSERT INTO d.a VALUES (1, 'x')")
        two.execute("XA START 'second'")
        two.execute("INSERT INTO d.b VALUES (5, REPEAT('y', 20000))")
        two.execute("XA END 'second'")
        two.execute("XA PREPARE 'second'")
        source.execute("INSERT INTO d.a VALUES (2, 'x')")
    until(lambda: len(source.query("XA RECOVER")) == 2)
    found = pieces(server, position.text)
    assert [line for line in shown(found) if "INSERT" in line] == ["INSERT a 1", "INSERT a 2"]
    position = after(found, position.text)
    assert not position.contains(parse(source.position()))

    source.execute("FLUSH BINARY LOGS")
    source.execute("INSERT INTO d.a VALUES (3, 'x')")
    source.execute("XA COMMIT 'second'")
    found = pieces(server, position.text)
    assert [line for line in shown(found) if "INSERT" in line] == ["INSERT a 3", "INSERT b 5"]
    position = after(found, position.text)

    source.execute(f"XA {decision} 'x'")
    source.execute("INSERT INTO d.a VALUES (4, 'x')")
    found = pieces(server, position.text)
    expected = ["INSERT a 77"] if decision == "COMMIT" else []
    assert [line for line in shown(found) if "INSERT" in line] == [*expected, "INSERT a 4"]
    assert after(found, position.text) == parse(source.position())


def test_savepoints(server: LocalServer, source: Connection) -> None:
    begin = source.position()
    with source.transaction():
        source.execute("INSERT INTO d.a VALUES (1, 'x')")
        for n in range(2, 5):
            source.execute("SAVEPOINT `it's`")
            source.execute(f"INSERT INTO d.a VALUES ({n}, 'x')")
        source.execute("ROLLBACK TO `it's`")
        source.execute("RELEASE SAVEPOINT `it's`")
        source.execute("INSERT INTO d.b VALUES (5, REPEAT('x', 100000))")
    assert shown(pieces(server, begin)) == ["Begin", *(f"INSERT a {n}" for n in range(1, 4)), "INSERT b 5", "Commit"]


@pytest.mark.servers("mariadb")  # MySQL does not allow what cannot be undone in a transaction
def test_what_a_rollback_to_a_savepoint_undoes_never_comes(server: LocalServer, source: Connection) -> None:
    begin = source.position()
    with source.transaction():
        source.execute("INSERT INTO d.a VALUES (1, 'x')")
        source.execute("SAVEPOINT `S`")
        # Without what cannot be undone, the log would not even hold the rows below.
        source.execute("CREATE TEMPORARY TABLE d.temporary (id INT) ENGINE=MyISAM")
        source.execute("INSERT INTO d.plain VALUES (1)")
        source.execute("INSERT INTO d.a VALUES (2, 'x')")
        source.execute("SAVEPOINT t")
        source.execute("INSERT INTO d.a VALUES (3, 'x')")
        source.execute("ROLLBACK TO t")
        source.execute("INSERT INTO d.a VALUES (4, 'x')")
        source.execute("ROLLBACK TO SAVEPOINT s")
        source.execute("INSERT INTO d.a VALUES (5, 'x')")
    assert [line for line in shown(pieces(server, begin)) if "INSERT" in line] == ["INSERT a 1", "INSERT a 5"]


@pytest.mark.servers("mariadb")  # MySQL does not allow what cannot be undone in a transaction
def test_rollback_to_a_savepoint_that_undoes_no_wanted_row_passes(server: LocalServer, source: Connection) -> None:
    begin = source.position()
    with source.transaction():
        source.execute("INSERT INTO d.a VALUES (1, 'x')")
        source.execute("SAVEPOINT s")
        source.execute("INSERT INTO d.plain VALUES (1)")
        source.execute("INSERT INTO d.other VALUES (2)")
        source.execute("ROLLBACK TO s")
        source.execute("INSERT INTO d.a VALUES (3, 'x')")
    assert shown(pieces(server, begin)) == ["Begin", "Commit", "Begin", "INSERT a 1", "INSERT a 3", "Commit"]


@pytest.mark.servers("mariadb")  # MySQL does not allow what cannot be undone in a transaction
def test_a_transaction_that_ends_with_rollback(server: LocalServer, source: Connection) -> None:
    begin = source.position()
    source.execute("BEGIN")
    source.execute("INSERT INTO d.a VALUES (1, 'x')")
    source.execute("CREATE TEMPORARY TABLE d.temporary (id INT) ENGINE=MyISAM")  # cannot be undone, so it is all logged
    source.execute("ROLLBACK")
    found = pieces(server, begin)
    assert shown(found) == ["Begin", "INSERT a 1", "Rollback"]
    assert isinstance(found[-1], Rollback)
    assert found[-1].complete
    assert found[-1].after(parse(begin)) == parse(source.position())


def test_a_large_row_spans_packets(server: LocalServer, source: Connection) -> None:
    begin = source.position()
    source.execute("INSERT INTO d.b VALUES (1, REPEAT('0123456789', 2000000))")
    source.execute("INSERT INTO d.b VALUES (2, 'small')")
    images = [
        image
        for piece in pieces(server, begin)
        if isinstance(piece, RowsChange)
        for (image,) in piece.table.decoder(["id", "v"], ["id"])(piece.rows)
    ]
    assert images == [
        ((b"1",), b"(1,X'%b')" % (b"0123456789" * 2_000_000).hex().encode()),
        ((b"2",), b"(2,X'736d616c6c')"),
    ]


@pytest.mark.servers("mysql")
@pytest.mark.parametrize("checksum", ["CRC32", "NONE"])
def test_a_compressed_transaction_larger_than_a_packet_is_read_from_disk(
    server: LocalServer, source: Connection, checksum: str
) -> None:
    source.execute(f"SET GLOBAL binlog_checksum = {checksum}")
    begin = source.position()
    source.execute("SET SESSION binlog_transaction_compression = ON")
    values = [os.urandom(4 << 20) for _ in range(9)]
    with source.transaction():
        for n, value in enumerate(values):
            source.execute(f"INSERT INTO d.b VALUES ({n}, X'{value.hex()}')")
    source.execute("SET GLOBAL binlog_checksum = CRC32")
    source.execute("INSERT INTO d.a VALUES (1, 'x')")
    found = []
    with reading(server, begin) as reader:
        while not isinstance(piece := reader.next(), Idle):
            if isinstance(piece, RowsChange) and piece.table.table == "b":
                found += [row for ((_key, row),) in piece.table.decoder(["v"], ["id"])(piece.rows)]
            elif isinstance(piece, RowsChange):
                found.append(b"the last")
    assert found == [*(b"(X'%b')" % value.hex().encode() for value in values), b"the last"]


def test_rotation_and_restart_are_passed_over(server: LocalServer, source: Connection) -> None:
    begin = source.position()
    source.execute("INSERT INTO d.a VALUES (1, 'x')")
    source.execute("FLUSH BINARY LOGS")
    source.execute("INSERT INTO d.a VALUES (2, 'x')")
    source.close()
    stop(server)
    start(server, Path("unused"))
    with connect(server.login) as again:
        again.execute("SET GLOBAL binlog_checksum = NONE")
        again.execute("INSERT INTO d.a VALUES (3, 'x')")
        again.execute("SET GLOBAL binlog_checksum = CRC32")
        again.execute("INSERT INTO d.a VALUES (4, 'x')")
    assert shown(pieces(server, begin)) == [line for n in range(1, 5) for line in ("Begin", f"INSERT a {n}", "Commit")]


def test_files_whose_numbers_have_more_digits_are_passed_over(server: LocalServer, source: Connection) -> None:
    """Texts of ``binlog.1000000`` come before those of ``binlog.999999``."""
    number = "RESET MASTER TO" if source.flavor.mariadb else "RESET BINARY LOGS AND GTIDS TO"
    source.execute(f"{number} 999998")
    source.execute("INSERT INTO d.a VALUES (0, 'x')")
    begin = source.position()
    for n in range(1, 5):
        source.execute(f"INSERT INTO d.a VALUES ({n}, 'x')")
        source.execute("FLUSH BINARY LOGS")
    assert str(source.query("SHOW BINARY LOGS")[-1]["Log_name"]).endswith(".1000002")
    assert shown(pieces(server, begin)) == [line for n in range(1, 5) for line in ("Begin", f"INSERT a {n}", "Commit")]
    source.execute("RESET MASTER" if source.flavor.mariadb else "RESET BINARY LOGS AND GTIDS")
    source.execute("INSERT INTO d.a VALUES (9, 'x')")


def test_resuming_after_any_transaction_gives_the_rest_once(server: LocalServer, source: Connection) -> None:
    begin = parse(source.position())
    for n in range(1, 13):
        if source.flavor.mariadb:
            source.execute(f"SET SESSION gtid_domain_id = {n % 3}")
        else:
            source.execute(f"SET SESSION gtid_next = 'AUTOMATIC{['', ':one', ':two'][n % 3]}'")
        source.execute(f"INSERT INTO d.a VALUES ({n}, 'x')")
        if n % 4 == 0:
            source.execute("FLUSH BINARY LOGS")
    source.execute("SET SESSION gtid_domain_id = 0" if source.flavor.mariadb else "SET gtid_next = 'AUTOMATIC'")
    position = begin
    positions = [begin]
    lines: list[str] = []
    for piece, line in zip(found := pieces(server, begin.text), shown(found), strict=True):
        if isinstance(piece, RowsChange):
            lines.append(line)
        if isinstance(piece, Commit):
            position = piece.after(position)
            positions.append(position)
    assert sorted(lines) == sorted(f"INSERT a {n}" for n in range(1, 13))
    assert position.text == parse(source.position()).text
    for n, resumed in enumerate(positions):
        assert [line for line in shown(pieces(server, resumed.text)) if "INSERT" in line] == lines[n:]


def test_a_purged_position_says_how_to_go_on(server: LocalServer, source: Connection) -> None:
    begin = source.position()
    source.execute("INSERT INTO d.a VALUES (1, 'x')")
    source.execute("FLUSH BINARY LOGS")
    source.execute("INSERT INTO d.a VALUES (2, 'x')")
    source.execute("FLUSH BINARY LOGS")

    def purged() -> bool:
        logs = [row["Log_name"] for row in source.query("SHOW BINARY LOGS")]
        source.execute(f"PURGE BINARY LOGS TO '{logs[-1]}'")
        return len(logs) == 1

    until(purged)  # the server keeps what a stream of an earlier test has not yet been seen to have left
    with pytest.raises(PositionLost, match="cannot continue after") as caught:
        pieces(server, begin)
    assert "copied again" in caught.value.hint
    assert not caught.value.lost


def test_a_position_of_another_server_is_lost(server: LocalServer, source: Connection) -> None:
    list_of_another, set_of_another = "0-99-999999", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"
    if source.flavor.mariadb:
        with pytest.raises(PositionLost, match=list_of_another):
            pieces(server, list_of_another)
    else:
        with pytest.raises(PositionLost, match="more GTIDs"):
            pieces(server, f"{source.position().partition(':')[0]}:1-999999")
    with pytest.raises(PositionLost, match="the other kind of server") as caught:
        pieces(server, set_of_another if source.flavor.mariadb else list_of_another)
    assert "copied again" in caught.value.hint


def test_no_position_is_refused(server: LocalServer) -> None:
    with pytest.raises(MovetablesError, match="needs a position"):
        BinlogClient(server.login, "", STREAM_ID)


def test_closing_from_another_thread_ends_a_waiting_read(server: LocalServer, source: Connection) -> None:
    client = BinlogClient(server.login, source.position(), STREAM_ID, heartbeat=5)
    while client.read().flags & 0x20 == 0:
        pass
    caught: list[ServerError] = []

    def read_on() -> None:
        try:
            while True:
                client.read()
        except ServerError as error:
            caught.append(error)

    thread = threading.Thread(target=read_on)
    thread.start()
    client.close()
    thread.join(5)
    assert not thread.is_alive()
    assert caught[0].lost
    assert "was closed" in str(caught[0])
    assert client.pending()
    client.close()


def test_a_stopped_source_is_a_lost_connection(server: LocalServer, source: Connection) -> None:
    def drain(reader: TransactionReader) -> None:
        while True:
            reader.next()

    with reading(server, source.position()) as reader:
        assert not isinstance(reader.next(), Commit)
        stop(server)
        start(server, Path("unused"))
        with pytest.raises(ServerError) as caught:
            drain(reader)
        assert caught.value.lost


def test_pending_tells_whether_a_read_would_wait(server: LocalServer, source: Connection) -> None:
    with reading(server, source.position(), heartbeat=60) as reader:
        until(reader.pending)
        source.execute("INSERT INTO d.a VALUES (1, 'x')")
        seen = 0
        while not isinstance(piece := reader.next(), Commit):
            seen += isinstance(piece, Begin | RowsChange)
        assert seen == 2
        assert not reader.pending()
        source.execute("INSERT INTO d.a VALUES (2, 'x')")
        until(reader.pending)
        assert isinstance(reader.next(), Begin)


class Proxy:
    """Relays connections to a server; can change bytes on their way back, or hold everything back."""

    def __init__(self, port: int) -> None:
        self.server = port
        self.replace = (b"", b"")
        self.silent = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                upstream = socket.create_connection(("127.0.0.1", self.server))
                threading.Thread(target=self.relay, args=(client, upstream, False), daemon=True).start()
                threading.Thread(target=self.relay, args=(upstream, client, True), daemon=True).start()

    def relay(self, source: socket.socket, to: socket.socket, back: bool) -> None:
        with source, to, contextlib.suppress(OSError):
            while data := source.recv(65536):
                if back and self.silent:
                    continue
                to.sendall(data.replace(*self.replace) if back and self.replace[0] else data)


@pytest.fixture
def proxy(server: LocalServer) -> Iterator[Proxy]:
    made = Proxy(server.port)
    yield made
    made.listener.close()


def read_all(client: BinlogClient) -> None:
    """Reads until an error."""
    while True:
        client.read()


def through(proxy: Proxy, server: LocalServer, position: str) -> BinlogClient:
    port = proxy.listener.getsockname()[1]
    return BinlogClient(replace(server.login, port=port), position, STREAM_ID, heartbeat=0.05)


def test_a_damaged_event_fails_its_checksum(server: LocalServer, source: Connection, proxy: Proxy) -> None:
    begin = source.position()
    source.execute("INSERT INTO d.a VALUES (1, 'NOBODY')")
    proxy.replace = (b"NOBODY", b"NOBOD\x7f")
    client = through(proxy, server, begin)
    try:
        with pytest.raises(Malformed, match="checksum"):
            read_all(client)
    finally:
        client.close()


def test_a_silent_source_is_a_lost_connection(
    server: LocalServer, source: Connection, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "_LEAST_TIMEOUT", 0.5)
    client = through(proxy, server, source.position())
    try:
        client.read()
        proxy.silent = True
        with pytest.raises(ServerError, match="not even a heartbeat") as caught:
            read_all(client)
        assert caught.value.lost
    finally:
        client.close()
