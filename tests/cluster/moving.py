"""A move between two real servers: what the tests of streams, cutovers and observing share.

A test module takes the fixtures by assignment: ``pair = moving.pair`` and ``move = moving.move``. The servers live as
long as the module; every test gets them empty. Run as a program, it forks a process per command, each of which may be
killed at a named point or from outside: starting an interpreter for each would take ten times as long.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from executor.crashpoints import VARIABLE
from executor.native import sidecar
from executor.native.access import Access
from executor.native.cutover.catch_up import catch_up
from executor.native.cutover.fence import PREFIX, is_fenced, standing
from executor.native.cutover.switch import settle
from executor.native.logins import Logins
from executor.native.native import NativeBackend
from executor.native.servers import Connection, connect, quote
from executor.native.stream import runner
from executor.native.stream.layout import describe_tables, layout_of
from executor.native.topology import Topology, TopologyState
from executor.native.waiting import wait_until
from planner.cluster import StreamState, TabletType
from planner.document import Move
from planner.inventory import Inventory
from planner.step import Step
from planner.steps.registry import STEP_KINDS
from tests.cluster.conftest import Pairing, Ports, Templates, TestCluster, discard, prepare, write_inventory
from tests.cluster.dialect import allow_sequences, spoken

REPOSITORY = Path(__file__).parents[2]
SOURCE, TARGET = "commerce", "customer"
ALIAS = {SOURCE: "zone1-0000000100", TARGET: "zone1-0000000200"}
DATABASE = {SOURCE: "vt_commerce", TARGET: "vt_customer"}
TABLETS = ((SOURCE, 100, TabletType.REPLICA), (TARGET, 200, TabletType.REPLICA))
NAME = "commerce2customer"
DEADLINE = 60.0


class Silence:
    """Progress that nobody watches."""

    def update(
        self,
        text: str = "",
        done: int | None = None,
        total: int | None = None,
        rate: float | None = None,
        eta: float | None = None,
        reason: str = "",
    ) -> None:
        return

    def check_interrupt(self) -> None:
        return

    def shielded(self, what: str) -> AbstractContextManager[None]:
        return nullcontext()


class Forks:
    """Processes forked from one that has everything loaded. Each does one thing of `_do` and ends, or is killed."""

    def __init__(self) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.moving"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, what: str, inventory: Inventory, move: Move, kill_at: str = "") -> int:
        """Starts a process that does `what` and returns its pid; it kills itself at the point `kill_at`."""
        return self._ask({"do": what, "inventory": inventory.file, "move": _packed(move), "kill_at": kill_at})

    def wait(self, pid: int) -> int:
        """Waits for the end of a process; returns its exit code, negative for a signal."""
        return self._ask({"wait": pid})

    def _ask(self, question: dict[str, object]) -> int:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(question) + "\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())

    def close(self) -> None:
        """Ends the parent; its children must have ended."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.close()
        self._parent.stdout.close()
        self._parent.wait(10)


@dataclass
class Pair:
    """Two keyspaces of one tablet each, both promoted."""

    cluster: TestCluster
    forks: Forks

    @property
    def inventory(self) -> Inventory:
        return self.cluster.inventory

    def empty(self) -> None:
        """Makes both servers and the topology as they were at first."""
        for keyspace in (SOURCE, TARGET):
            with self.connect(keyspace, None) as connection:
                allow_sequences(connection)
                connection.execute("SET SESSION lock_wait_timeout=20")
                for database in (DATABASE[keyspace], sidecar.SCHEMA):
                    connection.execute(f"DROP DATABASE IF EXISTS {database}")
                connection.execute(f"CREATE DATABASE {DATABASE[keyspace]}")
                sidecar.ensure(connection)
        self.cluster.topology.update(
            lambda state: replace(
                TopologyState(version=state.version, tablets=state.tablets),
                keyspaces=tuple(replace(keyspace, denied_tables=()) for keyspace in state.keyspaces),
            )
        )

    def connect(self, keyspace: str, database: str | None = "") -> Connection:
        """A connection to the PRIMARY of `keyspace`, in its database unless that is None."""
        login = self.cluster.logins.tablet(ALIAS[keyspace])
        return connect(login, database=DATABASE[keyspace] if database == "" else database, read_timeout=60.0)

    def restart(self, keyspace: str) -> None:
        """Stops the server of `keyspace` and starts it again."""
        self.cluster.local.stop_tablet(ALIAS[keyspace])
        self.start(keyspace)

    def start(self, keyspace: str) -> None:
        """Starts the server of `keyspace` as the writable PRIMARY that it is."""
        self.cluster.local.start_tablet(ALIAS[keyspace], writable=True)


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, templates: Templates, pairing: Pairing, ports: Ports
) -> Iterator[Pair]:
    """Two keyspaces with a PRIMARY each, and a topology server."""
    inventory = write_inventory(tmp_path_factory.mktemp("pair"), "test", TABLETS, ports, pairing)
    local = prepare(inventory, templates, pairing)
    try:
        local.start_topology()
        logins = Logins(inventory)
        topology = Topology(logins.topology())
        topology.create()
        cluster = TestCluster(inventory, local, logins, topology)
        for keyspace in (SOURCE, TARGET):
            cluster.add_keyspace(keyspace)
        forks = Forks()
        yield Pair(cluster, forks)
        forks.close()
        topology.close()
    finally:
        discard(inventory)


@dataclass
class Moving:
    """The move of some tables from commerce to customer, performed step by step."""

    pair: Pair
    backend: NativeBackend
    move: Move
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def access(self) -> Access:
        return self.backend._access

    def tables(self, *statements: str, **changes: object) -> None:
        """Runs `statements` on the source; all base tables that are there then are to be moved, as `changes` say."""
        self.on(SOURCE, *statements)
        with self.source() as source:
            names = tuple(table.name for table in describe_tables(source, DATABASE[SOURCE]))
        self.move = replace(self.move, tables=names, **changes)  # type: ignore[arg-type]

    def source(self) -> Connection:
        """A connection to the source, in its database."""
        return self.pair.connect(SOURCE)

    def target(self) -> Connection:
        """A connection to the target, in its database."""
        return self.pair.connect(TARGET)

    def on(self, keyspace: str, *statements: str) -> None:
        """Runs `statements` on one connection to `keyspace`; see `spoken`."""
        with self.pair.connect(keyspace) as connection:
            for statement in statements:
                connection.execute(spoken(statement, connection))

    def step(self, kind: str) -> Step:
        """The step of that kind for this move."""
        return step_of(kind, self.move)

    def perform(self, kind: str) -> None:
        """Carries the step of that kind out."""
        self.backend.perform(self.step(kind), Silence())

    def created(self) -> None:
        """Creates the workflow and starts it; nobody runs its stream yet."""
        self.perform("create_workflow")
        self.perform("start_workflow")

    def running(self) -> None:
        """Creates the workflow and runs it until everything is copied."""
        self.created()
        self.run_streams()
        self.wait_for(StreamState.RUNNING)

    def run_streams(self, inventory: Inventory | None = None) -> None:
        """Runs the streams in a thread of this process, with the logins of `inventory` if given."""
        self._stop = threading.Event()
        logins = Logins(inventory or self.pair.inventory)
        self._thread = threading.Thread(target=runner.run, args=(logins, self._stop), daemon=True)
        self._thread.start()

    def stop_streams(self) -> None:
        """Ends what `run_streams` began."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join(30)
            assert not self._thread.is_alive()
            self._thread = None
        for thread in threading.enumerate():
            if thread.name.startswith("stream "):
                thread.join(30)

    def killed_at(self, what: str, point: str) -> None:
        """Does `what` in another process, which kills itself at `point`."""
        pid = self.pair.forks.start(what, self.pair.inventory, self.move, point)
        assert self.pair.forks.wait(pid) == -signal.SIGKILL, f"{what} did not come to {point}"

    def record(self, keyspace: str = TARGET, workflow: str = NAME) -> sidecar.StreamRecord | None:
        """The record of a stream."""
        with self.pair.connect(keyspace) as connection:
            return sidecar.stream(connection, keyspace, workflow)

    def state(self, keyspace: str = TARGET, workflow: str = NAME) -> StreamState | None:
        """The state of a stream, None when there is none."""
        record = self.record(keyspace, workflow)
        return None if record is None else record.state

    def wait_for(
        self, state: StreamState, keyspace: str = TARGET, workflow: str = NAME, timeout: float = DEADLINE
    ) -> sidecar.StreamRecord:
        """Waits until a stream is in `state`; fails at once when it is in Error instead."""
        with self.pair.connect(keyspace) as connection:

            def reached() -> sidecar.StreamRecord | None:
                record = sidecar.stream(connection, keyspace, workflow)
                assert record is not None
                if record.state is StreamState.ERROR and state is not StreamState.ERROR:
                    pytest.fail(f"the stream failed: {record.message}")
                return record if record.state is state else None

            return wait_until(reached, timeout, f"stream {keyspace}.{workflow} to be {state}")

    def wait_for_error(self) -> str:
        """Waits until the forward stream is in Error; returns its message."""
        return self.wait_for(StreamState.ERROR).message

    def catch_up(self, source: str = SOURCE, target: str = TARGET, workflow: str = NAME) -> None:
        """Waits until a stream has applied everything that its source has written."""
        with self.pair.connect(source) as a, self.pair.connect(target) as b:
            catch_up(a, b, target, workflow, "test", DEADLINE)

    def assert_equal(self) -> None:
        """Every moved table holds the same rows on both sides, in every byte."""
        with self.source() as source, self.target() as target:
            for name in self.move.tables:
                here, there = contents(source, SOURCE, name), contents(target, TARGET, name)
                missing, extra = list(set(here) - set(there))[:3], list(set(there) - set(here))[:3]
                assert here == there, f"{name}: {len(here)} and {len(there)} rows; missing {missing}, extra {extra}"

    def settled_equal(self) -> None:
        """Copied, caught up and equal."""
        self.wait_for(StreamState.RUNNING)
        self.catch_up()
        self.assert_equal()

    def fenced(self, keyspace: str) -> set[bool]:
        """Which answers "is it fenced?" gets from the moved tables of `keyspace`."""
        with self.pair.connect(keyspace) as connection:
            found = standing(connection, DATABASE[keyspace])
            present = {table.name for table in describe_tables(connection, DATABASE[keyspace], self.move.tables)}
        return {is_fenced(found.get(table)) for table in self.move.tables if table in present}

    def topology(self) -> TopologyState:
        """The topology as it is now."""
        return self.pair.cluster.topology.read()

    def denied(self, keyspace: str) -> tuple[str, ...]:
        """The denied tables of `keyspace`."""
        record = self.topology().keyspace(keyspace)
        assert record is not None
        return record.denied_tables

    def journal_rows(self) -> int:
        """How many journal rows both sides hold."""
        total = 0
        for keyspace in (SOURCE, TARGET):
            with self.pair.connect(keyspace) as connection:
                total += int(connection.value(f"SELECT COUNT(*) FROM {sidecar.SCHEMA}.journal"))
        return total

    def assert_writes_at(self, keyspace: str) -> None:
        """Exactly `keyspace` takes writes, rules and streams agree, and nothing of a cutover is left."""
        other = TARGET if keyspace == SOURCE else SOURCE
        names = tuple(sorted(self.move.tables))
        state = self.topology()
        rules = {rule.from_table: rule.to_table for rule in state.routing_rules}
        assert self.fenced(keyspace) == {False}
        assert self.fenced(other) == {True}
        assert self.denied(keyspace) == ()
        assert self.denied(other) == names
        assert {rules[f"{SOURCE}.{name}"] if keyspace == TARGET else rules[f"{TARGET}.{name}"] for name in names} == {
            f"{keyspace}.{name}" for name in names
        }
        assert state.switching == ()
        assert state.cutovers == ()
        assert self.journal_rows() == 0
        if keyspace == TARGET:
            forward = self.record()
            assert forward is not None
            assert forward.frozen
            assert self.state(SOURCE, f"{NAME}_reverse") is StreamState.RUNNING
            self.catch_up(TARGET, SOURCE, f"{NAME}_reverse")
        else:
            assert self.state(SOURCE, f"{NAME}_reverse") is None
            assert self.state() is StreamState.RUNNING
            self.catch_up()
        self.assert_equal()

    def assert_nothing_left(self) -> None:
        """No trigger, denied table, stream, rule or other record of ours is anywhere."""
        state = self.topology()
        assert (state.switching, state.cutovers, state.mirror_rules) == ((), (), ())
        for keyspace in (SOURCE, TARGET):
            assert self.denied(keyspace) == ()
            with self.pair.connect(keyspace) as connection:
                triggers = connection.query(
                    "SELECT trigger_name FROM information_schema.triggers WHERE trigger_name LIKE %s", [f"{PREFIX}%"]
                )
                assert triggers == []
                for table in ("vreplication", "copy_state", "post_copy_action", "vreplication_log", "journal",
                              "vdiff", "vdiff_table"):  # fmt: skip
                    rows = connection.query(f"SELECT * FROM {sidecar.SCHEMA}.{table}")
                    assert rows == [], f"{table} of {keyspace}"
                markers = connection.query(f"SELECT * FROM {sidecar.SCHEMA}.marker WHERE purpose<>'test'")
                assert markers == [], f"markers of {keyspace}"


@pytest.fixture
def move(pair: Pair) -> Iterator[Moving]:
    """A move whose tables a test makes with `tables`; nothing runs yet."""
    pair.empty()
    backend = NativeBackend(pair.inventory)
    moving = Moving(pair, backend, Move(NAME, SOURCE, TARGET, ()))
    yield moving
    moving.stop_streams()
    backend.close()


def contents(connection: Connection, keyspace: str, table: str) -> list[tuple[object, ...]]:
    """Every row of a table as the text that the server gives for it and as the stream's literals, ordered."""
    described = describe_tables(connection, DATABASE[keyspace], [table])
    if not described:
        return []
    layout = layout_of(DATABASE[keyspace], described[0])
    columns = ",".join(
        # HEX of a number rounds it, and the two servers do that differently.
        quote(c.name) if c.data_type in ("float", "double", "decimal") else f"HEX({quote(c.name)})"
        for c in described[0].columns
    )
    raw: Any = connection.raw
    saved, raw.decoders = raw.decoders, dict.fromkeys(range(256), str)
    try:
        rows = connection.query(
            f"SELECT CAST({layout.tuple_expression} AS BINARY) AS t, {columns} FROM {layout.qualified}"
        )
    finally:
        raw.decoders = saved
    return sorted((tuple(row.values()) for row in rows), key=repr)


def step_of(kind: str, move: Move) -> Step:
    """The step of that kind for `move`."""
    made: Any = STEP_KINDS[kind]
    step: Step = made(move)
    return step


def hold_table(connection: Connection, table: str) -> None:
    """Opens a transaction on `connection` that has read `table`; it ends with the connection."""
    connection.execute("START TRANSACTION")
    connection.query(f"SELECT * FROM {quote(table)} LIMIT 1")


def until(condition: Callable[[], object], what: str, timeout: float = DEADLINE) -> None:
    """Waits until `condition` is true."""
    wait_until(lambda: bool(condition()), timeout, what)


def _packed(move: Move) -> str:
    return base64.b64encode(pickle.dumps(move)).decode()


def _unpacked(text: str) -> Move:
    move = pickle.loads(base64.b64decode(text))
    assert isinstance(move, Move)
    return move


def _do(what: str, inventory: Inventory, move: Move) -> None:
    if what == "streams":
        runner.run(Logins(inventory), threading.Event())
    elif what == "settle":
        access = Access(inventory)
        settle(access, move.target, move.name)
        settle(access, move.source, move.reverse_name)
    else:
        NativeBackend(inventory).perform(step_of(what, move), Silence())


def _serve(questions: Iterator[str]) -> None:
    from executor.cli.environment import open_inventory

    for line in questions:
        question = json.loads(line)
        if "wait" in question:
            _, status = os.waitpid(question["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        child = os.fork()
        if child == 0:
            _child(question, lambda: open_inventory(Path(question["inventory"])))  # noqa: B023 - it never returns
        print(child, flush=True)


def _child(question: dict[str, object], inventory: Callable[[], Inventory]) -> None:
    os.environ[VARIABLE] = str(question["kill_at"])
    code = 1
    try:
        _do(str(question["do"]), inventory(), _unpacked(str(question["move"])))
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def points(prefix: str, names: Sequence[str]) -> list[str]:
    """``cutover:intent`` and so on."""
    return [f"{prefix}:{name}" for name in names]


if __name__ == "__main__":
    _serve(iter(sys.stdin.readline, ""))
