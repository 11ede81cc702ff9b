"""Clusters and documents that planner tests start from: the guide's commerce and customer keyspaces, as values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from planner.cluster import Cluster, Column, Key, Keyspace, Server, Table, Tablet, TabletType
from planner.document import DesiredKeyspace, Document, InitialSchema, Move, MoveState
from planner.plan import Plan, plan
from planner.step import Step

CUSTOMER_TABLETS = ("zone1-0000000200", "zone1-0000000201", "zone1-0000000202")
COMMERCE_TABLETS = ("zone1-0000000100", "zone1-0000000101", "zone1-0000000102")
SCHEMA = InitialSchema(
    "create_commerce_schema.sql",
    """
create table product(sku varbinary(128), description varbinary(128), price bigint, primary key(sku)) ENGINE=InnoDB;
create table customer(
  customer_id bigint not null auto_increment, email varbinary(128), primary key(customer_id)) ENGINE=InnoDB;
create table corder(order_id bigint not null auto_increment, customer_id bigint, sku varbinary(128), price bigint,
  primary key(order_id)) ENGINE=InnoDB;
""",
)
MOVE = Move("commerce2customer", "commerce", "customer", ("corder", "customer"), state=MoveState.SWITCHED)


def table(name: str, rows: int = 5, **changes: Any) -> Table:
    """A small InnoDB table with an integer primary key."""
    columns = (Column("id", "bigint", "bigint", nullable=False), Column("v", "varchar(20)", "varchar"))
    made = Table(name, columns, (Key("PRIMARY", ("id",), unique=True),), rows=rows, data_length=16384, empty=rows == 0)
    return replace(made, **changes)


def tablet(alias: str, keyspace: str, tablet_type: TabletType, port: int, *, up: bool) -> Tablet:
    """A managed tablet, registered and running when `up`."""
    server = Server(f"127.0.0.1:{port}", "MariaDB", "10.11.6-MariaDB", uuid=f"uuid-{port}") if up else None
    term = "2026-01-01T00:00:00Z" if up and tablet_type is TabletType.PRIMARY else ""
    return Tablet(alias, keyspace, tablet_type, "127.0.0.1", port, True, up, up, term, server)


def tablets(keyspace: str, aliases: Iterable[str], *, up: bool) -> tuple[Tablet, ...]:
    """Three tablets: a PRIMARY when `up` or else a REPLICA that may become one, a REPLICA and an RDONLY."""
    types = (TabletType.PRIMARY if up else TabletType.REPLICA, TabletType.REPLICA, TabletType.RDONLY)
    return tuple(
        tablet(alias, keyspace, tablet_type, 17000 + int(alias[-3:]), up=up)
        for alias, tablet_type in zip(aliases, types, strict=True)
    )


def tables() -> tuple[Table, ...]:
    """The guide's three tables."""
    return table("corder"), table("customer"), table("product", 2)


def fresh() -> Cluster:
    """The inventory's keyspaces and tablets; nothing runs."""
    return Cluster(
        "local",
        (Keyspace("commerce", "vt_commerce"), Keyspace("customer", "vt_customer")),
        (*tablets("commerce", COMMERCE_TABLETS, up=False), *tablets("customer", CUSTOMER_TABLETS, up=False)),
    )


def commerce_only() -> Cluster:
    """commerce serves its three tables; customer is known to the inventory alone."""
    cluster = fresh().with_keyspace(Keyspace("commerce", "vt_commerce", True, tables()))
    for made in tablets("commerce", COMMERCE_TABLETS, up=True):
        cluster = cluster.with_tablet(made)
    return cluster


def both() -> Cluster:
    """commerce serves its three tables; customer is up and empty."""
    cluster = commerce_only().with_keyspace(Keyspace("customer", "vt_customer", True))
    for made in tablets("customer", CUSTOMER_TABLETS, up=True):
        cluster = cluster.with_tablet(made)
    return cluster


def document(*moves: Move, keyspaces: tuple[DesiredKeyspace, ...] | None = None) -> Document:
    """A plan file with `moves`, and the guide's two keyspaces unless others are given."""
    if keyspaces is None:
        keyspaces = (
            DesiredKeyspace("commerce", COMMERCE_TABLETS, initial_schema=SCHEMA),
            DesiredKeyspace("customer", CUSTOMER_TABLETS),
        )
    return Document("customer-out-of-commerce", "plans/commerce/plan.yaml", "0" * 64, keyspaces, moves)


def fold(cluster: Cluster, steps: Iterable[Step]) -> Cluster:
    """`cluster` after `steps`, each of which must be ready, not done before it and done after it."""
    for step in steps:
        assert not step.done(cluster), f"{step.id} was done already"
        assert step.ready(cluster) == (), step.id
        cluster = step.effect(cluster)
        assert step.done(cluster), f"{step.id} did not do what it is there for"
    return cluster


def applied(cluster: Cluster, *moves: Move) -> Cluster:
    """`cluster` after applying a plan file with `moves`."""
    return fold(cluster, plan(document(*moves), cluster).steps)


def at(state: MoveState, move: Move = MOVE, cluster: Cluster | None = None) -> Cluster:
    """`cluster` (else both keyspaces) with `move` standing at `state`."""
    cluster = both() if cluster is None else cluster
    return cluster if state is MoveState.ABSENT else applied(cluster, replace(move, state=state))


def codes(made: Plan) -> list[str]:
    """The codes of the refusals, in order."""
    return [refusal.code for refusal in made.refusals]


def kinds(made: Plan) -> list[str]:
    """The kinds of the steps, in order."""
    return [step.kind for step in made.steps]
