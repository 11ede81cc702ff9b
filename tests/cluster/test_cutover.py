"""Writes move to the other side and back without losing one, or everything is as it was."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from executor.errors import MovetablesError, Refused, TimedOut
from executor.native import sidecar
from executor.native.cutover import switch
from executor.native.cutover.fence import standing
from executor.native.cutover.switch import settle
from executor.native.flavor import FENCE_ERRNO
from executor.native.servers import Connection, ServerError
from planner.cluster import StreamState
from planner.document import OnDdl
from tests.cluster import moving
from tests.cluster.moving import DATABASE, NAME, SOURCE, TARGET, Moving, until

pair, move = moving.pair, moving.move

ER_NO_SUCH_TABLE = 1146
ACCOUNTS, EACH = 8, 1000


def begin(move: Moving, **changes: object) -> None:
    move.tables(
        "CREATE TABLE account (id INT AUTO_INCREMENT PRIMARY KEY, balance INT NOT NULL)",
        "CREATE TABLE entry (id BIGINT AUTO_INCREMENT PRIMARY KEY, who INT, n INT, UNIQUE KEY (who, n))",
        f"INSERT INTO account (balance) SELECT {EACH} FROM seq_1_to_{ACCOUNTS}",
        **{"timeout": 15.0} | changes,
    )
    move.running()


class Client(threading.Thread):
    """Moves money and keeps books in one transaction; goes to the other side when the fence refuses it."""

    def __init__(self, move: Moving, number: int) -> None:
        super().__init__(daemon=True)
        self.stop = threading.Event()
        self.acknowledged: list[int] = []
        self.error: BaseException | None = None
        self._number = number
        self._rng = random.Random(number)
        self._sides = [move.source(), move.target()]

    def run(self) -> None:
        n = 0
        try:
            while not self.stop.is_set():
                n += 1
                while not self._write(n):
                    self._sides.reverse()
                self.acknowledged.append(n)
        except Exception as error:  # noqa: BLE001 - the test raises it
            self.error = error
        finally:
            for connection in self._sides:
                connection.close()

    def _write(self, n: int) -> bool:
        one, two = self._rng.sample(range(1, ACCOUNTS + 1), 2)
        connection = self._sides[0]
        try:
            with connection.transaction():
                connection.execute(f"UPDATE account SET balance=balance-{n % 7} WHERE id={one}")
                connection.execute(f"INSERT INTO entry (who, n) VALUES ({self._number}, {n})")
                connection.execute(f"UPDATE account SET balance=balance+{n % 7} WHERE id={two}")
        except ServerError as error:
            if error.transient:
                return self._write(n)
            if error.errno in (FENCE_ERRNO, ER_NO_SUCH_TABLE):
                return False
            raise
        return True


def clients(move: Moving, count: int = 3) -> list[Client]:
    started = [Client(move, number) for number in range(count)]
    for client in started:
        client.start()
    return started


def progress(started: list[Client], writes: int = 15) -> None:
    """Waits until every client has been acknowledged `writes` more writes."""
    wanted = {client: len(client.acknowledged) + writes for client in started}
    moving.until(
        lambda: all(len(client.acknowledged) >= wanted[client] or client.error for client in started), "writes"
    )
    assert [client.error for client in started] == [None] * len(started)


def test_every_acknowledged_write_is_there_once_after_forward_back_forward_complete(move: Moving) -> None:
    begin(move, verify_before_switch=False)
    started = clients(move)
    for step in ("switch_writes", "reverse_writes", "switch_writes", "switch_reads", "complete"):
        progress(started)
        move.perform(step)
    progress(started)
    for client in started:
        client.stop.set()
    for client in started:
        client.join(30)
        assert client.error is None
    with move.target() as target:
        assert target.value("SELECT SUM(balance) FROM account") == ACCOUNTS * EACH
        for client in started:
            rows = target.query("SELECT n FROM entry WHERE who=%s ORDER BY n", [client._number])
            assert [row["n"] for row in rows] == client.acknowledged
    with move.source() as source:
        assert source.query("SHOW TABLES") == []


def test_the_targets_next_number_is_past_every_one_that_the_source_gave(move: Moving) -> None:
    begin(move)
    move.on(SOURCE, "INSERT INTO entry (id, who) VALUES (5000, 1)", "DELETE FROM entry")
    move.perform("switch_writes")
    with move.target() as target:
        target.execute("INSERT INTO entry (who) VALUES (1)")
        assert target.value("SELECT MAX(id) FROM entry") > 5000
        target.execute("INSERT INTO entry (id, who) VALUES (9000, 1)")
        target.execute("DELETE FROM entry")
    move.perform("reverse_writes")
    with move.source() as source:
        source.execute("INSERT INTO entry (who) VALUES (1)")
        assert source.value("SELECT MAX(id) FROM entry") > 9000


def test_a_lock_that_is_not_granted_changes_nothing(move: Moving) -> None:
    begin(move, timeout=2.0)
    with move.source() as holder:
        moving.hold_table(holder, "entry")
        with pytest.raises(TimedOut, match=f"connection {holder.thread_id} "):
            move.perform("switch_writes")
        with move.source() as other:
            other.execute("INSERT INTO entry (who) VALUES (77)")
        holder.execute("COMMIT")
    move.assert_writes_at(SOURCE)
    move.perform("switch_writes")
    move.assert_writes_at(TARGET)


def test_a_stopped_stream_undoes_the_switch(move: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(move)

    def stop() -> None:
        with move.target() as target:
            sidecar.set_state(target, TARGET, NAME, StreamState.STOPPED, "by an operator")

    monkeypatch.setattr(switch, "reached", at("cutover:fenced", stop))
    with pytest.raises(MovetablesError, match="by an operator"):
        move.perform("switch_writes")
    monkeypatch.undo()
    assert move.state() is StreamState.STOPPED
    move.perform("start_workflow")
    move.assert_writes_at(SOURCE)


def test_no_switch_begins_without_a_runner(move: Moving) -> None:
    begin(move, timeout=2.0)
    move.stop_streams()
    with pytest.raises(TimedOut, match="did not reach"):
        move.perform("switch_writes")
    assert move.fenced(SOURCE) == {False}
    move.run_streams()
    move.assert_writes_at(SOURCE)


def test_a_transaction_that_is_older_than_the_move_is_waited_for(move: Moving) -> None:
    move.on(SOURCE, "CREATE TABLE account (id INT AUTO_INCREMENT PRIMARY KEY, balance INT NOT NULL)")
    with move.source() as old:
        old.execute("START TRANSACTION")
        old.execute("INSERT INTO account (balance) VALUES (1), (2)")
        move.move = replace(move.move, tables=("account",), timeout=15.0)
        move.running()
        switching = threading.Thread(target=move.perform, args=("switch_writes",))
        switching.start()
        until(lambda: f"{SOURCE}.account" in move.topology().switching, "the switch to begin")
        old.execute("UPDATE account SET balance=balance+1")
        old.execute("COMMIT")
        switching.join(30)
    move.assert_writes_at(TARGET)
    with move.target() as target:
        assert target.value("SELECT SUM(balance) FROM account") == 5


def test_columns_that_differ_refuse_the_switch(move: Moving) -> None:
    begin(move)
    move.on(SOURCE, "ALTER TABLE entry ADD COLUMN extra INT")
    with pytest.raises(Refused, match="extra"):
        move.perform("switch_writes")
    move.on(TARGET, "ALTER TABLE entry ADD COLUMN extra INT")
    move.assert_writes_at(SOURCE)
    move.perform("switch_writes")
    move.assert_writes_at(TARGET)


DDL = {
    "alter": "ALTER TABLE entry ADD COLUMN extra INT",
    "truncate": "TRUNCATE TABLE entry",
    "rename": "RENAME TABLE entry TO renamed",
    "drop": "DROP TABLE entry",
}


@pytest.mark.parametrize("point", ["intent", "fenced"])
@pytest.mark.parametrize("kind", DDL)
def test_ddl_at_the_instant_of_the_switch_undoes_it(
    move: Moving, monkeypatch: pytest.MonkeyPatch, kind: str, point: str
) -> None:
    begin(move)
    move.on(SOURCE, "INSERT INTO entry (who, n) VALUES (1, 1)")
    monkeypatch.setattr(switch, "reached", at(f"cutover:{point}", lambda: move.on(SOURCE, DDL[kind])))
    with pytest.raises(MovetablesError) as caught:
        move.perform("switch_writes")
    monkeypatch.undo()
    assert "entry" in str(caught.value)
    state = move.topology()
    assert (state.switching, state.cutovers, move.denied(SOURCE), move.journal_rows()) == ((), (), (), 0)
    with move.source() as source:
        assert standing(source, DATABASE[SOURCE]) == {}
    assert move.fenced(TARGET) == {True}
    assert move.state(SOURCE, f"{NAME}_reverse") is None
    if kind == "alter":
        move.on(TARGET, DDL[kind])
        move.assert_writes_at(SOURCE)
        move.perform("switch_writes")
        move.assert_writes_at(TARGET)
    else:  # the rows that went are still in the target, and nobody writes there
        assert "copied again" in move.wait_for_error()
        with move.target() as target:
            assert target.value("SELECT COUNT(*) FROM entry") > 0


@pytest.mark.parametrize("point", ["intent", "fenced"])
@pytest.mark.parametrize("kind", ["alter", "truncate"])
def test_ddl_that_is_repeated_at_the_instant_of_the_switch_goes_with_it(
    move: Moving, monkeypatch: pytest.MonkeyPatch, kind: str, point: str
) -> None:
    begin(move, on_ddl=OnDdl.EXEC)
    move.on(SOURCE, "INSERT INTO entry (who, n) VALUES (1, 1)")
    monkeypatch.setattr(switch, "reached", at(f"cutover:{point}", lambda: move.on(SOURCE, DDL[kind])))
    move.perform("switch_writes")
    move.assert_writes_at(TARGET)
    with move.target() as target:
        assert (target.value("SELECT COUNT(*) FROM entry") == 0) == (kind == "truncate")


@pytest.mark.parametrize("point", ["caught_up", "reverse_created"])
def test_ddl_behind_the_fence_waits_until_there_is_no_way_back(
    move: Moving, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    begin(move)
    done = threading.Event()
    seen: list[bool] = []

    def alter() -> None:
        move.on(SOURCE, "ALTER TABLE entry COMMENT 'later'")
        done.set()

    altering = threading.Thread(target=alter)

    def reached(name: str) -> None:
        if name == f"cutover:{point}":
            altering.start()
            with move.source() as source:
                until(
                    lambda: any("metadata lock" in str(row["State"]) for row in source.processes()),
                    "the statement to wait",
                )
        seen.extend([done.is_set()] if name == "cutover:reverse_created" else [])

    monkeypatch.setattr(switch, "reached", reached)
    move.perform("switch_writes")
    altering.join(30)
    assert done.is_set()
    assert seen == [False]
    move.assert_writes_at(TARGET)


def test_a_target_that_dies_does_not_keep_clients_from_the_source(
    move: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(move)
    stop = move.pair.cluster.local.stop_tablet
    monkeypatch.setattr(switch, "reached", at("cutover:caught_up", lambda: stop(moving.ALIAS[TARGET])))
    try:
        with pytest.raises(MovetablesError, match="could not be undone yet"):
            move.perform("switch_writes")
        monkeypatch.undo()
        assert move.fenced(SOURCE) == {False}
        assert move.topology().switching == ()
        assert move.denied(SOURCE) == ()
        move.on(SOURCE, "INSERT INTO entry (who) VALUES (77)")
    finally:
        move.pair.start(TARGET)
    settle(move.access, TARGET, NAME)
    move.wait_for(StreamState.RUNNING)
    move.assert_writes_at(SOURCE)


def at(point: str, act: Callable[[], object]) -> Callable[[str], None]:
    """A stand-in for `reached` that acts once, at `point`."""
    left = [act]

    def reached(name: str) -> None:
        if name == point and left:
            left.pop()()

    return reached


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> dict[str, Connection]:
    """The connections that the running cutover uses, by side."""
    found: dict[str, Connection] = {}
    original: Any = vars(switch)["catch_up"]

    def catch_up(source: Connection, target: Connection, *rest: Any) -> object:
        found.update(source=source, target=target)
        return original(source, target, *rest)

    monkeypatch.setattr(switch, "catch_up", catch_up)
    return found


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("point", ["intent", "fenced", "caught_up", "stopped", "reverse_created"])
def test_a_killed_connection_undoes_the_switch(
    move: Moving, connections: dict[str, Connection], monkeypatch: pytest.MonkeyPatch, side: str, point: str
) -> None:
    begin(move)

    def kill() -> None:
        with move.pair.connect(SOURCE if side == "source" else TARGET) as killer:
            killer.execute(f"KILL {connections[side].thread_id}")

    monkeypatch.setattr(switch, "reached", at(f"cutover:{point}", kill))
    if (side, point) == ("target", "reverse_created"):
        move.perform("switch_writes")  # nothing more is asked of that connection
        move.assert_writes_at(TARGET)
        return
    with pytest.raises(ServerError) as caught:
        move.perform("switch_writes")
    assert caught.value.lost
    monkeypatch.undo()
    move.assert_writes_at(SOURCE)
    move.perform("switch_writes")
    move.assert_writes_at(TARGET)


def test_a_journal_row_that_is_still_being_written_when_the_connection_breaks_is_never_written(
    move: Moving, connections: dict[str, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(move)
    holder = move.source()

    def hold() -> None:
        holder.execute("START TRANSACTION")
        holder.query(f"SELECT * FROM {sidecar.SCHEMA}.journal WHERE keyspace='{TARGET}' FOR UPDATE")
        threading.Thread(target=cut, daemon=True).start()

    def cut() -> None:
        with move.source() as watcher:
            waiting = (
                "SELECT COUNT(*) FROM information_schema.processlist "
                f"WHERE id={connections['source'].thread_id} AND info LIKE '%journal%'"
            )
            moving.until(lambda: watcher.value(waiting), "the journal row to be written")
        connections["source"].raw._sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]

    monkeypatch.setattr(switch, "reached", at("cutover:reverse_created", hold))
    with holder, pytest.raises(ServerError):
        move.perform("switch_writes")
    monkeypatch.undo()
    move.assert_writes_at(SOURCE)
    move.perform("switch_writes")
    move.assert_writes_at(TARGET)


def test_a_journal_row_whose_answer_was_lost_counts(move: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(move)
    original = Connection.execute

    def execute(self: Connection, sql: str | bytes, args: Any = None) -> int:
        affected = original(self, sql, args)
        if str(sql).startswith(f"REPLACE INTO {sidecar.SCHEMA}.journal"):
            raise ServerError("the answer was lost", 2013)
        return affected

    monkeypatch.setattr(Connection, "execute", execute)
    move.perform("switch_writes")
    monkeypatch.undo()
    move.assert_writes_at(TARGET)


def test_fence_refuses_every_kind_of_write_and_names_no_secret(move: Moving) -> None:
    begin(move)
    move.perform("switch_writes")
    with move.source() as source:
        for statement in (
            "INSERT INTO account (balance) VALUES (1)",
            "UPDATE account SET balance=0",
            "DELETE FROM account",
            "REPLACE INTO account VALUES (1, 2)",
            f"INSERT INTO {DATABASE[SOURCE]}.account (balance) SELECT 1",
        ):
            with pytest.raises(ServerError) as caught:
                source.execute(statement)
            assert caught.value.errno == FENCE_ERRNO
    move.assert_writes_at(TARGET)
