"""A VDiff among writers that never pause: no false alarm, and a real difference is found; nor do idle limits end it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pymysql
import pytest

from executor.native import sidecar
from executor.native.servers import Connection, Login, connect
from executor.native.vdiff import records, show
from executor.native.vdiff.options import VDiffOptions
from executor.native.vdiff.report import VDiffReport
from executor.native.vdiff.run import run_vdiff
from tests.cluster import vdiff_move
from tests.cluster.test_vdiff_replicas import replica_of_target
from tests.cluster.vdiff_move import KEYSPACE, MANY, WORKFLOW, Move, Writers, counters, only_table
from tests.workload.client import Raw

servers, move = vdiff_move.servers, vdiff_move.move

TABLE = "id INT PRIMARY KEY, u INT UNIQUE, v INT, w VARCHAR(40) COLLATE utf8mb4_general_ci"
ROWS = "SELECT seq, seq, 0, CONCAT('w', seq) FROM seq_1_to_16000"
QUIET = 15_000
"""Rows from this one on are not written to."""
WRITES: tuple[Callable[[random.Random], str], ...] = (
    lambda r: f"UPDATE t SET v=1-v WHERE id={r.randint(1, 3)}",  # hot, and back to what they were
    lambda r: f"UPDATE t SET w=IF(w='a', 'A', 'a') WHERE id={r.randint(4, 6)}",
    lambda r: f"UPDATE t SET v=v+1 WHERE id BETWEEN {(low := r.randint(1, 14000))} AND {low + 5}",
    lambda r: f"DELETE FROM t WHERE id={r.randint(1, 2000)}",
    lambda r: f"INSERT IGNORE INTO t VALUES ({(n := r.randint(1, 2000))}, {n}, 0, 'new')",
    lambda r: f"UPDATE IGNORE t SET id=id+1 WHERE id={r.randint(2000, 4000)}",
    lambda r: f"UPDATE IGNORE t SET id=-id, u=-u WHERE id={r.randint(4000, 6000)} OR id={-r.randint(4000, 6000)}",
    lambda r: f"UPDATE IGNORE t SET u=u+100000*{r.choice([-1, 1])} WHERE id={r.randint(6000, 6100)}",
)


def plant(move: Move) -> None:
    """One difference of each kind, in rows that nobody writes to."""
    move.on_target(
        f"UPDATE t SET w=UPPER(w) WHERE id={QUIET + 1}",
        f"DELETE FROM t WHERE id={QUIET + 2}",
        "INSERT INTO t VALUES (30000, 30000, 0, '')",
    )


def differing(report: VDiffReport) -> tuple[int, int, int]:
    table = only_table(report)
    return table.mismatched, table.extra_source, table.extra_target


def test_writers_at_full_speed_raise_no_alarm_and_hide_nothing(move: Move) -> None:
    move.begin(TABLE, ROWS)
    with Writers(move, *WRITES, pace=0.0) as writers:
        for _ in range(3):
            assert differing(move.vdiff()) == (0, 0, 0)
        plant(move)
        assert differing(move.vdiff()) == (1, 1, 1)
    assert writers.written > 500
    assert differing(move.vdiff()) == (1, 1, 1)


def test_a_replica_that_is_always_late_raises_no_alarm_and_hides_nothing(move: Move) -> None:
    move.begin(TABLE, ROWS)
    target, replica = move.target.login, move.topology.login

    def vdiff() -> VDiffReport:
        options = VDiffOptions(tablet_types=("REPLICA",))
        return run_vdiff(move.source.login, target, KEYSPACE, WORKFLOW, options=options, read_target=replica)

    with replica_of_target(move, delay=1), Writers(move, *WRITES) as writers:
        for _ in range(2):
            assert differing(vdiff()) == (0, 0, 0)
        plant(move)
        assert differing(vdiff()) == (1, 1, 1)
    assert writers.written > 100


LIMITS = {"wait_timeout": 2, "interactive_timeout": 2, "net_read_timeout": 2, "net_write_timeout": 2}
LIMITS_OF_MARIADB = {"idle_transaction_timeout": 2, "idle_write_transaction_timeout": 2}


@contextmanager
def impatient(*logins: Login) -> Iterator[None]:
    """Servers that end sessions which say nothing for two seconds."""
    connections = [connect(login) for login in logins]
    before: list[tuple[Connection, str, int]] = []
    try:
        for connection in connections:
            for name, value in (LIMITS | (LIMITS_OF_MARIADB if connection.flavor.mariadb else {})).items():
                before.append((connection, name, int(connection.value(f"SELECT @@global.{name}"))))
                connection.execute(f"SET GLOBAL {name}={value}")
        yield
    finally:
        for connection, name, was in before:
            connection.execute(f"SET GLOBAL {name}={was}")
        for connection in connections:
            connection.close()


def without_our_settings(login: Login) -> Raw:
    return pymysql.connect(host=login.host, port=login.port, user=login.user, password=login.password)


@pytest.mark.parametrize("key", ["id INT PRIMARY KEY", "id INT"])
def test_servers_that_end_idle_sessions_do_not_end_a_comparison(move: Move, key: str) -> None:
    """While it waits for the stream, everything that it has open is idle for longer than that."""
    with impatient(move.source.login, move.target.login):
        move.begin(f"{key}, v INT", MANY)
        move.on_target("UPDATE t SET v=0 WHERE id IN (5, 6)")
        held = threading.Event()

        def hold() -> None:
            """Holds the row that the applier takes before it writes."""
            with move.connect_target() as target:
                target.execute("START TRANSACTION")
                target.query(f"SELECT * FROM {sidecar.SCHEMA}.vreplication FOR UPDATE")
                held.set()
                time.sleep(4.0)  # what is tested is what so long a silence does
                target.execute("COMMIT")

        holding = threading.Thread(target=hold)
        holding.start()
        held.wait(10)
        ended = [without_our_settings(server.login) for server in (move.source, move.target)]
        report = move.vdiff(auto_retry=False)
        holding.join()
        for other in ended:
            with pytest.raises(pymysql.err.OperationalError):
                other.ping(reconnect=False)
        matching, *_ = counters(report)
        assert (matching, only_table(report).differing) == (2998, 2 if "KEY" in key else 4)


def test_the_end_is_told_from_a_tenth_of_the_way_on(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a quarter of what is left, and half a second, although the server believes in thrice as many rows.

    The comparison is given a pace that a busy machine keeps too.
    """
    monkeypatch.setattr("executor.native.vdiff.expected.COUNT_AFTER_SECONDS", 0.0)
    monkeypatch.setattr("executor.native.vdiff.run.SAVE_SECONDS", 0.1)
    monkeypatch.setattr("executor.native.vdiff.pairs.MAX_ROWS", 500)
    monkeypatch.setattr("executor.native.vdiff.compare.MAX_ROWS", 500)
    create = records.create

    def create_wrong(
        connection: Connection, keyspace: str, workflow: str, uuid: str, tables: dict[str, int], options: VDiffOptions
    ) -> records.VDiffRecord:
        believed = {name: 3 * rows for name, rows in tables.items()}
        return create(connection, keyspace, workflow, uuid, believed, options)

    monkeypatch.setattr(records, "create", create_wrong)
    move.begin("id INT PRIMARY KEY, v INT", "SELECT seq, seq FROM seq_1_to_16000")
    told: list[tuple[float, float | None, str]] = []

    class Paced:
        """A progress that takes an eighth of a second from each chunk to the next."""

        next_at = 0.0

        def update(self, text: str = "", done: int | None = None, *_: object, **more: object) -> None:
            if done is None:
                return
            self.next_at = (self.next_at or time.monotonic()) + 0.125
            time.sleep(max(0.0, self.next_at - time.monotonic()))
            with move.connect_target() as target:
                shown = show.last(target, KEYSPACE, WORKFLOW)
            assert shown is not None
            eta = shown.progress(time.time())[1]
            if done >= 1600:
                told.append((time.time(), more["eta"], eta))  # type: ignore[arg-type]

        def check_interrupt(self) -> None:
            return

        @contextmanager
        def shielded(self, what: str) -> Iterator[None]:
            yield

    report = run_vdiff(move.source.login, move.target.login, KEYSPACE, WORKFLOW, progress=Paced())
    ended = time.time()
    assert counters(report) == (16000, 0, 0, 0)
    assert only_table(report).table_rows == 16000
    assert len(told) > 20
    for at, left, shown in told:
        truth = ended - at
        assert abs((left or 0.0) - truth) <= 0.25 * truth + 0.5
        at_end = datetime.strptime(shown, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
        assert abs(at_end - ended) <= 0.25 * truth + 1.5  # in whole seconds
