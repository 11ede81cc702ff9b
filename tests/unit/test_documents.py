"""Valid plans and inventories become the values that they describe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import schemas
from planner.cluster import TabletType
from planner.diagnostic import DocumentErrors
from planner.document import DesiredKeyspace, Document, InitialSchema, Move, MoveState, OnDdl, SourceTables
from planner.duration import parse_duration
from planner.inventory import Credentials, Inventory, SecretRef, ServerAddress
from planner.loading import load_inventory, load_plan

PLANS = Path(__file__).parents[2] / "plans"
COMMERCE = PLANS / "commerce"
ENVIRONMENT = Path(__file__).parents[1] / "plans" / "invalid" / "environment.yaml"
MOVE = "  m: {source: commerce, target: customer, tables: [customer], state: running"


def inventories() -> list[Path]:
    return sorted(p for p in PLANS.rglob("*.yaml") if "\ntopology:" in p.read_text())


def plans() -> list[Path]:
    return sorted(p for p in PLANS.rglob("*.yaml") if "\ntopology:" not in p.read_text())


def inventory_of(path: Path) -> Inventory:
    return load_inventory(path.read_text(), path.name, path.parent.resolve())


def plan_of(path: Path, inventory: Inventory) -> Document:
    return load_plan(path.read_text(), path.name, inventory, {}, lambda name: (path.parent / name).read_text())


def no_files(path: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", path)


def load(body: str, variables: Mapping[str, str] | None = None, inventory: Inventory | None = None) -> Document:
    text = f"version: 1\nname: p\n{body}\n"
    return load_plan(text, "p.yaml", inventory or inventory_of(ENVIRONMENT), variables or {}, no_files)


def refused(body: str, variables: Mapping[str, str] | None = None, inventory: Inventory | None = None) -> list[str]:
    with pytest.raises(DocumentErrors) as caught:
        load(body, variables, inventory)
    return [diagnostic.text for diagnostic in caught.value.diagnostics]


@pytest.mark.parametrize(
    ("inventory", "plan"),
    [pair for pair in product(inventories(), plans()) if pair[0].parent == pair[1].parent],
    ids=lambda path: path.stem,
)
def test_every_plan_loads_with_every_inventory_of_its_folder(inventory: Path, plan: Path) -> None:
    assert plan_of(plan, inventory_of(inventory)).keyspaces


def test_the_plan_that_switches_writes_says_what_the_guide_does() -> None:
    path = COMMERCE / "204_switch_writes.yaml"
    document = plan_of(path, inventory_of(COMMERCE / "inventory.yaml"))
    sql = (COMMERCE / "create_commerce_schema.sql").read_text()
    assert document == Document(
        name="customer-out-of-commerce",
        file="204_switch_writes.yaml",
        source_bytes_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        keyspaces=(
            DesiredKeyspace(
                "commerce",
                ("zone1-0000000100", "zone1-0000000101", "zone1-0000000102"),
                initial_schema=InitialSchema("create_commerce_schema.sql", sql),
            ),
            DesiredKeyspace("customer", ("zone1-0000000200", "zone1-0000000201", "zone1-0000000202")),
        ),
        moves=(Move("commerce2customer", "commerce", "customer", ("corder", "customer"), state=MoveState.SWITCHED),),
    )


def test_each_plan_of_the_example_goes_one_state_further() -> None:
    inventory = inventory_of(COMMERCE / "inventory.yaml")
    documents = [plan_of(path, inventory) for path in sorted(COMMERCE.glob("20[2-5]_*.yaml"))]
    assert [document.moves[0].state.text for document in documents] == [
        "running",
        "reads_switched",
        "switched",
        "completed",
    ]
    assert len({document.keyspaces for document in documents}) == 1


def test_the_example_environments_differ_in_every_port_and_in_nothing_a_plan_sees() -> None:
    one, other = inventory_of(COMMERCE / "inventory.yaml"), inventory_of(COMMERCE / "staging.yaml")
    assert [(t.alias, t.keyspace, t.type) for t in one.tablets] == [
        (t.alias, t.keyspace, t.type) for t in other.tablets
    ]
    ports = [[i.topology.port, i.gateway.port, *(t.server.port for t in i.tablets)] for i in (one, other)]
    assert not set(ports[0]) & set(ports[1])
    assert one.data_dir == PLANS.parent.resolve() / "data" / "commerce"


@pytest.mark.parametrize("path", [*inventories(), *plans()], ids=lambda path: path.stem)
def test_every_example_names_its_schema_for_editors(path: Path) -> None:
    prefix = "# yaml-language-server: $schema="
    line = path.read_text().splitlines()[0]
    assert line.startswith(prefix)
    named = json.loads((path.parent / line.removeprefix(prefix)).read_text())
    assert named == schemas.load("inventory" if path in inventories() else "plan")


def test_a_move_without_options_has_the_defaults() -> None:
    assert load(f"moves:\n{MOVE}}}").moves == (Move("m", "commerce", "customer", ("customer",)),)


def test_every_option_of_a_move_is_read() -> None:
    document = load("""
moves:
  m:
    source: commerce
    target: customer
    tables: "*"
    exclude: [product, "odd `name`.#"]
    state: created
    on_ddl: EXEC_IGNORE
    defer_secondary_keys: true
    throttle: {max_replica_lag: 0s, max_history_list: 5}
    verify: {before_switch: false, max_age: 1h30m}
    mirror: {percent: 2.5}
    cutover: {timeout: 1s, max_replication_lag: 500ms, reverse_replication: false}
    cleanup: {source_tables: rename, keep_routing_rules: true}
""")
    assert document.moves == (
        Move(
            name="m",
            source="commerce",
            target="customer",
            tables=("*",),
            exclude=("odd `name`.#", "product"),
            state=MoveState.CREATED,
            on_ddl=OnDdl.EXEC_IGNORE,
            defer_secondary_keys=True,
            throttle_max_replica_lag=0.0,
            throttle_max_history_list=5,
            verify_before_switch=False,
            verify_max_age=5400.0,
            mirror_percent=2.5,
            timeout=1.0,
            max_replication_lag=0.5,
            reverse_replication=False,
            source_tables=SourceTables.RENAME,
            keep_routing_rules=True,
        ),
    )


def test_keyspaces_and_tablets_can_be_asked_to_go() -> None:
    body = "keyspaces:\n  commerce: {absent_tablets: [zone1-0000000101]}\n  customer: {state: absent}"
    assert load(body).keyspaces == (
        DesiredKeyspace("commerce", absent_tablets=("zone1-0000000101",)),
        DesiredKeyspace("customer", absent=True),
    )


def test_a_keyspace_may_go_once_its_tables_have_moved_away() -> None:
    gone = "keyspaces: {commerce: {state: absent}}\nmoves:\n"
    assert load(gone + MOVE.replace("running", "completed") + "}").keyspaces[0].absent
    assert refused(gone + MOVE + "}") == [
        "p.yaml:5:15: contradiction: keyspace 'commerce' should be absent, so it cannot be the source of a move that is"
        " running"
    ]


def test_a_move_that_should_be_absent_makes_way_for_another_of_the_same_table() -> None:
    absent = MOVE.replace("  m:", "  old:").replace("running", "absent")
    assert len(load(f"moves:\n{absent}}}\n{MOVE}}}").moves) == 2


def test_all_but_the_excluded_tables_leave_room_for_a_move_of_an_excluded_one() -> None:
    everything = MOVE.replace("  m:", "  rest:").replace("[customer]", '"*", exclude: [customer]')
    assert len(load(f"moves:\n{MOVE}}}\n{everything}}}").moves) == 2


def test_an_sql_file_that_is_not_utf_8_is_refused() -> None:
    def read(path: str) -> str:
        return b"\xff".decode()

    with pytest.raises(DocumentErrors, match="it is not UTF-8"):
        load_plan(
            "version: 1\nname: p\nkeyspaces: {commerce: {initial_schema: a.sql}}",
            "p.yaml",
            inventory_of(ENVIRONMENT),
            {},
            read,
        )


def with_vars(**values: str) -> Inventory:
    return replace(inventory_of(ENVIRONMENT), vars=tuple(sorted(values.items())))


VARIABLES = f"""vars: {{percent: 1, to: customer}}
moves:
{MOVE.replace("target: customer", 'target: "${to}"')}, mirror: {{percent: "${{percent}}"}}}}"""


@pytest.mark.parametrize(
    ("inventory_vars", "given", "percent"),
    [
        ({}, {}, 1.0),
        ({"percent": "2"}, {}, 2.0),
        ({"percent": "2"}, {"percent": "3.5"}, 3.5),
        ({}, {"percent": "0"}, 0),
    ],
)
def test_the_command_line_wins_over_the_inventory_and_that_over_the_plan(
    inventory_vars: dict[str, str], given: dict[str, str], percent: float
) -> None:
    move = load(VARIABLES, given, with_vars(**inventory_vars)).moves[0]
    assert (move.target, move.mirror_percent) == ("customer", percent)


def test_a_variable_is_checked_like_what_it_stands_for() -> None:
    assert refused(VARIABLES, {"percent": "200", "to": "custmer"}) == [
        "p.yaml:5:33: unknown-keyspace: keyspace 'custmer' is not in the plan or its inventory",
        "p.yaml:5:96: bad-value: moves.m.mirror.percent is 200; expected a number from 0 to 100",
    ]


def test_a_variable_on_the_command_line_that_nothing_uses_is_refused() -> None:
    assert refused(VARIABLES, {"percnt": "5"}) == [
        "p.yaml:1:1: unknown-variable: --var percnt is given, but the plan has no such variable"
    ]


def test_a_number_that_stands_for_a_table_stays_text_and_dollars_can_be_escaped() -> None:
    body = f"""moves:\n{MOVE.replace("[customer]", '["${t}", "$${t}", "old_${t}", "$5"]')}}}"""
    assert load(body, {"t": "7"}).moves[0].tables == ("$5", "${t}", "7", "old_7")


def test_the_value_of_a_variable_is_not_looked_at_again() -> None:
    body = f"""moves:\n{MOVE.replace("[customer]", '["${t}"]')}}}"""
    assert load(body, {"t": "${other}"}).moves[0].tables == ("${other}",)


EXTERNAL = """
version: 1
name: live
cell: zone1
credentials: {user: mover, password: {env: MOVER_PASSWORD}}
topology: {host: topo.example.com, port: 3306, user: topo, password: {file: secrets/topo}}
gateway: {host: 0.0.0.0, port: 3306, users: {shop: {password: {file: /etc/shop}}}}
vars: {lag: 5s, percent: 0.5, fast: true}
keyspaces: {commerce: , customer: {database: shop}}
tablets:
  zone1-0000000101: {keyspace: commerce, type: rdonly, host: db2, port: 3306, user: reader}
  zone1-0000000100: {keyspace: commerce, type: primary, host: db1, port: 3306}
"""


def test_an_inventory_of_servers_that_already_run() -> None:
    inventory = load_inventory(EXTERNAL, "live.yaml", Path("/etc/movetables"))
    mover = Credentials("mover", SecretRef(env="MOVER_PASSWORD"))
    assert inventory.topology == ServerAddress(
        "topo.example.com", 3306, Credentials("topo", SecretRef(file="/etc/movetables/secrets/topo"))
    )
    assert inventory.gateway.users == (Credentials("shop", SecretRef(file="/etc/shop")),)
    assert inventory.data_dir == Path("/etc/movetables/data/live")
    assert inventory.vars == (("fast", "true"), ("lag", "5s"), ("percent", "0.5"))
    assert [(k.name, k.database) for k in inventory.keyspaces] == [("commerce", "vt_commerce"), ("customer", "shop")]
    assert [(t.alias, t.type, t.server) for t in inventory.tablets] == [
        ("zone1-0000000100", TabletType.PRIMARY, ServerAddress("db1", 3306, mover)),
        ("zone1-0000000101", TabletType.RDONLY, ServerAddress("db2", 3306, Credentials("reader"))),
    ]


def test_the_example_of_running_servers_in_the_staging_inventory_loads() -> None:
    text = (COMMERCE / "staging.yaml").read_text()
    comment = text[text.index("# credentials:") :]
    example = "".join(line.removeprefix("# ").removeprefix("#") for line in comment.splitlines(keepends=True))
    inventory = load_inventory(
        f"version: 1\nname: staging\nkeyspaces: {{commerce: {{}}}}\n{example}", "staging.yaml", COMMERCE
    )
    assert [tablet.server.managed for tablet in inventory.tablets] == [False, False]


def test_windows_line_ends_and_a_byte_order_mark_change_nothing() -> None:
    text = (COMMERCE / "inventory.yaml").read_text()
    changed = "\ufeff" + text.replace("\n", "\r\n")
    assert load_inventory(changed, "inventory.yaml", COMMERCE.resolve()) == inventory_of(COMMERCE / "inventory.yaml")


def properties(schema: object) -> list[tuple[str, dict[str, Any]]]:
    if isinstance(schema, list):
        return [found for item in schema for found in properties(item)]
    if not isinstance(schema, dict):
        return []
    own = list(schema["properties"].items()) if "properties" in schema else []
    return own + [found for value in schema.values() for found in properties(value)]


@pytest.mark.parametrize("name", ["plan", "inventory"])
def test_schemas_are_valid_and_their_messages_can_be_understood(name: str) -> None:
    schema = schemas.load(name)
    Draft202012Validator.check_schema(schema)
    assert not {'"oneOf"', '"anyOf"'} & set(json.dumps(schema).split())
    for key, rules in properties(schema):
        described = (
            rules if "description" in rules else schema["$defs"].get(rules.get("$ref", "").rpartition("/")[2], {})
        )
        assert "description" in described or key in {"user"}, key


def test_schema_defaults_are_those_of_the_loader() -> None:
    defaults = {key: rules["default"] for key, rules in properties(schemas.load("plan")) if "default" in rules}
    move = load(f"moves:\n{MOVE}}}").moves[0]
    assert defaults == {
        "on_ddl": move.on_ddl,
        "max_replica_lag": defaults["max_replica_lag"],
        "max_history_list": move.throttle_max_history_list,
        "before_switch": move.verify_before_switch,
        "max_age": defaults["max_age"],
        "percent": move.mirror_percent,
        "timeout": defaults["timeout"],
        "max_replication_lag": defaults["max_replication_lag"],
        "reverse_replication": move.reverse_replication,
        "source_tables": move.source_tables,
        "keep_routing_rules": move.keep_routing_rules,
    }
    durations = [
        parse_duration(defaults[key]) for key in ("max_age", "timeout", "max_replication_lag", "max_replica_lag")
    ]
    wanted = [move.verify_max_age, move.timeout, move.max_replication_lag, move.throttle_max_replica_lag]
    assert durations == wanted
    assert move.defer_secondary_keys is None


def test_an_unknown_schema_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        schemas.load("nonsense")
