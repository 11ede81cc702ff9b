"""VDiff finds every difference in bytes, and reports none while rows change. Two real servers and the real stream."""

from __future__ import annotations

import threading
import time

import pytest

from executor.errors import LockHeld, Refused, TimedOut, Usage
from executor.native import sidecar
from executor.native.servers import Connection
from executor.native.stream.layout import TableLayout
from executor.native.vdiff import records, show
from executor.native.vdiff.confirm import NotRunning
from executor.native.vdiff.digest import Digest, KeyValues, digest
from executor.native.vdiff.options import VDiffOptions
from executor.native.vdiff.run import run_vdiff
from executor.native.vdiff.summary import latest
from planner.cluster import StreamState
from tests.cluster import vdiff_move
from tests.cluster.vdiff_move import (
    KEYSPACE,
    MANY,
    WORKFLOW,
    Move,
    Writers,
    counters,
    only_table,
)

servers, move = vdiff_move.servers, vdiff_move.move


def test_missing_and_extra_rows_are_found_at_both_ends(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    move.on_target(
        "DELETE FROM t WHERE id IN (1, 1500, 3000)",
        "INSERT INTO t VALUES (-5, 1), (0, 1), (3001, 1), (99999, 1)",
        "UPDATE t SET v=0 WHERE id IN (2, 2999)",
    )
    report = move.vdiff()
    assert counters(report) == (2995, 2, 3, 4)
    table = only_table(report)
    assert [row["id"] for row in table.extra_source_samples] == ["1", "1500", "3000"]
    assert [row["id"] for row in table.extra_target_samples] == ["-5", "0", "3001", "99999"]
    assert [(s["v"], t["v"]) for s, t in table.mismatch_samples] == [("2", "0"), ("2999", "0")]


def test_an_extra_row_in_an_empty_table_is_found(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT")
    assert counters(move.vdiff()) == (0, 0, 0, 0)
    move.on_target("INSERT INTO t VALUES (1, 1)")
    assert counters(move.vdiff()) == (0, 0, 0, 1)


def test_a_target_that_lost_everything_is_found(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    move.on_target("DELETE FROM t")
    assert counters(move.vdiff()) == (0, 0, 3000, 0)


def test_rows_that_exchanged_their_values_are_found(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    move.on_target("UPDATE t SET v=17-v WHERE v IN (8,9)")
    assert counters(move.vdiff()) == (2998, 2, 0, 0)


@pytest.mark.parametrize(
    ("kind", "here", "there"),
    [
        ("VARCHAR(10) COLLATE utf8mb4_general_ci", "'a'", "'A'"),
        ("VARCHAR(10) COLLATE utf8mb4_unicode_520_ci", "'ß'", "'ss'"),
        ("VARCHAR(10) COLLATE utf8mb4_general_ci", "'a'", "'a '"),
        ("VARCHAR(10) COLLATE utf8mb4_bin", "'a'", "'a '"),
        ("VARCHAR(10) CHARACTER SET latin1", "'é'", "'E'"),
    ],
)
def test_a_key_with_other_bytes_is_one_row_that_differs(move: Move, kind: str, here: str, there: str) -> None:
    move.begin(f"k {kind} PRIMARY KEY, v INT", f"VALUES ({here},1)")
    assert counters(move.vdiff()) == (1, 0, 0, 0)
    move.on_target("DELETE FROM t", f"INSERT INTO t VALUES ({there},1)")
    report = move.vdiff()
    assert counters(report) == (0, 1, 0, 0)
    source, target = only_table(report).mismatch_samples[0]
    assert source["k"] != target["k"]


def test_keys_that_a_nopad_collation_tells_apart_are_two_rows(move: Move, flavor: str) -> None:
    collation = {"mariadb": "utf8mb4_general_nopad_ci", "mysql": "utf8mb4_0900_ai_ci"}[flavor]
    move.begin(f"k VARCHAR(10) COLLATE {collation} PRIMARY KEY", "VALUES ('a'),('a ')")
    move.on_target("DELETE FROM t WHERE k='a '")
    assert counters(move.vdiff()) == (1, 0, 1, 0)


def test_a_composite_key_is_walked_and_bisected(move: Move) -> None:
    rows = "SELECT seq DIV 100, CONCAT('k', seq MOD 100), seq FROM seq_0_to_2999"
    move.begin("a INT, b VARCHAR(9) COLLATE utf8mb4_general_ci, v INT, PRIMARY KEY (a, b)", rows)
    move.on_target("DELETE FROM t WHERE a=7 AND b='k50'", "UPDATE t SET v=-1 WHERE a=29 AND b='k99'")
    report = move.vdiff()
    assert counters(report) == (2998, 1, 1, 0)
    assert only_table(report).extra_source_samples[0]["b"] == "k50"


def test_a_table_without_primary_key_is_compared_along_its_unique_key(move: Move) -> None:
    move.begin("v INT, id INT NOT NULL, UNIQUE KEY (id)", "SELECT -seq, 5000-seq FROM seq_1_to_3000")
    assert counters(move.vdiff()) == (3000, 0, 0, 0)
    move.on_target("UPDATE t SET v=1 WHERE id=3333")
    assert counters(move.vdiff()) == (2999, 1, 0, 0)


def test_text_that_the_server_cannot_group_at_once_is_not_taken_for_equal(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v LONGTEXT", "SELECT seq, REPEAT('x', 1000000) FROM seq_1_to_100")
    move.on_target("UPDATE t SET v=CONCAT(LEFT(v, 999999), 'y') WHERE id=100")
    assert counters(move.vdiff()) == (99, 1, 0, 0)


def test_chunks_grow_and_shrink_with_what_the_server_can_take(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executor.native.vdiff.pairs.CHUNK_BYTES", 1)
    sizes: list[int] = []

    def noted(connection: Connection, layout: TableLayout, *keys: KeyValues | None) -> Digest:
        found = digest(connection, layout, keys[0], keys[1])
        sizes.append(found.count)
        return found

    monkeypatch.setattr("executor.native.vdiff.compare.digest", noted)
    monkeypatch.setattr("executor.native.vdiff.compare.QUICK_SECONDS", 10)
    move.begin("id INT PRIMARY KEY, v INT", "SELECT seq, seq FROM seq_1_to_20000")
    assert counters(move.vdiff()) == (20000, 0, 0, 0)
    assert max(sizes) > 1000
    assert len(sizes) < 40
    sizes.clear()
    monkeypatch.setattr("executor.native.vdiff.pairs.CHUNK_BYTES", 10_000_000)
    monkeypatch.setattr("executor.native.vdiff.compare.SLOW_SECONDS", 0)
    assert counters(move.vdiff()) == (20000, 0, 0, 0)
    assert min(sizes) < 1000


def test_samples_are_bounded_and_shortened_but_never_their_keys(move: Move) -> None:
    move.begin("id VARCHAR(300) PRIMARY KEY, v TEXT", "SELECT REPEAT(seq, 200), REPEAT('é', 500) FROM seq_1_to_9")
    move.on_target("UPDATE t SET v='é'")
    table = only_table(move.vdiff(max_report_sample_rows=3))
    assert (table.mismatched, len(table.mismatch_samples)) == (9, 3)
    source, target = table.mismatch_samples[0]
    assert source == {"id": "1" * 200, "v": "é" * 128 + "...[TRUNCATED]"}
    assert target == {"id": "1" * 200, "v": "é"}
    assert len(only_table(move.vdiff(max_report_sample_rows=0)).mismatch_samples) == 9
    assert only_table(move.vdiff(only_pks=True)).mismatch_samples[0][0] == {"id": "1" * 200}


def test_a_limit_ends_the_comparison(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    move.on_target("UPDATE t SET v=0 WHERE id=2000")
    assert counters(move.vdiff(limit=1000)) == (1000, 0, 0, 0)


def test_nothing_is_reported_while_rows_change(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", "SELECT seq, seq FROM seq_1_to_20000")
    with Writers(
        move,
        lambda r: f"UPDATE t SET v=v+1 WHERE id={r.randint(1, 20000)}",
        lambda r: f"DELETE FROM t WHERE id={r.randint(1, 20000)}",
        lambda r: f"INSERT IGNORE INTO t VALUES ({r.randint(1, 21000)}, 0)",
        lambda r: f"UPDATE IGNORE t SET id=id+7 WHERE id={r.randint(1, 20000)}",
    ) as writers:
        deadline = time.monotonic() + 8
        runs = 0
        while time.monotonic() < deadline or runs < 3:
            assert not move.vdiff().has_mismatch
            runs += 1
    assert writers.written > 100


def test_rows_that_go_back_and_forth_are_no_difference(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", "SELECT seq, 0 FROM seq_1_to_10")
    with Writers(
        move,
        lambda r: "UPDATE t SET v=1-v WHERE id=5",
        lambda r: "DELETE FROM t WHERE id=7",
        lambda r: "REPLACE INTO t VALUES (7, 0)",
        lambda r: "UPDATE t SET v=v+1 WHERE id=9",
    ) as writers:
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:
            assert not move.vdiff().has_mismatch
    assert writers.written > 100


def test_a_real_difference_among_busy_rows_is_found(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", "SELECT seq, 0 FROM seq_1_to_1000")
    move.on_target("UPDATE t SET v=-1 WHERE id=500", "DELETE FROM t WHERE id=501", "INSERT INTO t VALUES (2000,0)")
    with Writers(move, lambda r: f"UPDATE t SET v=v+1 WHERE id={r.choice([r.randint(1, 499), 502, 999])}"):
        for _ in range(3):
            assert counters(move.vdiff()) == (998, 1, 1, 1)


def test_a_stopped_stream_is_refused_with_what_to_do(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    move.stop_stream()
    with move.connect_target() as target:
        sidecar.set_state(target, KEYSPACE, WORKFLOW, StreamState.STOPPED)
        with pytest.raises(NotRunning, match="is Stopped, a VDiff needs it to be Running") as caught:
            move.vdiff()
        assert "start the workflow" in caught.value.hint
        sidecar.set_state(target, KEYSPACE, WORKFLOW, StreamState.COPYING)
        with pytest.raises(NotRunning, match="still copying"):
            move.vdiff()
        sidecar.set_state(target, KEYSPACE, WORKFLOW, StreamState.STOPPED, sidecar.FROZEN)
        with pytest.raises(NotRunning, match="frozen"):
            move.vdiff()
        assert show.last(target, KEYSPACE, WORKFLOW) is None


def test_a_stream_that_stands_still_is_an_error_and_not_a_difference(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    move.stop_stream()
    move.on_source("UPDATE t SET v=0 WHERE id=5")
    with pytest.raises(TimedOut, match="did not get from"):
        move.vdiff(filtered_replication_wait_time=0.5)
    with move.connect_target() as target:
        kept = show.last(target, KEYSPACE, WORKFLOW)
        assert kept is not None
        assert (kept.state, kept.has_mismatch) == ("error", False)
        assert "did not get from" in kept.error
        sidecar.set_state(target, KEYSPACE, WORKFLOW, StreamState.RUNNING)
    move.start_stream()
    report = run_vdiff(move.source.login, move.target.login, KEYSPACE, WORKFLOW, uuid=kept.uuid)
    assert counters(report) == (3000, 0, 0, 0)


def test_a_late_stream_is_waited_for(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    with move.connect_target() as blocker:
        # The applier takes this row before it writes anything.
        blocker.execute("START TRANSACTION")
        blocker.query(f"SELECT * FROM {sidecar.SCHEMA}.vreplication FOR UPDATE")
        move.on_source("UPDATE t SET v=0 WHERE id=5", "DELETE FROM t WHERE id=6", "INSERT INTO t VALUES (-1,0)")
        release = threading.Timer(1.5, lambda: blocker.execute("COMMIT"))
        release.start()
        began = time.monotonic()
        assert counters(move.vdiff()) == (3000, 0, 0, 0)
        assert time.monotonic() - began > 1
        release.join()


def test_a_stream_that_stops_while_it_is_waited_for_is_an_error(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    move.stop_stream()
    move.on_source("UPDATE t SET v=0 WHERE id=5")

    def stop_it() -> None:
        with move.connect_target() as target:
            sidecar.set_state(target, KEYSPACE, WORKFLOW, StreamState.ERROR, "duplicate key")

    timer = threading.Timer(0.5, stop_it)
    timer.start()
    with pytest.raises(NotRunning, match="is Error, a VDiff needs it to be Running: duplicate key"):
        move.vdiff()
    timer.join()


def test_records_tell_the_newest_and_can_be_deleted(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    first = move.vdiff()
    move.on_target("UPDATE t SET v=0 WHERE id=5")
    second = move.vdiff()
    with move.connect_target() as target:
        found = latest(target, KEYSPACE, WORKFLOW)
        assert found is not None
        assert (found.uuid, found.state, found.has_mismatch, found.rows_compared) == (
            second.uuid,
            "completed",
            True,
            3000,
        )
        assert found.age < 60
        assert [r.uuid for r in show.every(target, KEYSPACE, WORKFLOW)] == [second.uuid, first.uuid]
        assert show.one(target, KEYSPACE, WORKFLOW, second.uuid) == second
        assert show.delete(target, KEYSPACE, WORKFLOW, first.uuid) == 1
        assert show.delete(target, KEYSPACE, WORKFLOW, "all") == 1
        assert latest(target, KEYSPACE, WORKFLOW) is None
        assert target.value(f"SELECT COUNT(*) FROM {sidecar.SCHEMA}.vdiff_table") == 0


def test_what_cannot_be_compared_is_refused(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    with pytest.raises(Refused, match="does not move nosuch"):
        run_vdiff(move.source.login, move.target.login, KEYSPACE, WORKFLOW, tables=["nosuch"])
    done = move.vdiff()
    with pytest.raises(Refused, match="is completed"):
        run_vdiff(move.source.login, move.target.login, KEYSPACE, WORKFLOW, uuid=done.uuid)
    with pytest.raises(Usage, match="--limit must be a positive value"):
        VDiffOptions(limit=0)
    move.on_target("ALTER TABLE t DROP COLUMN v")
    with pytest.raises(Refused, match="has no column v"):
        move.vdiff()


def test_only_one_process_runs_a_vdiff(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    with move.connect_target() as target:
        record = records.create(
            target, KEYSPACE, WORKFLOW, "4b3f9b7e-0000-0000-0000-000000000001", {"t": 1}, VDiffOptions()
        )
        with (
            records.exclusive(target, record.uuid),
            pytest.raises(LockHeld, match="is being run by another process"),
        ):
            run_vdiff(move.source.login, move.target.login, KEYSPACE, WORKFLOW, uuid=record.uuid)
