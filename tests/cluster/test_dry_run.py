"""`apply --dry-run` says what apply would do, in Vitess's words and in SQL, and writes nothing anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from executor.native.local.cluster import LocalCluster
from executor.native.local.processes import read_pid_file
from executor.native.local.serve import pid_file
from tests.cluster.commands import EXAMPLE, SHOP, Commands, embedded, shop_plan
from tests.cluster.conftest import Pairing, Ports, Templates

HEADER = re.compile(r"^Apply dry run results for plan shop at \d\d [A-Z][a-z]{2} \d\d \d\d:\d\d UTC$")
CREATE = (
    "CREATE TABLE `vt_customer`.`customer`",
    "CREATE TRIGGER `vt_customer`.`_movetables_fence_insert_",
)
SWITCH = (
    "Lock keyspace commerce",
    "Switch reads for tables [corder,customer] to keyspace customer for tablet types [REPLICA,RDONLY]",
    "Routing rules for tables [corder,customer] will be updated",
    "Unlock keyspace commerce",
    "Lock keyspace customer",
    "Stop writes on keyspace commerce for tables [corder,customer]: [keyspace:commerce;shard:0",
    "Wait for vreplication on stopped streams to catchup for up to 30s",
    "Create reverse vreplication workflow commerce2customer_reverse",
    "Create journal entries on source databases",
    "Enable writes on keyspace customer for tables [corder,customer]",
    "Switch routing from keyspace commerce to keyspace customer",
    "Switch writes completed, freeze and delete vreplication streams on: [tablet:200]",
    "Start reverse vreplication streams on: [tablet:100]",
    "Mark vreplication streams frozen on: "
    "[keyspace:customer;shard:0;tablet:200;workflow:commerce2customer;dbname:vt_customer]",
    "Unlock keyspace customer",
)
COMPLETE = (
    "Dropping these tables from the database and removing them from the vschema for keyspace commerce: "
    "[keyspace:commerce;shard:0;dbname:vt_commerce;tablet:100;table:corder,"
    "keyspace:commerce;shard:0;dbname:vt_commerce;tablet:100;table:customer]",
    "Denied tables records on [corder,customer] will be removed from: [keyspace:commerce;shard:0;tablet:100]",
    "Delete reverse vreplication streams on sources: "
    "[keyspace:commerce;shard:0;workflow:commerce2customer_reverse;dbname:vt_commerce;tablet:100]",
    "Delete vreplication streams on targets: "
    "[keyspace:customer;shard:0;workflow:commerce2customer;dbname:vt_customer;tablet:200]",
    "Routing rules for participating tables will be deleted",
    "DROP TABLE `vt_commerce`.`corder`, `vt_commerce`.`customer`",
)


@pytest.fixture
def commands(
    tmp_path_factory: pytest.TempPathFactory, templates: Templates, pairing: Pairing, ports: Ports
) -> Iterator[Commands]:
    """A cluster that only has commerce, with the guide's data."""
    with embedded(tmp_path_factory.mktemp("dry"), templates, pairing, ports, "dry", SHOP) as found:
        found.apply(shop_plan(found, ""))
        found.mysql(file=EXAMPLE / "insert_commerce_data.sql").check_returncode()
        yield found


def stop_serve(commands: Commands) -> None:
    """Its heartbeats write to the servers, and would hide what a dry run writes."""
    serve = read_pid_file(pid_file(LocalCluster(commands.inventory)))
    assert serve is not None
    serve.stop(timeout=60)


def files(folder: Path) -> set[str]:
    """All but those that servers make and rename by themselves."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.name != "binlog.state" and path.parent.name != "#innodb_redo"
    }


def assert_dry_run_changes_nothing(commands: Commands, plan: Path, expected: tuple[str, ...]) -> None:
    stop_serve(commands)
    positions, beside = commands.positions(), files(commands.folder)
    said = commands.out("apply", str(plan), "--dry-run")
    assert commands.positions() == positions
    assert files(commands.folder) == beside
    lines = said.splitlines()
    assert HEADER.match(lines[0]), lines[0]
    assert lines[-1].endswith("0 refused, 0 not run. Nothing was changed.")
    position = 0
    for text in expected:
        found = said.find(text, position)
        assert found >= 0, f"{text!r} is missing, or comes too early, in:\n{said}"
        position = found + len(text)
    commands.run("local", "up")


def test_of_the_whole_way_from_a_cluster_that_only_has_commerce(commands: Commands) -> None:
    assert_dry_run_changes_nothing(
        commands,
        shop_plan(commands, "completed"),
        (*CREATE, *SWITCH, *COMPLETE),
    )


def test_of_the_rest_of_the_way_from_a_running_move(commands: Commands) -> None:
    commands.apply(shop_plan(commands, "running"))
    assert_dry_run_changes_nothing(commands, shop_plan(commands, "completed"), (*SWITCH, *COMPLETE))


def test_of_a_plan_that_is_done_says_so(commands: Commands) -> None:
    commands.apply(shop_plan(commands, "running"))
    assert commands.out("apply", str(shop_plan(commands, "running")), "--dry-run").startswith("Dry run: 0 steps")
