"""Moves tables there and back for minutes while processes and servers are killed with -9, and judges every write."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from executor.native.local import up
from tests.cluster.commands import Commands
from tests.cluster.conftest import Ports, write_inventory
from tests.cluster.soak import TABLETS, soak


def main() -> None:
    """Reads the command line, soaks, prints; exits 1 when a write was lost or doubled."""
    parser = argparse.ArgumentParser(prog="script/bench soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the kills; printed to repeat a run")
    parser.add_argument("--rate", type=float, default=60.0, help="writes per second")
    parser.add_argument("--first-port", type=int, default=19400)
    options = parser.parse_args()
    os.environ["MOVETABLES_TEST_PORT_BASE"] = str(options.first_port)
    print(f"seed {options.seed}, {options.minutes:g} minutes")
    with tempfile.TemporaryDirectory(prefix="movetables-soak-") as name:
        folder = Path(name)
        commands = Commands(write_inventory(folder, "soak", TABLETS, Ports()), folder)
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
        finally:
            up.down(commands.inventory)
    print(found.text())
    if found.verdict is None or not found.verdict.ok:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
