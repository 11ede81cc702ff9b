"""What a stream does at DDL, at changes it cannot carry over, and when the source's binlog is gone."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from executor.native.servers import Connection, ServerError
from planner.cluster import StreamState
from planner.document import OnDdl
from tests.cluster import moving
from tests.cluster.moving import DATABASE, SOURCE, TARGET, Moving

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


@pytest.fixture
def mariadb(move: Moving) -> bool:
    """True when the source is MariaDB."""
    with move.source() as source:
        return source.flavor.mariadb


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
def test_rows_that_go_without_events_are_an_error(move: Moving, mariadb: bool, statement: str) -> None:
    if "OR REPLACE" in statement and not mariadb:
        pytest.skip("MariaDB only")
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


SWAP = "RENAME TABLE t TO _t_del, _t_gho TO t"


@pytest.mark.parametrize("on_ddl", list(OnDdl))
def test_another_tools_swap_is_never_passed_over(move: Moving, on_ddl: OnDdl) -> None:
    begin(move, on_ddl)
    move.on(SOURCE, "CREATE TABLE _t_gho LIKE t", "INSERT INTO _t_gho SELECT id, v+1 FROM t", SWAP, "DROP TABLE _t_del")
    if on_ddl is OnDdl.STOP:
        assert SWAP in move.wait_for(StreamState.STOPPED).message
    else:
        assert "copied again" in move.wait_for_error()


@pytest.mark.parametrize("on_ddl", [OnDdl.EXEC, OnDdl.EXEC_IGNORE])
@pytest.mark.parametrize("statement", ["DROP TABLE t", "RENAME TABLE t TO gone", SWAP.replace("t TO _t_del, ", "")])
def test_a_table_that_goes_stays_on_the_target(move: Moving, on_ddl: OnDdl, statement: str) -> None:
    begin(move, on_ddl)
    if "_t_gho" in statement:
        move.on(SOURCE, "RENAME TABLE other TO _t_gho", "DROP TABLE t")
    move.on(SOURCE, statement)
    assert "t" in move.wait_for_error()
    with move.target() as target:
        assert target.value("SELECT COUNT(*) FROM t") == 10


@pytest.mark.parametrize("point", ["stream:ddl_noted", "stream:ddl_done"])
@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE t ADD COLUMN extra INT DEFAULT 7",
        "CREATE INDEX i ON t (v)",
        "TRUNCATE TABLE t",
        "ALTER TABLE t DROP COLUMN v",
    ],
)
def test_repeated_ddl_is_done_once_whatever_is_killed(move: Moving, statement: str, point: str) -> None:
    begin(move, OnDdl.EXEC)
    move.stop_streams()
    move.on(SOURCE, "INSERT INTO t (id) VALUES (50)", statement, "INSERT INTO t (id) VALUES (51)")
    move.killed_at("streams", point)
    move.run_streams()
    move.settled_equal()


def test_a_definition_that_changes_between_rows_of_two_tables(move: Moving) -> None:
    begin(move, OnDdl.EXEC)
    move.on(
        SOURCE,
        "ALTER TABLE t ADD COLUMN a INT FIRST",
        "INSERT INTO t (id, a) VALUES (60, 1)",
        "ALTER TABLE t ADD COLUMN b INT AFTER id",
        "INSERT INTO t (id, b) VALUES (61, 1)",
        "ALTER TABLE t DROP COLUMN a, ADD COLUMN a VARCHAR(10) DEFAULT 'x'",
        "INSERT INTO t (id, a) VALUES (62, 'y')",
        "ALTER TABLE t RENAME COLUMN v TO w",
        "UPDATE t SET w=id WHERE id % 2",
        "ALTER TABLE t CHANGE b v BIGINT",
        "UPDATE t SET v=1234567890123 WHERE id=61",
    )
    move.settled_equal()


def test_partitions_come_and_go(move: Moving) -> None:
    begin(move, OnDdl.EXEC)
    move.on(
        SOURCE,
        "ALTER TABLE t PARTITION BY RANGE (id) (PARTITION a VALUES LESS THAN (5), PARTITION b VALUES LESS THAN (100))",
        "INSERT INTO t VALUES (70, 1)",
        "ALTER TABLE t ADD PARTITION (PARTITION c VALUES LESS THAN MAXVALUE)",
        "INSERT INTO t VALUES (170, 1)",
        "ALTER TABLE t TRUNCATE PARTITION a",
        "INSERT INTO t VALUES (3, 33)",
        "ALTER TABLE t DROP PARTITION c",
        "ALTER TABLE t REMOVE PARTITIONING",
        "INSERT INTO t VALUES (200, 1)",
    )
    move.settled_equal()


def test_rows_of_a_partition_that_go_are_an_error_where_ddl_is_ignored(move: Moving) -> None:
    move.tables(
        "CREATE TABLE t (id INT PRIMARY KEY, v INT) PARTITION BY HASH (id) PARTITIONS 2", "INSERT INTO t VALUES (1, 1)"
    )
    move.running()
    move.on(SOURCE, "ALTER TABLE t TRUNCATE PARTITION p1")
    assert "without row events" in move.wait_for_error()


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE t MODIFY s VARCHAR(20) CHARACTER SET latin1",
        "ALTER TABLE t CONVERT TO CHARACTER SET latin1",
        "ALTER TABLE t MODIFY e ENUM('c','a','b')",
    ],
)
def test_ddl_that_gives_bytes_another_meaning_is_never_ignored(move: Moving, statement: str) -> None:
    move.tables(
        "CREATE TABLE t (id INT PRIMARY KEY, s VARCHAR(20), e ENUM('a','b')) CHARACTER SET utf8mb4",
        "INSERT INTO t VALUES (1, 'é', 'a')",
    )
    move.running()
    move.on(SOURCE, statement, "INSERT INTO t VALUES (2, 'é', 'a')")
    assert "on the source and" in move.wait_for_error()


def test_ddl_in_mid_copy_is_repeated_and_the_copy_goes_on_with_it(
    move: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executor.native.stream.copy.CHUNK_BYTES", 2000)
    monkeypatch.setattr("executor.native.stream.copy.BATCH_SECONDS", 0.0)
    move.tables("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t SELECT seq, seq FROM seq_1_to_4000")
    move.move = replace(move.move, on_ddl=OnDdl.EXEC)
    move.created()
    move.killed_at("streams", "stream:chunks_copied")
    move.on(
        SOURCE,
        "UPDATE t SET v=v+1 WHERE id % 3=0",
        "ALTER TABLE t ADD COLUMN extra VARCHAR(10) DEFAULT 'x' FIRST",
        "UPDATE t SET extra=id WHERE id % 7=0",
    )
    move.run_streams()
    moving.until(lambda: copied(move) > 500, "a part of the table")
    move.on(SOURCE, "ALTER TABLE t ADD COLUMN more INT", "UPDATE t SET more=id WHERE id % 5=0")
    move.settled_equal()


def copied(move: Moving) -> int:
    with move.target() as target:
        return int(target.value("SELECT COUNT(*) FROM t"))


def test_truncate_in_mid_copy(move: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executor.native.stream.copy.CHUNK_BYTES", 2000)
    monkeypatch.setattr("executor.native.stream.copy.BATCH_SECONDS", 0.0)
    move.tables("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t SELECT seq, seq FROM seq_1_to_4000")
    move.move = replace(move.move, on_ddl=OnDdl.EXEC)
    move.created()
    move.killed_at("streams", "stream:chunks_copied")
    move.on(SOURCE, "TRUNCATE TABLE t", "INSERT INTO t VALUES (3, 3)")
    move.run_streams()
    move.settled_equal()


def test_a_statement_is_read_as_its_session_meant_it(move: Moving) -> None:
    begin(move, OnDdl.EXEC)
    move.on(
        SOURCE,
        "SET SESSION sql_mode='ANSI_QUOTES'",
        f'ALTER TABLE "{DATABASE[SOURCE]}"."t" ADD COLUMN "a b" VARCHAR(10) DEFAULT \'x\'',
        "SET SESSION sql_mode='NO_BACKSLASH_ESCAPES'",
        r"ALTER TABLE t /* c */ ADD COLUMN c VARCHAR(10) DEFAULT '\'",
        "/*!50000 ALTER TABLE t ADD COLUMN d INT */",
        "INSERT INTO t (id) VALUES (80)",
    )
    move.settled_equal()


def test_rows_that_ddl_fills_with_the_time_get_the_sources(move: Moving) -> None:
    begin(move, OnDdl.EXEC)
    move.stop_streams()
    move.on(
        SOURCE, "ALTER TABLE t ADD COLUMN made DATETIME DEFAULT CURRENT_TIMESTAMP", "INSERT INTO t (id) VALUES (81)"
    )
    with move.source() as source:
        moving.until(lambda: source.value("SELECT MAX(made) < NOW() - INTERVAL 1 SECOND FROM t"), "a later second")
    move.run_streams()
    move.settled_equal()


@pytest.mark.parametrize("default", ["(UUID())", "CURRENT_TIMESTAMP(6)"])
def test_ddl_that_fills_rows_with_chance_is_an_error(move: Moving, default: str) -> None:
    begin(move, OnDdl.EXEC)
    kind = "VARCHAR(36)" if "UUID" in default else "DATETIME(6)"
    try:
        move.on(SOURCE, f"ALTER TABLE t ADD COLUMN extra {kind} DEFAULT {default}")
    except ServerError as error:
        assert "unsafe" in error.message  # MySQL refuses it by itself  # noqa: PT017
        return
    assert "chance" in move.wait_for_error()


@pytest.mark.servers("mariadb")
def test_an_alter_that_is_logged_in_two_phases(move: Moving) -> None:
    begin(move, OnDdl.EXEC)
    move.on(
        SOURCE,
        "SET SESSION binlog_alter_two_phase=1",
        "ALTER TABLE t ADD COLUMN extra INT DEFAULT 5, ALGORITHM=COPY",
        "INSERT INTO t VALUES (90, 1, 2)",
    )
    with pytest.raises(ServerError):
        move.on(SOURCE, "SET SESSION binlog_alter_two_phase=1", "ALTER TABLE t ADD UNIQUE KEY (extra)")
    move.on(SOURCE, "INSERT INTO t VALUES (91, 1, 2)")
    move.settled_equal()


@pytest.mark.parametrize("on_ddl", [OnDdl.IGNORE, OnDdl.EXEC])
def test_a_table_created_from_a_moved_one_is_passed_over(move: Moving, on_ddl: OnDdl) -> None:
    begin(move, on_ddl)
    move.on(
        SOURCE, "CREATE TABLE third AS SELECT * FROM t", "CREATE TABLE fourth LIKE t", "INSERT INTO t VALUES (92, 1)"
    )
    move.settled_equal()


def test_a_moved_table_created_anew_with_rows_is_an_error(move: Moving) -> None:
    begin(move, OnDdl.EXEC_IGNORE)
    move.stop_streams()
    move.on(SOURCE, "DROP TABLE t", "CREATE TABLE t (PRIMARY KEY (id)) AS SELECT * FROM other")
    move.run_streams()
    assert "replaced" in move.wait_for_error()


REACHING = {
    "view": ("CREATE VIEW w AS SELECT * FROM t", "UPDATE w SET v=v+1 WHERE id=1"),
    "trigger": (
        "CREATE TRIGGER tr AFTER INSERT ON other FOR EACH ROW UPDATE t SET v=v+1 WHERE id=NEW.id",
        "INSERT INTO other VALUES (1)",
    ),
    "routine": (
        "CREATE FUNCTION f(a INT) RETURNS INT DETERMINISTIC MODIFIES SQL DATA "
        "BEGIN UPDATE t SET v=v+1 WHERE id=a; RETURN a; END",
        "INSERT INTO other VALUES (f(1))",
    ),
}


@pytest.mark.parametrize("kind", REACHING)
def test_a_statement_that_reaches_a_moved_table_without_naming_it_is_an_error(move: Moving, kind: str) -> None:
    begin(move)
    created, changing = REACHING[kind]
    move.on(SOURCE, created)
    move.catch_up()
    move.on(SOURCE, "SET SESSION binlog_format=STATEMENT", changing)
    if kind == "routine":
        with move.source() as source:  # a server may log such a statement as rows, whatever the format
            moving.until(lambda: move.state() is StreamState.ERROR or _applied(move, source), "the change or an error")
        return
    message = move.wait_for_error()
    assert kind in message
    assert changing in message


def test_a_statement_through_a_view_that_is_gone_again_is_an_error(move: Moving) -> None:
    begin(move)
    move.stop_streams()
    created, changing = REACHING["view"]
    move.on(SOURCE, created, "SET SESSION binlog_format=STATEMENT", changing, "DROP VIEW w")
    move.run_streams()
    assert "gone" in move.wait_for_error()


def _applied(move: Moving, source: Connection) -> bool:
    with move.target() as target:
        return bool(target.value("SELECT v FROM t WHERE id=1") == source.value("SELECT v FROM t WHERE id=1"))


def test_statements_and_incomplete_rows_in_compressed_transactions(move: Moving, mariadb: bool) -> None:
    begin(move)
    compressed = (
        "SET GLOBAL log_bin_compress=1, log_bin_compress_min_len=10"
        if mariadb
        else "SET SESSION binlog_transaction_compression=ON"
    )
    try:
        move.on(SOURCE, compressed, "UPDATE t SET v=v+1")
        move.catch_up()
        move.assert_equal()
        move.on(SOURCE, compressed, "SET SESSION binlog_row_image=MINIMAL", "UPDATE t SET v=v+1 WHERE id>5")
        assert "complete rows" in move.wait_for_error()
    finally:
        if mariadb:
            move.on(SOURCE, "SET GLOBAL log_bin_compress=0, log_bin_compress_min_len=256")


def test_a_compressed_statement_is_an_error(move: Moving, mariadb: bool) -> None:
    begin(move)
    compressed = (
        "SET GLOBAL log_bin_compress=1, log_bin_compress_min_len=10"
        if mariadb
        else "SET SESSION binlog_transaction_compression=ON"
    )
    try:
        move.on(SOURCE, compressed, "SET SESSION binlog_format=STATEMENT", "UPDATE t SET v=v+1 WHERE id>5")
        assert "UPDATE t SET v=v+1 WHERE id>5" in move.wait_for_error()
    finally:
        if mariadb:
            move.on(SOURCE, "SET GLOBAL log_bin_compress=0, log_bin_compress_min_len=256")
