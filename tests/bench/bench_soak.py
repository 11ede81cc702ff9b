"""Moves tables there and back for minutes while processes and servers are killed with -9, and judges every write."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from executor.native.local import up
from tests.cluster.commands import Commands
from tests.cluster.conftest import Pairing, Ports, write_inventory
from tests.cluster.killing import TABLETS
from tests.cluster.soak import soak

SERVERS = ("mariadb", "mysql", "mariadb-mysql", "mysql-mariadb")


def main() -> None:
    """Reads the command line, soaks, prints; exits 1 when a write was lost or doubled."""
    parser = argparse.ArgumentParser(prog="script/bench soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--server", choices=SERVERS, default="mariadb", help="of a pair, the first is the source")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the kills")
    parser.add_argument("--rate", type=float, default=60.0, help="writes per second")
    parser.add_argument("--first-port", type=int, default=19400)
    options = parser.parse_args()
    os.environ["MOVETABLES_TEST_PORT_BASE"] = str(options.first_port)
    source, _, target = options.server.partition("-")
    repeat = f"--server {options.server} --minutes {options.minutes:g} --rate {options.rate:g} --seed {options.seed}"
    print(f"script/bench soak {repeat}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="movetables-soak-"))
    inventory = write_inventory(folder, "soak", TABLETS, Ports(), Pairing(source, target or source))
    commands = Commands(inventory, folder)
    try:
        commands.run("local", "up")
        began = time.monotonic()
        found = soak(
            commands,
            folder,
            options.minutes * 60,
            options.seed,
            rate=options.rate,
            say=lambda text: print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True),
        )
    except BaseException:
        print(f"everything that was written and logged stays in {folder}", file=sys.stderr)
        raise
    finally:
        up.down(inventory)
    print(found.text())
    if found.verdict is None or not found.verdict.ok:
        raise SystemExit(f"everything that was written and logged stays in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
