"""A copy is held back by replicas that lag or cannot be asked, and by the source's history list; the reason shows."""

from __future__ import annotations

import time

from executor.native import sidecar
from executor.native.sidecar import ThrottleLimits
from executor.native.stream.throttle import Throttle
from executor.native.waiting import wait_until
from planner.cluster import StreamState
from tests.cluster import moving
from tests.cluster.conftest import TestCluster
from tests.cluster.moving import NAME, Moving

pair, move = moving.pair, moving.move

REPLICA = "zone1-0000000201"


def reason(move: Moving) -> str:
    record = move.record()
    assert record is not None
    return record.reason_throttled


def test_a_long_history_list_holds_the_copy_until_it_is_short(move: Moving) -> None:
    move.tables("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1), (2)", throttle_max_history_list=100)
    with move.source() as old, move.source() as source:
        source.execute("CREATE TABLE busy (id INT PRIMARY KEY, v INT)")
        source.execute("INSERT INTO busy VALUES (1, 0)")
        old.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        for value in range(300):
            source.execute(f"UPDATE busy SET v={value}")
        move.created()
        move.run_streams()
        moving.until(lambda: reason(move), "a reason")
        assert move.state() is StreamState.COPYING
        workflow = next(w for w in move.backend.observe().workflows if w.name == NAME)
        assert "the history list of zone1-0000000100 is" in workflow.throttled
        assert [copy.rows_copied for copy in workflow.copies] == [0]
        old.execute("ROLLBACK")
    move.settled_equal()
    assert reason(move) == ""


def test_a_replica_that_lags_or_does_not_answer_gives_a_reason(cluster: TestCluster) -> None:
    cluster.add_keyspace("customer")
    login = cluster.logins.tablet(REPLICA)
    throttle = Throttle(1, ThrottleLimits(0.5, 0), cluster.logins.tablet("zone1-0000000100"), lambda: [login])
    with cluster.primary("customer", database=False) as primary, cluster.connect(REPLICA) as replica:
        sidecar.ensure(primary)
        primary.execute("INSERT INTO _movetables.copy_state (vrepl_id, table_name) VALUES (1, 't')")

        def write() -> None:
            now = time.time()
            primary.execute("UPDATE _movetables.copy_state SET updated_at=%s", [now])
            throttle.wrote(now)

        def until(text: str) -> None:
            wait_until(lambda: text in throttle.reason() if text else not throttle.reason(), 30, f"reason {text!r}")

        write()
        until("")
        replica.execute(replica.flavor.replication.stop)
        write()
        until(f"{REPLICA} lags")
        first = throttle.reason()
        moving.until(lambda: throttle.reason() > first, "a longer lag")
        replica.execute(replica.flavor.replication.start)
        until("")
    cluster.local.stop_tablet(REPLICA)
    until(f"the lag of {REPLICA} cannot be read")
    cluster.local.start_tablet(REPLICA)
    until("")
    throttle.close()


def test_a_limit_of_nothing_asks_nobody(move: Moving) -> None:
    nobody = move.pair.cluster.logins.tablet("zone1-0000000100")
    throttle = Throttle(1, ThrottleLimits(0.0, 0), nobody, lambda: [nobody])
    assert throttle.reason() == ""
    assert throttle._connections == {}
