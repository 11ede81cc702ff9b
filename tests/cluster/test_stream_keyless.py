"""Tables without a key: every change once and in order, rows told apart by every byte."""

from __future__ import annotations

import pytest

from executor.native.stream import apply
from tests.cluster import moving
from tests.cluster.moving import SOURCE, TARGET, Moving

pair, move = moving.pair, moving.move

CREATE = (
    "CREATE TABLE t (a INT, s VARCHAR(20), c CHAR(5), f FLOAT, d DOUBLE, n DECIMAL(20,5), b VARBINARY(10), x BLOB, "
    "e ENUM('a','A2','b'), w SET('x','y'), y YEAR, i BIT(3), ts TIMESTAMP(6) NULL, dt DATETIME(3), tm TIME(2), j JSON) "
    "CHARACTER SET utf8mb4"
)
LAX = "SET SESSION sql_mode='', time_zone='+00:00'"
ROWS = (
    "(1,'a','a',0.1,0.1,1.5,'a','a','a','x',2001,1,'2020-01-01 00:00:01.5','2020-01-01','-01:00:00.5','{\"a\": 1}')",
    "(1,'A','A',0.1,0.1,1.5,'a','a','a','x',2001,1,'2020-01-01 00:00:01.5','2020-01-01','-01:00:00.5','{\"a\": 1}')",
    "(1,'a ','a ',0.1,0.1,1.5,'a\\0','a','b','x,y',0,1,NULL,'2020-01-01','-01:00:00.5','{\"a\": 2}')",
    "(NULL,NULL,NULL,-0.0,-0.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL)",
    "(NULL,NULL,NULL,0.0,0.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL)",
    "(0,'','',1e-30,1e-300,0,'','','b','',0,0,'2020-01-01','2020-01-01','0:0:0','null')",
    "(0,'é','\\\\''',1e-30,2.2250738585072014E-308,0,X'00',X'00ff','b','',0,0,'2020-01-01','2020-01-01','0:0:0','1.0')",
)


def begin(move: Moving) -> None:
    move.tables(CREATE, LAX, f"INSERT INTO t VALUES {','.join(ROWS)},{ROWS[0]},{ROWS[0]},{ROWS[3]}")
    move.running()


CHANGES = (
    LAX,
    "DELETE FROM t WHERE s = BINARY 'A'",
    "UPDATE t SET s='changed' WHERE s = BINARY 'a ' LIMIT 1",
    f"INSERT INTO t VALUES {','.join(ROWS)}",
    "DELETE FROM t WHERE s = BINARY 'a' LIMIT 2",
    "UPDATE t SET f=-0.0 WHERE a IS NULL LIMIT 2",
    "DELETE FROM t WHERE CONCAT(f)='-0' LIMIT 1",
    "UPDATE t SET a=a+1",
    "UPDATE t SET e=3, j='[1]' WHERE a=1",
    "INSERT INTO t SELECT * FROM t",
    "DELETE FROM t LIMIT 5",
)


def test_rows_that_differ_in_one_byte_are_told_apart(move: Moving) -> None:
    begin(move)
    move.on(SOURCE, *CHANGES)
    move.settled_equal()
    move.on(SOURCE, "START TRANSACTION", *CHANGES[1:], "ROLLBACK", "START TRANSACTION", *CHANGES[1:], "COMMIT")
    move.settled_equal()
    move.on(SOURCE, "DELETE FROM t")
    move.settled_equal()


def test_a_transaction_larger_than_a_batch(move: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "SPILL_BYTES", 2000)
    begin(move)
    move.on(SOURCE, "START TRANSACTION", *CHANGES * 2, "COMMIT")
    move.settled_equal()


@pytest.mark.parametrize("point", ["stream:batch_written", "stream:batch_committed"])
def test_no_change_is_made_twice_whatever_is_killed(move: Moving, point: str) -> None:
    begin(move)
    move.stop_streams()
    move.on(SOURCE, *CHANGES)
    move.killed_at("streams", point)
    move.run_streams()
    move.settled_equal()


def test_a_row_that_is_not_there_is_an_error(move: Moving) -> None:
    begin(move)
    move.on(TARGET, "SET @movetables_apply=1", "DELETE FROM t WHERE a=0")
    move.on(SOURCE, "DELETE FROM t WHERE a=0 LIMIT 1")
    assert "no row that matches" in move.wait_for_error()
