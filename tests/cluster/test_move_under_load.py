"""The main job on a whole embedded cluster, from the command line, while the workload runs through the gateway."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pymysql
import pytest

from planner.inventory import Inventory
from tests.cluster.conftest import COMMERCE, CUSTOMER, MakeInventory
from tests.workload import MOVED_TABLES, Verdict, Workload, prepare
from tests.workload.client import Raw

Movetables = Callable[..., str]

PLAN = """
version: 1
name: accounts
keyspaces:
  commerce: {{tablets: [zone1-0000000100, zone1-0000000101, zone1-0000000102]}}
  customer: {{tablets: [zone1-0000000200, zone1-0000000201, zone1-0000000202]}}
moves:
  accounts:
    source: commerce
    target: customer
    tables: [{tables}]
    state: {state}
"""
KEYSPACE_ALONE = """
version: 1
name: commerce
keyspaces:
  commerce: {tablets: [zone1-0000000100, zone1-0000000101, zone1-0000000102]}
"""


@pytest.fixture
def inventory(make_inventory: MakeInventory) -> Inventory:
    return make_inventory("load", COMMERCE + CUSTOMER)


@pytest.fixture
def movetables(inventory: Inventory) -> Iterator[Movetables]:
    """movetables("show", ...) runs the command on a cluster that is up, and returns what it printed."""

    def run(*words: str, expected: int = 0) -> str:
        command = [sys.executable, "-m", "executor.cli.main", *words, "-i", inventory.file]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
        assert done.returncode == expected, f"{' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    run("local", "up")
    yield run
    run("local", "down")


@pytest.fixture
def apply(movetables: Movetables, tmp_path: Path) -> Callable[[str], str]:
    """apply("switched") applies a plan for that state of the move; apply("") only makes keyspace commerce."""

    def run(state: str) -> str:
        path = tmp_path / f"{state or 'alone'}.yaml"
        path.write_text(PLAN.format(tables=", ".join(MOVED_TABLES), state=state) if state else KEYSPACE_ALONE)
        return movetables("apply", str(path), "--auto-approve")

    return run


def gateway(inventory: Inventory) -> Raw:
    return pymysql.connect(
        host="127.0.0.1", port=inventory.gateway.port, user="app", charset="utf8mb4", read_timeout=90
    )


def test_nothing_is_lost_and_no_client_sees_an_error_while_tables_move_there_and_back_and_there_again(
    inventory: Inventory, movetables: Movetables, apply: Callable[[str], str], tmp_path: Path
) -> None:
    apply("")
    with gateway(inventory) as connection:
        prepare(connection, "commerce")
    workload = Workload(lambda: gateway(inventory), "commerce", clients=4, rate=150, path=tmp_path / "ledger.jsonl")
    workload.start()
    try:
        workload.wait_for_writes(100)
        for state in ("created", "running", "reads_switched", "switched", "running", "switched"):
            apply(state)
            workload.wait_for_writes(100)
        rules = json.loads(movetables("routing-rules", "--format", "json"))["rules"]
        assert {rule["to_tables"][0] for rule in rules} == {f"customer.{table}" for table in MOVED_TABLES}
        workload.keyspace = "customer"
        workload.wait_for_writes(50)
        apply("completed")
        workload.wait_for_writes(100)
    finally:
        workload.stop()
    assert verdict_of(workload, inventory, "customer").ok
    assert json.loads(movetables("routing-rules", "--format", "json")) == {"rules": []}
    with gateway(inventory) as connection, connection.cursor() as cursor:
        cursor.execute("USE commerce")
        with pytest.raises(pymysql.err.ProgrammingError) as caught:
            cursor.execute("SELECT * FROM account")
        assert caught.value.args[0] == 1146


def verdict_of(workload: Workload, inventory: Inventory, keyspace: str) -> Verdict:
    with gateway(inventory) as connection:
        verdict = workload.verify(connection, keyspace)
    print(verdict.text())
    return verdict
