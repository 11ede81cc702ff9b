"""Switches writes there and back while clients write, and prints how long their writes had to wait.

A wait begins when the write was due by the rate, not when its client got round to it, so a pause counts for all the
writes that it delayed. Those due from the start of the apply until a second after its end are counted.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time

from tests.bench.cluster import BenchCluster, table
from tests.workload.client import Client, Settings
from tests.workload.crowd import Crowd
from tests.workload.ledger import Ledger, percentile

ROWS = 10_000


class Writer(Client):
    """Updates one row after the other, each in a statement of its own."""

    def act(self) -> None:
        """One update."""
        row = self.random.randint(1, ROWS)
        sql = f"UPDATE {self.settings.name('counter')} SET n = n + 1 WHERE id = %s"
        self.autocommit("update", lambda _txn: self.execute(sql, (row,)))


def waits(ledger: Ledger, since: float, until: float) -> list[float]:
    """Milliseconds that the writes due in that time had to wait."""
    return [(call.ended - call.due) * 1000 for call in list(ledger.calls) if since <= call.due <= until]


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="script/bench cutover", description=__doc__)
    parser.add_argument("--rate", type=float, default=500.0, help="writes per second")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--switches", type=int, default=10, help="there and back, in turn")
    parser.add_argument("--first-port", type=int, default=19300)
    options = parser.parse_args()
    with BenchCluster(options.first_port) as cluster:
        with cluster.server("commerce") as connection:
            connection.execute("CREATE TABLE vt_commerce.counter (id INT PRIMARY KEY, n BIGINT NOT NULL)")
            connection.execute(f"INSERT INTO vt_commerce.counter SELECT seq, 0 FROM vt_commerce.seq_1_to_{ROWS}")
        cluster.move(["counter"], "reads_switched")
        settings = Settings(cluster.gateway, options.clients, seed=1, keyspace="commerce", rate=options.rate)
        ledger, stopping = Ledger(), threading.Event()
        writers = [Writer(number, settings, ledger, stopping) for number in range(1, options.clients + 1)]
        crowd = Crowd(writers, settings, ledger, stopping)
        crowd.start()
        try:
            crowd.wait_for_writes(int(options.rate) * 3, timeout=60)
            began = time.monotonic()
            crowd.wait_for_writes(int(options.rate) * 10, timeout=120)
            quiet = waits(ledger, began, time.monotonic())
            lines, everything = [], []
            for number in range(options.switches):
                state = "reads_switched" if number % 2 else "switched"
                began = time.monotonic()
                cluster.move(["counter"], state)
                ended = time.monotonic()
                crowd.wait_for_writes(int(options.rate * 2), timeout=60)
                found = waits(ledger, began, ended + 1.0)
                everything.append(found)
                lines.append((f"{number + 1}: to {state}", *figures(found)))
        finally:
            crowd.stop()
        with cluster.gateway() as raw, raw.cursor() as cursor:
            cursor.execute("SELECT SUM(n) FROM commerce.counter")
            (total,) = cursor.fetchone() or (0,)
    print(f"{options.rate:g} writes/s by {options.clients} clients; waits in ms")
    print(table(("switch", "writes", "median", "p99", "longest"), [("none, for 10 s", *figures(quiet)), *lines]))
    together = [wait for found in everything for wait in found]
    longest = statistics.median(max(found) for found in everything)
    print(f"p99 of all: {percentile(together, 0.99):.0f} ms; longest pause of a switch, median: {longest:.0f} ms")
    print(f"acknowledged {ledger.acknowledged()}, counted {total}, errors seen {len(ledger.errors)}")
    if int(total) != ledger.acknowledged() or ledger.errors:
        raise SystemExit("writes were lost or refused: " + "; ".join(ledger.errors[:3]))


def figures(found: list[float]) -> tuple[str, str, str, str]:
    """How many, median, p99 and maximum."""
    return (
        str(len(found)),
        f"{statistics.median(found):.1f}",
        f"{percentile(found, 0.99):.0f}",
        f"{max(found):.0f}",
    )


if __name__ == "__main__":
    main()
