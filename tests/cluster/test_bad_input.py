"""What is wrong with servers, tables and users is found by `plan`, all of it at once; nothing is changed.

The servers here are not managed: they run already, and the inventory says who to sign in as.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from executor.cli.environment import open_inventory
from executor.native.local import server as servers
from executor.native.local.cluster import LocalCluster
from executor.native.local.local_server import LocalServer
from executor.native.logins import Logins
from executor.native.servers import connect
from executor.native.topology import Topology
from executor.native.waiting import wait_until
from planner.checks import CODES
from tests.cluster.commands import EXAMPLE, SHOP, Commands
from tests.cluster.conftest import MakeInventory, MakeServer, Ports, TestCluster
from tests.cluster.dialect import spoken

PRODUCTION = EXAMPLE.parents[1] / "docs" / "production.md"
INVENTORY = """
version: 1
name: outside
credentials: {{user: {user}, password: {{env: OUTSIDE_PASSWORD}}}}
topology: {{host: 127.0.0.1, port: {topology}}}
gateway: {{port: {gateway}}}
keyspaces:
  commerce: {{}}
  customer: {{}}
tablets:
  zone1-0000000100: {{keyspace: commerce, type: primary, host: 127.0.0.1, port: {commerce}}}
  zone1-0000000101: {{keyspace: commerce, type: replica, host: 127.0.0.1, port: {nobody}}}
  zone1-0000000200: {{keyspace: customer, type: primary, host: 127.0.0.1, port: {customer}}}
"""
PASSWORD = 'a long pä"ss%w{o}rd`$#@:/?'
MOVER, READER = "mover", "reader"
PLAN = """
version: 1
name: shop
keyspaces:
  commerce: {{tablets: [{commerce}]}}
  customer: {{tablets: [zone1-0000000200]}}
moves:
  {name}:
    source: commerce
    target: customer
    tables: [{tables}]
    state: {state}
"""
TABLES = (
    "CREATE TABLE good (id INT PRIMARY KEY, price INT)",
    "CREATE TABLE taken (id INT PRIMARY KEY)",
    "CREATE TABLE watched (id INT PRIMARY KEY)",
    "CREATE TRIGGER watcher AFTER INSERT ON watched FOR EACH ROW SET @seen = NEW.id",
    "CREATE TABLE old_engine (id INT PRIMARY KEY) ENGINE=MyISAM",
    "CREATE TABLE present (id INT PRIMARY KEY)",
    "CREATE TABLE staying_parent (id INT PRIMARY KEY)",
    "CREATE TABLE moved_child (id INT PRIMARY KEY, parent INT, "
    "CONSTRAINT out_of FOREIGN KEY (parent) REFERENCES staying_parent (id))",
    "CREATE TABLE moved_parent (id INT PRIMARY KEY)",
    "CREATE TABLE staying_child (id INT PRIMARY KEY, parent INT, "
    "CONSTRAINT into_it FOREIGN KEY (parent) REFERENCES moved_parent (id))",
)
MOVED = "good, taken, watched, old_engine, present, moved_child, moved_parent, ghost"
FOUND = {
    "MT104": ("zone1-0000000101", "does not answer"),
    "MT201": ("ghost",),
    "MT204": ("commerce.old_engine", "MyISAM", "ENGINE=InnoDB"),
    "MT205": ("taken", "customer.other"),
    "MT206": ("out_of", "staying_parent", "into_it", "staying_child", "DROP FOREIGN KEY"),
    "MT207": ("customer.present", "DROP TABLE"),
    "MT210": ("watcher", "DROP TRIGGER"),
    "MT302": ("binlog_format is STATEMENT", "SET GLOBAL binlog_format"),
    "MT303": ("binlog_row_image is MINIMAL", "SET GLOBAL binlog_row_image"),
    "MT307": ("ALTER ON `vt_customer`.*", "GRANT"),
}
"""Refusal code -> what the plan must say of it. Everything that MOVED and the servers below do wrong."""


@dataclass
class Outside:
    """Three servers of somebody else's, and movetables as users that its administrator made."""

    servers: dict[str, LocalServer]
    commands: Commands
    reader: Commands

    def admin(self, server: str, *statements: str) -> None:
        """Runs statements as the administrator of that server."""
        with connect(self.servers[server].login, read_timeout=30.0) as connection:
            for statement in statements:
                connection.execute(spoken(statement, connection))

    def rows(self, server: str, sql: str) -> list[tuple[object, ...]]:
        with connect(self.servers[server].login, read_timeout=30.0) as connection:
            return [tuple(row.values()) for row in connection.query(sql)]

    def positions(self) -> dict[str, object]:
        """The GTID position of every server."""
        found: dict[str, object] = {}
        for name, server in self.servers.items():
            with connect(server.login, read_timeout=30.0) as connection:
                found[name] = connection.position()
        return found

    def plan(self, name: str, tables: str, state: str, *, replica: bool = False) -> Path:
        commerce = "zone1-0000000100" + (", zone1-0000000101" if replica else "")
        return self.commands.plan_file(
            f"{name}-{state}", PLAN.format(commerce=commerce, name=name, tables=tables, state=state)
        )


def documented_grants(user: str, database: str, flavor: str) -> list[str]:
    """The statements of docs/production.md that make the user of a server which holds `database`, as they stand."""
    _, block, mysql, *_ = (text.partition("```")[0] for text in PRODUCTION.read_text().split("```sql"))
    assert (block.count("GRANT "), mysql.count("GRANT ")) == (3, 1)
    if flavor == "mysql":
        user_line, _, *others = block.strip().splitlines()
        block = "\n".join((user_line, mysql.strip(), *others))
    text = block.replace("movetables@'10.0.0.%'", f"{user}@'127.0.0.1'").replace("`vt_commerce`", f"`{database}`")
    return [line.strip().rstrip(";") for line in text.replace("'...'", f"'{PASSWORD}'").splitlines() if line.strip()]


@pytest.fixture
def outside(make_server: MakeServer, ports: Ports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outside:
    servers = {
        name: make_server(name, options=("--log-bin-trust-function-creators=1",))
        for name in ("topology", "commerce", "customer")
    }
    monkeypatch.setenv("OUTSIDE_PASSWORD", PASSWORD)
    addresses = {name: server.port for name, server in servers.items()}
    gateway, nobody = ports.take(), ports.take()
    commands = {}
    for user in (MOVER, READER):
        path = tmp_path / f"{user}.yaml"
        path.write_text(INVENTORY.format(user=user, gateway=gateway, nobody=nobody, **addresses))
        commands[user] = Commands(open_inventory(path), tmp_path)
    made = Outside(servers, commands[MOVER], commands[READER])
    made.admin(
        "topology",
        f"CREATE USER {MOVER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'",
        f"GRANT ALL ON movetables_topo.* TO {MOVER}@'127.0.0.1'",
    )
    for keyspace in ("commerce", "customer"):
        made.admin(
            keyspace,
            *documented_grants(MOVER, f"vt_{keyspace}", servers[keyspace].flavor),
            f"CREATE DATABASE vt_{keyspace}",
        )
    for name in servers:
        made.admin(
            name,
            f"CREATE USER {READER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'",
            f"GRANT SELECT ON *.* TO {READER}@'127.0.0.1'",
        )
    return made


@pytest.fixture
def serve(outside: Outside) -> Iterator[None]:
    """`movetables serve` as production runs it, from before anything was applied."""
    process = outside.commands.start("serve")
    try:
        yield
    finally:
        process.terminate()
        process.communicate(timeout=60)


def listens(commands: Commands) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", commands.inventory.gateway.port)) == 0


def test_every_mistake_is_reported_at_once_and_nothing_is_changed(outside: Outside) -> None:
    outside.admin("commerce", "USE vt_commerce", *TABLES)
    outside.commands.apply(outside.plan("other", "taken", "created"))
    outside.admin("customer", "CREATE TABLE vt_customer.present (id INT PRIMARY KEY) SELECT 1 AS id")
    outside.admin("commerce", "SET GLOBAL binlog_format='STATEMENT'", "SET GLOBAL binlog_row_image='MINIMAL'")
    outside.admin("customer", f"REVOKE ALTER ON vt_customer.* FROM {MOVER}@'127.0.0.1'")
    plan = str(outside.plan("bad", MOVED, "switched", replica=True))
    before = outside.positions()

    planned = outside.commands.run("plan", plan, expected=4)
    applied = outside.commands.run("apply", plan, "--auto-approve", expected=4)
    made = outside.commands.json("plan", plan, expected=4)
    assert outside.positions() == before

    refusals = made["refusals"]
    assert {refusal["code"] for refusal in refusals} == set(FOUND)
    for refusal in refusals:
        assert refusal["code"] in CODES
        for part in ("found", "expected", "hint"):
            assert refusal[part], refusal
    for code, texts in FOUND.items():
        said = "\n".join(f"{r['found']}\n{r['hint']}" for r in refusals if r["code"] == code)
        for text in texts:
            assert text in said, f"{code}: {text!r} is not in {said!r}"
    for refusal in refusals:
        for shown in (planned.stdout, applied.stderr):
            assert f"found:    {refusal['found']}" in shown
            assert f"do:       {refusal['hint']}" in shown
    assert not any("commerce.good" in refusal["found"] for refusal in refusals)


def test_a_primary_that_does_not_answer_is_named_with_its_address(outside: Outside) -> None:
    outside.admin("commerce", "CREATE TABLE vt_commerce.good (id INT PRIMARY KEY)")
    servers.stop(outside.servers["customer"])
    planned = outside.commands.run("plan", str(outside.plan("move", "good", "running")), expected=4)
    assert f"zone1-0000000200 (127.0.0.1:{outside.servers['customer'].port}) does not answer" in planned.stdout
    assert "MT104" in planned.stdout


def test_a_topology_that_does_not_answer_is_a_failure_that_names_it(outside: Outside) -> None:
    servers.stop(outside.servers["topology"])
    planned = outside.commands.run("plan", str(outside.plan("move", "good", "running")), expected=1)
    assert f"topology (127.0.0.1:{outside.servers['topology'].port})" in planned.stderr


def test_a_wrong_password_is_told_as_such(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTSIDE_PASSWORD", "wrong")
    planned = outside.commands.run("plan", str(outside.plan("move", "good", "running")), expected=1)
    assert "Access denied" in planned.stderr
    assert "wrong" not in planned.stderr


@pytest.mark.usefixtures("serve")
def test_a_whole_move_with_the_documented_privileges_and_plans_of_a_user_who_may_only_select(outside: Outside) -> None:
    outside.admin(
        "commerce",
        "USE vt_commerce",
        "CREATE TABLE good (id INT PRIMARY KEY AUTO_INCREMENT, price DECIMAL(9,2), KEY (price))",
        "INSERT INTO good (price) SELECT seq / 7 FROM seq_1_to_1000",
    )
    rows = outside.rows("commerce", "SELECT * FROM vt_commerce.good ORDER BY id")
    for state in ("created", "running", "reads_switched", "switched", "running", "switched", "completed"):
        plan = outside.plan("move", "good", state)
        theirs = json.loads(outside.reader.run("plan", str(plan), "--format", "json", expected=None).stdout)
        ours = outside.commands.json("plan", str(plan))
        assert {refusal["code"] for refusal in theirs["refusals"]} <= {"MT307"}
        assert [step["id"] for step in theirs["steps"]] == [step["id"] for step in ours["steps"]]
        outside.commands.apply(plan)
        outside.reader.run("plan", str(plan), "--detailed-exitcode")
        wait_until(lambda: listens(outside.commands), 60, "the gateway to listen")
    for looking in ("show", "history", "routing-rules"):
        outside.reader.run(looking)
    assert outside.rows("customer", "SELECT * FROM vt_customer.good ORDER BY id") == rows
    assert outside.rows("commerce", "SHOW TABLES FROM vt_commerce") == []
    assert outside.commands.query("SELECT COUNT(*) FROM good", "customer") == [(1000,)]


def test_a_target_without_room_is_refused(make_inventory: MakeInventory, tmp_path: Path) -> None:
    inventory = make_inventory("disk", SHOP)
    local = LocalCluster(inventory)
    local.start_topology()
    logins = Logins(inventory)
    topology = Topology(logins.topology())
    topology.create()
    cluster = TestCluster(inventory, local, logins, topology)
    for keyspace in ("commerce", "customer"):
        cluster.add_keyspace(keyspace)
    with cluster.primary("commerce") as source:
        source.execute("CREATE TABLE good (id INT PRIMARY KEY)")
        # As if it filled 160 TB, by what the server believes of it from its next start on.
        source.query("ANALYZE TABLE good")
        source.execute("UPDATE mysql.innodb_table_stats SET clustered_index_size=10000000000 WHERE table_name='good'")
    local.stop_tablet("zone1-0000000100")
    local.start_tablet("zone1-0000000100", writable=True)
    commands = Commands(inventory, tmp_path)
    text = PLAN.format(commerce="zone1-0000000100", name="move", tables="good", state="running")
    planned = commands.run("plan", str(commands.plan_file("full", text)), expected=4)
    assert "MT309" in planned.stdout
    assert " are free on zone1-0000000200" in planned.stdout
    assert "TiB (1.5 times the tables' data)" in planned.stdout
    topology.close()
