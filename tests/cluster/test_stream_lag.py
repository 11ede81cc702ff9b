"""The lag that is shown: small when nothing waits, and growing whenever the stream cannot have everything."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from executor.native import sidecar
from executor.native.binlog import positions
from executor.native.observe.workflows import lag_of
from planner.cluster import StreamState
from tests.cluster import moving
from tests.cluster.moving import ALIAS, NAME, SOURCE, TARGET, Moving

pair, move = moving.pair, moving.move


def lag(move: Moving) -> float:
    with move.target() as target:
        record = sidecar.stream(target, TARGET, NAME)
        assert record is not None
        found = lag_of(record, float(target.value("SELECT UNIX_TIMESTAMP(NOW(6))")))
    assert found is not None
    return found


def begin(move: Moving) -> None:
    move.tables("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)", "INSERT INTO t (v) VALUES (1)")
    move.on(SOURCE, "CREATE TABLE other (id INT AUTO_INCREMENT PRIMARY KEY, v INT)")
    move.running()
    moving.until(lambda: lag(move) < 2, "no lag")


def test_an_idle_source_is_not_behind(move: Moving) -> None:
    begin(move)
    before = move.record()
    assert before is not None
    moving.until(
        lambda: (r := move.record()) is not None and r.time_heartbeat > before.time_heartbeat + 2, "heartbeats"
    )
    assert 0 <= lag(move) < 2


def test_a_source_that_hangs_lets_the_lag_grow(move: Moving) -> None:
    begin(move)
    pid = move.pair.cluster.local.server_for(ALIAS[SOURCE]).pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        moving.until(lambda: lag(move) > 3, "the lag to grow")
    finally:
        os.kill(pid, signal.SIGCONT)
    moving.until(lambda: lag(move) < 2, "the lag to shrink")
    move.settled_equal()


def test_a_target_that_takes_nothing_lets_the_lag_grow(move: Moving) -> None:
    begin(move)
    with move.target() as holder:
        holder.execute("SET @movetables_apply=1")
        holder.execute("START TRANSACTION")
        holder.execute("UPDATE t SET v=v WHERE id=1")
        move.on(SOURCE, "UPDATE t SET v=v+1 WHERE id=1")
        moving.until(lambda: lag(move) > 3, "the lag to grow")
        move.on(SOURCE, "UPDATE t SET v=v+1 WHERE id=1")
        seen = lag(move)
        moving.until(lambda: lag(move) > seen + 1, "the lag to grow further")
        holder.execute("ROLLBACK")
    moving.until(lambda: lag(move) < 2, "the lag to shrink")
    move.settled_equal()


def test_a_stream_that_reads_old_changes_is_behind_however_fast_it_reads(
    move: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(move)
    move.stop_streams()
    monkeypatch.setattr("executor.native.binlog.transactions.TransactionReader.pending", lambda _self: False)
    for _ in range(50):
        move.on(SOURCE, "INSERT INTO t (v) VALUES (1)")
    with move.source() as source:
        moving.until(lambda: source.value("SELECT SLEEP(3)") == 0, "three seconds")
        goal = positions.parse(source.position())
    lags: list[float] = []
    move.run_streams()

    def caught_up() -> bool:
        record = move.record()
        assert record is not None
        there = positions.parse(record.pos).contains(goal)
        with move.target() as target:
            rows = target.value("SELECT COUNT(*) FROM t")
        if rows < 51 and not there:
            lags.append(lag(move))
        return there

    moving.until(caught_up, "the stream", timeout=30)
    assert all(found > 2 for found in lags), lags


def test_other_tables_traffic_moves_the_position_on(move: Moving) -> None:
    begin(move)
    stop = threading.Event()

    def write() -> None:
        with move.source() as source:
            while not stop.is_set():
                source.execute("INSERT INTO other (v) VALUES (1)")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with move.source() as source:
            for _ in range(5):
                goal = positions.parse(source.position())
                moving.until(
                    lambda goal=goal: (r := move.record()) is not None and positions.parse(r.pos).contains(goal),  # type: ignore[misc]
                    "the position",
                    timeout=5,
                )
                assert lag(move) < 3
    finally:
        stop.set()
        writer.join()


def test_a_flood_of_tiny_transactions_is_followed_in_little_memory(move: Moving) -> None:
    """As fast as a server can commit them, without a client between."""
    move.tables("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t SELECT seq, 0 FROM seq_1_to_1000")
    move.created()
    pid = move.pair.forks.start("streams", move.pair.inventory, move.move)
    try:
        move.wait_for(StreamState.RUNNING)
        before = peak_memory(pid)
        move.on(
            SOURCE,
            "CREATE PROCEDURE flood() BEGIN DECLARE i INT DEFAULT 0; "
            "WHILE i < 20000 DO UPDATE t SET v=v+1 WHERE id=i%1000+1; SET i=i+1; END WHILE; END",
            "CALL flood()",
        )
        move.settled_equal()
        assert peak_memory(pid) < before + 40_000
    finally:
        os.kill(pid, signal.SIGKILL)
        move.pair.forks.wait(pid)


def peak_memory(pid: int) -> int:
    """The largest resident memory that a process has had, in KiB."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
