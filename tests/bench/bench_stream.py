"""Follows a source that changes, with us and with the server's own replication, in turn, and prints the medians.

First rows are changed in bulk while nobody follows, and the time to catch up is taken; also that of only decoding the
changes, by us and by the library mysql-replication where it is installed. Then sysbench oltp_write_only writes at full
speed on the same cores, and the lag is measured by a row with the time that is written ten times a second.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from executor.native import sidecar
from executor.native.binlog import positions
from executor.native.binlog.transactions import Idle, RowsChange, TransactionReader
from executor.native.binlog.wire import BinlogClient
from executor.native.local import server as servers
from executor.native.local.cluster import LocalCluster
from executor.native.local.local_server import LocalServer
from executor.native.servers import Connection, Login, connect
from executor.native.waiting import wait_until
from planner.cluster import StreamState
from tests.bench.bench_copy import FILL, fill
from tests.bench.cluster import BenchCluster, table
from tests.bench.processor import Processor
from tests.bench.turns import OURS, Turn, report, taken
from tests.workload.ledger import percentile

STATEMENT_ROWS = 10_000
DEADLINE = 600.0
SBTEST_TABLES, SBTEST_ROWS = 4, 100_000
TABLES = ("big", "beat", *(f"sbtest{n}" for n in range(1, SBTEST_TABLES + 1)))
READER_ID = 1_800_000_001


class Replica:
    """A server that replicates from the source by its own means; it follows only inside `with replica.following():`."""

    def __init__(self, server: LocalServer, source: Login) -> None:
        self.server = server
        with connect(server.login) as connection:
            words = connection.flavor.replication
            connection.execute(words.change, [source.host, source.port, source.user, source.password])

    @contextmanager
    def following(self) -> Iterator[None]:
        """It replicates meanwhile."""
        with connect(self.server.login) as connection:
            connection.execute(connection.flavor.replication.start)
            try:
                yield
            finally:
                connection.execute(connection.flavor.replication.stop)

    def position(self, connection: Connection) -> str:
        """How far it has come."""
        name = "gtid_slave_pos" if connection.flavor.mariadb else "gtid_executed"
        return str(connection.value(f"SELECT @@global.{name}"))


class Ours:
    """Our stream of the move `bench`; it follows only inside `with ours.following():`."""

    def __init__(self, target: Login) -> None:
        self.target = target

    @contextmanager
    def following(self) -> Iterator[None]:
        """It runs meanwhile."""
        with connect(self.target) as connection:
            sidecar.set_state(connection, "customer", "bench", StreamState.RUNNING)
            try:
                yield
            finally:
                self.stop(connection)

    def stop(self, connection: Connection) -> None:
        """Stops the stream, and waits until its thread has ended."""
        sidecar.set_state(connection, "customer", "bench", StreamState.STOPPED)
        lock = sidecar.stream_lock("customer", "bench")
        wait_until(lambda: connection.value("SELECT IS_FREE_LOCK(%s)", [lock]) == 1, 30, "the stream to stop")

    def position(self, connection: Connection) -> str:
        """How far it has come."""
        record = sidecar.stream(connection, "customer", "bench")
        if record is None or record.state is StreamState.ERROR:
            raise SystemExit(f"the stream failed: {record.message if record else 'it is gone'}")
        return record.pos


def change(source: Connection, rows: int, turn: int) -> None:
    """Changes `rows` rows: half are updated, a quarter is inserted and a quarter deleted, in statements of 10,000."""
    for first in range(1, rows // 2, STATEMENT_ROWS):
        last = first + STATEMENT_ROWS - 1
        source.execute(f"UPDATE vt_commerce.big SET k=k+1, amount=amount+1 WHERE id BETWEEN {first} AND {last}")
    above = rows * (turn + 1)
    for offset in range(0, rows // 4, STATEMENT_ROWS):
        source.execute(FILL.format(above + offset + 1, above + offset + STATEMENT_ROWS))
    for offset in range(0, rows // 4, STATEMENT_ROWS):
        first = rows * turn + 1 + offset if turn else rows // 2 + 1 + offset
        source.execute(f"DELETE FROM vt_commerce.big WHERE id BETWEEN {first} AND {first + STATEMENT_ROWS - 1}")


def catch_up(follower: Ours | Replica, login: Login, wanted: str) -> float:
    """Seconds that `follower` takes from its start until it has applied everything up to `wanted`."""
    goal = positions.parse(wanted)
    with connect(login) as connection:
        began = time.perf_counter()
        with follower.following():
            wait_until(
                lambda: positions.parse(follower.position(connection)).contains(goal), DEADLINE, "it to catch up"
            )
            return time.perf_counter() - began


def decode(source: Login, position: str, expected: int) -> float:
    """Seconds that our decoder takes for everything after `position`, which must be `expected` rows."""
    client = BinlogClient(source, position, READER_ID)
    reader = TransactionReader(client, lambda _database, name: name == "big")
    began, rows = time.perf_counter(), 0
    while not isinstance(piece := reader.next(), Idle):
        if isinstance(piece, RowsChange):
            rows += len(piece.table.decoder(piece.table.columns, piece.table.key, False)(piece.rows))
        ended = time.perf_counter()
    client.close()
    _expect(rows, expected, "our decoder")
    return ended - began


def _expect(rows: int, expected: int, who: str) -> None:
    if rows < expected:
        raise SystemExit(f"{who} saw {rows} rows of {expected}")


def decode_by_library(source: Login, position: str, expected: int) -> float:
    """The same with mysql-replication, until it has seen `expected` rows."""
    library = importlib.import_module("pymysqlreplication")
    kinds = importlib.import_module("pymysqlreplication.row_event")
    start = {"auto_position": position} if ":" in position else {"auto_position": position, "is_mariadb": True}
    reader = library.BinLogStreamReader(
        connection_settings={"host": source.host, "port": source.port, "user": source.user, "passwd": source.password},
        server_id=READER_ID,
        **start,
        only_tables=["big"],
        only_events=[kinds.WriteRowsEvent, kinds.UpdateRowsEvent, kinds.DeleteRowsEvent],
    )
    began, rows = time.perf_counter(), 0
    for event in reader:  # on MariaDB it never ends by itself
        rows += len(event.rows)
        if rows >= expected:
            break
    took = time.perf_counter() - began
    reader.close()
    _expect(rows, expected, "mysql-replication")
    return took


@dataclass
class Beat:
    """Writes the time into a row of the source ten times a second, and reads it at the follower."""

    source: Login
    follower: Login
    database: str
    lags: list[float] = field(default_factory=list)

    def seen(self) -> bool:
        """True when the follower has the beat of the last seconds."""
        with connect(self.follower) as connection:
            return time.time() - float(connection.value(f"SELECT at FROM {self.database}.beat") or 0) < 5

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Meanwhile, `lags` grows by one figure in seconds for each time that the follower was looked at."""
        stop = threading.Event()
        threads = [threading.Thread(target=each, args=(stop,)) for each in (self._write, self._read)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _write(self, stop: threading.Event) -> None:
        with connect(self.source) as connection:
            while not stop.wait(0.1):
                connection.execute("UPDATE vt_commerce.beat SET at=%s WHERE id=1", [time.time()])

    def _read(self, stop: threading.Event) -> None:
        with connect(self.follower) as connection:
            while not stop.wait(0.1):
                self.lags.append(time.time() - float(connection.value(f"SELECT at FROM {self.database}.beat") or 0))


def sysbench(source: Login, command: str, seconds: int = 0, threads: int = 4) -> float:
    """Runs a command of sysbench's oltp_write_only on the source; returns transactions per second."""
    words = ["sysbench", "oltp_write_only", "--db-driver=mysql", f"--mysql-host={source.host}",
             f"--mysql-port={source.port}", f"--mysql-user={source.user}", f"--mysql-password={source.password}",
             "--mysql-db=vt_commerce", f"--tables={SBTEST_TABLES}", f"--table-size={SBTEST_ROWS}",
             f"--threads={threads}", f"--time={seconds}", "--events=0", command]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"sysbench {command} failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    found = [line for line in done.stdout.splitlines() if "transactions:" in line]
    return float(found[0].split("(")[1].split()[0]) if found else 0.0


def under_load(follower: Ours | Replica, source: Login, login: Login, database: str, seconds: int) -> tuple[str, ...]:
    """A line of figures: sysbench runs for `seconds` while `follower` follows it."""
    with connect(source) as writer, connect(login) as connection:
        with follower.following():
            beat = Beat(source, login, database)
            start = positions.parse(writer.position())
            wait_until(
                lambda: positions.parse(follower.position(connection)).contains(start), DEADLINE, "it to catch up"
            )
            writer.execute("UPDATE vt_commerce.beat SET at=%s WHERE id=1", [time.time()])
            wait_until(beat.seen, DEADLINE, "the first beat")
            with beat.measuring():
                rate = sysbench(source, "run", seconds)
                ended = time.perf_counter()
                goal = positions.parse(writer.position())
                wait_until(
                    lambda: positions.parse(follower.position(connection)).contains(goal), DEADLINE, "it to catch up"
                )
                behind = time.perf_counter() - ended
        lags = sorted(beat.lags)
        quarter = len(beat.lags) // 4
        trend = statistics.median(beat.lags[-quarter:]) - statistics.median(beat.lags[:quarter])
    figures = (statistics.median(lags), percentile(lags, 0.99), lags[-1], trend, behind)
    return (f"{rate:,.0f}", *(f"{figure:.2f} s" for figure in figures))


def bulk(options: argparse.Namespace, cluster: BenchCluster, ours: Ours, replica: Replica) -> None:
    """Measures catching up and decoding, and prints the medians."""
    login = cluster.login("commerce")
    turns: dict[str, list[Turn]] = {}
    processor = Processor([login, cluster.login("customer"), replica.server.login], cluster.inventory.file)
    library = not options.without_library and _library()
    for number in range(1, options.repeats + 1):
        with cluster.server("commerce") as source:
            position = source.position()
            change(source, options.rows, number - 1)
            wanted = source.position()
        ways: dict[str, Callable[[], float]] = {
            OURS: partial(catch_up, ours, cluster.login("customer"), wanted),
            "native replication": partial(catch_up, replica, replica.server.login, wanted),
            "our decoder alone": partial(decode, login, position, options.rows),
        }
        if library and number == 1:
            ways["mysql-replication, decoding alone"] = partial(decode_by_library, login, position, options.rows)
        for name, way in ways.items():
            turn = taken(processor, way)
            turns.setdefault(name, []).append(turn)
            print(f"  {number}/{options.repeats} {name}: {turn.took:.1f} s", flush=True)
        compare(cluster, replica)
    print(f"{options.rows:,} changed rows:")
    report(turns, options.rows, ("source", "target", "replica"))


def _library() -> bool:
    found = importlib.util.find_spec("pymysqlreplication") is not None
    if not found:
        print("mysql-replication is not installed (pip install -e '.[bench]'), left out", flush=True)
    return found


def compare(cluster: BenchCluster, replica: Replica) -> None:
    """Ends the program when the three copies of the table are not equal."""
    copies = (
        (cluster.login("commerce"), "vt_commerce"),
        (cluster.login("customer"), "vt_customer"),
        (replica.server.login, "vt_commerce"),
    )
    found = []
    for login, database in copies:
        with connect(login) as connection:
            found.append((connection.one(f"CHECKSUM TABLE {database}.big") or {}).get("Checksum"))
    if len(set(found)) != 1:
        raise SystemExit(f"the copies differ: checksums {found}")


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="script/bench stream", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="changed in bulk; 0 for none")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=60, help="of sysbench; 0 for none")
    parser.add_argument("--without-library", action="store_true", help="do not time mysql-replication")
    parser.add_argument("--server", choices=("mariadb", "mysql"), default="mariadb")
    parser.add_argument("--first-port", type=int, default=19300)
    options = parser.parse_args()
    with BenchCluster(options.first_port, options.server) as cluster:
        source = cluster.login("commerce")
        with cluster.server("commerce") as connection:
            fill(connection, max(options.rows, STATEMENT_ROWS))
            connection.execute("CREATE TABLE vt_commerce.beat (id INT PRIMARY KEY, at DOUBLE NOT NULL)")
            connection.execute("INSERT INTO vt_commerce.beat VALUES (1, 0)")
        sysbench(source, "prepare")
        cluster.move(TABLES, "running")
        folder = Path(cluster.inventory.data_dir) / "bench-replica"
        server = LocalServer("replica", folder, options.first_port + 4, 900, "bench", options.server)
        servers.start(server, LocalCluster(cluster.inventory).template(options.server))
        try:
            replica, ours = Replica(server, source), Ours(cluster.login("customer"))
            with connect(ours.target) as target, connect(source) as connection:
                ours.stop(target)
                catch_up(replica, server.login, connection.position())
            if options.rows:
                bulk(options, cluster, ours, replica)
            if options.seconds:
                lines = [
                    (name, *under_load(follower, source, login, database, options.seconds))
                    for name, follower, login, database in (
                        ("movetables", ours, ours.target, "vt_customer"),
                        ("native replication", replica, server.login, "vt_commerce"),
                    )
                ]
                headings = ("sysbench oltp_write_only", "transactions/s", "median lag", "p99", "longest",
                            "last quarter - first", "to catch up after")  # fmt: skip
                print(table(headings, lines))
        finally:
            servers.stop(server)


if __name__ == "__main__":
    main()
