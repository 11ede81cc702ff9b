"""Tables with every character in their names go through a whole move: plan, copy, VDiff, both switches, completion."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.commands import KEYSPACES, SHOP, Commands, embedded
from tests.cluster.conftest import Pairing, Ports, Templates

pytestmark = pytest.mark.servers("mariadb", "mysql", "mariadb-mysql")

NAMES = (
    "we.ird",
    "back`tick",
    "per%cent %s %d {0} ${x}",
    "smile \u263a ünï",
    "'quoted' \"twice\"",
    "back\\slash/slash",
    "-- comment; #",
    "MyTable",
    "MYtable",
    "select",
    "1digit",
    "1e5",
    "two  spaces",
    "* *",
    "?",
    "a" * 59,
)
MOVE = """
moves:
  names:
    source: commerce
    target: customer
    tables: {tables}
    state: {state}
    cleanup: {{source_tables: rename}}
"""


@pytest.fixture(scope="module")
def commands(
    tmp_path_factory: pytest.TempPathFactory, templates: Templates, pairing: Pairing, ports: Ports
) -> Iterator[Commands]:
    with embedded(tmp_path_factory.mktemp("names"), templates, pairing, ports, "names", SHOP) as found:
        yield found


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def plan(commands: Commands, state: str) -> Path:
    keyspaces = KEYSPACES.replace(", initial_schema: create_commerce_schema.sql", "")
    move = MOVE.format(tables=json.dumps([name.replace("${", "$${") for name in NAMES]), state=state) if state else ""
    return commands.plan_file(state or "keyspaces", keyspaces + move)


def write(commands: Commands, number: int) -> None:
    """One more row in each table, and a change of all others, through the gateway."""
    with commands.gateway("commerce") as connection, connection.cursor() as cursor:
        for name in NAMES:
            cursor.execute(f"INSERT INTO {quoted(name)} (`No.`, `v``v`) VALUES ({number}, '{number}')")
            cursor.execute(f"UPDATE {quoted(name)} SET `v``v`=CONCAT(`v``v`, '+') WHERE `No.`<{number}")


def test_tables_of_any_name_are_moved(commands: Commands) -> None:
    commands.apply(plan(commands, ""))
    with commands.gateway("commerce") as connection, connection.cursor() as cursor:
        for name in NAMES:
            cursor.execute(
                f"CREATE TABLE {quoted(name)} (`No.` INT NOT NULL, `v``v` VARCHAR(50), `%s` INT AS (`No.`+1) VIRTUAL, "
                "PRIMARY KEY (`No.`), KEY `a``%key` (`v``v`))"
            )
    write(commands, 1)
    commands.apply(plan(commands, "running"))
    write(commands, 2)
    commands.apply(plan(commands, "switched"))
    write(commands, 3)
    commands.apply(plan(commands, "running"))
    write(commands, 4)
    commands.apply(plan(commands, "switched"))
    write(commands, 5)
    commands.apply(plan(commands, "completed"))
    wanted = [(1, "1++++"), (2, "2+++"), (3, "3++"), (4, "4+"), (5, "5")]
    for name in NAMES:
        assert commands.query(f"SELECT `No.`, `v``v` FROM customer.{quoted(name)} ORDER BY 1") == wanted, name
    left = {name for (name,) in commands.query("SHOW TABLES", "commerce")}
    assert left == {f"_{name}_old" for name in NAMES}
    done = commands.run("plan", str(plan(commands, "completed")))
    assert done.stdout.startswith("No changes.")
