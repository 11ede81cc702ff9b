"""A stream that is killed, cut off or run twice goes on where its position says, and both sides become equal."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import pytest

from executor.native.servers import Connection, ServerError
from executor.native.stream import copy, reach, silence
from executor.native.stream.copy import read_copy_states
from executor.native.waiting import wait_until
from planner.cluster import StreamState
from tests.cluster import moving
from tests.cluster.moving import NAME, SOURCE, TARGET, Moving
from tests.cluster.test_stream_copy import SHAPES, finish, make_tables, writers

ER_NO_SUCH_THREAD = 1094

pair, move = moving.pair, moving.move

SOME = {name: SHAPES[name] for name in ("signed", "words", "unique", "binaries")}


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a few rows, and a stall at a marker after every three of them."""
    monkeypatch.setattr(copy, "CHUNK_BYTES", 2000)
    monkeypatch.setattr(copy, "BATCH_SECONDS", 0.0)


def test_killed_again_and_again_while_copying_and_following(move: Moving) -> None:
    make_tables(move, SOME)
    started = writers(move, SOME, 2)
    move.created()
    forks, rng = move.pair.forks, random.Random(3)
    for point in ("stream:chunk_written", "stream:chunk_written#3", "stream:chunks_copied"):
        pid = forks.start("streams", move.pair.inventory, move.move, point)
        assert forks.wait(pid) == -signal.SIGKILL
    assert move.state() is StreamState.COPYING
    for _ in range(8):
        pid = forks.start("streams", move.pair.inventory, move.move)
        time.sleep(rng.random())
        os.kill(pid, signal.SIGKILL)
        assert forks.wait(pid) == -signal.SIGKILL
    finish(started)
    move.run_streams()
    move.settled_equal()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("side", [SOURCE, TARGET])
def test_killed_connections_are_made_again(move: Moving, side: str) -> None:
    make_tables(move, SOME, 200)
    move.created()
    move.run_streams()
    for _ in range(4):
        with move.pair.connect(side) as killer:
            rows = killer.query(
                "SELECT id FROM information_schema.processlist WHERE user='movetables' AND id<>CONNECTION_ID()"
            )
            for row in rows:
                killer.execute(f"KILL {row['id']}") if row["id"] in alive(killer) else None
        move.on(SOURCE, "INSERT INTO words (id) VALUES (UUID())", "DELETE FROM signed LIMIT 3")
    move.settled_equal()


def alive(connection: Connection) -> set[int]:
    return {row["id"] for row in connection.query("SELECT id FROM information_schema.processlist")}


@pytest.mark.parametrize("side", [SOURCE, TARGET])
def test_a_server_that_was_restarted(move: Moving, side: str) -> None:
    make_tables(move, SOME)
    move.running()
    move.pair.restart(side)
    move.on(SOURCE, "INSERT INTO words (id) VALUES ('after')", "DELETE FROM signed LIMIT 3")
    move.settled_equal()


def test_a_target_that_is_read_only_for_a_while(move: Moving) -> None:
    make_tables(move, SOME)
    move.running()
    with move.target() as target:
        target.execute(target.flavor.replication.read_only)
        move.on(SOURCE, "INSERT INTO words (id) VALUES ('while')", "DELETE FROM signed LIMIT 3")
        if not target.flavor.mariadb:  # there, our own user may write to what is read-only
            moving.until(lambda: lagging(move), "the stream to wait")
            assert move.state() is StreamState.RUNNING
        target.execute("SET GLOBAL read_only=0")  # and with it super_read_only
    move.settled_equal()


def lagging(move: Moving) -> bool:
    with move.target() as target:
        return bool(
            target.value("SELECT UNIX_TIMESTAMP(NOW(6)) - time_updated > 2 FROM _movetables.vreplication LIMIT 1")
        )


@pytest.mark.parametrize("point", ["stream:batch_written", "stream:batch_committed", "stream:spilled"])
def test_killed_around_the_commit_of_a_batch(move: Moving, point: str) -> None:
    # A computed column: such tables get SQL, not events.
    move.tables(
        "CREATE TABLE t (id INT PRIMARY KEY, v INT, g INT AS (v + 1))",
        "INSERT INTO t (id, v) SELECT seq, seq FROM seq_1_to_300",
    )
    move.running()
    move.stop_streams()
    statements = ["UPDATE t SET v=v+1 WHERE id % 2", "DELETE FROM t WHERE id % 3=0", "UPDATE t SET id=-id WHERE id>200"]
    if point == "stream:spilled":
        statements = [
            "START TRANSACTION",
            "INSERT INTO t (id, v) SELECT seq, seq FROM seq_1000_to_99999",
            *statements,
            "COMMIT",
        ]
    move.on(SOURCE, *statements)
    move.killed_at("streams", point)
    move.run_streams()
    move.settled_equal()


def test_two_runners_at_once_apply_nothing_twice(move: Moving) -> None:
    make_tables(move, SOME)
    move.created()
    forks = move.pair.forks
    pids = [forks.start("streams", move.pair.inventory, move.move) for _ in range(2)]
    started = writers(move, SOME, 1)
    move.wait_for(StreamState.RUNNING)
    finish(started)
    move.settled_equal()
    os.kill(pids[0], signal.SIGKILL)
    forks.wait(pids[0])
    move.on(SOURCE, "INSERT INTO words (id) VALUES ('after')")
    move.settled_equal()
    os.kill(pids[1], signal.SIGKILL)
    forks.wait(pids[1])


@pytest.mark.usefixtures("small_chunks")
def test_stopped_while_copying_and_started_again(move: Moving) -> None:
    make_tables(move, SOME, 200)
    move.created()
    move.run_streams()
    moving.until(lambda: copied_rows(move) > 0, "the first rows")
    move.perform("stop_workflow")
    with move.target() as target:
        before = target.value("SELECT COUNT(*) FROM signed")
        position = move.record()
    assert position is not None
    move.on(SOURCE, "DELETE FROM signed", "INSERT INTO signed (id) VALUES (77)", "DELETE FROM words LIMIT 10")
    assert move.state() is StreamState.STOPPED
    assert before >= 0
    move.perform("start_workflow")
    move.settled_equal()


def copied_rows(move: Moving) -> int:
    record = move.record()
    assert record is not None
    with move.target() as target:
        return sum(state.rows_copied for state in read_copy_states(target, record.id))


def test_a_row_deleted_between_the_crash_and_the_resume_does_not_come_back(move: Moving) -> None:
    move.tables("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t SELECT seq FROM seq_1_to_100")
    move.created()
    move.killed_at("streams", "stream:chunks_copied")
    with move.target() as target:
        assert target.value("SELECT COUNT(*) FROM t") == 100
    move.on(SOURCE, "DELETE FROM t WHERE id <= 50", "UPDATE t SET id=1 WHERE id=100")
    move.run_streams()
    move.settled_equal()


def test_a_table_emptied_while_it_is_copied(move: Moving) -> None:
    move.tables(
        "CREATE TABLE a (id INT PRIMARY KEY)",
        "CREATE TABLE b (id INT PRIMARY KEY)",
        "CREATE TABLE c (id INT PRIMARY KEY)",
        "INSERT INTO a SELECT seq FROM seq_1_to_100",
        "INSERT INTO b SELECT seq FROM seq_1_to_100",
    )
    move.created()
    move.killed_at("streams", "stream:chunks_copied")
    move.on(SOURCE, "DELETE FROM a", "DELETE FROM b")
    move.run_streams()
    move.settled_equal()


def test_the_streams_end_when_they_are_told_to(move: Moving) -> None:
    make_tables(move, SOME)
    move.running()
    move.stop_streams()
    assert not [thread for thread in threading.enumerate() if thread.name == f"stream {TARGET}.{NAME}"]
    assert move.state() is StreamState.RUNNING


@pytest.mark.servers("mysql")
def test_transactions_that_were_added_to_the_history_by_hand_do_not_end_the_stream(
    move: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "CHECK_SECONDS", 0.2)
    move.tables("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    move.running()
    move.catch_up()
    with move.source() as source:
        source.execute("SET GLOBAL gtid_purged='+11111111-2222-3333-4444-555555555555:1-7'")
        asked = wait_until(
            lambda: source.value("SELECT created_at FROM _movetables.marker WHERE purpose=%s", [silence.PURPOSE]),
            30,
            "the stream to ask for what it was not sent",
        )
    moving.until(lambda: (found := move.record()) and found.time_heartbeat > asked + 1, "the stream to go on looking")
    move.on(SOURCE, "INSERT INTO t VALUES (2)")
    with move.target() as target:
        moving.until(lambda: target.value("SELECT COUNT(*) FROM t") == 2, "the next row to arrive")


@pytest.mark.parametrize("connection", ["cut", "kept"])
def test_a_source_whose_history_begins_anew_is_an_error(
    move: Moving, monkeypatch: pytest.MonkeyPatch, connection: str
) -> None:
    monkeypatch.setattr(reach, "LACKS_SECONDS", 1.0)
    monkeypatch.setattr(silence, "CHECK_SECONDS", 1.0)
    move.tables("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1), (2), (3)")
    move.running()
    move.catch_up()
    with move.source() as source:
        source.execute("RESET MASTER" if source.flavor.mariadb else "RESET BINARY LOGS AND GTIDS")
        source.execute("DELETE FROM t WHERE id=2")
        for thread in source.processes():
            if connection == "cut" and str(thread["Command"]).startswith("Binlog Dump"):
                try:
                    source.execute(f"KILL {thread['Id']}")
                except ServerError as error:
                    if error.errno != ER_NO_SUCH_THREAD:  # it noticed by itself meanwhile
                        raise
    message = move.wait_for_error()
    assert "copied again" in message
    with move.target() as target:
        assert target.value("SELECT COUNT(*) FROM t") == 3
