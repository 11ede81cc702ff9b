"""Compares one table on two servers: ours, row by row, and pt-table-checksum where it runs; prints the medians.

Ours is the whole command `movetables vdiff create`. Row by row is what a careful script does: an ordered SELECT of all
columns on each side, streamed, compared row for row in Python. pt-table-checksum compares a replica, so its second
server is not the target of a move; its time is that of one server reading the table once and writing checksums.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any

from tests.bench.bench_copy import fill
from tests.bench.cluster import BenchCluster
from tests.bench.processor import Processor
from tests.bench.turns import Turn, report, taken

Row = tuple[Any, ...]


def rows(cluster: BenchCluster, keyspace: str) -> Iterator[Row]:
    """Every row of the table by its key, as it arrives."""
    with (
        cluster.server(keyspace) as connection,
        connection.stream(f"SELECT * FROM vt_{keyspace}.big ORDER BY id") as found,
    ):
        yield from found


def row_by_row(cluster: BenchCluster) -> float:
    """Both sides, streamed in order and compared in this process. Returns seconds, as all of these do."""
    began = time.perf_counter()
    if any(left != right for left, right in zip_longest(rows(cluster, "commerce"), rows(cluster, "customer"))):
        raise SystemExit("row by row: the sides differ")
    return time.perf_counter() - began


def pt_table_checksum(cluster: BenchCluster) -> float:
    """pt-table-checksum of a table of the source, one thread as it has, with its own chunk size."""
    login = cluster.login("commerce")
    words = [
        "pt-table-checksum",
        f"h={login.host},P={login.port},u={login.user},p={login.password}",
        "--databases=plain",
        "--tables=big",
        "--no-check-binlog-format",
        "--no-check-replication-filters",
        "--recursion-method=none",
        "--quiet",
    ]
    began = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"pt-table-checksum failed: {done.stderr.strip() or done.stdout.strip()}")
    return time.perf_counter() - began


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="script/bench vdiff", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--first-port", type=int, default=19300)
    parser.add_argument("--server", choices=["mariadb", "mysql"], default="mariadb")
    options = parser.parse_args()
    with BenchCluster(options.first_port, options.server) as cluster:
        with cluster.server("commerce") as connection:
            connection.execute("USE vt_commerce")  # MySQL wants one for the numbers that the rows are made of
            fill(connection, options.rows)
        cluster.move(["big"], "running")
        print(f"{options.rows:,} rows on either side, {options.server}, {os.cpu_count()} cores", flush=True)
        ways: dict[str, Callable[[], float]] = {
            "movetables": lambda: cluster.vdiff("customer.bench"),
            "row by row": lambda: row_by_row(cluster),
        }
        if shutil.which("pt-table-checksum"):
            with cluster.server("commerce") as connection:
                connection.execute("CREATE DATABASE plain CHARACTER SET utf8mb4")
                connection.execute("CREATE TABLE plain.big LIKE vt_commerce.big")
                connection.execute("INSERT INTO plain.big SELECT * FROM vt_commerce.big")
            ways["pt-table-checksum (one side)"] = lambda: pt_table_checksum(cluster)
        else:
            print("pt-table-checksum was not found, left out; on Debian: apt-get install percona-toolkit")
        turns: dict[str, list[Turn]] = {name: [] for name in ways}
        processor = Processor([cluster.login(name) for name in ("commerce", "customer")], cluster.inventory.file)
        for number in range(1, options.repeats + 1):
            for name, way in ways.items():
                turns[name].append(taken(processor, way))
                print(f"  {number}/{options.repeats} {name}: {turns[name][-1].took:.1f} s", flush=True)
    report(turns, options.rows)


if __name__ == "__main__":
    main()
