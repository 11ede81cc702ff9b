"""The main job, told on real servers: two tables move from one keyspace to another while clients write to them.

Every change is made by the command `movetables` with the plan files of plans/commerce; this program only calls it,
runs the clients beside it and shows what they saw. It exits with 1 when anything was lost, doubled or refused.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pymysql

from tests.workload.client import Raw
from tests.workload.shop import Shop

ROOT = Path(__file__).resolve().parents[1]
PLANS = Path("plans/commerce")
INVENTORY = Path("data/demo.yaml")
GATEWAY_PORT = 15306


class Story:
    """The chapters of the story. `port` is the gateway's, `server` the flavour of all servers."""

    def __init__(self, port: int, server: str) -> None:
        self.port = port
        self.server = server
        self.chapter = 0

    def tell(self, heading: str) -> None:
        """Begins a chapter."""
        self.chapter += 1
        print(f"\n=== {self.chapter}. {heading}\n", flush=True)

    def movetables(self, *words: str, quiet: bool = False) -> str:
        """Runs the command and shows what it prints; with `quiet` only what was done. Exits with it when it fails."""
        command = ["movetables", *words, "-i", str(INVENTORY)]
        self.show_command(command)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        lines = done.stdout.splitlines()
        if quiet and done.returncode == 0:
            lines = [line for line in lines if re.search(r": done in |^Applied", line)]
        print("\n".join(lines), flush=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)} ended with exit code {done.returncode}")
        return done.stdout

    def plan(self, name: str, output: str) -> str:
        """Shows the plan `name` as a reviewer sees it."""
        return self.movetables("plan", str(PLANS / name), "--format", output)

    def apply(self, name: str) -> None:
        """Applies the plan `name`."""
        self.movetables("apply", str(PLANS / name), "--auto-approve", quiet=True)

    def mysql(self, *words: str, file: Path | None = None, fails_with: str = "") -> None:
        """Runs the mysql client through the gateway; with `fails_with` it must fail with that text."""
        client = shutil.which("mysql") or shutil.which("mariadb") or "mysql"
        options = ["--no-defaults", "-h", "127.0.0.1", "-P", str(self.port), "-u", "demo", "--table", "--unbuffered"]
        self.show_command(["mysql", *options[1:5], *words, *(["<", str(file)] if file else [])])
        done = subprocess.run(
            [client, *options, *words],
            input=file.read_text() if file else None,
            stdin=None if file else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(done.stdout, flush=True)
        if (done.returncode != 0) is not bool(fails_with) or fails_with not in done.stdout:
            raise SystemExit(
                f"the mysql client ended with exit code {done.returncode}; expected {fails_with or 'success'}"
            )

    def show_command(self, words: Sequence[str]) -> None:
        """Prints a command as a person would type it."""
        print("$ " + " ".join(f'"{word}"' if " " in word else word for word in words), flush=True)

    def connect(self) -> Raw:
        """A client's connection to the gateway."""
        return pymysql.connect(host="127.0.0.1", port=self.port, user="demo", charset="utf8mb4", read_timeout=60)


def tell(story: Story) -> bool:
    """The whole story; True when it ended well."""
    story.tell("An embedded cluster: keyspace commerce on three tablets, a topology server and the gateway")
    story.movetables("local", "up", "--server", story.server)
    story.apply("101_commerce.yaml")
    story.mysql("-e", "show vitess_tablets")

    story.tell("Customers, products and orders, through the gateway")
    story.mysql(file=PLANS / "insert_commerce_data.sql")
    story.mysql(file=PLANS / "select_commerce_data.sql")

    shop = Shop(story.connect, "commerce")
    shop.start()
    try:
        good = move(story, shop)
    finally:
        shop.stop()
    return good


def move(story: Story, shop: Shop) -> bool:
    """What happens while the shop is open."""
    print("From here on, clients write to customer and corder and read back what they wrote, about 50 times a second.")
    shop.wait_for_writes(20)

    story.tell("Three more tablets for a keyspace of its own: customer")
    story.apply("201_customer_tablets.yaml")
    story.mysql("-e", "show vitess_tablets")

    story.tell("The plan to move customer and corder, as it is reviewed")
    story.plan("202_move_tables.yaml", "markdown")

    story.tell("Copy both tables, and keep the copies up to date")
    story.apply("202_move_tables.yaml")
    story.movetables("routing-rules")
    shop.wait_for_writes(20)

    story.tell("Compare both sides, then switch the reads of replicas")
    story.apply("203_switch_reads.yaml")
    shop.wait_for_writes(20)

    story.tell("Switch the writes")
    story.apply("204_switch_writes.yaml")
    story.movetables("routing-rules")
    shop.wait_for_writes(20)

    story.tell("Back again: 202 asks for less, so the traffic returns, with every write kept")
    story.apply("202_move_tables.yaml")
    shop.wait_for_writes(20)

    story.tell("And forward once more")
    story.apply("204_switch_writes.yaml")
    shop.wait_for_writes(20)
    story.movetables("show")

    story.tell("Complete: no way back. The applications address the tables as customer.* from now on")
    shop.keyspace = "customer"
    shop.wait_for_writes(20)
    story.apply("205_complete.yaml")
    shop.wait_for_writes(20)
    story.movetables("routing-rules")
    story.mysql("-e", "use commerce; select * from customer", fails_with="ERROR 1146")
    story.mysql("-e", "select * from customer.customer limit 5")

    story.tell("What the clients saw")
    with story.connect() as connection:
        verdict = shop.verify(connection, "customer")
    print(verdict.text())
    return verdict.ok


def write_inventory(first_port: int | None) -> int:
    """Writes the demo's inventory: the one of plans/commerce with other data. Returns the gateway's port."""
    text = (PLANS / "inventory.yaml").read_text()
    text = text.replace("../../data/commerce", "demo").replace("name: commerce\n", "name: demo\n")
    if first_port is not None:
        ports = itertools.count(first_port)
        text = re.sub(r"port: \d+", lambda _: f"port: {next(ports)}", text)
    INVENTORY.parent.mkdir(exist_ok=True)
    INVENTORY.write_text(text)
    found = re.search(r"^gateway:.*port: (\d+)", text, re.MULTILINE)
    return int(found.group(1)) if found else GATEWAY_PORT


def reset() -> None:
    """Stops what runs and deletes the demo's data. Ctrl-C does not stop it half way."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    subprocess.run(
        ["movetables", "local", "reset", "-i", str(INVENTORY), "--yes"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    signal.signal(signal.SIGINT, before)


def interrupt(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    """A SIGTERM ends the story as Ctrl-C does."""
    raise KeyboardInterrupt


def main() -> int:
    """Reads the command line and tells the story."""
    parser = argparse.ArgumentParser(prog="script/demo", description="The main job on real servers of its own.")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    parser.add_argument("--server", choices=("mariadb", "mysql"), default="mariadb", help="which servers to start")
    parser.add_argument("--first-port", type=int, metavar="PORT", help="use eight ports from here on; 15300 and others")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupt)
    began = time.monotonic()
    port = write_inventory(options.first_port)
    reset()  # of an earlier demo that was kept
    keep = False
    try:
        good = tell(Story(port, options.server))
        keep = options.keep
    except KeyboardInterrupt:
        print("\nInterrupted; cleaning up.", file=sys.stderr)
        return 130
    finally:
        if not keep:
            reset()
    print(f"\nThe demo {'went well' if good else 'found errors'}; it took {time.monotonic() - began:.0f} s.")
    if keep:
        print(f"The cluster is still running. Connect with: mysql -h 127.0.0.1 -P {port}")
        print(f"To stop it and delete its data: .venv/bin/movetables local reset -i {INVENTORY} --yes")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
