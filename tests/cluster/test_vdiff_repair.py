"""vdiff --repair makes the target's rows those of the source, while both change, and wherever it is killed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from executor.errors import MovetablesError, Refused
from executor.native.vdiff.repair import Repairer, require_repairable
from executor.native.vdiff.repair_whole import WholeRepairer
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


@pytest.mark.parametrize("key", ["id INT PRIMARY KEY", "id INT"])
def test_rows_that_a_repair_did_not_change_still_differ(move: Move, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """They are really looked at again."""
    for repairer in (Repairer, WholeRepairer):
        monkeypatch.setattr(repairer, "repair", lambda *_: None)
    move.begin(f"{key}, v INT", MANY)
    move.on_target("UPDATE t SET v=-1 WHERE id=5", "DELETE FROM t WHERE id=6")
    table = only_table(move.vdiff(repair=True))
    assert (table.matching, table.repaired) == (2998, 0)
    assert table.has_mismatch


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
        require_repairable(f"{WORKFLOW}_reverse")


KEYLESS = "v INT, w VARCHAR(20), KEY (v)"
COLLATED = "k VARCHAR(20) COLLATE utf8mb4_bin PRIMARY KEY, v INT"
OTHER_COLLATION = "ALTER TABLE t MODIFY k VARCHAR(20) COLLATE utf8mb4_unicode_ci NOT NULL"


def test_rows_without_a_key_are_repaired_by_their_number_while_they_change(move: Move) -> None:
    move.begin(KEYLESS, "SELECT seq % 100, IF(seq % 3, CONCAT('w', seq % 7), NULL) FROM seq_1_to_1000")
    with Writers(
        move,
        lambda r: f"INSERT INTO t VALUES ({r.randint(1, 20)}, 'w1')",
        lambda r: f"DELETE FROM t WHERE v={r.randint(1, 20)} LIMIT 1",
        lambda r: f"UPDATE t SET w=CONCAT('w', {r.randint(0, 7)}) WHERE v={r.randint(1, 20)} LIMIT 1",
    ) as writers:
        for _ in range(2):
            move.on_target(
                "DELETE FROM t WHERE v=51 LIMIT 3",  # of ten that are equal in pairs
                "INSERT INTO t VALUES (52,'w3'), (52,'w3'), (200,NULL)",
                "UPDATE t SET w='' WHERE v=54 AND w IS NULL",
                "UPDATE t SET v=-v WHERE v=55 LIMIT 1",
            )
            report = move.vdiff(repair=True)
            assert not report.has_mismatch
            assert only_table(report).repaired >= 3 + 3 + 2 + 2
            assert not move.vdiff().has_mismatch
    assert writers.written > 50


def test_rows_with_a_key_of_another_collation_are_repaired(move: Move) -> None:
    rows = ",".join(f"('{letter * 2}', {n})" for n, letter in enumerate("aÖbßzcüdE"))
    move.begin(COLLATED, f"VALUES {rows}")
    move.on_target(OTHER_COLLATION, "UPDATE t SET v=-1 WHERE v IN (3, 5)", "UPDATE t SET k='BB' WHERE k='bb'")
    move.on_target("DELETE FROM t WHERE v=4", "INSERT INTO t VALUES ('new', 99)")
    report = move.vdiff(repair=True)
    assert (counters(report), only_table(report).repaired) == ((9, 0, 0, 0), 6)
    move.on_source("UPDATE t SET v=v+10", "DELETE FROM t WHERE k='ÖÖ'")
    assert counters(move.vdiff()) == (8, 0, 0, 0)


def test_a_row_that_the_target_takes_for_a_duplicate_ends_a_repair_that_leaves_all_as_it_was(move: Move) -> None:
    move.begin(COLLATED, "VALUES ('a', 1), ('b', 2)")
    move.on_target(OTHER_COLLATION, "DELETE FROM t WHERE k='b'")
    with move.connect_source() as source:
        source.execute("SET SESSION sql_log_bin=0")
        source.execute("INSERT INTO t VALUES ('A', 3)")
    with pytest.raises(MovetablesError, match="takes a row of the source for a duplicate of another"):
        move.vdiff(repair=True)
    assert counters(move.vdiff()) == (1, 0, 2, 0)


def test_rows_larger_than_the_packets_of_the_target_are_repaired(move: Move) -> None:
    move.begin("v INT, b LONGBLOB", "SELECT seq, REPEAT(UNHEX('00275CFF'), 500000) FROM seq_1_to_3")
    packet = "SET GLOBAL max_allowed_packet={}"
    with move.connect_target() as target:
        before = target.value("SELECT @@global.max_allowed_packet")
        target.execute("DELETE FROM t WHERE v<3")
        target.execute("INSERT INTO t VALUES (3, NULL)")
        target.execute(packet.format(1 << 20))
        try:
            report = move.vdiff(repair=True)
        finally:
            target.execute(packet.format(before))
    assert (counters(report), only_table(report).repaired) == ((3, 0, 0, 0), 3)


def test_more_rows_than_can_be_rewritten_at_once_are_left(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("repair_whole", "whole"):
        monkeypatch.setattr(f"executor.native.vdiff.{module}.MOST_KINDS", 3)
    move.begin(KEYLESS, "VALUES (1,'a'), (2,'b'), (3,'c'), (4,'d')")
    move.on_target("UPDATE t SET w='x'")
    with pytest.raises(MovetablesError, match="more than 3 different rows of t differ"):
        move.vdiff(repair=True)


@pytest.mark.parametrize("point", ["vdiff.repairing", "vdiff.repaired"])
def test_a_killed_repair_of_a_whole_table_goes_on(move: Move, tmp_path: Path, point: str) -> None:
    move.begin(KEYLESS, "SELECT seq % 50, 'w' FROM seq_1_to_500")
    path, name, uuid = environment(move, tmp_path), f"{KEYSPACE}.{WORKFLOW}", "4b3f9b7e-6b4c-4b59-9d1b-0c2f2f4d9a22"
    move.on_target("DELETE FROM t WHERE v=7 LIMIT 4", "UPDATE t SET w='x' WHERE v=8")
    killed = command(path, "create", name, uuid, "--repair", kill_at=point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    move.on_source("DELETE FROM t WHERE v=7 LIMIT 2")
    assert command(path, "resume", name, uuid).returncode == 0
    assert counters(move.vdiff()) == (498, 0, 0, 0)
