"""The main job on a whole embedded cluster, from the command line, while the workload runs through the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

from tests.cluster.commands import Commands
from tests.cluster.conftest import COMMERCE, CUSTOMER, MakeInventory
from tests.workload import MOVED_TABLES, Workload, prepare

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
def commands(make_inventory: MakeInventory, tmp_path: Path) -> Iterator[Commands]:
    """The command line on a cluster that is up, without a keyspace."""
    found = Commands(make_inventory("load", COMMERCE + CUSTOMER), tmp_path)
    found.run("local", "up")
    yield found
    found.run("local", "down")


def bring(commands: Commands, state: str) -> None:
    """Applies a plan for that state of the move."""
    text = PLAN.format(tables=", ".join(MOVED_TABLES), state=state)
    commands.apply(commands.plan_file(state, text))


def test_nothing_is_lost_and_no_client_sees_an_error_while_tables_move_there_and_back_and_there_again(
    commands: Commands, tmp_path: Path
) -> None:
    commands.apply(commands.plan_file("alone", KEYSPACE_ALONE))
    with commands.gateway() as connection:
        prepare(connection, "commerce")
    workload = Workload(
        lambda: commands.gateway(autocommit=False), "commerce", clients=4, rate=150, path=tmp_path / "ledger.jsonl"
    )
    workload.start()
    try:
        workload.wait_for_writes(100)
        for state in ("created", "running", "reads_switched", "switched", "running", "switched"):
            bring(commands, state)
            workload.wait_for_writes(100)
        assert set(commands.rules().values()) == {f"customer.{table}" for table in MOVED_TABLES}
        workload.keyspace = "customer"
        workload.wait_for_writes(50)
        bring(commands, "completed")
        workload.wait_for_writes(100)
    finally:
        workload.stop()
    with commands.gateway() as connection:
        verdict = workload.verify(connection, "customer")
    print(verdict.text())
    assert verdict.ok, verdict.text()
    assert commands.rules() == {}
    with pytest.raises(pymysql.err.ProgrammingError) as caught:
        commands.query("SELECT * FROM account", "commerce")
    assert caught.value.args[0] == 1146
