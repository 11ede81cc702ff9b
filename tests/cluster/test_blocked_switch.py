"""Switches that must not happen or cannot be finished, at the command line: nothing changes, the message says why."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from executor.native.access import Access
from executor.native.cutover.fence import standing
from executor.native.local.cluster import LocalCluster
from executor.native.local.processes import read_pid_file
from executor.native.local.serve import pid_file
from executor.native.local.up import status
from executor.native.servers import Connection
from executor.native.waiting import wait_until
from planner.cluster import StreamState
from tests.cluster.commands import Commands, Done, moving_shop, shop_plan, told
from tests.cluster.conftest import Pairing, Ports, Templates

WORKFLOW = "customer.commerce2customer"
SHORT = "cutover: {timeout: 3s, max_replication_lag: 10m}"
PLANTED = {
    "one byte": (
        "UPDATE customer SET email = 'alice@domain.con' WHERE customer_id = 1",
        "UPDATE customer SET email = 'alice@domain.com' WHERE customer_id = 1",
        ("MismatchedRows", "alice@domain.con"),
    ),
    "a missing row": (
        "DELETE FROM corder WHERE order_id = 3",
        "INSERT INTO corder VALUES (3, 3, 'SKU-1002', 30)",
        ("ExtraRowsSource", "SKU-1002"),
    ),
    "an extra row": (
        "INSERT INTO customer VALUES (4711, 'mallory@domain.com')",
        "DELETE FROM customer WHERE customer_id = 4711",
        ("ExtraRowsTarget", "mallory@domain.com"),
    ),
}


@pytest.fixture(scope="module")
def shop(
    tmp_path_factory: pytest.TempPathFactory, templates: Templates, pairing: Pairing, ports: Ports
) -> Iterator[Commands]:
    with moving_shop(tmp_path_factory.mktemp("blocked"), templates, pairing, ports, "blocked") as found:
        yield found


@pytest.fixture
def commands(shop: Commands) -> Iterator[Commands]:
    """The move runs, with its traffic at commerce; so it is again after every test that went well."""
    yield shop
    shop.apply(shop_plan(shop, "running"))
    assert_traffic_at(shop, "commerce")


@contextmanager
def primary(commands: Commands, keyspace: str) -> Iterator[Connection]:
    """The server of a keyspace itself, past the gateway, and past the fence as the streams are."""
    access = Access(commands.inventory)
    with access.connect_primary(keyspace, apply=True) as connection:
        connection.execute(f"USE vt_{keyspace}")
        yield connection
    access.close()


def assert_traffic_at(commands: Commands, keyspace: str) -> None:
    """Writes go to `keyspace`; no cutover is begun, and the other keyspace alone is closed."""
    other = {"commerce": "customer", "customer": "commerce"}[keyspace]
    rules = commands.rules()
    assert {rules.get(name, name) for name in ("customer", "commerce.customer")} <= {"customer", f"{keyspace}.customer"}
    access = Access(commands.inventory)
    state = access.topology.read()
    assert (state.switching, state.cutovers) == ((), ())
    for name, denied in ((keyspace, ()), (other, ("corder", "customer"))):
        record = state.keyspace(name)
        assert record is not None
        assert record.denied_tables == denied
        with access.connect_primary(name) as connection:
            assert tuple(sorted(standing(connection, f"vt_{name}"))) == denied
            assert connection.query("SELECT * FROM _movetables.journal") == []
    access.close()
    moves = {move["workflow"]: move["state"] for move in commands.json("show")["moves"]}
    if keyspace == "commerce":
        assert moves == {WORKFLOW: StreamState.RUNNING.value}


def serve_stopped(commands: Commands) -> None:
    serve = read_pid_file(pid_file(LocalCluster(commands.inventory)))
    assert serve is not None
    serve.stop(timeout=60)


def role(commands: Commands, name: str) -> int:
    pid = next(row.pid for row in status(commands.inventory) if row.name == name)
    assert pid is not None
    return pid


class Writer(threading.Thread):
    """A client that writes to a moved table through the gateway, one row after the other."""

    def __init__(self, commands: Commands) -> None:
        super().__init__(name="writer", daemon=True)
        self._commands = commands
        self._stopping = threading.Event()
        self.written: list[int] = []
        self.longest = 0.0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with self._commands.gateway("commerce") as connection, connection.cursor() as cursor:
                while not self._stopping.wait(0.02):
                    began = time.monotonic()
                    cursor.execute("INSERT INTO customer (email) VALUES ('writer@domain.com')")
                    self.longest = max(self.longest, time.monotonic() - began)
                    self.written.append(cursor.lastrowid)
        except Exception as error:  # noqa: BLE001 - whatever a client sees fails the test
            self.error = error

    def wait_for_another(self) -> None:
        count = len(self.written)
        wait_until(lambda: len(self.written) > count or self.error is not None, 60, "another write")

    def finish(self) -> None:
        """Stops, and asserts that every write was acknowledged once and is there."""
        self.wait_for_another()
        self._stopping.set()
        self.join(90)
        assert self.error is None
        rows = self._commands.query(
            "SELECT customer_id FROM customer WHERE email = 'writer@domain.com' ORDER BY customer_id", "commerce"
        )
        assert set(self.written) <= {number for (number,) in rows}
        self._commands.query("DELETE FROM customer WHERE email = 'writer@domain.com'", "commerce")


@pytest.fixture
def writer(commands: Commands) -> Iterator[Writer]:
    made = Writer(commands)
    made.start()
    made.wait_for_another()
    yield made
    made.finish()


def assert_refused_and_then_done(commands: Commands, refused: Done, repair: Callable[[], object]) -> None:
    """Nothing was switched; once the cause is removed, applying again succeeds."""
    said = refused.stdout + refused.stderr
    try:
        assert_traffic_at(commands, "commerce")
    except AssertionError as error:
        raise AssertionError(said) from error
    repair()
    commands.apply(shop_plan(commands, "switched"))
    assert_traffic_at(commands, "customer")


@pytest.mark.parametrize("difference", PLANTED)
def test_a_planted_difference_blocks_the_switch(commands: Commands, difference: str) -> None:
    plant, repair, shown = PLANTED[difference]
    commands.out("vdiff", "delete", WORKFLOW, "all")  # a clean one of an earlier test would do for a day
    with primary(commands, "customer") as target:
        target.execute(plant)
    refused = commands.apply(shop_plan(commands, "switched"), expected=7)
    assert "source and target differ" in refused.stderr
    assert f"movetables vdiff show {WORKFLOW} --verbose" in refused.stderr
    again = commands.run("plan", str(shop_plan(commands, "switched")), expected=None)
    assert again.returncode in (0, 7), told(("plan",), again)
    counted, sample = shown
    assert counted in commands.out("vdiff", "show", WORKFLOW)
    said = commands.out("vdiff", "show", WORKFLOW, "last", "--verbose")
    assert sample in said or sample.encode().hex() in said.lower()  # binary columns that are no text are in hex

    def mend() -> None:
        with primary(commands, "customer") as target:
            target.execute(repair)

    assert_refused_and_then_done(commands, refused, mend)


def test_a_stream_that_stands_still_is_waited_for_and_then_nothing_has_changed(
    commands: Commands, writer: Writer
) -> None:
    streams = role(commands, "streams")
    os.kill(streams, signal.SIGSTOP)
    try:
        stopped = commands.apply(
            shop_plan(commands, "switched", "verify: {before_switch: false}\n" + SHORT), expected=9
        )
    finally:
        os.kill(streams, signal.SIGCONT)
    assert "failed to sync up replication" in stopped.stderr
    assert "movetables serve" in stopped.stderr
    writer.wait_for_another()
    assert writer.longest < 30
    assert_refused_and_then_done(commands, stopped, lambda: None)


def test_without_serve_nothing_is_switched(commands: Commands) -> None:
    serve_stopped(commands)
    stopped = commands.apply(shop_plan(commands, "switched", "verify: {before_switch: false}\n" + SHORT), expected=9)
    assert "failed to sync up replication" in stopped.stderr
    assert_refused_and_then_done(commands, stopped, lambda: commands.run("local", "up"))


def test_a_stream_that_stops_behind_the_fence_is_given_up_and_the_fence_is_lowered(
    commands: Commands, writer: Writer
) -> None:
    streams = role(commands, "streams")
    plan = shop_plan(commands, "switched", "verify: {before_switch: false}\n" + SHORT.replace("3s", "10s"))
    with primary(commands, "commerce") as holder, primary(commands, "customer") as halted:
        # As a stream that is halted in the middle of a transaction holds the tables of the target.
        halted.execute("BEGIN")
        halted.query("SELECT * FROM corder WHERE order_id = 1")
        holder.execute("BEGIN")
        holder.execute("UPDATE corder SET price = 101 WHERE order_id = 1")
        process = commands.start("apply", str(plan), "--auto-approve")
        # The stream had caught up when writes began to be held; the fence waits for the open transaction.
        wait_until(lambda: bool(commands.json("show")["switching"]), 60, "the cutover")
        os.kill(streams, signal.SIGSTOP)
        try:
            holder.execute("COMMIT")
            out, err = process.communicate(timeout=120)
        finally:
            os.kill(streams, signal.SIGCONT)
    assert process.returncode == 9, f"{out}\n{err}"
    assert "failed to sync up replication" in err
    writer.wait_for_another()
    done = Done((), process.returncode, out, err)
    assert_refused_and_then_done(commands, done, lambda: None)
    assert commands.query("SELECT price FROM corder WHERE order_id = 1", "commerce") == [(101,)]


def test_a_transaction_that_holds_a_table_for_too_long_only_delays_clients(commands: Commands, writer: Writer) -> None:
    plan = shop_plan(commands, "switched", "verify: {before_switch: false}\n" + SHORT)
    with primary(commands, "commerce") as holder:
        holder.execute("BEGIN")
        holder.query("SELECT * FROM corder WHERE order_id = 1")
        stopped = commands.apply(plan, expected=9)
        writer.wait_for_another()
        assert "corder" in stopped.stderr
        assert_refused_and_then_done(commands, stopped, lambda: holder.execute("COMMIT"))
    assert writer.longest < 30


def test_a_read_only_target_is_refused_before_anything_is_held(commands: Commands, writer: Writer) -> None:
    plan = shop_plan(commands, "switched")

    def read_only(value: int) -> None:
        with primary(commands, "customer") as target:
            target.execute(f"SET GLOBAL read_only={value}")

    read_only(1)
    try:
        refused = commands.apply(plan, expected=4)
    finally:
        read_only(0)
    assert "MT308" in refused.stderr
    assert "SET GLOBAL read_only = 0" in refused.stderr
    assert_refused_and_then_done(commands, refused, lambda: None)
    writer.wait_for_another()
