"""Complete and cancel leave nothing behind, also when they, or create, are killed and performed again."""

from __future__ import annotations

import pytest

from executor.native.servers import Connection
from executor.native.stream.layout import describe_tables
from planner.cluster import StreamState
from planner.document import SourceTables
from tests.cluster import moving
from tests.cluster.moving import DATABASE, NAME, SOURCE, TARGET, Moving, points

pair, move = moving.pair, moving.move


def begin(move: Moving, **changes: object) -> None:
    move.tables(
        "CREATE TABLE parent (id INT PRIMARY KEY, v INT)",
        "CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id))",
        "INSERT INTO parent SELECT seq, seq FROM seq_1_to_20",
        "INSERT INTO child SELECT seq, seq FROM seq_1_to_20",
        **changes,
    )


def switched(move: Moving, **changes: object) -> None:
    begin(move, **changes)
    move.running()
    move.perform("switch_reads")
    move.perform("switch_writes")
    move.catch_up(TARGET, SOURCE, f"{NAME}_reverse")


def names(connection: Connection, keyspace: str) -> list[str]:
    with connection:
        return [table.name for table in describe_tables(connection, DATABASE[keyspace])]


@pytest.mark.parametrize("keep_rules", [False, True])
@pytest.mark.parametrize("source_tables", list(SourceTables))
def test_complete(move: Moving, source_tables: SourceTables, keep_rules: bool) -> None:
    switched(move, source_tables=source_tables, keep_routing_rules=keep_rules)
    move.perform("complete")
    move.assert_nothing_left()
    assert names(move.target(), TARGET) == ["child", "parent"]
    left = {SourceTables.DROP: [], SourceTables.RENAME: ["_child_old", "_parent_old"]}
    assert names(move.source(), SOURCE) == left.get(source_tables, ["child", "parent"])
    assert bool(move.topology().routing_rules) == keep_rules
    assert [done.name for done in move.topology().completed] == [NAME]
    move.on(TARGET, "INSERT INTO parent VALUES (100, 1)", "DELETE FROM child")


@pytest.mark.parametrize("point", points("complete", ["reverse_stopped", "tables", "recorded", "streams"]))
@pytest.mark.parametrize("source_tables", [SourceTables.DROP, SourceTables.RENAME])
def test_complete_killed_and_performed_again(move: Moving, point: str, source_tables: SourceTables) -> None:
    switched(move, source_tables=source_tables)
    move.killed_at("complete", point)
    move.perform("complete")
    move.assert_nothing_left()
    assert move.topology().routing_rules == ()
    assert names(move.source(), SOURCE) == ([] if source_tables is SourceTables.DROP else ["_child_old", "_parent_old"])
    assert names(move.target(), TARGET) == ["child", "parent"]
    assert [done.name for done in move.topology().completed] == [NAME]


def assert_cancelled(move: Moving) -> None:
    move.assert_nothing_left()
    assert move.topology().routing_rules == ()
    assert names(move.target(), TARGET) == []
    with move.source() as source:
        assert source.value("SELECT COUNT(*) FROM child") == 20
        source.execute("INSERT INTO parent VALUES (100, 1)")


@pytest.mark.parametrize("state", ["created", "copying", "running", "error", "reads_switched", "reversed"])
def test_cancel(move: Moving, state: str) -> None:
    begin(move)
    if state == "created":
        move.perform("create_workflow")
    elif state == "copying":
        move.created()
    else:
        move.running()
    if state == "error":
        move.on(SOURCE, "TRUNCATE TABLE child", "INSERT INTO child SELECT seq, seq FROM seq_1_to_20")
        move.wait_for_error()
    if state in ("reads_switched", "reversed"):
        move.perform("switch_reads")
    if state == "reversed":
        move.perform("switch_writes")
        move.perform("reverse_writes")
    move.perform("cancel")
    assert_cancelled(move)


@pytest.mark.parametrize("point", points("cancel", ["stopped", "tables", "rules"]))
def test_cancel_killed_and_performed_again(move: Moving, point: str) -> None:
    begin(move)
    move.running()
    move.killed_at("cancel", point)
    move.perform("cancel")
    assert_cancelled(move)


@pytest.mark.parametrize("point", points("create", ["stream", "rules", "tables"]))
@pytest.mark.parametrize("then", ["create_workflow", "cancel"])
def test_create_killed(move: Moving, point: str, then: str) -> None:
    begin(move)
    move.killed_at("create_workflow", point)
    move.perform(then)
    if then == "cancel":
        assert_cancelled(move)
        return
    assert move.fenced(TARGET) == {True}
    move.perform("start_workflow")
    move.run_streams()
    move.settled_equal()


def test_a_cancelled_move_may_be_created_again(move: Moving) -> None:
    begin(move)
    move.running()
    move.perform("cancel")
    move.on(SOURCE, "DELETE FROM child WHERE id=1")
    move.created()
    move.wait_for(StreamState.RUNNING)
    move.settled_equal()
