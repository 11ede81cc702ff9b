"""What a stream does at DDL, at changes it cannot carry over, and when the source's binlog is gone."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from executor.native.servers import Connection
from planner.cluster import StreamState
from planner.document import OnDdl
from tests.cluster import moving
from tests.cluster.moving import DATABASE, SOURCE, TARGET, Moving

pytestmark = pytest.mark.servers("mariadb")  # until the stream reads MySQL's binlog

pair, move = moving.pair, moving.move


def begin(move: Moving, on_ddl: OnDdl = OnDdl.IGNORE, **changes: object) -> None:
    move.tables(
        "CREATE TABLE t (id INT PRIMARY KEY, v INT)",
        "CREATE TABLE other (id INT PRIMARY KEY)",
        "INSERT INTO t SELECT seq, seq FROM seq_1_to_10",
    )
    move.move = replace(move.move, tables=("t",), on_ddl=on_ddl, **changes)  # type: ignore[arg-type]
    move.running()


def test_ignored_ddl_is_an_error_once_a_row_has_the_new_column(move: Moving) -> None:
    begin(move)
    move.on(SOURCE, "ALTER TABLE t ADD COLUMN extra INT")
    move.catch_up()
    move.on(SOURCE, "INSERT INTO t VALUES (100, 1, 2)")
    assert "extra" in move.wait_for_error()
    move.on(TARGET, "ALTER TABLE t ADD COLUMN extra INT")
    move.perform("start_workflow")
    move.settled_equal()


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE TABLE t",
        f"TRUNCATE {DATABASE[SOURCE]}.t",
        "RENAME TABLE t TO t2, other TO t",
        "ALTER TABLE other RENAME TO other2, ALGORITHM=INPLACE",
        "DROP TABLE t",
        "CREATE OR REPLACE TABLE t (id INT PRIMARY KEY)",
    ],
)
def test_rows_that_go_without_events_are_an_error(move: Moving, statement: str) -> None:
    begin(move)
    move.on(SOURCE, statement)
    if "other2" in statement:
        move.settled_equal()
        return
    assert "without row events" in move.wait_for_error()


def test_stop_stops_behind_the_ddl_and_goes_on_from_there(move: Moving) -> None:
    begin(move, OnDdl.STOP)
    move.on(
        SOURCE, "INSERT INTO t VALUES (50, 1)", "ALTER TABLE t ADD COLUMN extra INT", "INSERT INTO t VALUES (51, 1, 2)"
    )
    record = move.wait_for(StreamState.STOPPED)
    assert "stopped at DDL: ALTER TABLE t ADD COLUMN extra" in record.message
    move.on(TARGET, "ALTER TABLE t ADD COLUMN extra INT")
    move.perform("start_workflow")
    move.settled_equal()


@pytest.mark.parametrize("on_ddl", [OnDdl.EXEC, OnDdl.EXEC_IGNORE])
def test_exec_repeats_ddl_in_its_place(move: Moving, on_ddl: OnDdl) -> None:
    begin(move, on_ddl)
    move.on(
        SOURCE,
        "INSERT INTO t VALUES (50, 1)",
        "ALTER TABLE t ADD COLUMN extra VARCHAR(20) DEFAULT 'é', ALGORITHM=INSTANT",
        "INSERT INTO t VALUES (51, 1, 'x')",
        "CREATE INDEX i ON t (extra)",
        "ALTER TABLE t MODIFY v BIGINT",
        f"INSERT INTO t VALUES (52, {2**40}, 'x')",
        "TRUNCATE TABLE t",
        "INSERT INTO t VALUES (53, 1, 'x')",
        "ALTER TABLE t DROP COLUMN v",
        "INSERT INTO t VALUES (54, 'y')",
    )
    move.settled_equal()


def test_exec_fails_where_the_target_refuses_and_exec_ignore_goes_on(move: Moving) -> None:
    begin(move, OnDdl.EXEC)
    move.on(TARGET, "CREATE INDEX i ON t (v)")
    move.on(SOURCE, "CREATE INDEX i ON t (v)")
    assert "could not be repeated on the target" in move.wait_for_error()
    move.on(TARGET, "DROP INDEX i ON t")
    move.perform("start_workflow")
    move.settled_equal()


def test_exec_ignore_passes_over_what_the_target_refuses(move: Moving) -> None:
    begin(move, OnDdl.EXEC_IGNORE)
    move.on(TARGET, "CREATE INDEX i ON t (v)")
    move.on(SOURCE, "CREATE INDEX i ON t (v)", "INSERT INTO t VALUES (60, 1)")
    move.settled_equal()


def test_exec_of_ddl_that_names_the_sources_database_is_done_in_the_targets(move: Moving) -> None:
    begin(move, OnDdl.EXEC)
    move.on(SOURCE, f"ALTER TABLE {DATABASE[SOURCE]}.`t` ADD COLUMN extra INT", "INSERT INTO t VALUES (60, 1, 2)")
    move.settled_equal()


@pytest.mark.parametrize("on_ddl", [OnDdl.IGNORE, OnDdl.EXEC])
def test_statements_about_other_things_are_passed_over(move: Moving, on_ddl: OnDdl) -> None:
    begin(move, on_ddl)
    move.on(
        SOURCE,
        "ALTER TABLE other ADD COLUMN t INT",
        "CREATE TABLE third (t INT, FOREIGN KEY (t) REFERENCES t (id))",
        "CREATE TRIGGER tr BEFORE INSERT ON other FOR EACH ROW SET NEW.t=1",
        "CREATE VIEW w AS SELECT * FROM t",
        "CREATE PROCEDURE p() DELETE FROM t",
        "CREATE USER IF NOT EXISTS u@localhost",
        f"GRANT SELECT ON {DATABASE[SOURCE]}.t TO u@localhost",
        "ANALYZE TABLE t",
        "DROP VIEW w",
        "DROP PROCEDURE p",
        "DROP USER u@localhost",
        "CREATE TEMPORARY TABLE temporary_t AS SELECT * FROM t",
        "INSERT INTO other (id) VALUES (1)",
        "DROP TRIGGER tr",
        "DROP TABLE third, other",
        "CREATE DATABASE IF NOT EXISTS elsewhere",
        "CREATE TABLE elsewhere.t (id INT)",
        "TRUNCATE elsewhere.t",
        "DROP DATABASE elsewhere",
        "INSERT INTO t VALUES (70, 1)",
    )
    move.settled_equal()


def test_a_change_logged_as_a_statement_is_an_error_that_shows_it(move: Moving) -> None:
    begin(move)
    move.on(SOURCE, "SET SESSION binlog_format=STATEMENT", "UPDATE t SET v=v+1 WHERE id=1")
    assert "UPDATE t SET v=v+1" in move.wait_for_error()


def test_a_statement_about_another_table_is_passed_over(move: Moving) -> None:
    begin(move)
    move.on(SOURCE, "SET SESSION binlog_format=STATEMENT", "INSERT INTO other VALUES (1)", "DELETE FROM other")
    move.settled_equal()


@pytest.mark.parametrize("image", ["MINIMAL", "NOBLOB"])
def test_incomplete_rows_are_an_error(move: Moving, image: str) -> None:
    begin(move)
    move.on(SOURCE, "ALTER TABLE t ADD COLUMN b TEXT")
    move.on(TARGET, "ALTER TABLE t ADD COLUMN b TEXT")
    move.stop_streams()
    move.run_streams()
    move.on(SOURCE, f"SET SESSION binlog_row_image={image}", "UPDATE t SET v=v+1 WHERE id=1")
    assert "complete rows" in move.wait_for_error()


def test_a_purged_binlog_is_an_error_that_says_what_to_do(move: Moving) -> None:
    begin(move)
    move.perform("stop_workflow")
    moving.until(lambda: not [t for t in threading.enumerate() if t.name.startswith("stream ")], "the runner")
    move.on(
        SOURCE, "INSERT INTO t VALUES (80, 1)", "FLUSH BINARY LOGS", "INSERT INTO t VALUES (81, 1)", "FLUSH BINARY LOGS"
    )
    with move.source() as source:
        last = source.query("SHOW BINARY LOGS")[-1]["Log_name"]
        moving.until(lambda: purged(source, last), "the binlogs to be purged")
    move.perform("start_workflow")
    assert "copied again" in move.wait_for_error()


def purged(source: Connection, last: str) -> bool:
    source.execute(f"PURGE BINARY LOGS TO '{last}'")
    return len(source.query("SHOW BINARY LOGS")) == 1


def test_deferred_keys_are_there_after_the_copy(move: Moving) -> None:
    definition = (
        "CREATE TABLE t (id INT PRIMARY KEY, a INT NOT NULL AUTO_INCREMENT, `b``c` VARCHAR(300), d TEXT, u INT, "
        "KEY (a), KEY `k 1` (`b``c`(20), a DESC), FULLTEXT KEY f (d), UNIQUE KEY (u), "
        "KEY k2 (u, id) COMMENT 'it''s, odd') COMMENT 'x'"
    )
    move.tables(definition, "INSERT INTO t (id, `b``c`, d, u) SELECT seq, seq, seq, seq FROM seq_1_to_100")
    move.move = replace(move.move, defer_secondary_keys=True)
    move.perform("create_workflow")
    with move.target() as target:
        assert "k2" not in str(target.one("SHOW CREATE TABLE t"))
    move.perform("start_workflow")
    move.run_streams()
    move.settled_equal()
    assert shown(move, SOURCE) == shown(move, TARGET)


def shown(move: Moving, keyspace: str) -> list[str]:
    with move.pair.connect(keyspace) as connection:
        text = str(connection.query("SHOW CREATE TABLE t")[0]["Create Table"])
    return sorted(line.rstrip(",") for line in text.splitlines()[:-1])
