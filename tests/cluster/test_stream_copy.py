"""Copying while clients write: both sides are equal afterwards, whatever the keys, types and names."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from executor.native.servers import Connection, ServerError
from executor.native.stream import copy
from tests.cluster import moving
from tests.cluster.moving import Moving

pair, move = moving.pair, moving.move

ER_DUP_ENTRY, ER_DUP_ENTRY_INDEX = 1062, 1586
LONG = "a" * 64
ODD = "we.ird `na me` ünï☃ -- ; ' \" %s"


@dataclass(frozen=True)
class Shape:
    """A table for random writers: its definition, and literals of random keys, one per key column."""

    definition: str
    keys: tuple[str, ...]
    key: Callable[[random.Random], tuple[str, ...]]


def pick(*choices: str) -> Callable[[random.Random], tuple[str, ...]]:
    return lambda rng: (rng.choice(choices),)


def number(low: int, high: int, *more: int) -> Callable[[random.Random], tuple[str, ...]]:
    return lambda rng: (str(rng.choice(more) if more and rng.random() < 0.2 else rng.randint(low, high)),)


def word(rng: random.Random) -> str:
    return "'" + "".join(rng.choice(["a", "A", "á", "Á", "b", "B", "ß", "ss", " ", "z"]) for _ in range(3)) + "x'"


REST = "v INT, u INT, txt VARCHAR(2000)"
SHAPES = {
    "signed": Shape(f"id BIGINT PRIMARY KEY, {REST}", ("id",), number(-60, 60, -(2**63), 2**63 - 1, 0)),
    "unsigned": Shape(f"id BIGINT UNSIGNED PRIMARY KEY, {REST}", ("id",), number(0, 60, 2**64 - 1, 2**64 - 2, 2**63)),
    "composite": Shape(
        f"a INT, b VARCHAR(20) COLLATE utf8mb4_general_ci, c DATETIME(6), {REST}, PRIMARY KEY (b, a, c)",
        ("a", "b", "c"),
        lambda r: (str(r.randint(-2, 2)), word(r), f"'2024-05-0{r.randint(1, 3)} 00:00:00.00000{r.randint(0, 3)}'"),
    ),
    "words": Shape(f"id VARCHAR(40) COLLATE utf8mb4_general_ci PRIMARY KEY, {REST}", ("id",), lambda r: (word(r),)),
    "binaries": Shape(
        f"id BINARY(16) PRIMARY KEY, {REST}",
        ("id",),
        lambda r: (f"X'{r.randint(0, 60):02x}{r.choice(['00', '0000', '01', '5c27', '2700']):0<4}'",),
    ),
    "times": Shape(
        f"id DATETIME(6) PRIMARY KEY, {REST}",
        ("id",),
        lambda r: (
            f"'{r.choice(['0000-00-00', '2024-00-10', '9999-12-31'])} 0:0:{r.randint(0, 30)}.00000{r.randint(0, 9)}'",
        ),
    ),
    "decimals": Shape(
        f"id DECIMAL(30,10) PRIMARY KEY, {REST}", ("id",), lambda r: (f"{r.randint(-60, 60)}.{r.randint(0, 2):010}",)
    ),
    "enums": Shape(
        f"id ENUM('z','a','m','B') NOT NULL, n INT NOT NULL, {REST}, PRIMARY KEY (id, n)",
        ("id", "n"),
        lambda r: (f"'{r.choice('zamB')}'", str(r.randint(0, 30))),
    ),
    "floats": Shape(
        f"id FLOAT PRIMARY KEY, {REST}", ("id",), lambda r: (f"{r.randint(-60, 60) / 10}e{r.choice([0, 30, -40])}",)
    ),
    "unique": Shape(
        f"id VARCHAR(10) COLLATE utf8mb4_general_ci NOT NULL, w INT NULL, {REST}, UNIQUE KEY x (id), UNIQUE KEY y (w)",
        ("id",),
        lambda r: (word(r),),
    ),
    "generated": Shape(
        f"id INT PRIMARY KEY, {REST}, plus INT AS (v+1) VIRTUAL, twice BIGINT AS (v*2) STORED, "
        "UNIQUE KEY g (plus, id), KEY h (twice)",
        ("id",),
        number(0, 60),
    ),
    "latin": Shape(
        f"id VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci PRIMARY KEY, {REST}",
        ("id",),
        lambda r: (word(r),),
    ),
    "wide": Shape(f"id CHAR(20) CHARACTER SET utf16 PRIMARY KEY, {REST}", ("id",), lambda r: (word(r),)),
    ODD: Shape(f"`a.b` INT, `c``d e` INT, {REST}, PRIMARY KEY (`c``d e`)", ("c`d e",), number(-60, 60)),
    LONG: Shape(f"id INT PRIMARY KEY, {REST}", ("id",), number(0, 60)),
}


def name(text: str) -> str:
    return "`" + text.replace("`", "``") + "`"


class Writer(threading.Thread):
    """Writes at random until told to stop; `error` is what ended it before that."""

    def __init__(self, move: Moving, seed: int, shapes: dict[str, Shape]) -> None:
        super().__init__(daemon=True)
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.written = 0
        self._connection = move.source()
        self._rng = random.Random(seed)
        self._shapes = shapes

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self._write(self._connection)
                self.written += 1
        except Exception as error:  # noqa: BLE001 - the test raises it
            self.error = error
        finally:
            self._connection.close()

    def _write(self, connection: Connection) -> None:
        rng = self._rng
        try:
            if rng.random() < 0.3:
                with connection.transaction():
                    for _ in range(rng.randint(2, 6)):
                        connection.execute(self.statement(rng))
                    if rng.random() < 0.3:
                        raise _Changed
            elif rng.random() < 0.1:
                self._swap(connection, rng)
            else:
                connection.execute(self.statement(rng))
        except _Changed:
            return
        except ServerError as error:
            if error.errno not in (ER_DUP_ENTRY, ER_DUP_ENTRY_INDEX) and not error.transient:
                raise

    def statement(self, rng: random.Random) -> str:
        table, shape = rng.choice(list(self._shapes.items()))
        key, other = shape.key(rng), shape.key(rng)
        where = " AND ".join(f"{name(c)}={v}" for c, v in zip(shape.keys, key, strict=True))
        kind = rng.choice(["insert", "insert", "insert", "update", "update", "delete", "move", "case"])
        if kind == "insert":
            columns = ",".join(map(name, shape.keys))
            return (
                f"INSERT INTO {name(table)} ({columns},v,u,txt) VALUES ({','.join(key)},{rng.randint(0, 999)},"
                f"{rng.randint(0, 9)},REPEAT('é',{rng.choice([0, 3, 300])})) ON DUPLICATE KEY UPDATE v=v+1"
            )
        if kind == "update":
            return f"UPDATE {name(table)} SET v={rng.randint(0, 999)} WHERE {where}"
        if kind == "delete":
            return f"DELETE FROM {name(table)} WHERE {where} LIMIT 1"
        changed = ",".join(f"{name(c)}={v}" for c, v in zip(shape.keys, other, strict=True))
        if kind == "case" and "CHAR" in shape.definition and "utf16" not in shape.definition and len(shape.keys) == 1:
            column = name(shape.keys[0])
            changed = f"{column}=IF(BINARY {column}=BINARY UPPER({column}),LOWER({column}),UPPER({column}))"
        return f"UPDATE {name(table)} SET {changed} WHERE {where}"

    @staticmethod
    def _swap(connection: Connection, rng: random.Random) -> None:
        """Two rows of `unique` change places in their unique column, within one transaction."""
        with connection.transaction():
            rows = connection.query("SELECT id, w FROM `unique` WHERE w IS NOT NULL ORDER BY RAND() LIMIT 2 FOR UPDATE")
            if len(rows) == 2:
                for value, row in ((-1, rows[0]), (rows[0]["w"], rows[1]), (rows[1]["w"], rows[0])):
                    connection.execute("UPDATE `unique` SET w=%s WHERE id=%s", [value, row["id"]])


class _Changed(Exception):
    """The writer changes its mind."""


def make_tables(move: Moving, shapes: dict[str, Shape], rows: int = 80) -> None:
    move.tables(*(f"CREATE TABLE {name(table)} ({shape.definition})" for table, shape in shapes.items()))
    rng = random.Random(7)
    with move.source() as source:
        for table, shape in shapes.items():
            columns = ",".join(map(name, shape.keys))
            values = (f"({','.join(shape.key(rng))},{i},{i % 7},'{i}')" for i in range(rows))
            source.execute(f"INSERT IGNORE INTO {name(table)} ({columns},v,u,txt) VALUES {','.join(values)}")
        if "unique" in shapes:
            source.execute("UPDATE `unique` SET w=v WHERE v % 2")


def writers(move: Moving, shapes: dict[str, Shape], count: int = 3) -> list[Writer]:
    started = [Writer(move, seed, shapes) for seed in range(count)]
    for writer in started:
        writer.start()
    return started


def finish(started: list[Writer]) -> None:
    for writer in started:
        writer.stop.set()
    for writer in started:
        writer.join(30)
        assert writer.error is None
        assert writer.written > 10


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a few rows, and a stall at a marker after every three of them."""
    monkeypatch.setattr(copy, "CHUNK_BYTES", 4000)
    monkeypatch.setattr(copy, "BATCH_SECONDS", 0.0)


@pytest.mark.usefixtures("small_chunks")
def test_copy_converges_while_clients_write_to_every_kind_of_key(move: Moving) -> None:
    make_tables(move, SHAPES)
    started = writers(move, SHAPES)
    move.running()
    copied = sum(writer.written for writer in started)
    moving.until(lambda: sum(writer.written for writer in started) > copied + 200, "writes after the copy")
    finish(started)
    move.settled_equal()
