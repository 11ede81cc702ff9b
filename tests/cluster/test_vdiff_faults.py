"""A VDiff goes on after connections break and servers restart, reads chosen tablets, and never reports what is late."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from executor.native import sidecar
from executor.native.local import server as programs
from executor.native.local.local_server import LocalServer
from executor.native.servers import Login, ServerError, connect
from executor.native.vdiff.options import VDiffOptions
from executor.native.vdiff.report import VDiffReport
from executor.native.vdiff.run import run_vdiff
from tests.cluster import vdiff_move
from tests.cluster.conftest import Templates, kill
from tests.cluster.vdiff_move import (
    KEYSPACE,
    WORKFLOW,
    Move,
    Writers,
    counters,
    only_table,
)

ROWS = "SELECT seq, seq FROM seq_1_to_60000"


servers, move = vdiff_move.servers, vdiff_move.move


class At:
    """A progress that does `act` once, after the first chunk."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act: Callable[[], None] | None = act

    def update(self, text: str = "", done: int | None = None, *_: object, **__: object) -> None:
        if done and self._act is not None:
            act, self._act = self._act, None
            act()

    def check_interrupt(self) -> None:
        return

    @contextmanager
    def shielded(self, what: str) -> Iterator[None]:
        yield


def interrupted(move: Move, act: Callable[[], None], **options: object) -> VDiffReport:
    given = VDiffOptions(**options)  # type: ignore[arg-type]
    return run_vdiff(move.source.login, move.target.login, KEYSPACE, WORKFLOW, options=given, progress=At(act))


def connections(login: Login) -> set[int]:
    """The ids of all connections to a server but this one."""
    with connect(login) as connection:
        rows = connection.query("SELECT id AS id FROM information_schema.processlist WHERE id <> CONNECTION_ID()")
    return {int(row["id"]) for row in rows}


def kill_connections(login: Login, spared: set[int]) -> None:
    """Kills every connection to a server but those in `spared`."""
    with connect(login) as connection:
        for number in connections(login) - spared - {connection.thread_id}:
            with suppress(ServerError):  # it has gone by itself
                connection.execute(f"KILL {number}")


def test_it_goes_on_when_all_its_connections_are_killed(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", ROWS)
    move.on_target("UPDATE t SET v=0 WHERE id=59000")
    spared = {login: connections(login) for login in (move.source.login, move.target.login)}

    def cut() -> None:
        for login, numbers in spared.items():
            kill_connections(login, numbers)

    report = interrupted(move, cut)
    assert counters(report) == (59999, 1, 0, 0)


def test_without_auto_retry_it_ends_and_can_be_resumed(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", ROWS)
    lock = f"SELECT id AS id FROM information_schema.processlist WHERE id=IS_USED_LOCK('mt.vdiff.{UUID}')"

    def cut() -> None:
        with move.connect_target() as target:
            target.execute(f"KILL {target.value(lock)}")

    given = VDiffOptions(auto_retry=False)
    with pytest.raises(ServerError) as caught:
        run_vdiff(move.source.login, move.target.login, KEYSPACE, WORKFLOW, options=given, progress=At(cut), uuid=UUID)
    assert caught.value.lost
    report = run_vdiff(move.source.login, move.target.login, KEYSPACE, WORKFLOW, uuid=UUID)
    assert counters(report) == (60000, 0, 0, 0)


UUID = "4b3f9b7e-6b4c-4b59-9d1b-0c2f2f4d9a31"


@pytest.mark.parametrize("side", ["source", "target"])
def test_it_goes_on_after_a_server_was_killed_and_came_back(move: Move, side: str, templates: Templates) -> None:
    move.begin("id INT PRIMARY KEY, v INT", ROWS)
    move.stop_stream()
    server: LocalServer = getattr(move, side)

    def restart() -> None:
        kill(server)
        programs.start(server, templates(server.flavor))

    report = interrupted(move, restart)
    assert counters(report) == (60000, 0, 0, 0)


def test_an_applier_that_pauses_and_hot_rows_raise_no_alarm(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", "SELECT seq, seq FROM seq_1_to_5000")
    stop = threading.Event()

    def pause() -> None:
        """Holds the row that the applier takes before it writes, again and again for half a second."""
        with move.connect_target() as target:
            while not stop.wait(0.2):
                target.execute("START TRANSACTION")
                target.query(f"SELECT * FROM {sidecar.SCHEMA}.vreplication FOR UPDATE")
                stop.wait(0.5)
                target.execute("COMMIT")

    pausing = threading.Thread(target=pause)
    pausing.start()
    try:
        with Writers(
            move,
            lambda r: "UPDATE t SET v=1-v WHERE id=5",
            lambda r: f"UPDATE t SET v=v+1 WHERE id={r.randint(1, 5000)}",
            lambda r: f"DELETE FROM t WHERE id={r.randint(4000, 4010)}",
            lambda r: f"REPLACE INTO t VALUES ({r.randint(4000, 4010)}, 0)",
        ) as writers:
            for _ in range(3):
                assert not move.vdiff().has_mismatch
            move.on_target("UPDATE t SET v=-5 WHERE id=4500")
            report = move.vdiff()
            assert only_table(report).mismatched in (0, 1)  # a writer may have mended it
    finally:
        stop.set()
        pausing.join()
    assert writers.written > 50


def test_writers_do_not_wait_for_a_comparison(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", ROWS)
    with move.connect_source() as other:
        other.execute("SET SESSION innodb_lock_wait_timeout=1")

        def write() -> None:
            for _ in range(200):
                other.execute("UPDATE t SET v=v+1 WHERE id BETWEEN 1 AND 60000 AND id % 1000 = 7")

        assert not interrupted(move, write).has_mismatch


def test_large_values_that_differ_are_not_held_in_memory(move: Move) -> None:
    """300 rows of 2 MiB differ: together they would be 1.2 GB as text."""
    move.begin("id INT PRIMARY KEY, v LONGBLOB", "SELECT seq, REPEAT('x', 1000) FROM seq_1_to_300")
    move.stop_stream()
    with move.connect_source() as source:
        source.execute("SET SESSION sql_log_bin=0")
        source.execute("UPDATE t SET v=REPEAT('x', 2000000)")
    move.start_stream()
    tracemalloc.start()
    report = move.vdiff()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert counters(report) == (0, 300, 0, 0)
    assert peak < 20_000_000
    assert only_table(report).mismatch_samples[0][0]["v"] == "x" * 128 + "...[TRUNCATED]"


def test_a_target_with_many_rows_too_much_is_compared_in_bounded_memory(
    move: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executor.native.vdiff.compare.SUSPECTS", 300)
    move.begin("id INT PRIMARY KEY, v INT", "SELECT seq, seq FROM seq_1_to_100")
    move.on_target("INSERT INTO t SELECT id+1000*n, v FROM t, (SELECT id AS n FROM t WHERE id<=50) AS copies")
    assert counters(move.vdiff()) == (100, 0, 0, 5000)
    assert not move.vdiff(repair=True).has_mismatch
    assert counters(move.vdiff()) == (100, 0, 0, 0)
