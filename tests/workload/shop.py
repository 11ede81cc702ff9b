"""A small workload on the two tables that the guide moves: new customers with an order each, and changed prices."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.workload.client import Client, Connect, Raw, Settings, Unknown
from tests.workload.crowd import Crowd
from tests.workload.ledger import Ledger, Outcome, Write
from tests.workload.schema import qualified
from tests.workload.verdict import Findings, Verdict


@dataclass(slots=True)
class Order:
    """An order as its client knows it: `price` is None after a change of unknown outcome."""

    customer_id: int
    order_id: int
    txn: str
    price: int | None


class ShopClient(Client):
    """Writes, and reads what it has written."""

    def __init__(self, number: int, settings: Settings, ledger: Ledger, stop: threading.Event) -> None:
        super().__init__(number, settings, ledger, stop)
        self.orders: list[Order] = []

    def act(self) -> None:
        """A new customer with an order, in one transaction; or another price for an order; then reads it back."""
        if not self.orders or self.random.random() < 0.5:
            order = self.transaction("buy", self._buy)
            self.orders.append(order)
        else:
            order = self.random.choice(self.orders)
            self._change_price(order)
        found = self.read(
            f"SELECT c.email, o.price FROM {self.settings.name('customer')} c "
            f"JOIN {self.settings.name('corder')} o ON o.customer_id = c.customer_id WHERE o.order_id = %s",
            (order.order_id,),
        )
        if order.price is not None and found != [(order.txn.encode(), order.price)]:
            self.ledger.anomaly(f"{self.name}: read after write of {order}: found {found}")

    def _buy(self, txn: str) -> Order:
        price = self.random.randint(1, 1000)
        customer = self.insert(f"INSERT INTO {self.settings.name('customer')} (email) VALUES (%s)", (txn,))
        order = self.insert(
            f"INSERT INTO {self.settings.name('corder')} (customer_id, sku, price) VALUES (%s, %s, %s)",
            (customer, txn, price),
        )
        return Order(customer, order, txn, price)

    def _change_price(self, order: Order) -> None:
        price = self.random.randint(1001, 10**9)
        sql = f"UPDATE {self.settings.name('corder')} SET price = %s WHERE order_id = %s"
        try:
            changed = self.autocommit("price", lambda _txn: self.execute(sql, (price, order.order_id)))
        except Unknown:
            order.price = None
            return
        if changed != 1 and order.price not in (price, None):
            self.ledger.anomaly(f"{self.name}: update of {order} matched {changed} rows")
        order.price = price


class Shop(Crowd):
    """The clients of a shop. Rows that were there before are not looked at: their emails are none of ours."""

    def __init__(self, connect: Connect, keyspace: str | None = None, clients: int = 2, rate: float = 50.0) -> None:
        settings = Settings(connect, clients, seed=1, keyspace=keyspace, rate=rate)
        ledger, stopping = Ledger(), threading.Event()
        self.clients = [ShopClient(number, settings, ledger, stopping) for number in range(1, clients + 1)]
        super().__init__(self.clients, settings, ledger, stopping)

    def verify(self, connection: Raw, keyspace: str | None) -> Verdict:
        """Stops the clients and judges what ``customer`` and ``corder`` of `keyspace` hold now."""
        self.stop()
        findings = Findings.none()
        customers, orders = qualified(keyspace, "customer"), qualified(keyspace, "corder")
        emails = _rows(connection, f"SELECT email, customer_id FROM {customers} WHERE email LIKE '1-%'")
        skus = _rows(connection, f"SELECT sku, customer_id, order_id, price FROM {orders} WHERE sku LIKE '1-%'")
        known = {order.txn: order for client in self.clients for order in client.orders}
        for write in self.ledger.writes:
            if write.kind == "buy":
                _judge(findings, write, emails.pop(write.txn, []), skus.pop(write.txn, []), known.get(write.txn))
        findings.phantoms += [f"{txn} was never sent" for txn in {*emails, *skus}]
        return findings.verdict(self.ledger)


def _judge(
    findings: Findings,
    write: Write,
    customers: list[tuple[Any, ...]],
    orders: list[tuple[Any, ...]],
    known: Order | None,
) -> None:
    what = f"{write.kind} {write.txn} ({write.outcome})"
    if write.outcome is Outcome.FAILED:
        if customers or orders:
            findings.phantoms.append(f"{what}: {customers}, {orders}")
    elif len(customers) > 1 or len(orders) > 1:
        findings.duplicated.append(f"{what}: {customers}, {orders}")
    elif len(customers) != len(orders):
        findings.orphans.append(f"{what}: {customers}, {orders}")
    elif not customers:
        if write.outcome is Outcome.ACKNOWLEDGED:
            findings.lost.append(what)
    elif known is not None:
        found = (customers[0][0], *orders[0])
        expected = (known.customer_id, known.customer_id, known.order_id, known.price)
        if found[:3] != expected[:3] or known.price not in (None, found[3]):
            findings.contradictions.append(f"{what}: {found} should be {expected}")


def _rows(connection: Raw, sql: str) -> dict[str, list[tuple[Any, ...]]]:
    found: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(sql)
        rows: Iterable[tuple[Any, ...]] = cursor.fetchall()
    for txn, *rest in rows:
        found[txn.decode()].append(tuple(rest))
    return found
