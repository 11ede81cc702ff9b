"""Servers whose defaults for new sessions are the worst that can be set: a move is not touched by them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from executor.native.servers import Connection
from executor.native.stream import copy
from planner.steps.vdiff import VDiff
from tests.cluster import moving
from tests.cluster.moving import NAME, SOURCE, TARGET, Moving
from tests.cluster.test_stream_copy import SHAPES, finish, make_tables, writers

pair, move = moving.pair, moving.move
pytestmark = pytest.mark.servers("mariadb", "mysql", "mariadb-mysql", "mysql-mariadb")

BOTH = {
    "sql_mode": "'ANSI_QUOTES,PIPES_AS_CONCAT,IGNORE_SPACE,STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES,HIGH_NOT_PRECEDENCE,"
    "NO_UNSIGNED_SUBTRACTION,PAD_CHAR_TO_FULL_LENGTH,ONLY_FULL_GROUP_BY,NO_ZERO_IN_DATE,NO_ZERO_DATE,STRICT_TRANS_TABLES,REAL_AS_FLOAT'",
    "autocommit": "0",
    "completion_type": "'RELEASE'",
    "time_zone": "'+05:30'",
    "sql_select_limit": "3",
    "sql_safe_updates": "1",
    "sql_auto_is_null": "1",
    "sql_big_selects": "0",
    "max_join_size": "10",
    "sql_quote_show_create": "0",
    "foreign_key_checks": "0",
    "unique_checks": "0",
    "auto_increment_increment": "7",
    "auto_increment_offset": "3",
    "character_set_server": "'latin1'",
    "collation_server": "'latin1_german1_ci'",
    "character_set_client": "'latin1'",
    "character_set_connection": "'latin1'",
    "character_set_results": "'latin1'",
    "group_concat_max_len": "4",
    "max_sort_length": "64",
    "max_error_count": "0",
    "div_precision_increment": "0",
    "default_week_format": "3",
    "lc_time_names": "'de_DE'",
    "wait_timeout": "1",
    "net_read_timeout": "1",
    "net_write_timeout": "1",
    "innodb_strict_mode": "0",
    "binlog_rows_query_log_events": "1",
}
OF_MARIADB = {
    "tx_isolation": "'READ-UNCOMMITTED'",
    "tx_read_only": "1",
    "max_statement_time": "0.3",
    "idle_transaction_timeout": "1",
    "idle_readonly_transaction_timeout": "1",
    "idle_write_transaction_timeout": "1",
    "alter_algorithm": "'INSTANT'",
    "default_storage_engine": "'MyISAM'",
    "sql_if_exists": "1",
}
OF_MYSQL = {
    "transaction_isolation": "'READ-UNCOMMITTED'",
    "transaction_read_only": "1",
    "max_execution_time": "300",
    "default_storage_engine": "'MyISAM'",
    "explicit_defaults_for_timestamp": "0",
    "sql_generate_invisible_primary_key": "1",
    "show_gipk_in_create_table_and_information_schema": "0",
    "default_collation_for_utf8mb4": "'utf8mb4_general_ci'",
    "print_identified_with_as_hex": "1",
}
TABLES = {name: SHAPES[name] for name in ("signed", "composite", "words", "times", "unique", "generated")}


@pytest.fixture
def hostile(move: Moving, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tables to move; then both servers and the topology's have these settings for every new session, until the end."""
    monkeypatch.setattr(copy, "CHUNK_BYTES", 4000)
    make_tables(move, TABLES, 300)
    move.tables(
        "CREATE TABLE stamped (id INT PRIMARY KEY, a TIMESTAMP NOT NULL, b TIMESTAMP(6) NULL)",
        "INSERT INTO stamped VALUES (1, '2024-05-01 10:00:00', NULL)",
        "CREATE TABLE keyless (a INT, b VARCHAR(200))",
        "INSERT INTO keyless VALUES (1, 'one'), (1, 'one'), (NULL, NULL), (2, 'two')",
    )
    logins = move.pair.cluster.logins
    opened = [moving.connect(logins.tablet(moving.ALIAS[side])) for side in (SOURCE, TARGET)]
    opened.append(moving.connect(logins.topology()))
    before = [(connection, _set_all(connection)) for connection in opened]
    yield
    for connection, values in before:
        for name, value in values.items():
            connection.execute(f"SET GLOBAL {name}=%s", [value])
        connection.close()


def _set_all(connection: Connection) -> dict[str, object]:
    wanted = BOTH | (OF_MARIADB if connection.flavor.mariadb else OF_MYSQL)
    before = {}
    for name, value in wanted.items():
        if connection.flavor.mariadb and name == "binlog_rows_query_log_events":
            name = "binlog_annotate_row_events"
        before[name] = connection.value(f"SELECT @@global.{name}")
        connection.execute(f"SET GLOBAL {name}={value}")
    return before


@pytest.mark.usefixtures("hostile")
def test_a_move_is_not_touched_by_what_new_sessions_begin_with(move: Moving) -> None:
    started = writers(move, TABLES, 1)
    move.running()
    copied = started[0].written
    moving.until(lambda: started[0].written > copied + 100, "writes after the copy")
    finish(started)
    move.settled_equal()
    assert _defaults(move, TARGET) == _defaults(move, SOURCE)
    move.backend.perform(VDiff(move.move, NAME, TARGET), moving.Silence())
    move.perform("switch_reads")
    move.perform("switch_writes")
    move.on(TARGET, "INSERT INTO signed (id, v) VALUES (1000000, 1)", "DELETE FROM words LIMIT 3")
    move.assert_writes_at(TARGET)
    move.perform("reverse_writes")
    move.assert_writes_at(SOURCE)
    move.perform("switch_writes")
    move.perform("complete")
    move.assert_nothing_left()


def _defaults(move: Moving, keyspace: str) -> list[tuple[str, ...]]:
    """What the columns of `stamped` and `keyless` are on one side."""
    with move.pair.connect(keyspace) as connection:
        rows = connection.query(
            "SELECT table_name, column_name, is_nullable, IFNULL(column_default, 'NULL'), extra "
            "FROM information_schema.columns WHERE table_schema=%s AND table_name IN ('stamped', 'keyless') "
            "ORDER BY table_name, ordinal_position",
            [moving.DATABASE[keyspace]],
        )
    return [tuple(str(value) for value in row.values()) for row in rows]
