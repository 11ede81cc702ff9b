"""Copies one table from one server to another, with us and with the usual tools, in turn, and prints the medians.

All write into an empty database of the same target server. Ours is the whole `apply` from `created` to `running`:
starting the command, copying, following the binlog. The tools' times are those of their commands.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from executor.native.servers import Connection
from tests.bench.cluster import BenchCluster, table

BATCH = 100_000
CREATE = """CREATE TABLE vt_commerce.big (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL, c CHAR(60) NOT NULL, note VARCHAR(80),
    amount DECIMAL(12,2) NOT NULL, made DATETIME(6) NOT NULL, KEY k (k), KEY made (made)) ENGINE=InnoDB"""
FILL = """INSERT INTO vt_commerce.big (id, k, c, note, amount, made)
    SELECT seq, CRC32(seq) % 1000000, LEFT(REPEAT(MD5(seq), 2), 60), CONCAT('note ', seq, ' ', SHA1(seq)), seq / 7,
    '2026-01-01' + INTERVAL seq SECOND FROM vt_commerce.seq_{0}_to_{1}"""


def fill(connection: Connection, rows: int) -> None:
    """Makes the table of `rows` rows."""
    connection.execute(CREATE)
    for first in range(1, rows + 1, BATCH):
        connection.execute(FILL.format(first, min(rows, first + BATCH - 1)))
    connection.query("ANALYZE TABLE vt_commerce.big")


class Contest:
    """The ways to copy; each leaves its copy in a database of its own on the target, or in vt_customer."""

    def __init__(self, cluster: BenchCluster, threads: int, scratch: Path) -> None:
        self.cluster = cluster
        self.threads = threads
        self.scratch = scratch
        for keyspace in ("commerce", "customer"):
            login = cluster.login(keyspace)
            path = scratch / f"{keyspace}.cnf"
            path.touch(0o600)
            path.write_text(
                f"[client]\nhost={login.host}\nport={login.port}\nuser={login.user}\npassword={login.password}\n"
            )

    def ours(self, *, defer: bool = False) -> float:
        """movetables, from `created` to `running`. Returns seconds, as all of these do."""
        self.cluster.move(["big"], "absent")
        self.cluster.move(["big"], "created", defer_secondary_keys=defer)
        began = time.perf_counter()
        self.cluster.move(["big"], "running", defer_secondary_keys=defer)
        return time.perf_counter() - began

    def ours_deferred(self) -> float:
        """The same, with the secondary keys added at the end."""
        return self.ours(defer=True)

    def dump(self) -> float:
        """mariadb-dump into mariadb, through a pipe."""
        self._fresh("by_dump")
        began = time.perf_counter()
        dump = subprocess.Popen(
            [
                "mariadb-dump",
                f"--defaults-file={self.scratch}/commerce.cnf",
                "--single-transaction",
                "vt_commerce",
                "big",
            ],
            stdout=subprocess.PIPE,
        )
        subprocess.run(
            ["mariadb", f"--defaults-file={self.scratch}/customer.cnf", "by_dump"], stdin=dump.stdout, check=True
        )
        if dump.wait() != 0:
            raise SystemExit("mariadb-dump failed")
        return time.perf_counter() - began

    def mydumper(self) -> float:
        """mydumper into files, then myloader from them."""
        self._fresh("by_mydumper")
        folder = self.scratch / "dump"
        shutil.rmtree(folder, ignore_errors=True)
        began = time.perf_counter()
        # These two read no file of options in this version, and take the password from the command line.
        self._tool("commerce", ["mydumper", "-B", "vt_commerce", "-T", "big", "-o", str(folder), "-r", "100000"])
        self._tool("customer", ["myloader", "-B", "by_mydumper", "-d", str(folder), "-o"])
        took = time.perf_counter() - began
        shutil.rmtree(folder)
        return took

    def _tool(self, keyspace: str, words: list[str]) -> None:
        login = self.cluster.login(keyspace)
        options = ["-h", login.host, "-P", str(login.port), "-u", login.user, "-p", login.password]
        subprocess.run([*words, *options, "-t", str(self.threads)], check=True, stdout=subprocess.DEVNULL)

    def _fresh(self, database: str) -> None:
        with self.cluster.server("customer") as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {database}")
            connection.execute(f"CREATE DATABASE {database} CHARACTER SET utf8mb4")

    def checksum(self, keyspace: str, database: str) -> str:
        """CHECKSUM TABLE of the copy."""
        with self.cluster.server(keyspace) as connection:
            row = connection.one(f"CHECKSUM TABLE {database}.big")
        return str(row["Checksum"]) if row else ""


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="script/bench copy", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=3, help="of mydumper and myloader; we use 3 workers")
    parser.add_argument("--first-port", type=int, default=19300)
    options = parser.parse_args()
    with BenchCluster(options.first_port) as cluster, tempfile.TemporaryDirectory() as scratch:
        with cluster.server("commerce") as connection:
            fill(connection, options.rows)
            size = connection.value(
                "SELECT data_length + index_length FROM information_schema.tables WHERE table_name = 'big'"
            )
        print(f"{options.rows:,} rows, {int(size) >> 20} MiB, two secondary keys, {os.cpu_count()} cores", flush=True)
        contest = Contest(cluster, options.threads, Path(scratch))
        ways: dict[str, tuple[Callable[[], float], str]] = {
            "movetables": (contest.ours, "vt_customer"),
            "movetables, defer_secondary_keys": (contest.ours_deferred, "vt_customer"),
        }
        if shutil.which("mydumper"):
            ways["mydumper + myloader"] = (contest.mydumper, "by_mydumper")
        if shutil.which("mariadb-dump"):
            ways["mariadb-dump | mariadb"] = (contest.dump, "by_dump")
        expected = contest.checksum("commerce", "vt_commerce")
        times: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(options.repeats):
            for name, (way, database) in ways.items():
                times[name].append(way())
                print(f"  {turn + 1}/{options.repeats} {name}: {times[name][-1]:.1f} s", flush=True)
                if contest.checksum("customer", database) != expected:
                    raise SystemExit(f"{name}: the copy differs from the source")
    report(times, options.rows)


def report(times: dict[str, list[float]], rows: int) -> None:
    """Prints medians, rates, and how many times as fast as each tool we are."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    best = medians["movetables"]
    lines = [(n, f"{m:.1f} s", f"{rows / m:,.0f}", f"{m / best:.2f}x") for n, m in medians.items()]
    print(table(("median of each", "time", "rows/s", "time of movetables = 1"), lines))


if __name__ == "__main__":
    main()
