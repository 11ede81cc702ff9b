"""What keeps a stream from going on is shown with its reason for as long as it lasts, and no longer."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable

import jsonschema
import pytest
from pymysql.constants import COMMAND

from executor.cli.show import to_document, to_text
from executor.native.stream import trouble
from executor.native.stream.trouble import TroubleBoard, reported
from executor.native.waiting import wait_until
from planner.cluster import StreamState
from schemas import load
from tests.cluster import moving
from tests.cluster.moving import ALIAS, NAME, SOURCE, TARGET, Moving

pair, move = moving.pair, moving.move


def until(condition: Callable[[], object], what: str) -> None:
    """Asks four times a second: InnoDB looks at its transactions anew only when nobody has asked for 0.1 s."""
    wait_until(lambda: bool(condition()), moving.DEADLINE, what, interval=0.25)


def shown(move: Moving) -> str:
    """The message of the move in the JSON of `movetables show`, which fits its schema."""
    document = to_document(move.backend.observe())
    jsonschema.validate(document, load("show"))
    found = [str(m["message"]) for m in document["moves"] if m["workflow"] == f"{TARGET}.{NAME}"]
    return found[0] if found else "no such move"


def begin(move: Moving) -> None:
    move.tables("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)", "INSERT INTO t (v) VALUES (1)")
    move.running()
    until(lambda: shown(move) == "", "nothing to be wrong")


def over(move: Moving) -> None:
    """What was wrong is shown no more, and nothing was lost."""
    until(lambda: shown(move) == "", "the message to go")
    assert reported(move.pair.cluster.topology.connection()) == ()
    move.settled_equal()


@pytest.mark.parametrize("side", [SOURCE, TARGET])
def test_a_server_that_is_away(move: Moving, side: str) -> None:
    begin(move)
    move.pair.cluster.local.stop_tablet(ALIAS[side])
    try:
        until(lambda: re.search(r"tried \d+ times", shown(move)), "two tries")
        message = shown(move)
        assert f"{ALIAS[side]} (" in message
        assert "does not answer" in message
        assert "next try at 20" in message
        cluster = move.backend.observe()
        text = to_text(cluster)
        assert message.partition(";")[0] in text
        (seen,) = (*cluster.workflows, *cluster.unreadable)
        assert (seen.name, seen.tables) == (NAME, ("t",))
        assert seen.state in (StreamState.RUNNING, StreamState.COPYING)  # as it was some instants before
        until(lambda: lag(move) > 2, "the lag to grow")
        if side == TARGET:
            assert cluster.workflows == ()
            assert f"Moves into {TARGET} cannot be read" in text
        else:
            record = move.record()
            assert record is not None
            assert (record.state, record.message) == (StreamState.RUNNING, "")
    finally:
        move.pair.start(side)
    over(move)


def lag(move: Moving) -> float:
    cluster = move.backend.observe()
    (found,) = (w.lag for w in (*cluster.workflows, *cluster.unreadable))
    assert found is not None
    return found


def test_a_row_of_the_target_that_somebody_locks(move: Moving) -> None:
    begin(move)
    with move.target() as holder:
        holder.execute("SET @movetables_apply=1")
        holder.execute("START TRANSACTION")
        holder.execute("UPDATE t SET v=v WHERE id=1")
        move.on(SOURCE, "UPDATE t SET v=7654321 WHERE id=1")
        until(lambda: "waits for a lock" in shown(move), "the lock to show")
        message = shown(move)
        assert f"connection {holder.thread_id} for" in message
        assert f"{ALIAS[TARGET]} has been at a statement for" in message
        assert "7654321" not in message, "values of rows are not shown"
        holder.execute("ROLLBACK")
    over(move)


def test_a_table_of_the_target_that_somebody_locks_while_it_is_copied(move: Moving) -> None:
    move.tables("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)", "INSERT INTO t (v) VALUES (1)")
    move.created()
    with move.target() as holder:
        holder.execute("LOCK TABLES t READ")
        move.run_streams()
        until(lambda: "waits for a lock" in shown(move), "the lock to show")
        assert move.state() is StreamState.COPYING
        holder.execute("UNLOCK TABLES")
    move.wait_for(StreamState.RUNNING)
    over(move)


def test_a_lock_that_is_waited_for_again_and_again(move: Moving) -> None:
    begin(move)
    with move.target() as holder:
        before = holder.value("SELECT @@global.innodb_lock_wait_timeout")
        holder.execute("SET GLOBAL innodb_lock_wait_timeout=1")
        try:
            move.stop_streams()
            holder.execute("SET @movetables_apply=1")
            holder.execute("START TRANSACTION")
            holder.execute("UPDATE t SET v=v WHERE id=1")
            move.on(SOURCE, "UPDATE t SET v=v+1 WHERE id=1")
            move.run_streams()
            until(lambda: re.search(r"tried \d+ times", shown(move)), "two tries")
            assert "Lock wait timeout exceeded" in shown(move)
            holder.execute("ROLLBACK")
        finally:
            holder.execute("ROLLBACK")
            holder.execute(f"SET GLOBAL innodb_lock_wait_timeout={before}")
    over(move)


def test_that_nobody_runs_a_stream(move: Moving) -> None:
    begin(move)
    move.stop_streams()
    until(lambda: "no process runs this stream" in shown(move), "that nobody runs it to show")
    move.run_streams()
    over(move)


def test_what_a_killed_process_told_is_taken_back_by_the_next_one(
    move: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(move)
    move.stop_streams()
    pid = move.pair.forks.start("streams", move.pair.inventory, move.move)
    move.pair.cluster.local.stop_tablet(ALIAS[SOURCE])
    try:
        until(lambda: "tried" in shown(move), "the trouble")
        os.kill(pid, signal.SIGKILL)
        assert move.pair.forks.wait(pid) == -signal.SIGKILL
        monkeypatch.setattr(trouble, "LATE_SECONDS", -60.0)
        assert "is `movetables serve` running?" in shown(move)
    finally:
        move.pair.start(SOURCE)
    move.run_streams()
    over(move)


def test_what_was_told_of_a_stream_that_is_stopped_or_gone_is_taken_back(move: Moving) -> None:
    begin(move)
    move.stop_streams()
    board = TroubleBoard(move.pair.cluster.topology)
    for workflow in (NAME, "gone"):
        board.report(trouble.Trouble(TARGET, workflow, "planted", time.time(), 1, time.time()))
    move.perform("stop_workflow")
    assert "planted" not in shown(move)
    move.run_streams()
    until(lambda: reported(move.pair.cluster.topology.connection()) == (), "both to be taken back")


def test_a_topology_made_by_an_older_version_has_no_place_for_trouble(move: Moving) -> None:
    begin(move)
    with move.pair.cluster.topology.connection() as connection:
        connection.execute("DROP TABLE movetables_topo.stream_trouble")
    assert shown(move) == ""
    move.pair.cluster.local.stop_tablet(ALIAS[SOURCE])
    try:
        until(lambda: "tried" in shown(move), "the trouble")
    finally:
        move.pair.start(SOURCE)
    over(move)


def test_statements_of_other_clients_are_cut_in_the_middle_of_a_character(move: Moving) -> None:
    begin(move)
    sleepers = [move.target() for _ in range(4)]
    try:
        for n, sleeper in enumerate(sleepers):
            statement = f"SELECT SLEEP(60) /* {'x' * n}{'😀' * 40} */"
            sleeper.raw._execute_command(COMMAND.COM_QUERY, statement)  # type: ignore[attr-defined]
        with move.target() as target:
            until(lambda: sum("SLEEP" in str(row["Info"]) for row in target.processes()) == 4, "all of them to run")
        assert shown(move) == ""
    finally:
        with move.target() as target:
            for sleeper in sleepers:
                target.execute(f"KILL {sleeper.thread_id}")
                sleeper.raw._force_close()  # type: ignore[attr-defined]
    move.settled_equal()
