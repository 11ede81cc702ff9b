"""Copies tables from one server to another, with us and with the usual ways, in turn, and prints the medians.

All write into an empty database of the same target server. Ours is the whole `apply` from `created` to `running`:
starting the command, copying, following the binlog. The tools' times are those of their commands. The floor is what
the servers do by themselves: SELECT ... INTO OUTFILE, LOAD DATA INFILE, and ALTER TABLE ... ADD KEY, one after the
other. `--set big` is one table, `--set many` 50 small ones and one of 100 columns.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from executor.native.servers import Connection, ServerError
from tests.bench.cluster import BenchCluster
from tests.bench.processor import Processor, our_processes
from tests.bench.turns import Turn, report, taken

BATCH = 100_000
SOURCE, FLOOR = "vt_commerce", "by_floor"
_DIGIT = f"({' UNION ALL '.join(f'SELECT {digit} AS d' for digit in range(10))})"
_NUMBERS = (
    "FROM (SELECT {0} + a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d AS seq "
    f"FROM {_DIGIT} a, {_DIGIT} b, {_DIGIT} c, {_DIGIT} e, {_DIGIT} f) numbers WHERE seq <= {{1}} ORDER BY seq"
)
"""The numbers from {0} to {1}, at most BATCH of them, on every server.

In order: MySQL joins in another one, and rows inserted so leave four times as many pages, most of each empty.
"""
CREATE = """CREATE TABLE vt_commerce.{0} (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL, c CHAR(60) NOT NULL, note VARCHAR(80),
    amount DECIMAL(12,2) NOT NULL, made DATETIME(6) NOT NULL, KEY k (k), KEY made (made)) ENGINE=InnoDB"""
_VALUES = f"""(id, k, c, note, amount, made)
    SELECT seq, CRC32(seq) % 1000000, LEFT(SHA2(seq, 256), 60), CONCAT('note ', seq, ' ', LEFT(SHA2(seq, 256), 40)),
    seq / 7, '2026-01-01' + INTERVAL seq SECOND {_NUMBERS}"""
FILL = f"INSERT INTO vt_commerce.big {_VALUES}"
SMALL_ROWS, WIDE_ROWS, WIDE_COLUMNS = 2_000, 50_000, 100


def fill(connection: Connection, rows: int) -> list[str]:
    """Makes the table of `rows` rows. Returns the names of the tables."""
    _fill(connection, "big", CREATE.format("big"), FILL, rows)
    return ["big"]


def fill_many(connection: Connection, _rows: int) -> list[str]:
    """Makes 50 tables of SMALL_ROWS rows and one of WIDE_COLUMNS columns. Returns the names of the tables."""
    names = [f"small{number:02}" for number in range(1, 51)]
    for name in names:
        _fill(connection, name, CREATE.format(name), f"INSERT INTO vt_commerce.{name} {_VALUES}", SMALL_ROWS)
    kinds = ("INT", "VARCHAR(40)", "DECIMAL(12,2)", "DATETIME", "DOUBLE")
    values = ("seq", "LEFT(SHA2(seq, 256), 40)", "seq / 7", "'2026-01-01' + INTERVAL seq SECOND", "seq / 7e0")
    columns = ", ".join(f"c{n} {kinds[n % 5]}" for n in range(1, WIDE_COLUMNS))
    exprs = ", ".join(values[n % 5] for n in range(1, WIDE_COLUMNS))
    create = f"CREATE TABLE vt_commerce.wide (id INT PRIMARY KEY, {columns}, KEY (c5), KEY (c6)) ENGINE=InnoDB"
    _fill(connection, "wide", create, f"INSERT INTO vt_commerce.wide SELECT seq, {exprs} {_NUMBERS}", WIDE_ROWS)
    return [*names, "wide"]


def _fill(connection: Connection, name: str, create: str, insert: str, rows: int) -> None:
    connection.execute(create)
    for first in range(1, rows + 1, BATCH):
        connection.execute(insert.format(first, min(rows, first + BATCH - 1)))
    connection.query(f"ANALYZE TABLE vt_commerce.{name}")


class Memory(threading.Thread):
    """Looks at the resident memory of the processes of our own `movetables serve`; `peak` is in bytes."""

    def __init__(self, inventory: str) -> None:
        super().__init__(daemon=True)
        self._inventory = inventory
        self.peak = 0

    def run(self) -> None:
        """Looks five times a second."""
        while True:
            for process in our_processes(self._inventory):
                self._look(process)
            time.sleep(0.2)

    def _look(self, process: Path) -> None:
        try:
            found = re.search(r"VmRSS:\s+(\d+) kB", (process / "status").read_text())
            self.peak = max(self.peak, int(found[1]) << 10 if found else 0)
        except OSError:
            return  # it ended meanwhile


class Contest:
    """The ways to copy; each leaves its copy in a database of its own on the target, or in vt_customer."""

    def __init__(self, cluster: BenchCluster, threads: int, scratch: Path, tables: Sequence[str]) -> None:
        self.cluster = cluster
        self.threads = threads
        self.scratch = scratch
        self.tables = list(tables)
        scratch.chmod(0o777)
        for keyspace in ("commerce", "customer"):
            login = cluster.login(keyspace)
            path = scratch / f"{keyspace}.cnf"
            path.touch(0o600)
            path.write_text(
                f"[client]\nhost={login.host}\nport={login.port}\nuser={login.user}\npassword={login.password}\n"
            )

    def created(self, *, defer: bool | None = None) -> None:
        """Makes the move of movetables anew, without running it."""
        self.cluster.move(self.tables, "absent")
        self.cluster.move(self.tables, "created", defer_secondary_keys=defer)

    def ours(self, *, defer: bool | None = None) -> float:
        """movetables, from `created` to `running`. Returns seconds, as all of these do."""
        began = time.perf_counter()
        self.cluster.move(self.tables, "running", defer_secondary_keys=defer)
        return time.perf_counter() - began

    def floor(self) -> float:
        """The servers' own OUTFILE, LOAD DATA and ADD KEY."""
        with self.cluster.server("commerce") as source, self.cluster.server("customer") as target:
            source.execute(f"USE {SOURCE}")
            target.execute(f"USE {FLOOR}")
            makes = [str((source.one(f"SHOW CREATE TABLE {name}") or {})["Create Table"]) for name in self.tables]
            began = time.perf_counter()
            for name, make in zip(self.tables, makes, strict=True):
                keys = [line.strip().rstrip(",") for line in make.splitlines() if line.strip().startswith("KEY")]
                body = [line.rstrip(",") for line in make.splitlines()[1:-1] if not line.strip().startswith("KEY")]
                target.execute("\n".join([make.splitlines()[0], ",\n".join(body), make.splitlines()[-1]]))
                file = self.scratch / f"{name}.txt"
                source.execute(f"SELECT * FROM {name} INTO OUTFILE '{file}'")
                target.execute(f"LOAD DATA INFILE '{file}' INTO TABLE {name} CHARACTER SET utf8mb4")
                if keys:
                    target.execute(f"ALTER TABLE {name} {', '.join('ADD ' + key for key in keys)}")
            took = time.perf_counter() - began
        for name in self.tables:
            (self.scratch / f"{name}.txt").unlink()
        return took

    def dump(self) -> float:
        """mariadb-dump into mariadb, through a pipe."""
        began = time.perf_counter()
        words = ["mariadb-dump", f"--defaults-file={self.scratch}/commerce.cnf", "--single-transaction", SOURCE]
        dump = subprocess.Popen([*words, *self.tables], stdout=subprocess.PIPE)
        subprocess.run(
            ["mariadb", f"--defaults-file={self.scratch}/customer.cnf", "by_dump"], stdin=dump.stdout, check=True
        )
        if dump.wait() != 0:
            raise subprocess.SubprocessError("mariadb-dump failed")
        return time.perf_counter() - began

    def mydumper(self) -> float:
        """mydumper into files, then myloader from them."""
        folder = self.scratch / "dump"
        shutil.rmtree(folder, ignore_errors=True)
        began = time.perf_counter()
        # These two read no file of options in this version, and take the password from the command line.
        names = ",".join(self.tables)
        self._tool("commerce", ["mydumper", "-B", SOURCE, "-T", names, "-o", str(folder), "-r", "100000"])
        self._tool("customer", ["myloader", "-B", "by_mydumper", "-d", str(folder), "-o"])
        took = time.perf_counter() - began
        shutil.rmtree(folder)
        return took

    def _tool(self, keyspace: str, words: list[str]) -> None:
        login = self.cluster.login(keyspace)
        options = ["-h", login.host, "-P", str(login.port), "-u", login.user, "-p", login.password]
        subprocess.run([*words, *options, "-t", str(self.threads)], check=True, stdout=subprocess.DEVNULL)

    def fresh(self, database: str) -> None:
        """Makes an empty database on the target."""
        with self.cluster.server("customer") as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {database}")
            connection.execute(f"CREATE DATABASE {database} CHARACTER SET utf8mb4")

    def checksum(self, keyspace: str, database: str) -> list[str]:
        """CHECKSUM TABLE of the copies."""
        with self.cluster.server(keyspace) as connection:
            rows = connection.query(f"CHECKSUM TABLE {', '.join(f'{database}.{name}' for name in self.tables)}")
        return [str(row["Checksum"]) for row in rows]


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="script/bench copy", description=__doc__)
    parser.add_argument("--set", choices=("big", "many"), default="big")
    parser.add_argument("--rows", type=int, default=2_000_000, help="of the big table")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=3, help="of mydumper and myloader; we use 3 workers")
    parser.add_argument("--server", choices=("mariadb", "mysql"), default="mariadb")
    parser.add_argument("--first-port", type=int, default=19300)
    options = parser.parse_args()
    with BenchCluster(options.first_port, options.server) as cluster, tempfile.TemporaryDirectory() as scratch:
        with cluster.server("commerce") as connection:
            tables = (fill if options.set == "big" else fill_many)(connection, options.rows)
            sizes = connection.one(
                "SELECT SUM(data_length + index_length) AS size, SUM(table_rows) AS rows_guess "
                f"FROM information_schema.tables WHERE table_schema = '{SOURCE}'"
            )
        size, rows = (int(value) for value in (sizes or {"size": 0, "rows": 0}).values())
        print(f"{len(tables)} tables, about {rows:,} rows, {size >> 20} MiB, {os.cpu_count()} cores, {options.server}")
        contest = Contest(cluster, options.threads, Path(scratch), tables)
        memory = Memory(cluster.inventory.file)
        memory.start()
        turns, failed = measure(contest, options.repeats)
    report(turns, rows)
    for name, why in failed.items():
        print(f"{name} does not run here: {why}")
    print(f"largest process of ours: {memory.peak >> 20} MiB resident")


@dataclass(frozen=True)
class Way:
    """A way to copy: what is done before the time is taken, what takes it, and the database of the copy."""

    prepare: Callable[[], None]
    run: Callable[[], float]
    database: str


def measure(contest: Contest, repeats: int) -> tuple[dict[str, list[Turn]], dict[str, str]]:
    """Every turn of every way, and why those that failed did."""
    ways = {
        "movetables": Way(contest.created, contest.ours, "vt_customer"),
        "movetables, keys not deferred": Way(
            partial(contest.created, defer=False), partial(contest.ours, defer=False), "vt_customer"
        ),
        "OUTFILE + LOAD DATA + ADD KEY": Way(partial(contest.fresh, FLOOR), contest.floor, FLOOR),
    }
    if shutil.which("mydumper"):
        ways["mydumper + myloader"] = Way(partial(contest.fresh, "by_mydumper"), contest.mydumper, "by_mydumper")
    if shutil.which("mariadb-dump"):
        ways["mariadb-dump | mariadb"] = Way(partial(contest.fresh, "by_dump"), contest.dump, "by_dump")
    expected = contest.checksum("commerce", SOURCE)
    turns: dict[str, list[Turn]] = {name: [] for name in ways}
    processor = Processor(
        [contest.cluster.login(name) for name in ("commerce", "customer")], contest.cluster.inventory.file
    )
    failed: dict[str, str] = {}
    for number in range(1, repeats + 1):
        for name, way in ways.items():
            if name in failed:
                continue
            way.prepare()
            try:
                turn = taken(processor, way.run)
            except (subprocess.SubprocessError, ServerError) as error:
                failed[name] = str(error).splitlines()[0][:200]
                continue
            turns[name].append(turn)
            print(f"  {number}/{repeats} {name}: {turn.took:.1f} s", flush=True)
            if contest.checksum("customer", way.database) != expected:
                raise SystemExit(f"{name}: the copy differs from the source")
    return {name: found for name, found in turns.items() if found and name not in failed}, failed


if __name__ == "__main__":
    main()
