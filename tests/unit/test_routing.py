"""The routing rules of each phase are exactly Vitess's, and so are the traffic_state sentences."""

from __future__ import annotations

import pytest

from planner.cluster import RoutingRule, TabletType
from planner.routing import (
    READ_TYPES,
    as_mapping,
    resolve,
    traffic_state,
    with_mirror,
    with_move_created,
    with_reads_at,
    with_writes_at,
    without_move,
)

ENDS = ("commerce", "customer", ("customer", "corder"))
CREATED = with_move_created((), *ENDS)
READS = with_reads_at(CREATED, *ENDS, READ_TYPES, "customer")
SWITCHED = with_writes_at(READS, *ENDS, "customer")

GUIDE_AFTER_SWITCH = """
commerce.corder@rdonly customer.corder
commerce.corder@replica customer.corder
customer.corder@rdonly customer.corder
corder@replica customer.corder
customer@replica customer.customer
corder@rdonly customer.corder
commerce.customer@replica customer.customer
commerce.customer@rdonly customer.customer
customer.customer@replica customer.customer
customer customer.customer
commerce.corder customer.corder
customer.corder@replica customer.corder
customer@rdonly customer.customer
customer.customer@rdonly customer.customer
corder customer.corder
commerce.customer customer.customer
"""


def test_create_sends_all_nine_names_of_each_table_to_the_source() -> None:
    assert len(CREATED) == 18
    expected = {
        f"{qualifier}{table}{suffix}": f"commerce.{table}"
        for table in ("customer", "corder")
        for qualifier in ("", "customer.", "commerce.")
        for suffix in ("", "@replica", "@rdonly")
    }
    assert as_mapping(CREATED) == expected
    assert list(CREATED) == sorted(CREATED)


def test_reads_switch_only_the_names_of_their_types() -> None:
    replica = with_reads_at(CREATED, *ENDS, [TabletType.REPLICA], "customer")
    changed = {rule.from_table for rule in set(replica) - set(CREATED)}
    assert changed == {f"{q}{t}@replica" for t in ENDS[2] for q in ("", "customer.", "commerce.")}


def test_after_the_full_switch_the_rules_are_the_guides_sixteen() -> None:
    assert as_mapping(SWITCHED) == dict(line.split() for line in GUIDE_AFTER_SWITCH.strip().splitlines())


def test_reversing_writes_and_reads_restores_the_rules_of_create() -> None:
    back = with_writes_at(SWITCHED, *ENDS, "commerce")
    assert len(back) == 18
    assert back == READS
    assert with_reads_at(back, *ENDS, READ_TYPES, "commerce") == CREATED


def test_nothing_is_left_of_a_move_and_other_rules_stay() -> None:
    other = RoutingRule("product", "commerce.product")
    rules = with_move_created((other,), *ENDS)
    assert without_move(rules, *ENDS) == (other,)
    assert without_move(SWITCHED, *ENDS) == ()


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        (CREATED, "Reads Not Switched. Writes Not Switched"),
        (READS, "All Reads Switched. Writes Not Switched"),
        (SWITCHED, "All Reads Switched. Writes Switched"),
        (with_writes_at(CREATED, *ENDS, "customer"), "Reads Not Switched. Writes Switched"),
        (
            with_reads_at(CREATED, *ENDS, [TabletType.REPLICA], "customer"),
            "Reads partially switched. All Replica Reads Switched. Rdonly not switched. Writes Not Switched",
        ),
        (
            with_reads_at(CREATED, *ENDS, [TabletType.RDONLY], "customer"),
            "Reads partially switched. Replica not switched. All Rdonly Reads Switched. Writes Not Switched",
        ),
    ],
)
def test_traffic_state_is_vitess_sentence(rules: tuple[RoutingRule, ...], sentence: str) -> None:
    assert traffic_state(rules, *ENDS) == sentence


@pytest.mark.parametrize(
    ("rules", "keyspace", "tablet_type", "serves"),
    [
        (CREATED, None, TabletType.PRIMARY, "commerce"),
        (CREATED, "customer", TabletType.REPLICA, "commerce"),
        (READS, "commerce", TabletType.RDONLY, "customer"),
        (READS, "commerce", TabletType.PRIMARY, "commerce"),
        (SWITCHED, "commerce", TabletType.PRIMARY, "customer"),
    ],
)
def test_a_name_goes_where_the_first_rule_says(
    rules: tuple[RoutingRule, ...], keyspace: str | None, tablet_type: TabletType, serves: str
) -> None:
    assert resolve(as_mapping(rules), keyspace, "customer", tablet_type) == (serves, "customer")


def test_a_name_without_a_rule_goes_nowhere() -> None:
    assert resolve(as_mapping(SWITCHED), "customer", "customer", TabletType.PRIMARY) is None
    assert resolve({}, None, "customer", TabletType.REPLICA) is None


def test_a_plain_rule_is_the_fallback_of_reads() -> None:
    assert resolve({"customer": "commerce.customer"}, None, "customer", TabletType.REPLICA) == ("commerce", "customer")


def test_mirror_rules_are_set_per_type_and_removed_at_zero_percent() -> None:
    rules = with_mirror((), "commerce", "customer", ["customer"], 12.5, [TabletType.PRIMARY, TabletType.RDONLY])
    assert [(rule.from_table, rule.to_table, rule.percent) for rule in rules] == [
        ("commerce.customer", "customer.customer", 12.5),
        ("commerce.customer@rdonly", "customer.customer", 12.5),
    ]
    assert with_mirror(rules, "commerce", "customer", ["customer"], 0.0) == ()
