"""A workflow between two real servers, with the real stream, for the tests of VDiff.

A test module takes the fixtures by assignment: ``servers, move = vdiff_move.servers, vdiff_move.move``.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from executor.native import sidecar
from executor.native.local import server as programs
from executor.native.local.local_server import LocalServer
from executor.native.servers import Connection, ServerError, connect
from executor.native.stream.stream import Stream
from executor.native.vdiff.options import VDiffOptions
from executor.native.vdiff.report import TableReport, VDiffReport
from executor.native.vdiff.run import run_vdiff
from executor.native.waiting import wait_until
from planner.cluster import StreamState
from tests.cluster.conftest import Pairing, Ports, Templates, dispose
from tests.cluster.dialect import allow_sequences, spoken

KEYSPACE, WORKFLOW = "customer", "commerce2customer"


@dataclass
class Move:
    """A workflow between two servers whose stream runs in a thread of the test."""

    source: LocalServer
    target: LocalServer
    topology: LocalServer
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def begin(self, definition: str, *rows: str) -> None:
        """Creates table t on both sides with `rows` on the source, and waits until the stream has copied it."""
        with self.connect_source() as source, self.connect_target() as target:
            source.execute(f"CREATE TABLE src.t ({definition}) ENGINE=InnoDB")
            target.execute(f"CREATE TABLE dst.t ({definition}) ENGINE=InnoDB")
            for row in rows:
                source.execute(spoken(f"INSERT INTO src.t {row}", source))
            sidecar.create_stream(
                target,
                keyspace=KEYSPACE,
                workflow=WORKFLOW,
                source_keyspace="commerce",
                tables=["t"],
                db_name="dst",
                source_db_name="src",
                copy=True,
            )
            sidecar.set_state(target, KEYSPACE, WORKFLOW, StreamState.COPYING)
            self.start_stream()
            self.wait_for(StreamState.RUNNING)

    def start_stream(self) -> None:
        stream = Stream(self.source.login, self.target.login, KEYSPACE, WORKFLOW, self.stop.is_set)
        self.thread = threading.Thread(target=stream.run, daemon=True)
        self.thread.start()

    def stop_stream(self) -> None:
        self.stop.set()
        if self.thread is not None:
            self.thread.join(30)
            assert not self.thread.is_alive()
        self.stop.clear()

    def wait_for(self, state: StreamState) -> None:
        with self.connect_target() as target:

            def reached() -> bool:
                record = sidecar.stream(target, KEYSPACE, WORKFLOW)
                return record is not None and record.state is state

            wait_until(reached, 30, f"the stream to be {state}")

    def connect_source(self) -> Connection:
        return connect(self.source.login, database="src")

    def connect_target(self) -> Connection:
        return connect(self.target.login, database="dst")

    def on_target(self, *statements: str) -> None:
        with self.connect_target() as target:
            for statement in statements:
                assert target.execute(spoken(statement, target)) >= 0

    def on_source(self, *statements: str) -> None:
        with self.connect_source() as source:
            for statement in statements:
                source.execute(spoken(statement, source))

    def vdiff(self, **options: object) -> VDiffReport:
        given = VDiffOptions(**options)  # type: ignore[arg-type]
        return run_vdiff(self.source.login, self.target.login, KEYSPACE, WORKFLOW, options=given)


@contextmanager
def running_servers(templates: Templates, pairing: Pairing, ports: Ports, folder: Path) -> Iterator[list[LocalServer]]:
    """A source, a target and a topology server, which end afterwards."""
    names = {"source": pairing.source, "target": pairing.target, "topology": pairing.source}
    made = [
        LocalServer(name, folder / name, ports.take(), 11 + i, "secret", flavor)
        for i, (name, flavor) in enumerate(names.items())
    ]
    try:
        for server in made:
            programs.start(server, templates(server.flavor))
        yield made
    finally:
        for server in made:
            dispose(server)


@contextmanager
def fresh_move(servers: list[LocalServer]) -> Iterator[Move]:
    """A move between the first two servers, with empty databases; its stream stops afterwards."""
    source, target, topology = servers
    for server, database in ((source, "src"), (target, "dst")):
        with connect(server.login) as connection:
            allow_sequences(connection)
            for statement in (
                f"DROP DATABASE IF EXISTS {database}",
                f"DROP DATABASE IF EXISTS {sidecar.SCHEMA}",
                f"CREATE DATABASE {database}",
            ):
                connection.execute(statement)
            sidecar.ensure(connection)
    made = Move(source, target, topology)
    try:
        yield made
    finally:
        made.stop_stream()


@pytest.fixture(scope="module")
def servers(
    templates: Templates, pairing: Pairing, ports: Ports, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[LocalServer]]:
    with running_servers(templates, pairing, ports, tmp_path_factory.mktemp("vdiff")) as servers:
        yield servers


@pytest.fixture
def move(servers: list[LocalServer]) -> Iterator[Move]:
    with fresh_move(servers) as move:
        yield move


def only_table(report: VDiffReport) -> TableReport:
    assert report.state == "completed"
    assert len(report.tables) == 1
    return report.tables[0]


def counters(report: VDiffReport) -> tuple[int, int, int, int]:
    """(matching, mismatched, extra on the source, extra on the target)."""
    table = only_table(report)
    assert table.rows_compared == table.matching + table.mismatched + table.extra_source + table.extra_target
    return table.matching, table.mismatched, table.extra_source, table.extra_target


MANY = "SELECT seq, seq FROM seq_1_to_3000"


PACE = 0.004
"""Seconds between two statements of a writer: the stream shares our processor with everything else."""


class Writers:
    """Threads that change rows of the source all the time until stopped, `pace` seconds apart."""

    def __init__(self, move: Move, *statements: Callable[[random.Random], str], pace: float = PACE) -> None:
        self._stop = threading.Event()
        self._pace = pace
        self.written = 0
        self.errors: list[ServerError] = []
        self._threads = [threading.Thread(target=self._write, args=(move, i, statements)) for i in range(2)]

    def _write(self, move: Move, seed: int, statements: tuple[Callable[[random.Random], str], ...]) -> None:
        chance = random.Random(seed)
        with move.connect_source() as source:
            while not self._stop.is_set():
                try:
                    source.execute(chance.choice(statements)(chance))
                except ServerError as error:
                    self.errors.append(error)
                    return
                self.written += 1
                if self._pace:
                    self._stop.wait(self._pace)

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert not self.errors
