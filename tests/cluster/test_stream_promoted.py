"""A replica of the source takes the source's place: the stream goes on behind its last GTID, or says why it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from executor.native.binlog import positions
from executor.native.native import NativeBackend
from executor.native.servers import Connection
from planner.cluster import StreamState, TabletType
from planner.document import Move
from tests.cluster import moving
from tests.cluster.conftest import TestCluster
from tests.cluster.dialect import wait_until_applied
from tests.cluster.moving import DATABASE, NAME, SOURCE, TARGET, Forks, Moving, Pair

OLD, NEW = "zone1-0000000100", "zone1-0000000101"


@pytest.fixture
def move(cluster: TestCluster) -> Iterator[Moving]:
    """A move of the table t, which runs."""
    cluster.add_keyspace(TARGET)
    forks, backend = Forks(), NativeBackend(cluster.inventory)
    found = Moving(Pair(cluster, forks), backend, Move(NAME, SOURCE, TARGET, ()))
    found.tables("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1), (2, 2)")
    found.running()
    yield found
    found.stop_streams()
    backend.close()
    forks.close()


def take_over(move: Moving) -> Connection:
    """Kills the old source and makes the replica the PRIMARY; returns a connection to it."""
    cluster = move.pair.cluster
    cluster.local.stop_tablet(OLD)
    connection = cluster.connect(NEW, DATABASE[SOURCE])
    words = connection.flavor.replication
    for statement in (words.stop, words.forget, "SET GLOBAL read_only=0"):
        connection.execute(statement)
    state = cluster.topology.read()
    types = {OLD: TabletType.REPLICA, NEW: TabletType.PRIMARY}
    tablets = tuple(replace(t, type=types.get(t.alias, t.type)) for t in state.tablets)
    cluster.topology.update(lambda state: replace(state, tablets=tablets))
    return connection


def test_the_stream_goes_on_from_the_promoted_replica(move: Moving) -> None:
    move.on(SOURCE, "INSERT INTO t VALUES (3, 3)", "DELETE FROM t WHERE id=1")
    with move.source() as source, move.pair.cluster.connect(NEW) as replica:
        wait_until_applied(replica, source.position())
    with take_over(move) as source:
        source.execute("INSERT INTO t VALUES (4, 4)")
        source.execute("UPDATE t SET v=v+1")
        goal = positions.parse(source.position())
        moving.until(lambda: (r := move.record()) is not None and positions.parse(r.pos).contains(goal), "the stream")
        assert move.state() is StreamState.RUNNING
        with move.target() as target:
            query = "SELECT * FROM t ORDER BY id"
            assert target.query(query) == source.query(query)


def test_a_promoted_replica_that_lacks_changes_which_were_applied_is_an_error(move: Moving) -> None:
    with move.pair.cluster.connect(NEW) as replica:
        replica.execute(replica.flavor.replication.stop)
    move.on(SOURCE, "INSERT INTO t VALUES (3, 3)")
    move.catch_up()
    with take_over(move) as source:
        source.execute("INSERT INTO t VALUES (4, 4)")
        assert "copied again" in move.wait_for_error()
