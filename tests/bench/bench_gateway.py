"""sysbench through the gateway and direct to the same server, in turn, on the same cores."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess

from tests.bench.cluster import BenchCluster, table

TESTS = {
    "oltp_point_select, text": ("oltp_point_select", "disable"),
    "oltp_point_select, prepared": ("oltp_point_select", "auto"),
    "oltp_read_write, text": ("oltp_read_write", "disable"),
}


class Sysbench:
    """Runs sysbench on one table of `rows` rows with `threads` threads for `seconds` seconds at a time."""

    def __init__(self, cluster: BenchCluster, rows: int, threads: int, seconds: int) -> None:
        login = cluster.login("commerce")
        self._common = [f"--table-size={rows}", "--tables=1", f"--threads={threads}", f"--time={seconds}"]
        self.direct = [f"--mysql-port={login.port}", f"--mysql-user={login.user}", "--mysql-db=vt_commerce"]
        self.direct.append(f"--mysql-password={login.password}")
        port = cluster.inventory.gateway.port
        self.gateway = [f"--mysql-port={port}", "--mysql-user=bench", "--mysql-db=commerce"]

    def run(self, test: str, where: list[str], *more: str, command: str = "run") -> float:
        """Runs one test; returns queries per second."""
        words = ["sysbench", test, "--mysql-host=127.0.0.1", *where, *self._common, *more, command]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"sysbench {test} failed:\n{done.stdout}{done.stderr}")
        found = re.search(r"queries: +\d+ +\(([\d.]+) per sec", done.stdout)
        return float(found.group(1)) if found else 0.0


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="script/bench gateway", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--first-port", type=int, default=19300)
    options = parser.parse_args()
    if shutil.which("sysbench") is None:
        raise SystemExit("sysbench was not found; on Debian: apt-get install sysbench")
    lines = []
    with BenchCluster(options.first_port) as cluster:
        sysbench = Sysbench(cluster, options.rows, options.threads, options.seconds)
        sysbench.run("oltp_point_select", sysbench.direct, command="prepare")
        for name, (test, ps_mode) in TESTS.items():
            direct, gateway = [], []
            for _ in range(options.repeats):
                direct.append(sysbench.run(test, sysbench.direct, f"--db-ps-mode={ps_mode}"))
                gateway.append(sysbench.run(test, sysbench.gateway, f"--db-ps-mode={ps_mode}"))
            a, b = statistics.median(direct), statistics.median(gateway)
            lines.append((name, f"{a:,.0f}", f"{b:,.0f}", f"{b / a:.2f}x"))
            print(f"  {name}: direct {a:,.0f}, gateway {b:,.0f} queries/s", flush=True)
    print(f"{options.threads} threads, {options.rows:,} rows, {os.cpu_count()} cores; queries per second")
    print(table((f"median of {options.repeats}", "direct", "gateway", "ratio"), lines))


if __name__ == "__main__":
    main()
