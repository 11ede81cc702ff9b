"""The workload's verdict is honest: it is clean after a clean run, and it finds each kind of damage that was done."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pymysql
import pytest
from pymysql.constants import ER

from executor.native.local import server as servers
from executor.native.local.local_server import LocalServer
from tests.cluster.conftest import Ports, dispose
from tests.workload import Verdict, Workload, prepare
from tests.workload.client import Raw
from tests.workload.ledger import Outcome, Write
from tests.workload.shop import Shop

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, template: Path, flavor: str, ports: Ports
) -> Iterator[LocalServer]:
    server = LocalServer("workload", tmp_path_factory.mktemp("workload") / "server", ports.take(), 1, "secret", flavor)
    servers.start(server, template)
    yield server
    dispose(server)


def connect(server: LocalServer) -> Raw:
    login = server.login
    return pymysql.connect(
        host=login.host, port=login.port, user=login.user, password=login.password, charset="utf8mb4", read_timeout=30
    )


def fresh(server: LocalServer, database: str) -> Raw:
    connection = connect(server)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {database}")
    prepare(connection, database)
    return connection


@pytest.fixture(scope="module")
def finished(server: LocalServer) -> Workload:
    """A workload that has run at full speed, with all kinds of writes, and is stopped."""
    fresh(server, "ran").close()
    workload = Workload(lambda: connect(server), "ran", clients=3, rate=None)
    workload.start()
    workload.wait_for_writes(1500, timeout=60)
    workload.stop()
    return workload


@pytest.fixture
def connection(server: LocalServer, finished: Workload) -> Iterator[Raw]:
    """A connection in a transaction that is rolled back, so that every test does its own damage alone."""
    connection = connect(server)
    connection.begin()
    yield connection
    connection.rollback()
    connection.close()


def execute(connection: Raw, sql: str) -> int:
    with connection.cursor() as cursor:
        return cursor.execute(sql)


def value(connection: Raw, sql: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        row = cursor.fetchone()
    assert row is not None, sql
    return row[0]


def wrong(verdict: Verdict) -> set[str]:
    names = ("lost", "duplicated", "orphans", "phantoms", "contradictions", "errors")
    return {name for name in names if getattr(verdict, name)}


def test_a_clean_run_has_a_clean_verdict(finished: Workload, connection: Raw) -> None:
    verdict = finished.verify(connection)
    assert verdict.ok, verdict.text()
    assert verdict.acknowledged >= 1500
    assert 0 < verdict.p99_pause_ms <= verdict.longest_pause_ms
    kinds = {write.kind for write in finished.ledger.writes if write.outcome is Outcome.ACKNOWLEDGED}
    assert {"transfer", "swap", "insert", "update", "delete", "change primary key", "update two", "audit"} <= kinds
    assert f"{verdict.acknowledged} writes acknowledged, lost 0, duplicated 0" in verdict.text()


def test_a_lost_transaction_is_found(finished: Workload, connection: Raw) -> None:
    txn = value(connection, "SELECT txn FROM ran.transfer_log ORDER BY id DESC LIMIT 1")
    assert execute(connection, f"DELETE FROM ran.transfer_log WHERE txn = '{txn}'") == 2
    assert "lost" in wrong(finished.verify(connection))


def test_half_a_transaction_is_found(finished: Workload, connection: Raw) -> None:
    assert execute(connection, "DELETE FROM ran.transfer_log ORDER BY id LIMIT 1") == 1
    verdict = finished.verify(connection)
    assert verdict.orphans >= 1, verdict.text()


def test_a_transaction_that_ran_twice_is_found(finished: Workload, connection: Raw) -> None:
    execute(
        connection,
        "INSERT INTO ran.transfer_log (txn, account_id, version, balance, tag) "
        "SELECT txn, account_id, version, balance, tag FROM ran.transfer_log ORDER BY id LIMIT 2",
    )
    verdict = finished.verify(connection)
    assert verdict.duplicated >= 1, verdict.text()


def test_an_insert_that_ran_twice_is_found(finished: Workload, connection: Raw) -> None:
    execute(connection, "INSERT INTO ran.audit (txn) SELECT txn FROM ran.audit ORDER BY id LIMIT 1")
    assert wrong(finished.verify(connection)) == {"duplicated"}


def test_an_account_set_back_to_an_older_version_is_found(finished: Workload, connection: Raw) -> None:
    execute(connection, "UPDATE ran.account SET version = version - 1 WHERE owner = 0 AND version > 0 LIMIT 1")
    assert wrong(finished.verify(connection)) == {"lost"}


def test_money_from_nowhere_is_found(finished: Workload, connection: Raw) -> None:
    execute(connection, "UPDATE ran.account SET balance = balance + 0.01 WHERE owner = 0 AND version > 0 LIMIT 1")
    assert wrong(finished.verify(connection)) == {"contradictions"}


def test_a_lost_row_is_found(finished: Workload, connection: Raw) -> None:
    assert execute(connection, "DELETE FROM ran.account WHERE owner > 0 LIMIT 1") == 1
    assert wrong(finished.verify(connection)) == {"lost"}


def test_a_deleted_row_that_came_back_is_found(finished: Workload, connection: Raw) -> None:
    execute(
        connection,
        "INSERT INTO ran.account (owner, tag, balance, version, last_txn) VALUES (1, 'own-1-1-back', 1, 1, '1-1-1')",
    )
    assert wrong(finished.verify(connection)) == {"phantoms"}


@pytest.mark.parametrize(
    "damage",
    [
        "note = CONCAT(COALESCE(note, ''), ' ')",
        "image = CONCAT(COALESCE(image, ''), x'00')",
        "version = version - 1",
        "balance = balance - 0.01",
        "id = id + 100000000",
    ],
)
def test_one_changed_value_is_found(finished: Workload, connection: Raw, damage: str) -> None:
    assert execute(connection, f"UPDATE ran.account SET {damage} WHERE owner > 0 LIMIT 1") == 1
    assert wrong(finished.verify(connection)) == {"contradictions"}


def test_a_transaction_that_was_rolled_back_and_is_there_is_found(finished: Workload, connection: Raw) -> None:
    failed = next(w for w in finished.ledger.writes if w.outcome is Outcome.FAILED and w.kind == "transfer")
    execute(
        connection,
        "INSERT INTO ran.transfer_log (txn, account_id, version, balance, tag) "
        f"VALUES ('{failed.txn}', 1, 1000000, 0, '')",
    )
    verdict = finished.verify(connection)
    assert verdict.phantoms >= 1, verdict.text()


def test_a_transaction_that_nobody_sent_is_found(finished: Workload, connection: Raw) -> None:
    execute(
        connection,
        "INSERT INTO ran.transfer_log (txn, account_id, version, balance, tag) VALUES ('x', 1, 1000000, 0, '')",
    )
    verdict = finished.verify(connection)
    assert verdict.phantoms >= 1, verdict.text()


def test_an_id_that_was_given_twice_is_found(finished: Workload, connection: Raw) -> None:
    inserts = [w for w in finished.ledger.writes if w.kind == "insert" and w.outcome is Outcome.ACKNOWLEDGED]
    finished.ledger.writes.append(Write("again", "insert", Outcome.ACKNOWLEDGED, inserts[0].detail))
    verdict = finished.verify(connection)
    finished.ledger.writes.pop()
    assert wrong(verdict) == {"duplicated"}


def test_an_error_of_an_autocommit_statement_is_an_error_seen(server: LocalServer) -> None:
    with fresh(server, "refused") as connection:
        workload = Workload(lambda: connect(server), "refused", clients=2)
        workload.start()
        workload.wait_for_writes(20)
        execute(connection, "RENAME TABLE refused.audit TO refused.gone")
        wait_until(lambda: bool(workload.ledger.errors))
        execute(connection, "RENAME TABLE refused.gone TO refused.audit")
        verdict = workload.verify(connection)
    assert wrong(verdict) == {"errors"}, verdict.text()
    assert "doesn't exist" in verdict.text()


def test_lost_connections_are_errors_unless_they_are_tolerated(server: LocalServer) -> None:
    with fresh(server, "strict") as connection:
        workload = Workload(lambda: connect(server), "strict", clients=2)
        workload.start()
        workload.wait_for_writes(20)
        kill_clients(connection, server)
        wait_until(lambda: bool(workload.ledger.errors))
        verdict = workload.verify(connection)
    assert wrong(verdict) == {"errors"}, verdict.text()


def test_killed_connections_leave_unknown_outcomes_that_are_resolved(server: LocalServer) -> None:
    with fresh(server, "killed") as connection:
        workload = Workload(lambda: connect(server), "killed", clients=4, rate=None, tolerate_disconnects=True)
        workload.start()
        for _ in range(25):
            workload.wait_for_writes(20)
            kill_clients(connection, server)
        verdict = workload.verify(connection)
    assert verdict.ok, verdict.text()
    assert verdict.disconnects >= 25


def test_a_server_that_is_killed_and_started_again_loses_nothing(server: LocalServer, tmp_path: Path) -> None:
    fresh(server, "crashed").close()
    path = tmp_path / "ledger.jsonl"
    workload = Workload(lambda: connect(server), "crashed", clients=4, rate=None, path=path, tolerate_disconnects=True)
    workload.start()
    try:
        for _ in range(2):
            workload.wait_for_writes(200)
            pid = server.pid()
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)  # only then has it let go of its port and its files
            servers.reap()
            servers.start(server, tmp_path / "unused")
        workload.wait_for_writes(200)
    finally:
        workload.stop()
    with connect(server) as connection:
        verdict = workload.verify(connection)
    assert verdict.ok, verdict.text()
    assert verdict.disconnects >= 4
    assert len(path.read_text().splitlines()) >= len(workload.ledger.writes)


def kill_clients(connection: Raw, server: LocalServer) -> None:
    with connection.cursor() as cursor:
        # FULL, because otherwise statements are cut, in the middle of a character too. information_schema fails on
        # MySQL while a statement with an emoji runs.
        cursor.execute("SHOW FULL PROCESSLIST")
        others = [
            row[0] for row in cursor.fetchall() if row[0] != connection.thread_id() and row[1] == server.login.user
        ]
        for number in others:
            try:
                cursor.execute(f"KILL {number}")
            except pymysql.err.OperationalError as error:
                if error.args[0] != ER.NO_SUCH_THREAD:
                    raise


def wait_until(condition: Callable[[], bool], timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


SHOP = """
CREATE TABLE {0}.customer (customer_id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, email VARBINARY(128));
CREATE TABLE {0}.corder (order_id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, customer_id BIGINT,
    sku VARBINARY(128), price BIGINT);
"""


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("SELECT 1", set()),
        ("DELETE FROM {0}.customer LIMIT 1", {"orphans"}),
        ("UPDATE {0}.corder SET price = price + 1 LIMIT 1", {"contradictions"}),
        ("INSERT INTO {0}.corder (customer_id, sku, price) SELECT customer_id, sku, 1 FROM {0}.corder LIMIT 1",
         {"duplicated"}),
        ("DELETE {0}.customer, {0}.corder FROM {0}.customer JOIN {0}.corder USING (customer_id)", {"lost"}),
        ("INSERT INTO {0}.customer (email) VALUES ('1-1-999999')", {"phantoms"}),
    ],
)  # fmt: skip
def test_the_shop_of_the_demo_finds_damage(server: LocalServer, damage: str, found: set[str]) -> None:
    database = f"shop_{next(_numbers)}"
    with connect(server) as connection:
        execute(connection, f"CREATE DATABASE {database}")
        for statement in SHOP.format(database).split(";")[:-1]:
            execute(connection, statement)
        shop = Shop(lambda: connect(server), database, rate=500.0)
        shop.start()
        shop.wait_for_writes(30)
        shop.stop()
        execute(connection, damage.format(database))
        verdict = shop.verify(connection, database)
    assert wrong(verdict) == found, verdict.text()
