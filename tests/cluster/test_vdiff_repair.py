"""vdiff --repair makes the target's rows those of the source, while both change, and wherever it is killed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from executor.errors import Refused
from executor.native.vdiff.repair import require_repairable
from tests.cluster import vdiff_move
from tests.cluster.test_vdiff_command import command, environment
from tests.cluster.vdiff_move import (
    KEYSPACE,
    MANY,
    WORKFLOW,
    Move,
    Writers,
    counters,
    only_table,
)

DAMAGE = (
    "UPDATE t SET v=-1 WHERE id BETWEEN 100 AND 350",
    "DELETE FROM t WHERE id BETWEEN 1000 AND 1100",
    "INSERT INTO t SELECT id+100000, v FROM t WHERE id BETWEEN 2000 AND 2050",
)
DAMAGED = 251 + 101 + 51


servers, move = vdiff_move.servers, vdiff_move.move


def test_what_differs_is_rewritten_and_looked_at_again(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    move.on_target(*DAMAGE)
    assert counters(move.vdiff()) == (3000 - 251 - 101, 251, 101, 51)
    report = move.vdiff(repair=True)
    assert not report.has_mismatch
    assert only_table(report).repaired == DAMAGED
    assert "RepairedRows:     403" in report.to_text(0.0)
    assert counters(move.vdiff()) == (3000, 0, 0, 0)


def test_rows_are_repaired_while_they_change(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    with Writers(
        move,
        lambda r: f"UPDATE t SET v=v+1 WHERE id={r.randint(100, 120)}",
        lambda r: f"DELETE FROM t WHERE id={r.randint(1000, 1010)}",
        lambda r: f"REPLACE INTO t VALUES ({r.randint(1000, 1010)}, 0)",
        lambda r: f"UPDATE IGNORE t SET id=id+1 WHERE id={r.randint(102000, 102010)}",
    ) as writers:
        for _ in range(3):
            move.on_target(
                *DAMAGE[:2], "INSERT IGNORE INTO t SELECT id+100000, v FROM t WHERE id BETWEEN 2000 AND 2050"
            )
            assert not move.vdiff(repair=True).has_mismatch
            assert not move.vdiff().has_mismatch
    assert writers.written > 50


def test_a_wrong_owner_of_a_unique_value_gives_it_back(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, u VARCHAR(20) UNIQUE", "VALUES (1,'a'),(2,'b'),(3,'c')")
    move.on_target("DELETE FROM t WHERE id<3", "INSERT INTO t VALUES (1,'b'),(9,'a')")
    assert not move.vdiff(repair=True).has_mismatch
    assert counters(move.vdiff()) == (3, 0, 0, 0)


def test_index_zero_of_an_enum_is_told_from_the_empty_member_and_repaired(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, e ENUM('','a')", "VALUES (1,''),(2,'a'),(3,'a')")
    move.on_source("SET sql_mode=''", "UPDATE t SET e='no member' WHERE id=1", "INSERT INTO t VALUES (4,'no member')")
    assert counters(move.vdiff()) == (4, 0, 0, 0)
    move.on_target("UPDATE t SET e='' WHERE id IN (1,2)", "DELETE FROM t WHERE id=4")
    assert counters(move.vdiff()) == (1, 2, 1, 0)
    assert only_table(move.vdiff(repair=True)).repaired == 3
    assert counters(move.vdiff()) == (4, 0, 0, 0)
    with move.connect_target() as target:
        assert [int(row["e"]) for row in target.query("SELECT e+0 AS e FROM t ORDER BY id")] == [0, 2, 2, 0]


def test_a_killed_repair_goes_on(move: Move, tmp_path: Path) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    path, name, uuid = environment(move, tmp_path), f"{KEYSPACE}.{WORKFLOW}", "4b3f9b7e-6b4c-4b59-9d1b-0c2f2f4d9a21"
    move.on_target(*DAMAGE)
    killed = command(path, "create", name, uuid, "--repair", kill_at="vdiff.repaired#2")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert command(path, "resume", name, uuid).returncode == 0
    assert counters(move.vdiff()) == (3000, 0, 0, 0)


def test_nothing_is_repaired_without_being_asked(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    move.on_target("UPDATE t SET v=-1 WHERE id=5")
    assert move.vdiff().has_mismatch
    assert counters(move.vdiff()) == (2999, 1, 0, 0)


def test_nothing_is_repaired_after_writes_have_switched() -> None:
    with pytest.raises(Refused, match="writes have switched, and nothing is repaired after that"):
        require_repairable(f"{WORKFLOW}_reverse", {})


def test_a_table_without_a_shared_order_of_keys_is_not_repaired(move: Move) -> None:
    move.begin("k VARCHAR(10) COLLATE utf8mb4_bin PRIMARY KEY, v INT", "VALUES ('a',1)")
    move.on_target("ALTER TABLE t MODIFY k VARCHAR(10) COLLATE utf8mb4_unicode_ci NOT NULL")
    with pytest.raises(Refused, match="table t cannot be repaired"):
        move.vdiff(repair=True)
