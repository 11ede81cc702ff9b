"""Bulk changes are handed on to the target as row events; what it does not take so is written as SQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from executor.native.servers import Connection, connect
from tests.cluster import moving
from tests.cluster.conftest import Pairing
from tests.cluster.moving import SOURCE, TARGET, Moving
from tests.cluster.test_stream_values import LAX, OF_MARIADB, OF_MYSQL, VALUES, inserts

pytestmark = pytest.mark.servers("mariadb", "mysql")

pair, move = moving.pair, moving.move

TABLE = "CREATE TABLE t (id INT PRIMARY KEY, k INT NOT NULL, v VARCHAR(100), UNIQUE KEY (k))"
FILL = "INSERT INTO t SELECT seq, seq, REPEAT('x', seq % 50) FROM seq_1_to_2000"


def handed_on(move: Moving) -> int:
    """How many BINLOG statements the target has run."""
    with move.target() as target:
        return int(target.query("SHOW GLOBAL STATUS LIKE 'Com_binlog'")[0]["Value"])


def test_every_type_at_its_limits_in_bulk(move: Moving, pairing: Pairing) -> None:
    types = VALUES | (OF_MYSQL if pairing == Pairing("mysql", "mysql") else OF_MARIADB)
    move.tables(*(f"CREATE TABLE t{i} (id INT PRIMARY KEY, v {kind}, n INT)" for i, kind in enumerate(types)))
    move.on(SOURCE, LAX, *inserts(types, 0))
    move.running()
    move.catch_up()
    before = handed_on(move)
    for i, kind in enumerate(types):
        copies = 20 if "TEXT" in kind or "BLOB" in kind else 400
        move.on(
            SOURCE,
            LAX,
            f"INSERT INTO t{i} SELECT id + 1000 * seq, v, n FROM t{i} JOIN seq_1_to_{copies}",
            f"UPDATE t{i} SET n=id",
            f"DELETE FROM t{i} WHERE id % 3=0",
        )
    move.settled_equal()
    assert handed_on(move) - before > len(types)


def test_a_key_that_moves_on_and_changes_of_every_size_keep_their_order(move: Moving) -> None:
    move.tables(TABLE)
    move.on(SOURCE, FILL)
    move.running()
    before = handed_on(move)
    with move.source() as source, source.transaction():
        source.execute("UPDATE t SET v='small' WHERE id=7")
        source.execute("UPDATE t SET id=id+10000, k=k+10000, v='large'")
        source.execute("UPDATE t SET v='small again' WHERE id=10007")
        source.execute("DELETE FROM t WHERE id=10008")
        source.execute("INSERT INTO t VALUES (10008, 8, 'new')")
    move.on(SOURCE, "UPDATE t SET v='last' WHERE id=10007", "UPDATE t SET k=k+1 ORDER BY k DESC")
    move.settled_equal()
    assert handed_on(move) > before


def test_rows_that_the_target_lacks_or_has_already_are_written_all_the_same(move: Moving) -> None:
    move.tables(TABLE)
    move.on(SOURCE, FILL)
    move.running()
    move.catch_up()
    move.on(TARGET, "SET @movetables_apply=1", "DELETE FROM t WHERE id=1500",
            "INSERT INTO t VALUES (2500, 2500, 'here already')")  # fmt: skip
    move.on(
        SOURCE,
        "INSERT INTO t SELECT seq, seq, 'new' FROM seq_2001_to_4000",
        "UPDATE t SET v=CONCAT(v, 'y')",
        "DELETE FROM t WHERE id BETWEEN 1 AND 1999",
    )
    move.settled_equal()


def test_a_user_who_may_not_run_binlog_statements_writes_sql(move: Moving) -> None:
    move.tables(TABLE)
    move.on(SOURCE, FILL)
    move.running()
    move.catch_up()
    move.stop_streams()
    with move.target() as target, _another_user(target) as other:
        user = str(target.value("SELECT CURRENT_USER()")).replace("@", "'@'")
        names = "BINLOG REPLAY, SUPER" if target.flavor.mariadb else "BINLOG_ADMIN, REPLICATION_APPLIER, SUPER"
        other.execute(f"REVOKE {names} ON *.* FROM '{user}'")
        try:
            before = handed_on(move)
            move.run_streams()
            move.on(SOURCE, "UPDATE t SET v='bulk'", "DELETE FROM t WHERE id > 1000")
            move.settled_equal()
            move.on(SOURCE, "UPDATE t SET v='bulk again'")
            move.settled_equal()
            assert handed_on(move) - before <= 1  # the attempt
        finally:
            other.execute(f"GRANT {names} ON *.* TO '{user}' WITH GRANT OPTION")


@contextmanager
def _another_user(target: Connection) -> Iterator[Connection]:
    """A connection of a second user who may do everything."""
    target.execute("CREATE USER IF NOT EXISTS other@127.0.0.1 IDENTIFIED BY 'other'")
    target.execute("GRANT ALL ON *.* TO other@127.0.0.1 WITH GRANT OPTION")
    with connect(replace(target.login, user="other", password="other")) as connection:
        yield connection
    target.execute("DROP USER other@127.0.0.1")


@pytest.mark.servers("mariadb")
def test_rows_that_violate_a_check_arrive_in_bulk_and_one_by_one(move: Moving) -> None:
    move.tables(TABLE.replace("k INT NOT NULL", "k INT NOT NULL CHECK (k > 0)"))
    unchecked = "SET check_constraint_checks=0"
    move.on(SOURCE, unchecked, FILL)
    move.running()
    before = handed_on(move)
    move.on(SOURCE, unchecked, "UPDATE t SET k=-k, v='bulk'")
    move.catch_up()
    assert handed_on(move) > before
    move.on(SOURCE, unchecked, "INSERT INTO t VALUES (5000, -5000, 'one')")
    move.settled_equal()


@pytest.mark.parametrize(
    "alter",
    [
        "ALTER TABLE t MODIFY v VARCHAR(100) AFTER id",
        "ALTER TABLE t MODIFY v VARCHAR(200)",
        "ALTER TABLE t MODIFY k BIGINT NOT NULL",
        "ALTER TABLE t MODIFY v VARCHAR(100) NOT NULL",
    ],
)
def test_a_target_that_is_defined_otherwise_gets_sql(move: Moving, alter: str) -> None:
    move.tables(TABLE)
    move.on(SOURCE, FILL)
    move.running()
    move.catch_up()
    move.stop_streams()
    move.on(TARGET, alter)
    move.run_streams()
    move.on(SOURCE, "UPDATE t SET k=k+5000, v=CONCAT('bulk', id)")
    move.catch_up()
    with move.source() as source, move.target() as target:
        rows = "SELECT id, k, v FROM t ORDER BY id"
        assert source.query(rows) == target.query(rows)


def test_a_reverse_stream_reads_what_was_handed_on_elsewhere(move: Moving) -> None:
    """The target's own log names the target's server for rows that it got as events."""
    move.tables(TABLE)
    move.running()
    move.on(SOURCE, FILL)
    move.settled_equal()
    move.perform("switch_writes")
    move.on(TARGET, "UPDATE t SET v='on the new side'")
    move.assert_writes_at(TARGET)


@pytest.mark.parametrize("point", ["stream:spilled", "stream:batch_written", "stream:batch_committed"])
def test_killed_in_the_middle_of_a_bulk_change(move: Moving, point: str) -> None:
    move.tables("CREATE TABLE t (id INT PRIMARY KEY, v TEXT)")
    move.running()
    move.catch_up()
    move.stop_streams()
    move.on(
        SOURCE,
        "INSERT INTO t SELECT seq, REPEAT('x', 5000) FROM seq_1_to_5000",
        "UPDATE t SET v=CONCAT('y', v)",
        "DELETE FROM t WHERE id % 2",
    )
    move.killed_at("streams", point)
    move.run_streams()
    move.settled_equal()
