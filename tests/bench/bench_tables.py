"""Moves many small tables by one plan, and prints how long each part of the way takes."""

from __future__ import annotations

import argparse
import time

from tests.bench.bench_copy import Memory
from tests.bench.cluster import BenchCluster, table

STATES = ("created", "running", "switched", "completed")


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="script/bench tables", description=__doc__)
    parser.add_argument("--tables", type=int, default=500)
    parser.add_argument("--rows", type=int, default=100, help="of each table")
    parser.add_argument("--server", choices=("mariadb", "mysql"), default="mariadb")
    parser.add_argument("--first-port", type=int, default=19300)
    options = parser.parse_args()
    names = [f"t{number:05}" for number in range(options.tables)]
    with BenchCluster(options.first_port, options.server) as cluster:
        with cluster.server("commerce") as connection:
            rows = ",".join(f"({number},REPEAT('x',100))" for number in range(1, options.rows + 1))
            for name in names:
                connection.execute(f"CREATE TABLE vt_commerce.{name} (id INT PRIMARY KEY, v VARCHAR(200), KEY (v))")
                connection.execute(f"INSERT INTO vt_commerce.{name} VALUES {rows}")
        memory = Memory(cluster.inventory.file)
        memory.start()
        lines = []
        for state in STATES:
            if state == "switched":
                lines.append(("vdiff create", f"{cluster.vdiff('customer.bench'):.1f} s"))
            began = time.perf_counter()
            cluster.move(names, state)
            lines.append((f"apply: {state}", f"{time.perf_counter() - began:.1f} s"))
    print(table((f"{options.tables} tables, {options.server}", "time"), lines))
    print(f"largest process of ours: {memory.peak >> 20} MiB resident")


if __name__ == "__main__":
    main()
