"""VDiff finds every difference in bytes, and reports none while rows change. Two real servers and the real stream."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import jsonschema
import pytest

import schemas
from executor.errors import LockHeld, Refused, TimedOut, Usage
from executor.native import sidecar
from executor.native.local import mariadbd
from executor.native.local.mariadbd import LocalServer
from executor.native.servers import Connection, ServerError, connect
from executor.native.stream.stream import Stream
from executor.native.topology import KeyspaceRecord, TabletRecord, Topology
from executor.native.vdiff import records, show
from executor.native.vdiff.confirm import NotRunning
from executor.native.vdiff.options import VDiffOptions
from executor.native.vdiff.report import TableReport, VDiffReport
from executor.native.vdiff.run import run_vdiff
from executor.native.vdiff.summary import latest
from executor.native.waiting import wait_until
from planner.cluster import StreamState, TabletType
from tests.cluster.conftest import Ports

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
                source.execute(f"INSERT INTO src.t {row}")
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
                assert target.execute(statement) >= 0

    def on_source(self, *statements: str) -> None:
        with self.connect_source() as source:
            for statement in statements:
                source.execute(statement)

    def vdiff(self, **options: object) -> VDiffReport:
        given = VDiffOptions(**options)  # type: ignore[arg-type]
        return run_vdiff(self.source.login, self.target.login, KEYSPACE, WORKFLOW, options=given)


@pytest.fixture(scope="module")
def servers(template: Path, ports: Ports, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[LocalServer]]:
    folder = tmp_path_factory.mktemp("vdiff")
    names = ("source", "target", "topology")
    made = [LocalServer(name, folder / name, ports.take(), 11 + i, "secret") for i, name in enumerate(names)]
    for server in made:
        mariadbd.start(server, template)
    yield made
    for server in made:
        mariadbd.stop(server)


@pytest.fixture
def move(servers: list[LocalServer]) -> Iterator[Move]:
    source, target, topology = servers
    for server, database in ((source, "src"), (target, "dst")):
        with connect(server.login) as connection:
            for statement in (
                f"DROP DATABASE IF EXISTS {database}",
                f"DROP DATABASE IF EXISTS {sidecar.SCHEMA}",
                f"CREATE DATABASE {database}",
            ):
                connection.execute(statement)
            sidecar.ensure(connection)
    made = Move(source, target, topology)
    yield made
    made.stop_stream()


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
DIFFERENCES = {
    "one microsecond": ("v DATETIME(6)", "'2024-05-05 10:00:00.123456'", "'2024-05-05 10:00:00.123457'"),
    "one microsecond of a timestamp": ("v TIMESTAMP(6) NULL", "'2024-05-05 10:00:00'", "'2024-05-05 10:00:00.000001'"),
    "one microsecond of a time": ("v TIME(6)", "'-10:00:00.000001'", "'-10:00:00.000002'"),
    "one ulp of a double": ("v DOUBLE", "0.1e0", "0.10000000000000002e0"),
    "one ulp of a float": ("v FLOAT", "0.1e0", "0.100000009e0"),
    "case": ("v VARCHAR(10) COLLATE utf8mb4_general_ci", "'abc'", "'abC'"),
    "accent": ("v VARCHAR(10) COLLATE utf8mb4_unicode_ci", "'abc'", "'äbc'"),
    "trailing space": ("v VARCHAR(10)", "'abc'", "'abc '"),
    "trailing space of a text": ("v TEXT", "'abc'", "'abc '"),
    "trailing zero byte": ("v VARBINARY(10)", "X'6100'", "X'61'"),
    "NULL and the empty string": ("v VARCHAR(10)", "NULL", "''"),
    "NULL and the word": ("v VARCHAR(10)", "NULL", "'NULL'"),
    "NULL and zero": ("v INT", "NULL", "0"),
    "swapped neighbours": ("v VARCHAR(10), w VARCHAR(10)", "'a','b'", "'b','a'"),
    "shifted border": ("v VARCHAR(10), w VARCHAR(10)", "'ab','c'", "'a','bc'"),
    "shifted border with quotes": ("v VARCHAR(10), w VARCHAR(10)", "'a'',''b','c'", "'a','b'',''c'"),
    "latin1": ("v VARCHAR(10) CHARACTER SET latin1", "'é'", "'e'"),
    "bit": ("v BIT(64)", "b'1'", "~b'0'"),
    "enum": ("v ENUM('a','b')", "'a'", "'b'"),
    "last digit": ("v DECIMAL(30,10)", "12345678901234567890.0000000001", "12345678901234567890.0000000002"),
    "json spacing": ("v JSON", "'{\"a\":1}'", "'{\"a\": 1}'"),
    "one byte of a blob": ("v LONGBLOB", "CONCAT(REPEAT('x',100000),'y')", "CONCAT(REPEAT('x',100000),'z')"),
    "zero date": ("v DATE", "'0000-00-00'", "NULL"),
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_a_difference_in_one_value_is_found(move: Move, what: str) -> None:
    columns, here, there = DIFFERENCES[what]
    move.begin(f"id INT PRIMARY KEY, {columns}", f"VALUES (1,{here}),(2,{here}),(3,{here})")
    assert counters(move.vdiff()) == (3, 0, 0, 0)
    move.on_target("DELETE FROM t WHERE id=2", f"INSERT INTO t VALUES (2,{there})")
    report = move.vdiff()
    assert counters(report) == (2, 1, 0, 0)
    source, target = only_table(report).mismatch_samples[0]
    assert source["id"] == target["id"] == "2"
    with move.connect_source() as a, move.connect_target() as b:
        assert source["v"] != target["v"] or what in ("NULL and the word", "one byte of a blob"), (a, b)


def test_missing_and_extra_rows_are_found_at_both_ends(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    move.on_target(
        "DELETE FROM t WHERE id IN (1, 1500, 3000)",
        "INSERT INTO t VALUES (-5, 1), (0, 1), (3001, 1), (99999, 1)",
        "UPDATE t SET v=0 WHERE id IN (2, 2999)",
    )
    report = move.vdiff()
    assert counters(report) == (2995, 2, 3, 4)
    table = only_table(report)
    assert [row["id"] for row in table.extra_source_samples] == ["1", "1500", "3000"]
    assert [row["id"] for row in table.extra_target_samples] == ["-5", "0", "3001", "99999"]
    assert [(s["v"], t["v"]) for s, t in table.mismatch_samples] == [("2", "0"), ("2999", "0")]


def test_an_extra_row_in_an_empty_table_is_found(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT")
    assert counters(move.vdiff()) == (0, 0, 0, 0)
    move.on_target("INSERT INTO t VALUES (1, 1)")
    assert counters(move.vdiff()) == (0, 0, 0, 1)


def test_a_target_that_lost_everything_is_found(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    move.on_target("DELETE FROM t")
    assert counters(move.vdiff()) == (0, 0, 3000, 0)


def test_rows_that_exchanged_their_values_are_found(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    move.on_target("UPDATE t SET v=17-v WHERE v IN (8,9)")
    assert counters(move.vdiff()) == (2998, 2, 0, 0)


@pytest.mark.parametrize(
    ("kind", "here", "there"),
    [
        ("VARCHAR(10) COLLATE utf8mb4_general_ci", "'a'", "'A'"),
        ("VARCHAR(10) COLLATE utf8mb4_unicode_520_ci", "'ß'", "'ss'"),
        ("VARCHAR(10) COLLATE utf8mb4_general_ci", "'a'", "'a '"),
        ("VARCHAR(10) COLLATE utf8mb4_bin", "'a'", "'a '"),
        ("VARCHAR(10) CHARACTER SET latin1", "'é'", "'E'"),
    ],
)
def test_a_key_with_other_bytes_is_one_row_that_differs(move: Move, kind: str, here: str, there: str) -> None:
    move.begin(f"k {kind} PRIMARY KEY, v INT", f"VALUES ({here},1)")
    assert counters(move.vdiff()) == (1, 0, 0, 0)
    move.on_target("DELETE FROM t", f"INSERT INTO t VALUES ({there},1)")
    report = move.vdiff()
    assert counters(report) == (0, 1, 0, 0)
    source, target = only_table(report).mismatch_samples[0]
    assert source["k"] != target["k"]


def test_keys_that_a_nopad_collation_tells_apart_are_two_rows(move: Move) -> None:
    move.begin("k VARCHAR(10) COLLATE utf8mb4_general_nopad_ci PRIMARY KEY", "VALUES ('a'),('a ')")
    move.on_target("DELETE FROM t WHERE k='a '")
    assert counters(move.vdiff()) == (1, 0, 1, 0)


def test_a_composite_key_is_walked_and_bisected(move: Move) -> None:
    rows = "SELECT seq DIV 100, CONCAT('k', seq MOD 100), seq FROM seq_0_to_2999"
    move.begin("a INT, b VARCHAR(9) COLLATE utf8mb4_general_ci, v INT, PRIMARY KEY (a, b)", rows)
    move.on_target("DELETE FROM t WHERE a=7 AND b='k50'", "UPDATE t SET v=-1 WHERE a=29 AND b='k99'")
    report = move.vdiff()
    assert counters(report) == (2998, 1, 1, 0)
    assert only_table(report).extra_source_samples[0]["b"] == "k50"


def test_a_table_without_primary_key_is_compared_along_its_unique_key(move: Move) -> None:
    move.begin("v INT, id INT NOT NULL, UNIQUE KEY (id)", "SELECT -seq, 5000-seq FROM seq_1_to_3000")
    assert counters(move.vdiff()) == (3000, 0, 0, 0)
    move.on_target("UPDATE t SET v=1 WHERE id=3333")
    assert counters(move.vdiff()) == (2999, 1, 0, 0)


def test_text_that_the_server_cannot_group_at_once_is_not_taken_for_equal(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v LONGTEXT", "SELECT seq, REPEAT('x', 1000000) FROM seq_1_to_100")
    move.on_target("UPDATE t SET v=CONCAT(LEFT(v, 999999), 'y') WHERE id=100")
    assert counters(move.vdiff()) == (99, 1, 0, 0)


def test_samples_are_bounded_and_shortened_but_never_their_keys(move: Move) -> None:
    move.begin("id VARCHAR(300) PRIMARY KEY, v TEXT", "SELECT REPEAT(seq, 200), REPEAT('é', 500) FROM seq_1_to_9")
    move.on_target("UPDATE t SET v='é'")
    table = only_table(move.vdiff(max_report_sample_rows=3))
    assert (table.mismatched, len(table.mismatch_samples)) == (9, 3)
    source, target = table.mismatch_samples[0]
    assert source == {"id": "1" * 200, "v": "é" * 128 + "...[TRUNCATED]"}
    assert target == {"id": "1" * 200, "v": "é"}
    assert len(only_table(move.vdiff(max_report_sample_rows=0)).mismatch_samples) == 9
    assert only_table(move.vdiff(only_pks=True)).mismatch_samples[0][0] == {"id": "1" * 200}


def test_a_limit_ends_the_comparison(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    move.on_target("UPDATE t SET v=0 WHERE id=2000")
    assert counters(move.vdiff(limit=1000)) == (1000, 0, 0, 0)


PACE = 0.004
"""Seconds between two statements of a writer: the stream shares our processor with everything else."""


class Writers:
    """Threads that change rows of the source all the time until stopped."""

    def __init__(self, move: Move, *statements: Callable[[random.Random], str]) -> None:
        self._stop = threading.Event()
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
                self._stop.wait(PACE)

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert not self.errors


def test_nothing_is_reported_while_rows_change(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", "SELECT seq, seq FROM seq_1_to_20000")
    with Writers(
        move,
        lambda r: f"UPDATE t SET v=v+1 WHERE id={r.randint(1, 20000)}",
        lambda r: f"DELETE FROM t WHERE id={r.randint(1, 20000)}",
        lambda r: f"INSERT IGNORE INTO t VALUES ({r.randint(1, 21000)}, 0)",
        lambda r: f"UPDATE IGNORE t SET id=id+7 WHERE id={r.randint(1, 20000)}",
    ) as writers:
        deadline = time.monotonic() + 8
        runs = 0
        while time.monotonic() < deadline or runs < 3:
            assert not move.vdiff().has_mismatch
            runs += 1
    assert writers.written > 100


def test_rows_that_go_back_and_forth_are_no_difference(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", "SELECT seq, 0 FROM seq_1_to_10")
    with Writers(
        move,
        lambda r: "UPDATE t SET v=1-v WHERE id=5",
        lambda r: "DELETE FROM t WHERE id=7",
        lambda r: "REPLACE INTO t VALUES (7, 0)",
        lambda r: "UPDATE t SET v=v+1 WHERE id=9",
    ) as writers:
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:
            assert not move.vdiff().has_mismatch
    assert writers.written > 100


def test_a_real_difference_among_busy_rows_is_found(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", "SELECT seq, 0 FROM seq_1_to_1000")
    move.on_target("UPDATE t SET v=-1 WHERE id=500", "DELETE FROM t WHERE id=501", "INSERT INTO t VALUES (2000,0)")
    with Writers(move, lambda r: f"UPDATE t SET v=v+1 WHERE id={r.choice([r.randint(1, 499), 502, 999])}"):
        for _ in range(3):
            assert counters(move.vdiff()) == (998, 1, 1, 1)


def test_a_stopped_stream_is_refused_with_what_to_do(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    move.stop_stream()
    with move.connect_target() as target:
        sidecar.set_state(target, KEYSPACE, WORKFLOW, StreamState.STOPPED)
        with pytest.raises(NotRunning, match="is Stopped, a VDiff needs it to be Running") as caught:
            move.vdiff()
        assert "start the workflow" in caught.value.hint
        sidecar.set_state(target, KEYSPACE, WORKFLOW, StreamState.COPYING)
        with pytest.raises(NotRunning, match="still copying"):
            move.vdiff()
        sidecar.set_state(target, KEYSPACE, WORKFLOW, StreamState.STOPPED, sidecar.FROZEN)
        with pytest.raises(NotRunning, match="frozen"):
            move.vdiff()
        assert show.last(target, KEYSPACE, WORKFLOW) is None


def test_a_stream_that_stands_still_is_an_error_and_not_a_difference(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    move.stop_stream()
    move.on_source("UPDATE t SET v=0 WHERE id=5")
    with pytest.raises(TimedOut, match="did not get from"):
        move.vdiff(filtered_replication_wait_time=0.5)
    with move.connect_target() as target:
        kept = show.last(target, KEYSPACE, WORKFLOW)
        assert kept is not None
        assert (kept.state, kept.has_mismatch) == ("error", False)
        assert "did not get from" in kept.error
        sidecar.set_state(target, KEYSPACE, WORKFLOW, StreamState.RUNNING)
    move.start_stream()
    report = run_vdiff(move.source.login, move.target.login, KEYSPACE, WORKFLOW, uuid=kept.uuid)
    assert counters(report) == (3000, 0, 0, 0)


def test_a_stream_that_stops_while_it_is_waited_for_is_an_error(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    move.stop_stream()
    move.on_source("UPDATE t SET v=0 WHERE id=5")

    def stop_it() -> None:
        with move.connect_target() as target:
            sidecar.set_state(target, KEYSPACE, WORKFLOW, StreamState.ERROR, "duplicate key")

    timer = threading.Timer(0.5, stop_it)
    timer.start()
    with pytest.raises(NotRunning, match="is Error, a VDiff needs it to be Running: duplicate key"):
        move.vdiff()
    timer.join()


def test_records_tell_the_newest_and_can_be_deleted(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    first = move.vdiff()
    move.on_target("UPDATE t SET v=0 WHERE id=5")
    second = move.vdiff()
    with move.connect_target() as target:
        found = latest(target, KEYSPACE, WORKFLOW)
        assert found is not None
        assert (found.uuid, found.state, found.has_mismatch, found.rows_compared) == (
            second.uuid,
            "completed",
            True,
            3000,
        )
        assert found.age < 60
        assert [r.uuid for r in show.every(target, KEYSPACE, WORKFLOW)] == [second.uuid, first.uuid]
        assert show.one(target, KEYSPACE, WORKFLOW, second.uuid) == second
        assert show.delete(target, KEYSPACE, WORKFLOW, first.uuid) == 1
        assert show.delete(target, KEYSPACE, WORKFLOW, "all") == 1
        assert latest(target, KEYSPACE, WORKFLOW) is None
        assert target.value(f"SELECT COUNT(*) FROM {sidecar.SCHEMA}.vdiff_table") == 0


def test_what_cannot_be_compared_is_refused(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    with pytest.raises(Refused, match="does not move nosuch"):
        run_vdiff(move.source.login, move.target.login, KEYSPACE, WORKFLOW, tables=["nosuch"])
    done = move.vdiff()
    with pytest.raises(Refused, match="is completed"):
        run_vdiff(move.source.login, move.target.login, KEYSPACE, WORKFLOW, uuid=done.uuid)
    with pytest.raises(Usage, match="--limit must be a positive value"):
        VDiffOptions(limit=0)
    move.on_target("ALTER TABLE t DROP COLUMN v")
    with pytest.raises(Refused, match="has no column v"):
        move.vdiff()


def test_only_one_process_runs_a_vdiff(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    with move.connect_target() as target:
        record = records.create(
            target, KEYSPACE, WORKFLOW, "4b3f9b7e-0000-0000-0000-000000000001", {"t": 1}, VDiffOptions()
        )
        with (
            records.exclusive(target, record.uuid),
            pytest.raises(LockHeld, match="is being run by another process"),
        ):
            run_vdiff(move.source.login, move.target.login, KEYSPACE, WORKFLOW, uuid=record.uuid)


def environment(move: Move, folder: Path) -> Path:
    """An inventory of both servers and their primaries in that topology."""
    (folder / "password").write_text("secret")
    sides = (("commerce", "src", 100, move.source), (KEYSPACE, "dst", 200, move.target))
    path = folder / "inventory.yaml"
    path.write_text(
        "version: 1\nname: test\n"
        f"topology: {{host: 127.0.0.1, port: {move.topology.port}}}\n"
        f"credentials: {{user: {move.source.login.user}, password: {{file: password}}}}\n"
        "gateway: {port: 25098}\n"
        f"keyspaces: {{commerce: {{database: src}}, {KEYSPACE}: {{database: dst}}}}\n"
        "tablets:\n"
        + "".join(
            f"  zone1-{uid:010}: {{keyspace: {keyspace}, type: primary, host: 127.0.0.1, port: {server.port}}}\n"
            for keyspace, _, uid, server in sides
        )
    )
    topology = Topology(move.topology.login)
    topology.create()
    for keyspace, database, uid, server in sides:
        record = TabletRecord(f"zone1-{uid:010}", keyspace, TabletType.PRIMARY, "127.0.0.1", server.port, False)
        made = KeyspaceRecord(keyspace, database)
        topology.update(lambda state, made=made, record=record: state.with_keyspace(made).with_tablet(record))  # type: ignore[misc]
    topology.close()
    return path


def command(path: Path, *words: str, kill_at: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "executor.cli.main", "vdiff", *words, "-i", str(path)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "MOVETABLES_KILL_AT": kill_at},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_killed_vdiff_goes_on_where_it_was(move: Move, tmp_path: Path) -> None:
    move.begin("id INT PRIMARY KEY, v INT", "SELECT seq, seq FROM seq_1_to_70000")
    path = environment(move, tmp_path)
    move.on_target("UPDATE t SET v=0 WHERE id=10")
    name, uuid = f"{KEYSPACE}.{WORKFLOW}", "4b3f9b7e-6b4c-4b59-9d1b-0c2f2f4d9a11"
    killed = command(path, "create", name, uuid, kill_at="vdiff.saved")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with move.connect_target() as target:
        kept = show.one(target, KEYSPACE, WORKFLOW, uuid)
        assert (kept.state, kept.rows_compared, kept.has_mismatch) == ("started", 20000, True)
    # What was compared before the kill is not looked at again: the repaired row still counts, and only once.
    move.on_target("UPDATE t SET v=10 WHERE id=10", "UPDATE t SET v=0 WHERE id=60000")
    resumed = command(path, "resume", name, uuid, "--format", "json")
    assert resumed.returncode == 7, resumed.stderr
    report = json.loads(resumed.stdout)
    jsonschema.validate(report, schemas.load("vdiff"))
    assert (report["State"], report["RowsCompared"]) == ("completed", 70000)
    assert report["TableSummary"]["t"]["MismatchedRows"] == 2


def test_an_unfinished_vdiff_is_continued_without_naming_it(move: Move, tmp_path: Path) -> None:
    move.begin("id INT PRIMARY KEY, v INT", "SELECT seq, seq FROM seq_1_to_70000")
    path = environment(move, tmp_path)
    uuid = "4b3f9b7e-6b4c-4b59-9d1b-0c2f2f4d9a12"
    command(path, "create", f"{KEYSPACE}.{WORKFLOW}", uuid, kill_at="vdiff.saved")
    report = move.vdiff()
    assert report.uuid == uuid
    assert counters(report) == (70000, 0, 0, 0)
    assert move.vdiff().uuid != uuid


def test_the_command_compares_and_shows(move: Move, tmp_path: Path) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    path, name = environment(move, tmp_path), f"{KEYSPACE}.{WORKFLOW}"
    nothing = command(path, "show", name, "last")
    assert nothing.stdout == f"No previous vdiff found for {name}\n", nothing.stderr
    assert command(path, "show", name, "all", "--format", "json").stdout == "[]\n"
    clean = command(path, "create", name, "--wait")
    assert clean.returncode == 0, clean.stderr
    assert "HasMismatch:  false" in clean.stdout
    move.on_target("DELETE FROM t WHERE id=3")
    different = command(path, "create", name)
    assert different.returncode == 7
    assert "ExtraRowsSource:  1" in different.stdout
    assert "found differences" in different.stderr
    shown = json.loads(command(path, "show", name, "--format", "json").stdout)
    jsonschema.validate(shown, schemas.load("vdiff"))
    assert shown["Reports"]["t"]["0"]["ExtraRowsSourceSample"] == [{"Row": {"id": "3", "v": "3"}}]
    assert command(path, "show", name, "all").stdout.count("completed") == 2
    assert command(path, "show", name, "nonsense").returncode == 64
    assert command(path, "create", "nodot").returncode == 64
    assert command(path, "delete", name, "all").stdout == "VDiff delete completed\n"
    assert command(path, "show", name, "last", "--format", "json").stdout == "{}\n"


def test_a_vdiff_that_is_stopped_elsewhere_ends_and_can_be_resumed(move: Move) -> None:
    move.begin("id INT PRIMARY KEY, v INT", "SELECT seq, seq FROM seq_1_to_70000")

    class StopAtOnce:
        """A progress that stops the VDiff from another connection as soon as it has begun."""

        def update(self, *_: object, **__: object) -> None:
            with move.connect_target() as other:
                for listed in show.every(other, KEYSPACE, WORKFLOW):
                    show.stop(other, KEYSPACE, WORKFLOW, listed.uuid)

        def check_interrupt(self) -> None:
            return

        @contextmanager
        def shielded(self, what: str) -> Iterator[None]:
            yield

    stopped = run_vdiff(move.source.login, move.target.login, KEYSPACE, WORKFLOW, progress=StopAtOnce())
    assert (stopped.state, stopped.tables[0].state, stopped.rows_compared) == ("stopped", "stopped", 20000)
    resumed = run_vdiff(move.source.login, move.target.login, KEYSPACE, WORKFLOW, uuid=stopped.uuid)
    assert counters(resumed) == (70000, 0, 0, 0)
