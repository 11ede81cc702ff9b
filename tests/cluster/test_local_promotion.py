"""Promotion on real servers: replication, idempotence, interruption at every statement."""

from __future__ import annotations

from typing import Any

import pytest

from executor.errors import MovetablesError, Refused
from executor.native import promotion, sidecar, sidecar_schema
from executor.native.promotion import attach_replica, most_advanced, promote, replication, running
from executor.native.servers import Connection
from executor.native.waiting import wait_until
from planner.cluster import TabletType
from tests.cluster.dialect import wait_until_applied

PRIMARY, REPLICA, RDONLY = "zone1-0000000100", "zone1-0000000101", "zone1-0000000102"


def assert_promoted(cluster: Any) -> None:
    state = cluster.topology.read()
    assert [(t.alias, t.type) for t in state.tablets if t.keyspace == "commerce"] == [
        (PRIMARY, TabletType.PRIMARY),
        (REPLICA, TabletType.REPLICA),
        (RDONLY, TabletType.RDONLY),
    ]
    with cluster.primary("commerce") as primary:
        assert primary.value("SELECT @@global.read_only") == 0
        assert replication(primary) is None
        assert sidecar.exists(primary)
        primary.execute("CREATE TABLE IF NOT EXISTS t (id INT PRIMARY KEY)")
        primary.execute("INSERT INTO t SELECT COALESCE(MAX(id), 0) + 1 FROM t")
        rows = primary.query("SELECT * FROM t ORDER BY id")
        position = primary.position()
    for alias in (REPLICA, RDONLY):
        with cluster.connect(alias) as replica:
            assert replica.value("SELECT @@global.read_only") == 1
            wait_until_applied(replica, position)
            assert replica.query("SELECT * FROM vt_commerce.t ORDER BY id") == rows


def test_promotion_makes_the_other_tablets_replicas_and_tells_the_topology(cluster: Any) -> None:
    assert_promoted(cluster)
    term = cluster.topology.read().primary("commerce").primary_term_start
    assert len(term) == len("2026-01-04T17:59:37Z")
    assert term.endswith("Z")


def test_promoting_again_changes_nothing(cluster: Any) -> None:
    before = cluster.topology.read()
    with cluster.connect(REPLICA) as replica:
        received = replica.one(replica.flavor.replication.status)["Relay_Log_File"]
    promote("commerce", PRIMARY, cluster.logins, cluster.topology)
    assert cluster.topology.read() == before
    with cluster.connect(REPLICA) as replica:
        assert replica.one(replica.flavor.replication.status)["Relay_Log_File"] == received  # it was not set up anew
    assert_promoted(cluster)


class Killed(BaseException):
    """Stands for the end of the process."""


def test_promotion_interrupted_at_any_statement_is_finished_by_the_next(
    empty_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_cluster.register("commerce")
    execute = Connection.execute
    interrupted: set[tuple[str, str]] = set()

    def killed_once(self: Connection, sql: Any, args: Any = None) -> int:
        if self.login.name.startswith("zone1") and "time_zone" not in str(sql):
            statement = (self.login.name, str(sql))
            if statement not in interrupted:
                interrupted.add(statement)
                raise Killed
        return execute(self, sql, args)

    for _ in range(100):
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "execute", killed_once)
            try:
                promote("commerce", PRIMARY, empty_cluster.logins, empty_cluster.topology)
                break
            except Killed:
                pass
    # writable, database, the tables of the sidecar, and four for each replica
    assert len(interrupted) > len(sidecar_schema.DDL) + 8
    assert_promoted(empty_cluster)


def test_promotion_killed_before_the_topology_knew_is_finished(
    empty_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_cluster.register("commerce")

    def killed(change: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(empty_cluster.topology, "update", killed)
        with pytest.raises(Killed):
            promote("commerce", PRIMARY, empty_cluster.logins, empty_cluster.topology)
    assert empty_cluster.topology.read().primary("commerce") is None
    promote("commerce", PRIMARY, empty_cluster.logins, empty_cluster.topology)
    assert_promoted(empty_cluster)


def test_a_tablet_that_lacks_writes_is_not_promoted(empty_cluster: Any) -> None:
    empty_cluster.register("commerce")
    with empty_cluster.connect(REPLICA) as ahead:
        ahead.execute("SET GLOBAL read_only=0")
        ahead.execute("CREATE DATABASE vt_commerce")
    with pytest.raises(Refused, match=f"{REPLICA} holds writes"):
        promote("commerce", PRIMARY, empty_cluster.logins, empty_cluster.topology)
    state = empty_cluster.topology.read()
    assert state.primary("commerce") is None
    chosen = most_advanced(list(state.tablets), empty_cluster.logins)
    assert chosen is not None
    assert chosen.alias == REPLICA


def test_a_second_primary_is_refused(cluster: Any) -> None:
    with pytest.raises(Refused, match=f"has a PRIMARY already, {PRIMARY}"):
        promote("commerce", REPLICA, cluster.logins, cluster.topology)
    with cluster.connect(REPLICA) as replica:
        assert replica.value("SELECT @@global.read_only") == 1


def test_rdonly_is_never_promoted(empty_cluster: Any) -> None:
    empty_cluster.register("commerce")
    with pytest.raises(Refused, match="RDONLY"):
        promote("commerce", RDONLY, empty_cluster.logins, empty_cluster.topology)


def test_a_replica_that_is_down_does_not_hinder_promotion_and_attaches_later(empty_cluster: Any) -> None:
    empty_cluster.register("commerce")
    empty_cluster.local.stop_tablet(REPLICA)
    with pytest.raises(MovetablesError, match=f"{PRIMARY} is PRIMARY of commerce, but"):
        promote("commerce", PRIMARY, empty_cluster.logins, empty_cluster.topology)
    empty_cluster.local.start_tablet(REPLICA, known=True)
    attach_replica("commerce", REPLICA, empty_cluster.logins, empty_cluster.topology)
    assert_promoted(empty_cluster)


def test_replication_goes_on_after_a_replica_was_killed(cluster: Any) -> None:
    import os
    import signal

    server = cluster.local.server_for(REPLICA)
    pid = server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: server.gone(pid), 10, "the server to end")
    cluster.local.start_tablet(REPLICA, known=True)
    with cluster.connect(REPLICA) as replica:
        wait_until(lambda: running(replication(replica)), 10, "replication")
    assert_promoted(cluster)


def test_an_external_server_is_checked_and_recorded_but_not_touched(cluster: Any, monkeypatch: Any) -> None:
    from dataclasses import replace

    from planner.inventory import Credentials, Inventory, SecretRef, ServerAddress

    # The same servers, now as somebody else's: a keyspace of their own over the replica and the primary.
    monkeypatch.setenv("TEST_PASSWORD", cluster.logins.managed_password())
    credentials = Credentials("movetables", SecretRef(env="TEST_PASSWORD"))

    def external(inventory: Inventory) -> Inventory:
        tablets = tuple(
            replace(t, server=ServerAddress(t.server.host, t.server.port, credentials)) for t in inventory.tablets
        )
        return replace(inventory, tablets=tablets)

    logins = promotion.Logins(external(cluster.inventory))
    cluster.topology.update(
        lambda state: replace(
            state,
            tablets=tuple(
                replace(t, managed=False, type=TabletType.REPLICA, primary_term_start="") for t in state.tablets
            ),
        )
    )
    with pytest.raises(Refused, match="is a replica of another server"):
        promote("commerce", REPLICA, logins, cluster.topology)
    with cluster.connect(PRIMARY) as primary:
        primary.execute("SET GLOBAL read_only=1")
        with pytest.raises(Refused, match="read_only=1"):
            promote("commerce", PRIMARY, logins, cluster.topology)
        primary.execute("SET GLOBAL read_only=0")
        before = primary.position()
        promote("commerce", PRIMARY, logins, cluster.topology)
        assert primary.position() == before
    assert cluster.topology.read().primary("commerce").alias == PRIMARY
