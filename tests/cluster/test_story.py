"""The guide's story on real servers, with the plan files and SQL files of plans/commerce exactly as they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import jsonschema
import pytest

import schemas
from tests.cluster.commands import Commands
from tests.cluster.conftest import COMMERCE, CUSTOMER, MakeInventory

pytestmark = pytest.mark.servers("mariadb", "mysql", "mariadb-mysql", "mysql-mariadb")

EXAMPLE = Path(__file__).parents[2] / "plans" / "commerce"
PLANS = (
    "101_commerce.yaml",
    "201_customer_tablets.yaml",
    "202_move_tables.yaml",
    "203_switch_reads.yaml",
    "204_switch_writes.yaml",
    "205_complete.yaml",
)
DATA = """\
Using commerce
Customer
+-------------+--------------------+
| customer_id | email              |
+-------------+--------------------+
|           1 | alice@domain.com   |
|           2 | bob@domain.com     |
|           3 | charlie@domain.com |
|           4 | dan@domain.com     |
|           5 | eve@domain.com     |
+-------------+--------------------+
Product
+----------+-------------+-------+
| sku      | description | price |
+----------+-------------+-------+
| SKU-1001 | Monitor     |   100 |
| SKU-1002 | Keyboard    |    30 |
+----------+-------------+-------+
COrder
+----------+-------------+----------+-------+
| order_id | customer_id | sku      | price |
+----------+-------------+----------+-------+
|        1 |           1 | SKU-1001 |   100 |
|        2 |           2 | SKU-1002 |    30 |
|        3 |           3 | SKU-1002 |    30 |
|        4 |           4 | SKU-1002 |    30 |
|        5 |           5 | SKU-1002 |    30 |
+----------+-------------+----------+-------+
"""
"""What select_commerce_data.sql shows in the guide."""
TABLET_COLUMNS = ["Cell", "Keyspace", "Shard", "TabletType", "State", "Alias", "Hostname", "PrimaryTermStartTime"]
SWITCHED = {
    "commerce.corder@rdonly": "customer.corder",
    "corder@rdonly": "customer.corder",
    "customer.corder@replica": "customer.corder",
    "commerce.corder@replica": "customer.corder",
    "customer.corder@rdonly": "customer.corder",
    "customer@replica": "customer.customer",
    "customer.customer@replica": "customer.customer",
    "corder@replica": "customer.corder",
    "commerce.customer@rdonly": "customer.customer",
    "customer@rdonly": "customer.customer",
    "customer.customer@rdonly": "customer.customer",
    "commerce.customer@replica": "customer.customer",
    "corder": "customer.corder",
    "commerce.corder": "customer.corder",
    "customer": "customer.customer",
    "commerce.customer": "customer.customer",
}
"""GetRoutingRules of the guide after SwitchTraffic."""
CREATED = {
    f"{prefix}{table}{suffix}": f"commerce.{table}"
    for table in ("customer", "corder")
    for prefix in ("", "commerce.", "customer.")
    for suffix in ("", "@replica", "@rdonly")
}
"""GetRoutingRules of current Vitess after create; the guide's older one lacks commerce.customer and commerce.corder."""
READS_SWITCHED = {
    name: target.replace("commerce.", "customer.") if "@" in name else target for name, target in CREATED.items()
}
NO_TABLE = (
    "target: commerce.0.primary: vttablet: rpc error: code = NotFound desc = "
    "Table 'vt_commerce.customer' doesn't exist (errno 1146) (sqlstate 42S02)"
)


@pytest.fixture
def commands(make_inventory: MakeInventory, tmp_path: Path) -> Commands:
    """The embedded cluster, up, with nothing in it; `commands.folder` is a copy of plans/commerce."""
    found = Commands(make_inventory("commerce", COMMERCE + CUSTOMER), tmp_path / "plans")
    shutil.copytree(EXAMPLE, found.folder)
    found.run("local", "up")
    return found


def apply_and_apply_again(commands: Commands, name: str) -> None:
    """Applies a plan of the example that asks for changes, and then does not any more."""
    path = commands.folder / name
    commands.run("plan", str(path), "--detailed-exitcode", expected=2)
    commands.apply(path)
    runs = commands.out("history")
    again = commands.apply(path)
    assert again.stdout.startswith("No changes."), again.stdout
    commands.run("plan", str(path), "--detailed-exitcode", expected=0)
    assert commands.out("history").count("\n") == runs.count("\n")


def load_data(commands: Commands) -> None:
    commands.mysql(file=commands.folder / "insert_commerce_data.sql").check_returncode()
    shown = commands.mysql(file=commands.folder / "select_commerce_data.sql")
    assert (shown.returncode, shown.stdout) == (0, DATA)


def tablets(commands: Commands) -> list[list[str]]:
    """What ``show vitess_tablets`` prints, cells split, the heading first."""
    shown = commands.mysql("-e", "show vitess_tablets")
    assert shown.returncode == 0, shown.stdout
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.stdout.splitlines() if "|" in line]


def assert_completed(commands: Commands) -> None:
    """customer and corder live in customer only, with nothing left of the move."""
    assert commands.json("routing-rules") == {"rules": []}
    failed = commands.mysql("-e", "use commerce; select * from customer")
    assert failed.returncode == 1
    assert "ERROR 1146 (42S02) at line 1" in failed.stdout
    assert NO_TABLE in failed.stdout
    shown = commands.json("show")
    assert shown["moves"] == []
    tables = {k["name"]: [table["name"] for table in k["tables"]] for k in shown["keyspaces"]}
    assert tables == {"commerce": ["product"], "customer": ["corder", "customer"]}
    assert commands.query("SELECT email FROM customer.customer ORDER BY customer_id LIMIT 1") == [
        (b"alice@domain.com",)
    ]


def test_the_plans_of_the_example_in_turn_and_each_again(commands: Commands, tmp_path: Path) -> None:
    apply_and_apply_again(commands, "101_commerce.yaml")
    load_data(commands)
    heading, *rows = tablets(commands)
    assert heading == TABLET_COLUMNS
    assert [row[:6] for row in rows] == [
        ["zone1", "commerce", "0", kind, "SERVING", f"zone1-{uid:010}"]
        for kind, uid in (("PRIMARY", 100), ("REPLICA", 101), ("RDONLY", 102))
    ]

    # The whole path, as it is reviewed on a cluster that only has commerce.
    whole = str(commands.folder / "204_switch_writes.yaml")
    markdown = commands.out("plan", whole, "--format", "markdown")
    assert "```mermaid" in markdown
    assert "switch_writes:customer.commerce2customer" in markdown
    assert markdown.rstrip().splitlines()[-1].startswith("Plan: ")
    made = commands.json("plan", whole)
    assert [e.message for e in jsonschema.Draft202012Validator(schemas.load("plan_output")).iter_errors(made)] == []

    stale = tmp_path / "kept.json"
    commands.run("plan", str(commands.folder / "201_customer_tablets.yaml"), "--out", str(stale))
    apply_and_apply_again(commands, "201_customer_tablets.yaml")
    assert [row[1:6:2] for row in tablets(commands)[1:]] == [
        [keyspace, kind, f"zone1-{uid:010}"]
        for keyspace, first in (("commerce", 100), ("customer", 200))
        for kind, uid in (("PRIMARY", first), ("REPLICA", first + 1), ("RDONLY", first + 2))
    ]
    refused = commands.run("apply", str(stale), "--auto-approve", expected=3)
    assert "zone1-0000000200" in refused.stderr

    kept = tmp_path / "move.json"
    commands.run("plan", str(commands.folder / "202_move_tables.yaml"), "--out", str(kept))
    commands.run("apply", str(kept), "--auto-approve")
    assert commands.run("plan", str(commands.folder / "202_move_tables.yaml"), "--detailed-exitcode").returncode == 0
    assert commands.rules() == CREATED
    apply_and_apply_again(commands, "203_switch_reads.yaml")
    assert commands.rules() == READS_SWITCHED
    apply_and_apply_again(commands, "204_switch_writes.yaml")
    assert commands.rules() == SWITCHED
    shown = commands.mysql(file=commands.folder / "select_commerce_data.sql")
    assert (shown.returncode, shown.stdout) == (0, DATA)

    commands.query("INSERT INTO customer(email) VALUES ('frank@domain.com')", "commerce")
    commands.query("UPDATE corder SET price = 99 WHERE order_id = 1", "commerce")
    apply_and_apply_again(commands, "202_move_tables.yaml")
    assert commands.rules() == CREATED
    assert commands.query("SELECT customer_id FROM customer WHERE email = 'frank@domain.com'", "commerce") == [(6,)]
    assert commands.query("SELECT price FROM corder WHERE order_id = 1", "commerce") == [(99,)]
    commands.query("DELETE FROM customer WHERE customer_id = 5", "commerce")
    apply_and_apply_again(commands, "204_switch_writes.yaml")
    assert commands.rules() == SWITCHED

    apply_and_apply_again(commands, "205_complete.yaml")
    assert_completed(commands)
    assert commands.query("SELECT customer_id FROM customer.customer ORDER BY 1") == [(1,), (2,), (3,), (4,), (6,)]
    assert commands.query("SELECT price FROM customer.corder WHERE order_id = 1") == [(99,)]


def test_the_last_plan_alone_does_all_of_it(commands: Commands) -> None:
    apply_and_apply_again(commands, "101_commerce.yaml")
    load_data(commands)
    steps = [step["kind"] for step in commands.json("plan", str(commands.folder / "205_complete.yaml"))["steps"]]
    for kind in ("start_tablet", "create_workflow", "vdiff", "switch_reads", "switch_writes", "complete"):
        assert kind in steps
    apply_and_apply_again(commands, "205_complete.yaml")
    assert_completed(commands)
    assert [name for name, _ in commands.rules().items()] == []
