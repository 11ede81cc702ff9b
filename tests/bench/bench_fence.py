"""Loads rows into a table without and with the fence's triggers, and prints what that costs the server's processor.

The session may write to fenced tables, as that of a copy. Its database is the table's own in one turn, none in the
other: a trigger runs in its own database, so the session is then taken there and back for each row.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from executor.native.cutover import fence
from executor.native.servers import Connection, connect
from tests.bench.bench_copy import fill
from tests.bench.cluster import BenchCluster, table
from tests.bench.processor import Processor

DATABASE, TABLE = "by_fence", "loaded"
WAYS = {
    "no fence": (False, True),
    "fence, in its database": (True, True),
    "fence, in no database": (True, False),
}


def load(connection: Connection, file: Path, *, fenced: bool) -> None:
    """Loads `file` into a new table."""
    connection.execute(f"DROP TABLE IF EXISTS {DATABASE}.{TABLE}")
    connection.execute(f"CREATE TABLE {DATABASE}.{TABLE} LIKE vt_commerce.big")
    connection.execute(f"ALTER TABLE {DATABASE}.{TABLE} DROP KEY k, DROP KEY made")
    if fenced:
        for statement in fence.create_statements(DATABASE, TABLE):
            connection.execute(statement)
    connection.execute(f"LOAD DATA INFILE '{file}' INTO TABLE {DATABASE}.{TABLE} CHARACTER SET utf8mb4")


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="script/bench fence", description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--server", choices=("mariadb", "mysql"), default="mariadb")
    parser.add_argument("--first-port", type=int, default=19300)
    options = parser.parse_args()
    spent: dict[str, list[float]] = {name: [] for name in WAYS}
    with BenchCluster(options.first_port, options.server) as cluster, tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o777)
        file, login = Path(scratch) / "rows.txt", cluster.login("commerce")
        with cluster.server("commerce") as connection:
            fill(connection, options.rows)
            connection.execute(f"SELECT * FROM vt_commerce.big INTO OUTFILE '{file}'")
            connection.execute(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4")
        processor = Processor([login], cluster.inventory.file)
        for _ in range(options.repeats):
            for name, (fenced, inside) in WAYS.items():
                with connect(login, database=DATABASE if inside else None, apply=True) as connection:
                    before = processor.seconds()[0]
                    load(connection, file, fenced=fenced)
                    spent[name].append(processor.seconds()[0] - before)
    medians = {name: statistics.median(found) / options.rows * 1e6 for name, found in spent.items()}
    least = medians["no fence"]
    lines = [(name, f"{each:.1f} µs", f"{each - least:+.1f} µs") for name, each in medians.items()]
    print(table((f"LOAD DATA, {options.server}", "CPU per row", "against no fence"), lines))


if __name__ == "__main__":
    main()
