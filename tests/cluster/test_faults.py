"""Connections cut at the worst moments, and servers that refuse for a while: the move converges, nothing is lost."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from executor.native.logins import Logins
from executor.native.servers import Connection
from executor.native.stream import copy, runner
from planner.cluster import StreamState
from tests.cluster import moving
from tests.cluster.cutting import Cutter, Detour, When, cutter
from tests.cluster.moving import ALIAS, DATABASE, SOURCE, TARGET, Moving, until
from tests.cluster.test_stream_copy import SHAPES, finish, make_tables, writers

pair, move = moving.pair, moving.move

SOME = {name: SHAPES[name] for name in ("signed", "words", "unique", "binaries")}
LIMITED = "limited"


@dataclass
class Cutters:
    """A cutter before each side, and streams that run through them."""

    move: Moving
    sides: dict[str, Cutter]
    users: dict[str, tuple[str, str]]

    def run_streams(self) -> None:
        """As `Moving.run_streams`, through the cutters."""
        ports = {ALIAS[side]: self.sides[side].listening for side in self.sides}
        logins = Detour(Logins(self.move.pair.inventory), ports, self.users)
        self.move._stop = threading.Event()
        self.move._thread = threading.Thread(target=runner.run, args=(logins, self.move._stop), daemon=True)
        self.move._thread.start()


@pytest.fixture
def cutters(move: Moving, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cutters]:
    monkeypatch.setattr(copy, "CHUNK_BYTES", 2000)
    monkeypatch.setattr(copy, "BATCH_SECONDS", 0.0)
    logins = move.pair.cluster.logins
    with (
        cutter(logins.tablet(ALIAS[SOURCE]).port) as source,
        cutter(logins.tablet(ALIAS[TARGET]).port) as target,
    ):
        yield Cutters(move, {SOURCE: source, TARGET: target}, {})
        move.stop_streams()


WHILE_COPYING = [
    (SOURCE, b"GROUP_CONCAT", When.BEFORE),
    (SOURCE, b"GROUP_CONCAT", When.MIDDLE),
    (SOURCE, b"marker", When.AFTER),
    (TARGET, b"INTO `vt_customer`", When.BEFORE),
    (TARGET, b"INTO `vt_customer`", When.AFTER),
    (TARGET, b"UPDATE _movetables.copy_state", When.AFTER),
    (TARGET, b"COMMIT", When.BEFORE),
    (TARGET, b"COMMIT", When.AFTER),
]


@pytest.mark.parametrize(("side", "pattern", "when"), WHILE_COPYING)
def test_cut_while_copying(cutters: Cutters, side: str, pattern: bytes, when: When) -> None:
    move = cutters.move
    make_tables(move, SOME, 200)
    started = writers(move, SOME, 1)
    cut = cutters.sides[side].cut(pattern, when, times=3)
    move.created()
    cutters.run_streams()
    until(lambda: cut.done == cut.times, f"{pattern!r} to be cut")
    finish(started)
    move.settled_equal()


@pytest.mark.parametrize("when", list(When))
@pytest.mark.parametrize("pattern", [b"INTO `vt_customer`", b"DELETE FROM `vt_customer`", b"COMMIT"])
def test_cut_while_following(cutters: Cutters, pattern: bytes, when: When) -> None:
    move = cutters.move
    make_tables(move, SOME)
    move.created()
    cutters.run_streams()
    move.wait_for(StreamState.RUNNING)
    cut = cutters.sides[TARGET].cut(pattern, when, times=3)
    started = writers(move, SOME, 2)
    until(lambda: cut.done == cut.times, f"{pattern!r} to be cut")
    finish(started)
    move.settled_equal()


def test_every_connection_cut_after_some_bytes_again_and_again(cutters: Cutters) -> None:
    move = cutters.move
    make_tables(move, SOME, 200)
    move.created()
    for side in cutters.sides.values():
        side.after_bytes = 30_000
    started = writers(move, SOME, 2)
    cutters.run_streams()
    until(lambda: min(side.broken for side in cutters.sides.values()) >= 30, "thirty cuts on each side")
    finish(started)
    for side in cutters.sides.values():
        side.after_bytes = 0
    move.settled_equal()


def test_rows_of_the_target_that_somebody_locks_are_waited_for(cutters: Cutters) -> None:
    move = cutters.move
    make_tables(move, SOME)
    with move.target() as admin:
        before = admin.value("SELECT @@global.innodb_lock_wait_timeout")
        admin.execute("SET GLOBAL innodb_lock_wait_timeout=1")
        try:
            move.running()
            with move.target() as locker:
                locker.execute("START TRANSACTION")
                locker.query("SELECT * FROM signed FOR UPDATE")
                waited = lock_waits(admin)
                move.on(SOURCE, "DELETE FROM signed LIMIT 3", "INSERT INTO words (id) VALUES ('waited')")
                until(lambda: lock_waits(admin) >= waited + 2, "the stream to wait for the rows, and again")
            move.settled_equal()
        finally:
            admin.execute(f"SET GLOBAL innodb_lock_wait_timeout={before}")


def test_a_deadlock_whose_victim_is_the_stream(cutters: Cutters) -> None:
    move = cutters.move
    move.tables(
        "CREATE TABLE a (id INT PRIMARY KEY, v INT)",
        "CREATE TABLE b (id INT PRIMARY KEY, v INT)",
        "INSERT INTO a SELECT seq, 0 FROM seq_1_to_200",
        "INSERT INTO b VALUES (1, 0)",
    )
    move.running()
    with move.target() as other, move.target() as admin:
        before = deadlocks(admin)
        other.execute("SET @movetables_apply=1")
        other.execute("START TRANSACTION")
        other.execute(
            "UPDATE a SET v=v+1 WHERE id > 100"
        )  # the heavier of the two, so it is the stream that must yield
        other.execute("UPDATE b SET v=v+1")
        waited = lock_waits(admin)
        move.on(SOURCE, "START TRANSACTION", "UPDATE a SET v=7 WHERE id=1", "UPDATE b SET v=7", "COMMIT")
        until(lambda: lock_waits(admin) > waited, "the stream to wait for the row of b")
        other.execute("UPDATE a SET v=v+1 WHERE id=1")
        until(lambda: deadlocks(admin) > before, "a deadlock")
        other.execute("ROLLBACK")
    move.settled_equal()


def deadlocks(connection: Connection) -> int:
    if connection.flavor.mariadb:
        found = connection.one("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")
        return int(found["Value"]) if found else 0
    return int(connection.value("SELECT count FROM information_schema.innodb_metrics WHERE name='lock_deadlocks'"))


def lock_waits(connection: Connection) -> int:
    found = connection.one("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_waits'")
    assert found is not None
    return int(found["Value"])


@pytest.mark.parametrize("side", [SOURCE, TARGET])
def test_statements_that_an_administrator_ends_are_done_again(cutters: Cutters, side: str) -> None:
    move = cutters.move
    make_tables(move, SOME, 200)
    move.created()
    started = writers(move, SOME, 1)
    move.run_streams()
    with move.pair.connect(side) as killer:
        ended = 0

        def end_one() -> bool:
            nonlocal ended
            rows = killer.query(
                "SELECT id FROM information_schema.processlist WHERE user='movetables' AND id<>CONNECTION_ID() "
                "AND command='Query' AND (info LIKE 'REPLACE%%' OR info LIKE 'INSERT INTO `vt%%' "
                "OR info LIKE 'SELECT COUNT(*) AS n%%' OR info LIKE 'LOAD DATA%%' OR info LIKE 'DELETE FROM `vt%%')"
            )
            for row in rows:
                killer.execute(f"KILL QUERY {row['id']}")
                ended += 1
            return ended >= 3 or move.state() is StreamState.RUNNING

        until(end_one, "three statements to be ended, or the copy")
    finish(started)
    move.settled_equal()


def test_a_target_that_turns_read_only_for_a_while(cutters: Cutters) -> None:
    move = cutters.move
    make_tables(move, SOME)
    with move.target() as admin:
        mariadb = admin.flavor.mariadb
        # Of a user who may write while read_only is on, MariaDB refuses nothing; MySQL has super_read_only for that.
        if mariadb:
            admin.execute(f"CREATE OR REPLACE USER {LIMITED}@'127.0.0.1' IDENTIFIED BY 'limited'")
            admin.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, TRIGGER, LOCK TABLES, "
                          f"PROCESS, RELOAD, BINLOG MONITOR ON *.* TO {LIMITED}@'127.0.0.1'")  # fmt: skip
            cutters.users[ALIAS[TARGET]] = (LIMITED, "limited")
        move.created()
        cutters.run_streams()
        move.wait_for(StreamState.RUNNING)
        started = writers(move, SOME, 1)
        admin.execute(f"SET GLOBAL {'read_only' if mariadb else 'super_read_only'}=1")
        try:
            until(lambda: started[0].written > 20, "writes on the source meanwhile")
            until(lambda: "read-only" in told(move) or "read_only" in told(move), "the reason")
            assert move.state() is StreamState.RUNNING
        finally:
            admin.execute("SET GLOBAL read_only=0")  # and with it super_read_only
        finish(started)
        move.settled_equal()
        until(lambda: told(move) == "", "the reason to go")


def told(move: Moving) -> str:
    """What keeps the stream from going on, as `show` has it."""
    cluster = move.backend.observe()
    return "".join(workflow.trouble for workflow in (*cluster.workflows, *cluster.unreadable))


@pytest.fixture
def small_disk(move: Moving) -> Iterator[Path]:
    """A file system of 24 MiB where the target keeps the tables of its database."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    with move.target() as target:
        folder = Path(str(target.value("SELECT @@global.datadir"))) / DATABASE[TARGET]
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
        move.stop_streams()
        with move.target() as target:
            target.execute("DROP TABLE IF EXISTS wide")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_target_whose_disk_is_full_for_a_while(move: Moving, small_disk: Path) -> None:
    move.tables("CREATE TABLE wide (id INT PRIMARY KEY AUTO_INCREMENT, b VARBINARY(2000) NOT NULL)")
    with move.source() as source:
        for number in range(40):
            source.execute(f"INSERT INTO wide (b) VALUES {','.join([f'(REPEAT({number},1000))'] * 1000)}")
    move.created()
    move.run_streams()
    until(lambda: free(small_disk) < 4 << 20, "the disk to be full")
    until(lambda: "full" in told(move) or "does not answer" in told(move), "the reason")
    subprocess.run(["mount", "-o", "remount,size=400m", str(small_disk)], check=True)
    move.pair.start(TARGET)  # MariaDB ends itself when a rollback finds no space
    move.settled_equal()
    until(lambda: told(move) == "", "the reason to go")


def test_a_target_whose_disk_is_full_while_keys_are_added(move: Moving, small_disk: Path) -> None:
    keys = ", ".join(f"KEY k{number} (b, v{number})" for number in range(4))
    values = ", ".join(f"v{number} INT NOT NULL DEFAULT {number}" for number in range(4))
    move.tables(
        f"CREATE TABLE wide (id INT PRIMARY KEY AUTO_INCREMENT, b VARBINARY(2000) NOT NULL, {values}, {keys})",
        defer_secondary_keys=True,
    )
    with move.source() as source:
        for number in range(10):
            source.execute(f"INSERT INTO wide (b) VALUES {','.join([f'(REPEAT({number},1000))'] * 1000)}")
    move.created()
    move.run_streams()
    until(lambda: "full" in told(move) or "does not answer" in told(move), "the reason")
    assert move.state() is StreamState.COPYING
    move.on(SOURCE, "INSERT INTO wide (b) VALUES ('later')")
    subprocess.run(["mount", "-o", "remount,size=400m", str(small_disk)], check=True)
    move.pair.start(TARGET)
    move.settled_equal()
    with move.target() as target:
        assert len({row["Key_name"] for row in target.query("SHOW INDEX FROM wide")}) == 5
    until(lambda: told(move) == "", "the reason to go")


def free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
