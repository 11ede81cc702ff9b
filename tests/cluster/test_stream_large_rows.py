"""Rows that are larger than the target's packets are copied and streamed, in little memory."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from executor.native.servers import quote
from executor.native.vdiff.options import VDiffOptions
from executor.native.vdiff.run import run_vdiff
from planner.cluster import StreamState
from tests.cluster import moving
from tests.cluster.moving import ALIAS, DATABASE, NAME, SOURCE, TARGET, Moving

pytestmark = pytest.mark.servers("mariadb", "mysql", "mariadb-mysql", "mysql-mariadb")

pair, move = moving.pair, moving.move

MIB = 1 << 20
MEMORY = 300 * MIB
COLUMNS = ("b LONGBLOB", "t LONGTEXT", "l LONGTEXT CHARACTER SET latin1", "u LONGTEXT CHARACTER SET utf16")
NUMBER_ZERO = "SET sql_mode='NO_AUTO_VALUE_ON_ZERO'"


@pytest.fixture(autouse=True)
def packets(move: Moving) -> Iterator[None]:
    """64 MiB at the source and 1 MiB at the target, which reads files."""
    before = {}
    for keyspace, packet, loads in ((SOURCE, 64 * MIB, 0), (TARGET, MIB, 1)):
        with move.pair.connect(keyspace) as connection:
            before[keyspace] = connection.query("SELECT @@global.max_allowed_packet AS p, @@global.local_infile AS l")
            connection.execute(f"SET GLOBAL max_allowed_packet={packet}, GLOBAL local_infile={loads}")
    yield
    move.stop_streams()
    for keyspace, found in before.items():
        move.on(keyspace, f"SET GLOBAL max_allowed_packet={found[0]['p']}, GLOBAL local_infile={found[0]['l']}")


def digests(move: Moving, keyspace: str, table: str) -> list[dict[str, object]]:
    names = [definition.split()[0] for definition in COLUMNS]
    hashes = ", ".join(f"IFNULL(SHA2({name}, 256), LENGTH({name})) AS {name}" for name in names)
    with move.pair.connect(keyspace) as connection:
        return connection.query(
            f"SELECT id, v, {hashes} FROM {quote(DATABASE[keyspace])}.{table} ORDER BY id, {', '.join(names)}"
        )


def peak(pid: int) -> int:
    """The most memory that the process ever had, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def row(number: int, size: int) -> str:
    """A row of `size` bytes of values, none of which is valid in another's character set."""
    values = rf"REPEAT(X'00275C0AFF2C', {size // 12}), REPEAT('\'\\á€😀,', {size // 48})"
    return f"({number}, 1, {values}, REPEAT('é', {size // 8}), REPEAT('é', {size // 16}))"


def equal(move: Moving) -> None:
    """Every table holds the same bytes on both sides."""
    for table in move.move.tables:
        here = digests(move, SOURCE, table)
        assert here == digests(move, TARGET, table), table
        assert here


@contextmanager
def streams(move: Moving) -> Iterator[int]:
    """The pid of a process that runs the streams, which had less memory than MEMORY at any time."""
    pid = move.pair.forks.start("streams", move.pair.inventory, move.move)
    try:
        yield pid
        assert peak(pid) < MEMORY
    finally:
        os.kill(pid, signal.SIGKILL)
        move.pair.forks.wait(pid)


def test_rows_of_sixteen_megabytes_with_packets_of_one_at_the_target(move: Moving) -> None:
    definition = ", ".join(("v INT", *COLUMNS))
    move.tables(
        f"CREATE TABLE r (id INT AUTO_INCREMENT PRIMARY KEY, {definition})", f"CREATE TABLE k (id INT, {definition})"
    )
    move.on(
        SOURCE,
        NUMBER_ZERO,
        "INSERT INTO r (id, v, t) VALUES " + ", ".join(f"({100 + n}, {n}, 'x')" for n in range(20)),
        f"INSERT INTO r VALUES {row(0, 16 * MIB)}",
        f"INSERT INTO r VALUES {row(500, 16 * MIB)}",
        "INSERT INTO k (id) VALUES (2)",
        f"INSERT INTO k VALUES {row(1, 16 * MIB)}",
        "INSERT INTO k SELECT * FROM k WHERE id=1",
    )
    move.created()
    with streams(move):
        move.wait_for(StreamState.RUNNING)
        equal(move)
        move.on(
            SOURCE,
            NUMBER_ZERO,
            "UPDATE r SET v=2 WHERE id=0",
            "DELETE FROM r WHERE id=500",
            f"INSERT INTO r VALUES {row(600, 16 * MIB)}",
            "UPDATE r SET t='short' WHERE id=600",
            f"INSERT INTO k VALUES {row(3, 16 * MIB)}",
            "UPDATE k SET v=2 WHERE id=3",
            "DELETE FROM k WHERE id=1 LIMIT 1",
        )
        move.catch_up()
        equal(move)


def test_many_rows_of_four_megabytes_in_one_chunk_and_one_transaction(move: Moving) -> None:
    move.tables(f"CREATE TABLE r (id INT PRIMARY KEY, v INT, {', '.join(COLUMNS)})")
    move.on(SOURCE, *(f"INSERT INTO r VALUES {row(number, 4 * MIB)}" for number in range(16)))
    move.created()
    with streams(move):
        move.wait_for(StreamState.RUNNING)
        equal(move)
        move.on(SOURCE, "UPDATE r SET v=2, id=id+100")
        move.catch_up()
        equal(move)


def test_vdiff_sees_into_rows_that_are_larger_than_a_packet_and_repairs_them(move: Moving) -> None:
    definition = ", ".join(("v INT", *COLUMNS))
    move.tables(f"CREATE TABLE r (id INT PRIMARY KEY, {definition})", f"CREATE TABLE k (id INT, {definition})")
    move.on(SOURCE, *(f"INSERT INTO {table} VALUES {row(number, 4 * MIB)}" for table in "rk" for number in (1, 2)))
    move.running()
    assert differing(move) == {"r": 0, "k": 0}
    change = f"UPDATE r SET b=INSERT(b, {100 * 1024}, 1, 'x') WHERE id=2"
    move.on(TARGET, f"SET GLOBAL max_allowed_packet={64 * MIB}")  # for the functions of the next statements
    move.on(TARGET, "SET @movetables_apply=1", change, change.replace(" r ", " k "))
    move.on(TARGET, f"SET GLOBAL max_allowed_packet={MIB}")
    assert differing(move) == {"r": 1, "k": 2}
    assert differing(move, tables=("r",), repair=True) == {"r": 0}
    assert differing(move, tables=("r",)) == {"r": 0}


def differing(move: Moving, *, tables: tuple[str, ...] | None = None, repair: bool = False) -> dict[str, int]:
    """How many rows of each table a VDiff finds to differ, be extra or be missing."""
    source, target = (move.pair.cluster.logins.tablet(ALIAS[keyspace]) for keyspace in (SOURCE, TARGET))
    report = run_vdiff(source, target, TARGET, NAME, tables=tables, options=VDiffOptions(repair=repair))
    assert report.state == "completed"
    return {table.table: table.mismatched + table.extra_source + table.extra_target for table in report.tables}


@pytest.mark.servers("mysql")
def test_json_that_fits_and_whose_text_as_a_literal_does_not(move: Moving) -> None:
    move.tables("CREATE TABLE j (id INT PRIMARY KEY, v INT, j JSON, k JSON)", "CREATE TABLE k (id INT, v INT, j JSON)")
    text = "REPEAT('é', 300000)"
    document = f"JSON_OBJECT('a', {text}, 'at', DATE'2024-02-29', 'n', CAST(1 AS UNSIGNED))"
    plain = f"JSON_ARRAY({text}, 1.5e0)"
    for number in (1, 2):
        move.on(
            SOURCE,
            f"INSERT INTO j VALUES ({number}, 1, {document}, {plain})",
            f"INSERT INTO k VALUES ({number}, 1, {plain})",
        )
    move.running()
    move.on(
        SOURCE, "UPDATE j SET v=2", "UPDATE k SET v=2 WHERE id=1", f"INSERT INTO j VALUES (3, 1, {document}, {plain})"
    )
    move.catch_up()
    move.on(TARGET, f"SET GLOBAL max_allowed_packet={64 * MIB}")  # for the comparison, which makes text of rows
    move.assert_equal()


def test_what_must_be_set_for_a_row_that_is_larger_than_a_packet_is_said(move: Moving) -> None:
    move.tables(f"CREATE TABLE r (id INT PRIMARY KEY, v INT, {', '.join(COLUMNS)})")
    move.on(TARGET, "SET GLOBAL local_infile=0")
    move.running()
    move.on(SOURCE, f"INSERT INTO r VALUES {row(123, 4 * MIB)}")
    message = move.wait_for_error()
    assert "(123,1,X'00275c0a" in message
    assert "SET GLOBAL local_infile=1 (or SET GLOBAL max_allowed_packet=1073741824)" in message
    move.stop_streams()
    move.on(TARGET, "SET GLOBAL local_infile=1")
    move.perform("start_workflow")
    move.run_streams()
    move.wait_for(StreamState.RUNNING)
    move.catch_up()
    equal(move)
