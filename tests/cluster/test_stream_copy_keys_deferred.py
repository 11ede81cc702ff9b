"""Secondary keys that are added after the copy: kills, writers meanwhile, and an end that was told in time."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from executor.native.servers import Connection
from executor.native.stream import copy
from executor.native.stream.copy import CopyState
from planner.cluster import StreamState
from tests.cluster import moving
from tests.cluster.moving import NAME, SOURCE, TARGET, Moving

pair, move = moving.pair, moving.move

DIGIT = f"({' UNION ALL '.join(f'SELECT {digit} AS d' for digit in range(10))})"


def fill(move: Moving, rows: int) -> None:
    move.tables(
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a INT, b VARCHAR(80), u INT, KEY (a), KEY (b, a), "
        "UNIQUE KEY (u))",
        "INSERT INTO t (id, a, b, u) SELECT n, n % 1000, SHA2(n, 256), n FROM (SELECT 1 + a.d + 10 * b.d + 100 * c.d + "
        f"1000 * e.d + 10000 * f.d + 100000 * g.d AS n FROM {DIGIT} a, {DIGIT} b, {DIGIT} c, {DIGIT} e, {DIGIT} f, "
        f"{DIGIT} g) numbers WHERE n <= {rows}",
    )


def keys(move: Moving, keyspace: str) -> list[str]:
    with move.pair.connect(keyspace) as connection:
        text = str((connection.one("SHOW CREATE TABLE t") or {})["Create Table"])
    return sorted(line.strip().rstrip(",") for line in text.splitlines() if "KEY" in line)


def test_killed_before_and_after_the_keys_are_added(move: Moving) -> None:
    fill(move, 1000)
    move.move = replace(move.move, defer_secondary_keys=True)
    move.created()
    assert len(keys(move, TARGET)) == 2
    move.killed_at("streams", "stream:keys_begun")
    move.on(SOURCE, "DELETE FROM t WHERE id < 100", "INSERT INTO t (a) VALUES (7)")
    move.killed_at("streams", "stream:keys_added")
    assert move.state() is StreamState.COPYING
    move.on(SOURCE, "UPDATE t SET a=a+1, u=u+5000")
    move.run_streams()
    move.settled_equal()
    assert keys(move, TARGET) == keys(move, SOURCE)


def test_more_is_written_while_keys_are_added_than_the_server_can_note(move: Moving) -> None:
    fill(move, 100_000)
    move.move = replace(move.move, defer_secondary_keys=True)
    move.created()
    stop = threading.Event()

    def write() -> None:
        with move.target() as writer:
            writer.execute("SET @movetables_apply=1")
            while not stop.is_set():
                writer.execute("START TRANSACTION")
                writer.execute("UPDATE t SET a=a+1 WHERE id<=5000")
                writer.execute("UPDATE t SET a=a-1 WHERE id<=5000")
                writer.execute("COMMIT")

    writer = threading.Thread(target=write)
    with move.target() as target:
        before = target.value("SELECT @@global.innodb_online_alter_log_max_size")
        target.execute("SET GLOBAL innodb_online_alter_log_max_size=65536")
        writer.start()
        try:
            move.run_streams()
            move.wait_for(StreamState.RUNNING)
        finally:
            stop.set()
            writer.join()
            target.execute(f"SET GLOBAL innodb_online_alter_log_max_size={before}")
        assert "innodb_online_alter_log_max_size" in why_writes_wait(target)
    move.settled_equal()
    assert keys(move, TARGET) == keys(move, SOURCE)


def why_writes_wait(target: Connection) -> str:
    return str(target.value("SELECT message FROM _movetables.vreplication_log WHERE type='Keys Hold Writes'") or "")


def test_an_administrator_ends_the_adding_of_keys(move: Moving) -> None:
    fill(move, 100_000)
    move.move = replace(move.move, defer_secondary_keys=True)
    move.created()
    move.run_streams()
    with move.target() as killer:
        ended: list[int] = []

        def end_one() -> bool:
            for row in killer.processes():
                if str(row["Info"] or "").startswith("ALTER TABLE"):
                    killer.execute(f"KILL {'QUERY ' if len(ended) % 2 else ''}{row['Id']}")
                    ended.append(row["Id"])
            return len(ended) >= 2

        moving.until(end_one, "two ALTERs to be ended")
    move.settled_equal()
    assert keys(move, TARGET) == keys(move, SOURCE)


def test_plans_that_say_nothing_defer_large_keys_only(move: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(move, 1000)
    move.perform("create_workflow")
    assert keys(move, TARGET) == keys(move, SOURCE)
    move.perform("cancel")
    monkeypatch.setattr("executor.native.steps.create_workflow.DEFER_BYTES", 1)
    move.perform("create_workflow")
    assert len(keys(move, TARGET)) == 2


def test_the_end_is_told_from_a_tenth_of_the_way_on(move: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a quarter of what is left, and half a second. The copy is given a pace that a busy machine keeps too."""
    monkeypatch.setattr(copy, "CHUNK_BYTES", 100_000)
    batch = copy.Copier.copy_batch
    next_at = 0.0

    def paced(copier: copy.Copier, states: list[CopyState], target: Connection, _: float) -> list[CopyState]:
        nonlocal next_at
        next_at = (next_at or time.monotonic()) + 0.25  # what is lost is made up for
        new = batch(copier, states, target, 0.0)
        time.sleep(max(0.0, next_at - time.monotonic()))
        return new

    monkeypatch.setattr(copy.Copier, "copy_batch", paced)
    fill(move, 100_000)
    move.created()
    samples: list[tuple[float, float, float]] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            began = time.monotonic()
            workflow = next(w for w in move.backend.observe().workflows if w.name == NAME)
            copied, total = workflow.copies[0].rows_copied, workflow.copies[0].rows_total
            if workflow.eta is not None and copied > 0.1 * total:
                samples.append((began, time.monotonic(), workflow.eta))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    move.run_streams()
    move.wait_for(StreamState.RUNNING)
    end = time.monotonic()
    done.set()
    watcher.join(10)
    assert len(samples) >= 10
    for before, after, eta in samples:
        assert 0.75 * (end - after) - 0.5 <= eta <= 1.25 * (end - before) + 0.5
