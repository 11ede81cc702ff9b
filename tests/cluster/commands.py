"""The real command line, run as a process of its own on an embedded cluster or on servers that a test started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql

from executor.crashpoints import VARIABLE
from executor.native.access import Access
from executor.native.servers import Unreachable, connect
from planner.cluster import TabletType
from planner.inventory import Inventory
from tests.cluster.conftest import Pairing, Ports, Templates, discard, prepare, write_inventory
from tests.workload.client import Raw

SECONDS = 180.0
PROGRAM = (sys.executable, "-m", "executor.cli.main")
EXAMPLE = Path(__file__).parents[2] / "plans" / "commerce"
SHOP = (("commerce", 100, TabletType.REPLICA), ("customer", 200, TabletType.REPLICA))
KEYSPACES = """
version: 1
name: shop
keyspaces:
  commerce: {tablets: [zone1-0000000100], initial_schema: create_commerce_schema.sql}
  customer: {tablets: [zone1-0000000200]}
"""
MOVE = """
moves:
  commerce2customer:
    source: commerce
    target: customer
    tables: [customer, corder]
    state: {state}
{more}
"""
Done = subprocess.CompletedProcess[str]
Tablets = tuple[tuple[str, int, TabletType], ...]


@dataclass
class Commands:
    """`movetables` with the inventory `inventory`; plan files that a test writes are kept in `folder`.

    `environment` is set for every command, beside this process's own.
    """

    inventory: Inventory
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str, expected: int | None = 0, kill_at: str = "") -> Done:
        """Runs the command to its end, killed at a crash point if one is named.

        It must exit with `expected`, unless that is None.
        """
        done = subprocess.run(
            self._command(words),
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            env=self._environment(kill_at),
        )
        wanted = {expected, done.returncode if expected is None else expected}
        assert done.returncode in wanted, told(words, done)
        return done

    def out(self, *words: str, expected: int = 0) -> str:
        """What the command prints to stdout."""
        return self.run(*words, expected=expected).stdout

    def json(self, *words: str, expected: int = 0) -> Any:
        """What the command prints with ``--format json``."""
        return json.loads(self.out(*words, "--format", "json", expected=expected))

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Starts the command; the caller waits for it."""
        return subprocess.Popen(
            self._command(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment(),
        )

    def plan_file(self, name: str, text: str) -> Path:
        """Writes the plan file `folder`/`name`.yaml."""
        path = self.folder / f"{name}.yaml"
        path.write_text(text)
        return path

    def apply(self, plan: Path, *options: str, expected: int = 0) -> Done:
        """Applies the plan file without asking."""
        return self.run("apply", str(plan), "--auto-approve", *options, expected=expected)

    def rules(self) -> dict[str, str]:
        """The routing rules in force, ``{from_table: to_table}``."""
        found = {}
        for rule in self.json("routing-rules")["rules"]:
            (found[rule["from_table"]],) = rule["to_tables"]
        return found

    def gateway(self, database: str | None = None, *, autocommit: bool = True) -> Raw:
        """A connection to the gateway, as a user that it lets in without a password."""
        return pymysql.connect(
            host=self.inventory.gateway.host,
            port=self.inventory.gateway.port,
            user="app",
            database=database,
            charset="utf8mb4",
            autocommit=autocommit,
            read_timeout=90,
        )

    def query(self, sql: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """The rows that one statement returns through the gateway."""
        with self.gateway(database) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def mysql(self, *words: str, file: Path | None = None) -> Done:
        """Runs the `mysql` client through the gateway, printing tables; stderr goes to stdout."""
        listener = self.inventory.gateway
        options = ("--no-defaults", "-h", listener.host, "-P", str(listener.port), "-u", "app", "--table")
        return subprocess.run(
            ["mysql", *options, "--unbuffered", *words],
            input=file.read_text() if file else "",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=SECONDS,
        )

    def positions(self) -> dict[str, str]:
        """The GTID position of every server that answers, the topology's included, by alias."""
        access = Access(self.inventory)
        logins = [access.logins.topology(), *(access.logins.tablet(tablet.alias) for tablet in self.inventory.tablets)]
        found = {}
        for login in logins:
            try:
                connection = connect(login, read_timeout=30.0)
            except Unreachable:
                continue
            with connection:
                found[login.name] = connection.position()
        access.close()
        return found

    def _command(self, words: tuple[str, ...]) -> list[str]:
        return [*PROGRAM, *words, "-i", self.inventory.file]

    def _environment(self, kill_at: str = "") -> dict[str, str]:
        return {**os.environ, **self.environment, **({VARIABLE: kill_at} if kill_at else {})}


def told(words: tuple[str, ...], done: Done) -> str:
    """What a command said, for a test that failed."""
    return f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"


@contextmanager
def embedded(
    folder: Path, templates: Templates, pairing: Pairing, ports: Ports, name: str, tablets: Tablets
) -> Iterator[Commands]:
    """An embedded cluster that is up, with no keyspace yet; it ends at the end."""
    inventory = write_inventory(folder, name, tablets, ports, pairing)
    prepare(inventory, templates, pairing)
    commands = Commands(inventory, folder)
    try:
        commands.run("local", "up")
        yield commands
    finally:
        discard(inventory)


def shop_plan(commands: Commands, state: str, more: str = "") -> Path:
    """A plan file that wants the guide's move in `state`, on one tablet per keyspace; "" wants only keyspace commerce.

    `more` are further lines of the move.
    """
    keyspaces = KEYSPACES if state else KEYSPACES.partition("  customer:")[0]
    shutil.copy(EXAMPLE / "create_commerce_schema.sql", commands.folder)
    move = MOVE.format(state=state, more=textwrap.indent(more, "    ")) if state else ""
    return commands.plan_file(state or "commerce", keyspaces + move)


@contextmanager
def moving_shop(folder: Path, templates: Templates, pairing: Pairing, ports: Ports, name: str) -> Iterator[Commands]:
    """An embedded cluster where the guide's two tables are being moved, and all traffic is still at commerce."""
    with embedded(folder, templates, pairing, ports, name, SHOP) as commands:
        commands.apply(shop_plan(commands, ""))
        commands.mysql(file=EXAMPLE / "insert_commerce_data.sql").check_returncode()
        commands.apply(shop_plan(commands, "running"))
        yield commands
