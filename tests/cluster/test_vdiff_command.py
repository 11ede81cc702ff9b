"""movetables vdiff on real servers: what it prints, its exit codes, and that it goes on after it was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jsonschema
import pytest

import schemas
from executor.native.topology import KeyspaceRecord, TabletRecord, Topology
from executor.native.vdiff import records, show
from executor.native.vdiff.run import run_vdiff
from executor.native.waiting import wait_until
from planner.cluster import TabletType
from tests.cluster import vdiff_move
from tests.cluster.vdiff_move import KEYSPACE, MANY, WORKFLOW, Move, counters

servers, move = vdiff_move.servers, vdiff_move.move


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
        wait_until(lambda: not records.is_running(target, uuid), 10, "the server to miss the killed process")
        kept = show.one(target, KEYSPACE, WORKFLOW, uuid)
        assert (kept.state, kept.rows_compared, kept.has_mismatch) == ("started", 20000, True)
        assert "the process that ran it has ended" in kept.error
    # What was compared before the kill is not looked at again: the repaired row still counts, and only once.
    move.on_target("UPDATE t SET v=10 WHERE id=10", "UPDATE t SET v=0 WHERE id=60000")
    resumed = command(path, "resume", name, uuid, "--format", "json")
    assert resumed.returncode == 7, resumed.stderr
    report = json.loads(resumed.stdout)
    jsonschema.validate(report, schemas.load("vdiff"))
    assert (report["State"], report["RowsCompared"]) == ("completed", 70000)
    assert report["TableSummary"]["t"]["MismatchedRows"] == 2


@pytest.mark.parametrize("key", ["id INT PRIMARY KEY", "id INT"])
def test_a_vdiff_killed_at_the_end_of_a_table_goes_on(move: Move, tmp_path: Path, key: str) -> None:
    """A table without a key is compared as a whole, so all of it once more if need be."""
    move.begin(f"{key}, v INT", MANY)
    path = environment(move, tmp_path)
    move.on_target("UPDATE t SET v=0 WHERE id=10")
    name, uuid = f"{KEYSPACE}.{WORKFLOW}", "4b3f9b7e-6b4c-4b59-9d1b-0c2f2f4d9a13"
    assert command(path, "create", name, uuid, kill_at="vdiff.table").returncode == -signal.SIGKILL
    resumed = command(path, "resume", name, uuid, "--format", "json")
    assert resumed.returncode == 7, resumed.stderr
    summary = json.loads(resumed.stdout)["TableSummary"]["t"]
    assert (summary["State"], summary["MatchingRows"]) == ("completed", 2999)
    assert summary["MismatchedRows"] + summary["ExtraRowsSource"] == 1


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
