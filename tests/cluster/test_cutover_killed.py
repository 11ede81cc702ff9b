"""A cutover killed anywhere, once or twice, is settled: one side takes writes, and nothing is lost or left."""

from __future__ import annotations

import pytest

from executor.errors import Refused
from executor.native import sidecar
from executor.native.cutover.switch import settle
from planner.cluster import StreamState
from tests.cluster import moving
from tests.cluster.moving import NAME, SOURCE, TARGET, Moving, points

pair, move = moving.pair, moving.move

BEFORE = points("cutover", ["intent", "fenced", "caught_up", "stopped", "reverse_created"])
AFTER = points(
    "cutover",
    ["journaled", "unfenced", "routed", "reverse_started", "frozen", "finished", "journal_deleted"],
)
TWICE = [(first, "cutover:undone") for first in BEFORE[1::3]] + [("cutover:journaled", second) for second in AFTER[1:]]


def begin(move: Moving) -> None:
    move.tables(
        "CREATE TABLE account (id INT AUTO_INCREMENT PRIMARY KEY, v INT)",
        "CREATE TABLE entry (a INT, b VARCHAR(20), v INT, PRIMARY KEY (a, b))",
        "INSERT INTO account (v) SELECT seq FROM seq_1_to_50",
        "INSERT INTO entry SELECT seq, 'x', seq FROM seq_1_to_50",
        timeout=10.0,
    )
    move.running()


def write(move: Moving, keyspace: str) -> None:
    move.on(
        keyspace,
        "INSERT INTO account (v) VALUES (1),(2)",
        "DELETE FROM account ORDER BY id LIMIT 1",
        "UPDATE entry SET b='y' WHERE a=(SELECT MAX(id) FROM account) % 50",
    )


def assert_never_both_open(move: Moving) -> None:
    assert {True} in (move.fenced(SOURCE), move.fenced(TARGET))


def settle_here(move: Moving) -> None:
    settle(move.access, TARGET, NAME)
    settle(move.access, SOURCE, f"{NAME}_reverse")


def switched(move: Moving) -> str:
    """The keyspace that takes writes once everything is settled; all there is agrees with it."""
    side = TARGET if move.fenced(TARGET) == {False} else SOURCE
    write(move, side)
    if side == SOURCE:
        move.wait_for(StreamState.RUNNING)
    move.assert_writes_at(side)
    return side


@pytest.mark.parametrize("point", [*BEFORE, *AFTER])
def test_killed_there_and_back(move: Moving, point: str) -> None:
    begin(move)
    for step, old, new in (("switch_writes", SOURCE, TARGET), ("reverse_writes", TARGET, SOURCE)):
        write(move, old)
        move.killed_at(step, point)
        assert_never_both_open(move)
        settle_here(move)
        assert switched(move) == (new if point in AFTER else old)
        move.perform(step)
        assert switched(move) == new


@pytest.mark.parametrize(("first", "second"), TWICE)
def test_killed_again_while_it_is_settled(move: Moving, first: str, second: str) -> None:
    begin(move)
    for step, old, new in (("switch_writes", SOURCE, TARGET), ("reverse_writes", TARGET, SOURCE)):
        write(move, old)
        move.killed_at(step, first)
        move.killed_at("settle", second)
        assert_never_both_open(move)
        move.perform(step)
        assert switched(move) == new


def test_performing_again_after_a_kill_does_not_need_settle(move: Moving) -> None:
    begin(move)
    move.killed_at("switch_writes", "cutover:routed")
    move.perform("switch_writes")
    assert switched(move) == TARGET
    move.killed_at("reverse_writes", "cutover:stopped")
    move.perform("reverse_writes")
    assert switched(move) == SOURCE


def test_a_killed_switch_may_be_followed_by_its_opposite(move: Moving) -> None:
    begin(move)
    move.killed_at("switch_writes", "cutover:journaled")
    move.perform("reverse_writes")
    assert switched(move) == SOURCE
    move.killed_at("switch_writes", "cutover:fenced")
    settle_here(move)
    assert switched(move) == SOURCE


def test_a_stale_journal_row_is_refused(move: Moving) -> None:
    begin(move)
    row = f"REPLACE INTO {sidecar.SCHEMA}.journal VALUES ('{TARGET}', '{NAME}', '{{\"position\": \"\"}}', 0)"
    move.on(SOURCE, row)
    with pytest.raises(Refused, match="previous run"):
        move.perform("switch_writes")
    assert move.fenced(SOURCE) == {False}
    assert move.topology().cutovers == ()
