"""Tables without any key that rows could be matched by: every row arrives once, whatever breaks off meanwhile."""

from __future__ import annotations

import random
import signal
import threading

import pytest

from executor.native.servers import Connection, ServerError
from executor.native.stream import keyless
from planner.cluster import StreamState
from tests.cluster import moving
from tests.cluster.moving import SOURCE, Moving

pair, move = moving.pair, moving.move

SHAPES = {
    "bare": "a INT, b VARCHAR(20) COLLATE utf8mb4_general_ci, c DOUBLE",
    "indexed": "a INT, b VARCHAR(20) COLLATE utf8mb4_general_ci, c DOUBLE, KEY (a), UNIQUE KEY p (b(2), c, a)",
    "nullable": "a INT, b VARCHAR(20) COLLATE utf8mb4_general_ci, c DOUBLE, UNIQUE KEY (a, b, c)",
    "keyed": "a INT, b VARCHAR(20), c DOUBLE, id INT AUTO_INCREMENT PRIMARY KEY",
}
VALUES = ("NULL", "0", "1", "2")
WORDS = ("NULL", "''", "'a'", "'A'", "'a '", "'á'", r"'\\\''")
FLOATS = ("NULL", "0.1", "-0e0", "1e-300")


class Writer(threading.Thread):
    """Inserts, changes and deletes rows, many of them equal to others, until told to stop."""

    def __init__(self, move: Moving, seed: int) -> None:
        super().__init__(daemon=True)
        self.stop = threading.Event()
        self.error: Exception | None = None
        self.written = 0
        self._connection = move.source()
        self._rng = random.Random(seed)

    def run(self) -> None:
        try:
            # Each change is found by a scan of the whole table on the target, which cannot keep up with more.
            while not self.stop.wait(0.01):
                self._write(self._connection)
                self.written += 1
        except Exception as error:  # noqa: BLE001 - the test raises it
            self.error = error
        finally:
            self._connection.close()

    def _write(self, connection: Connection) -> None:
        try:
            with connection.transaction():
                for _ in range(self._rng.randint(1, 4)):
                    connection.execute(self._statement())
        except ServerError as error:
            if error.errno not in (1062, 1586) and not error.transient:
                raise

    def _statement(self) -> str:
        rng = self._rng
        table = rng.choice(list(SHAPES))
        row = (rng.choice(VALUES), rng.choice(WORDS), rng.choice(FLOATS))
        where = f"a <=> {rng.choice(VALUES)} AND b <=> {rng.choice(WORDS)}"
        return rng.choice(
            [
                f"INSERT INTO {table} (a, b, c) VALUES ({','.join(row)})",
                f"INSERT INTO {table} (a, b, c) VALUES ({','.join(row)})",
                f"UPDATE {table} SET b={row[1]} WHERE {where} LIMIT 2",
                f"DELETE FROM {table} WHERE {where} LIMIT 2",
            ]
        )


def begin(move: Moving, rows: int = 300) -> list[Writer]:
    move.tables(*(f"CREATE TABLE {name} ({shape})" for name, shape in SHAPES.items()))
    rng = random.Random(11)
    with move.source() as source:
        for table in SHAPES:
            values = (f"({rng.choice(VALUES)},{rng.choice(WORDS)},{rng.choice(FLOATS)})" for _ in range(rows))
            source.execute(f"INSERT IGNORE INTO {table} (a, b, c) VALUES {','.join(values)}")
    writers = [Writer(move, seed) for seed in range(2)]
    for writer in writers:
        writer.start()
    return writers


def end(move: Moving, writers: list[Writer]) -> None:
    for writer in writers:
        writer.stop.set()
        writer.join(30)
        assert writer.error is None
        assert writer.written > 10
    move.settled_equal()


@pytest.fixture
def small_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyless, "STATEMENT_BYTES", 200)


@pytest.mark.usefixtures("small_statements")
def test_every_row_arrives_once_while_clients_write(move: Moving) -> None:
    writers = begin(move)
    move.running()
    copied = sum(writer.written for writer in writers)
    moving.until(lambda: sum(writer.written for writer in writers) > copied + 100, "writes after the copy")
    end(move, writers)


def test_killed_at_every_point_of_the_copy(move: Moving) -> None:
    writers = begin(move)
    move.created()
    forks = move.pair.forks
    for point in ("emptied", "written", "copied", "emptied", "copied", "written", "copied"):
        pid = forks.start("streams", move.pair.inventory, move.move, f"stream:keyless_{point}")
        assert forks.wait(pid) == -signal.SIGKILL, point
    assert move.state() is StreamState.COPYING
    move.run_streams()
    move.wait_for(StreamState.RUNNING)
    end(move, writers)


def test_an_open_transaction_that_wrote_to_the_table_is_waited_for(move: Moving) -> None:
    move.tables(f"CREATE TABLE bare ({SHAPES['bare']})", "INSERT INTO bare VALUES (1, 'a', 0), (1, 'a', 0)")
    with move.source() as holder:
        holder.execute("START TRANSACTION")
        holder.execute("INSERT INTO bare VALUES (2, 'open', 0)")
        move.created()
        move.run_streams()
        with move.source() as source:
            moving.until(
                lambda: source.value(
                    "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'LOCK TABLES%'"
                ),
                "somebody who waits for the lock",
            )
        assert move.state() is StreamState.COPYING
        holder.execute("COMMIT")
        move.wait_for(StreamState.RUNNING)
    move.on(SOURCE, "DELETE FROM bare WHERE a=1 LIMIT 1", "UPDATE bare SET c=1 WHERE a=2")
    move.settled_equal()


def test_a_table_that_is_empty(move: Moving) -> None:
    move.tables(f"CREATE TABLE bare ({SHAPES['bare']})")
    move.running()
    move.on(SOURCE, "INSERT INTO bare VALUES (1, 'a', 0), (1, 'a', 0)", "DELETE FROM bare LIMIT 1")
    move.settled_equal()
