"""Prepared XA transactions: their rows are in the binlog long before it is known whether they count."""

from __future__ import annotations

import pytest

from executor.errors import TimedOut
from executor.native.servers import Connection, ServerError
from executor.native.stream import stream
from planner.cluster import StreamState
from tests.cluster import moving
from tests.cluster.moving import SOURCE, TARGET, Moving, until

pair, move = moving.pair, moving.move


def tables(move: Moving) -> None:
    move.tables(
        "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)", timeout=3.0
    )


def prepared(move: Moving, name: str, *statements: str, leave: bool) -> Connection:
    """Prepares a transaction; its client stays or goes."""
    connection = move.source()
    for statement in (f"XA START '{name}'", *statements, f"XA END '{name}'", f"XA PREPARE '{name}'"):
        connection.execute(statement)
    if leave:
        connection.close()
    return connection


def decide(move: Moving, verb: str, name: str) -> None:
    """From another connection, once the server has noticed that the first is gone."""
    with move.source() as other:
        until(lambda: name in names(other), f"{name} to be left")
        until(lambda: _decided(other, f"XA {verb} '{name}'"), f"{name} to be decided")


def _decided(connection: Connection, statement: str) -> bool:
    try:
        connection.execute(statement)
    except ServerError as error:
        if error.errno != 1397:  # XAER_NOTA: it is still another connection's
            raise
        return False
    return True


def names(connection: Connection) -> list[str]:
    rows = connection.query("XA RECOVER")
    return [row["data"].decode() if isinstance(row["data"], bytes) else row["data"] for row in rows]


@pytest.fixture(autouse=True)
def nothing_prepared(pair: moving.Pair) -> None:
    """What a failed test left would hold up every later one."""
    with pair.connect(SOURCE, None) as source:
        for name in names(source):
            source.execute(f"XA ROLLBACK '{name}'")


def test_one_that_is_older_than_the_copy_is_waited_for(move: Moving) -> None:
    tables(move)
    holder = prepared(move, "old", "UPDATE t SET v=20 WHERE id=2", "INSERT INTO t VALUES (9, 9)", leave=False)
    move.created()
    move.run_streams()
    with move.source() as source:
        until(
            lambda: source.value("SELECT COUNT(*) FROM _movetables.marker WHERE purpose='copy'") == 1,
            "the stream to begin",
        )
    assert move.state() is StreamState.COPYING
    holder.execute("XA COMMIT 'old'")
    holder.close()
    move.settled_equal()
    with move.target() as target:
        assert target.value("SELECT SUM(v) FROM t") == 1 + 20 + 3 + 9


def test_one_that_nobody_decides_is_named(move: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "XA_SECONDS", 1.0)
    tables(move)
    holder = prepared(move, "forgotten", "INSERT INTO t VALUES (9, 9)", leave=False)
    move.created()
    move.run_streams()
    message = move.wait_for_error()
    assert "('forgotten')" in message
    assert "XA RECOVER" in message
    holder.execute("XA ROLLBACK 'forgotten'")
    holder.close()
    move.perform("start_workflow")
    move.settled_equal()


def test_the_stream_starts_again_between_the_parts(move: Moving) -> None:
    tables(move)
    move.running()
    prepared(move, "kept", "UPDATE t SET v=20 WHERE id=2", "INSERT INTO t VALUES (8, 8)", leave=True)
    prepared(move, "dropped", "UPDATE t SET v=30 WHERE id=3", "INSERT INTO t VALUES (9, 9)", leave=True)
    move.on(SOURCE, "UPDATE t SET v=10 WHERE id=1")
    with move.target() as target:
        until(lambda: target.value("SELECT v FROM t WHERE id=1") == 10, "what came later")
        assert target.value("SELECT COUNT(*) FROM t") == 3
    move.stop_streams()
    move.on(SOURCE, "UPDATE t SET v=11 WHERE id=1")
    move.run_streams()
    decide(move, "COMMIT", "kept")
    decide(move, "ROLLBACK", "dropped")
    move.settled_equal()
    with move.target() as target:
        assert target.value("SELECT SUM(v) FROM t") == 11 + 20 + 3 + 8


@pytest.mark.parametrize("leave", [False, True])
def test_writes_are_not_switched_over_one(move: Moving, leave: bool) -> None:
    tables(move)
    move.running()
    holder = prepared(move, "late", "INSERT INTO t VALUES (9, 9)", leave=leave)
    with pytest.raises(TimedOut):
        move.perform("switch_writes")
    assert move.topology().switching == ()
    assert move.fenced(SOURCE) == {False}
    if leave:
        decide(move, "COMMIT", "late")
    else:
        holder.execute("XA COMMIT 'late'")
        holder.close()
    move.perform("switch_writes")
    move.assert_writes_at(TARGET)
    with move.target() as target:
        assert target.value("SELECT COUNT(*) FROM t") == 4
