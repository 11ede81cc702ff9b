"""The lock on a real server: who gets it, who is named, how it is lost and broken."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from executor.errors import Interrupted, LockHeld, MovetablesError
from executor.lock import MAX_NAME, Lock, LockLost, break_lock, holders, lock_name, who
from executor.native.local import server as servers
from executor.native.local.local_server import LocalServer
from executor.native.servers import connect
from executor.native.topology import Topology
from executor.native.waiting import wait_until
from tests.cluster.conftest import Ports, dispose


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, template: Path, flavor: str, ports: Ports
) -> Iterator[LocalServer]:
    made = LocalServer("topology", tmp_path_factory.mktemp("topology") / "topology", ports.take(), 1, "secret", flavor)
    servers.start(made, template)
    topology = Topology(made.login)
    topology.create()
    topology.close()
    yield made
    dispose(made)


@pytest.fixture(autouse=True)
def _no_rows(server: LocalServer) -> None:
    with connect(server.login) as connection:
        connection.execute("DELETE FROM movetables_topo.lock_holder")


def lock(
    server: LocalServer, run: str, keyspaces: tuple[str, ...] = ("commerce", "customer"), **options: float
) -> Lock:
    return Lock(server.login, "test", keyspaces, run, f"movetables apply of {run}", **options)  # type: ignore[arg-type]


def test_the_second_is_told_who_holds_it(server: LocalServer) -> None:
    with lock(server, "first") as first:
        first.record()
        with pytest.raises(LockHeld) as caught, lock(server, "second", ("customer", "other")):
            raise AssertionError("two of them hold it")
    for part in ("movetables:test:customer", who(), f"pid {os.getpid()}", "run first", "movetables apply of first"):
        assert part in caught.value.message
    assert "movetables lock break --run first" in caught.value.hint
    with lock(server, "second"):
        pass


def test_locks_of_other_keyspaces_and_clusters_do_not_meet(server: LocalServer) -> None:
    with lock(server, "first", ("a",)), lock(server, "second", ("b",)), Lock(server.login, "x", ("a",), "third", "c"):
        pass


def test_a_failed_attempt_keeps_none_of_the_locks(server: LocalServer) -> None:
    with lock(server, "first", ("b",)):
        with pytest.raises(LockHeld), lock(server, "second", ("a", "b")):
            pass
        with lock(server, "third", ("a",)):
            pass


def test_waiting_is_announced_and_ends_when_the_holder_leaves(server: LocalServer) -> None:
    said: list[str] = []
    announced = threading.Event()

    def notice(text: str) -> None:
        said.append(text)
        announced.set()

    got = threading.Event()

    def second() -> None:
        with Lock(server.login, "test", ("a",), "second", "c", timeout=60.0, notice=notice):
            got.set()

    with lock(server, "first", ("a",)) as first:
        first.record()
        waiter = threading.Thread(target=second)
        waiter.start()
        assert announced.wait(10)
        assert not got.is_set()
    assert got.wait(10)
    waiter.join()
    assert len(said) == 1
    assert "run first" in said[0]


def test_waiting_stops_on_request(server: LocalServer) -> None:
    started = time.monotonic()

    def check() -> None:
        raise Interrupted("stop")

    second = Lock(server.login, "test", ("a",), "second", "c", timeout=60.0, check_interrupt=check)
    with lock(server, "first", ("a",)), pytest.raises(Interrupted), second:
        pass
    assert time.monotonic() - started < 10


def test_a_broken_connection_is_noticed_before_the_next_write(server: LocalServer) -> None:
    with lock(server, "first") as first:
        first.record()
        first.check()
        with connect(server.login) as other:
            freed = break_lock(other, "first")
            assert {holder.run for holder in freed} == {"first"}
            with pytest.raises(LockLost):
                first.check()
            with pytest.raises(LockLost):
                first.raise_if_lost()
            assert holders(other) == ()


def test_keepalive_notices_by_itself_and_shows_a_heartbeat(server: LocalServer) -> None:
    with lock(server, "first", keepalive=0.05) as first, connect(server.login) as other:
        first.record()
        before = holders(other)[0].heartbeat
        wait_until(lambda: holders(other)[0].heartbeat > before, 10, "a heartbeat")
        break_lock(other, "first")

        def lost() -> bool:
            try:
                first.raise_if_lost()
            except LockLost:
                return True
            return False

        wait_until(lost, 10, "the keepalive to notice")


def test_a_row_without_a_process_blocks_nobody(server: LocalServer) -> None:
    with lock(server, "first", ("a",)) as first:
        first.record()
    with connect(server.login) as other:
        assert holders(other) == ()
        other.execute(
            "INSERT INTO movetables_topo.lock_holder VALUES ('movetables:test:a', 'x@y', 1, 'dead', 'c', 0, 0, 999999)"
        )
        assert [holder.alive for holder in holders(other)] == [False]
        with lock(server, "second", ("a",)) as second:
            second.record()
            assert [holder.run for holder in holders(other) if holder.alive] == ["second"]


def test_breaking_what_is_not_there_says_so(server: LocalServer) -> None:
    with connect(server.login) as other, pytest.raises(MovetablesError, match="no lock of run nobody"):
        break_lock(other, "nobody")


@pytest.mark.parametrize(("cluster", "keyspace"), [("c" * 80, "k"), ("prod", "Customer"), ("prod", "k" * 64)])
def test_names_fit_the_server_and_stay_apart(cluster: str, keyspace: str) -> None:
    name = lock_name(cluster, keyspace)
    assert len(name) <= MAX_NAME
    assert name != lock_name(cluster, f"{keyspace}2")
    assert name.lower() != lock_name(cluster, keyspace.swapcase()).lower()
