"""What a client of the workload does: transfers, swaps of unique values, and everything to rows of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

from tests.workload.client import Client, Failed, Settings, Unknown
from tests.workload.ledger import Ledger
from tests.workload.schema import SHARED_ACCOUNTS

OWN_ROWS = 60
TRICKY = (
    "plain",
    "",
    'it\'s "quoted" \\ back\\\\slash',
    "naïve – Zürich – 東京 – 🚚",
    "a\nb\tc\r\n",
    "%s %d {x}",
    "NUL \0 in it",
)
LEAP = 1000
"""How far a version jumps after an unknown outcome, so that a statement still under way can no longer match."""


@dataclass(frozen=True, slots=True)
class Touch:
    """What a transaction left behind on one shared account."""

    account: int
    version: int
    balance: Decimal
    tag: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """The detail of a transaction on shared accounts: both sides, and the ids of its rows in the log."""

    touches: tuple[Touch, Touch]
    first_id: int


@dataclass(slots=True)
class OwnRow:
    """A row that only one client writes, as it must be. `id` changes sign when the primary key is changed."""

    id: int
    tag: str
    balance: Decimal
    version: int
    note: str
    image: bytes


class AccountClient(Client):
    """A client on ``account``, ``transfer_log`` and ``audit``."""

    def __init__(
        self, number: int, settings: Settings, ledger: Ledger, stop: threading.Event, home: str | None
    ) -> None:
        super().__init__(number, settings, ledger, stop)
        self.home = home
        self.own: dict[str, OwnRow] = {}
        self.maybe: dict[str, OwnRow] = {}
        """Rows whose INSERT had an unknown outcome: there, exactly so, or not at all."""
        self.uncertain: set[str] = set()
        """Tags of rows that a statement of unknown outcome may have changed, when the workload was stopped."""
        self._actions = {
            self.transfer: 30,
            self.swap_tags: 10,
            self.transfer_rolled_back: 4,
            self.insert_own: 12,
            self.update_own: 20,
            self.change_primary_key: 8,
            self.delete_own: 8,
            self.update_two_own: 6,
            self.add_audit: 6,
        }

    @property
    def account(self) -> str:
        """How statements name the moved table ``account`` now."""
        return self.settings.name("account")

    def act(self) -> None:
        """One of the actions, by weight."""
        (action,) = self.random.choices(list(self._actions), list(self._actions.values()))
        action()

    def transfer(self, *, roll_back: bool = False) -> None:
        """Moves an amount between two shared accounts, with two rows of the log in the same transaction."""
        amount = Decimal(self.random.randint(1, 5000)) / 100
        self.transaction("transfer", lambda txn: self._touch_two(txn, amount=amount, swap=False), roll_back=roll_back)

    def transfer_rolled_back(self) -> None:
        """A transfer that ends with ROLLBACK: nothing of it may be seen."""
        self.transfer(roll_back=True)

    def swap_tags(self) -> None:
        """Exchanges the unique values of two shared accounts in one transaction."""
        self.transaction("swap", lambda txn: self._touch_two(txn, amount=Decimal(0), swap=True))

    def _touch_two(self, txn: str, *, amount: Decimal, swap: bool) -> Transfer:
        first, second = sorted(self.random.sample(range(1, SHARED_ACCOUNTS + 1), 2))
        if self.random.random() < 0.5:
            amount = -amount
        found = self.rows(
            f"SELECT id, version, balance, tag FROM {self.account} WHERE id IN (%s, %s) ORDER BY id FOR UPDATE",
            (first, second),
        )
        if [row[0] for row in found] != [first, second]:
            self.ledger.anomaly(f"{self.name}: shared accounts {first}, {second}: found {found}")
        a, b = found
        tags = (b[3], a[3]) if swap else (a[3], b[3])
        touches = (
            Touch(first, int(a[1]) + 1, a[2] - amount, tags[0]),
            Touch(second, int(b[1]) + 1, b[2] + amount, tags[1]),
        )
        if swap:
            self.execute(f"UPDATE {self.account} SET tag = %s WHERE id = %s", (f"swapping-{txn}", first))
        for touch in reversed(touches) if swap else touches:
            changed = self.execute(
                f"UPDATE {self.account} SET balance = %s, version = %s, tag = %s, last_txn = %s "
                "WHERE id = %s AND version = %s",
                (touch.balance, touch.version, touch.tag, txn, touch.account, touch.version - 1),
            )
            if changed != 1:
                self.ledger.anomaly(f"{self.name}: update of locked account {touch.account} matched {changed} rows")
        rows = [value for t in touches for value in (txn, t.account, t.version, t.balance, t.tag)]
        first_id = self.insert(
            f"INSERT INTO {self.settings.name('transfer_log')} (txn, account_id, version, balance, tag) "
            "VALUES (%s, %s, %s, %s, %s), (%s, %s, %s, %s, %s)",
            tuple(rows),
        )
        return Transfer(touches, first_id)

    def insert_own(self) -> None:
        """Inserts a row of its own with AUTO_INCREMENT, and reads it back."""
        if len(self.own) >= OWN_ROWS:
            return self.delete_own()
        row = OwnRow(
            id=0,
            tag=f"own-{self.settings.seed}-{self.number}-{self._sequence}",
            balance=Decimal(self.random.randint(-(10**9), 10**9)) / 100,
            version=1,
            note=self.random.choice(TRICKY),
            image=self.random.randbytes(self.random.randint(0, 40)),
        )
        self.maybe[row.tag] = row
        try:
            row.id = self.autocommit("insert", lambda txn: self._insert(txn, row))
        except Failed:
            del self.maybe[row.tag]
            raise
        self.own[row.tag] = self.maybe.pop(row.tag)
        self._read_back(row)
        return None

    def _insert(self, txn: str, row: OwnRow) -> int:
        return self.insert(
            f"INSERT INTO {self.account} (owner, tag, balance, version, last_txn, note, image) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (self.number, row.tag, row.balance, row.version, txn, row.note, row.image),
        )

    def update_own(self) -> None:
        """Changes a row of its own outside a transaction, and reads it back."""
        row = self._any()
        if row is None:
            return self.insert_own()
        balance, note = row.balance + self.random.randint(1, 100), self.random.choice(TRICKY)

        def update(txn: str) -> int:
            return self.execute(
                f"UPDATE {self.account} SET balance = %s, version = version + 1, note = %s, last_txn = %s "
                "WHERE id = %s AND version = %s",
                (balance, note, txn, row.id, row.version),
            )

        if self._change(row, "update", update):
            row.balance, row.note, row.version = balance, note, row.version + 1
            self._read_back(row)
        return None

    def change_primary_key(self) -> None:
        """Gives a row of its own another primary key."""
        row = self._any()
        if row is None:
            return self.insert_own()

        def update(txn: str) -> int:
            return self.execute(
                f"UPDATE {self.account} SET id = -id, version = version + 1, last_txn = %s "
                "WHERE id = %s AND version = %s",
                (txn, row.id, row.version),
            )

        if self._change(row, "change primary key", update):
            row.id, row.version = -row.id, row.version + 1
            self._read_back(row)
        return None

    def delete_own(self) -> None:
        """Deletes a row of its own; after an unknown outcome again, until it is known to be gone."""
        row = self._any()
        if row is None:
            return self.insert_own()
        expected = {1}
        with self._in_doubt(row):
            while True:
                try:
                    deleted = self.autocommit(
                        "delete", lambda _txn: self.execute(f"DELETE FROM {self.account} WHERE tag = %s", (row.tag,))
                    )
                    break
                except Unknown:
                    expected = {0, 1}
        if deleted not in expected:
            self.ledger.anomaly(f"{self.name}: delete of {row.tag} matched {deleted} rows")
        del self.own[row.tag]
        return None

    def update_two_own(self) -> None:
        """Changes two rows of its own in one transaction."""
        if len(self.own) < 2:
            return self.insert_own()
        rows = [self.own[tag] for tag in self.random.sample(sorted(self.own), 2)]

        def body(txn: str) -> None:
            for row in rows:
                changed = self.execute(
                    f"UPDATE {self.account} SET version = version + 1, last_txn = %s WHERE id = %s AND version = %s",
                    (txn, row.id, row.version),
                )
                if changed != 1:
                    self.ledger.anomaly(f"{self.name}: update of {row.tag} matched {changed} rows")

        with self._in_doubt(*rows):
            try:
                self.transaction("update two", body)
            except Unknown:
                for row in rows:
                    self._settle(row)
            else:
                for row in rows:
                    row.version += 1
        return None

    def add_audit(self) -> None:
        """Inserts a row into the table that is not moved."""
        name = f"{self.home}.audit" if self.home else "audit"
        self.autocommit("audit", lambda txn: self.insert(f"INSERT INTO {name} (txn) VALUES (%s)", (txn,)))

    def _any(self) -> OwnRow | None:
        return self.own[self.random.choice(sorted(self.own))] if self.own else None

    @contextmanager
    def _in_doubt(self, *rows: OwnRow) -> Iterator[None]:
        """Marks rows as uncertain, for ever if the workload is stopped inside."""
        self.uncertain.update(row.tag for row in rows)
        try:
            yield
        except Failed:
            self.uncertain.difference_update(row.tag for row in rows)
            raise
        self.uncertain.difference_update(row.tag for row in rows)

    def _change(self, row: OwnRow, kind: str, update: Callable[[str], int]) -> bool:
        """Runs an update of one own row; False when its outcome was unknown and has been settled."""
        with self._in_doubt(row):
            try:
                changed = self.autocommit(kind, update)
            except Unknown:
                self._settle(row)
                return False
        if changed != 1:
            self.ledger.anomaly(f"{self.name}: {kind} of {row.tag} version {row.version} matched {changed} rows")
        return True

    def _settle(self, row: OwnRow) -> None:
        """Finds out what a statement of unknown outcome did, after making sure that it cannot do it any more."""
        leap = row.version + LEAP

        def fence(txn: str) -> int:
            return self.execute(
                f"UPDATE {self.account} SET version = %s, last_txn = %s WHERE tag = %s AND version BETWEEN %s AND %s",
                (leap, txn, row.tag, row.version, leap),
            )

        while True:
            try:
                self.autocommit("settle", fence)
                break
            except Unknown:
                continue
        found = self.read(f"SELECT id, balance, version, note FROM {self.account} WHERE tag = %s", (row.tag,))
        if len(found) != 1 or abs(found[0][0]) != abs(row.id) or int(found[0][2]) != leap:
            self.ledger.anomaly(f"{self.name}: {row.tag} after an unknown outcome: found {found}, expected {row}")
            return
        row.id, row.balance, row.version, row.note = found[0][0], found[0][1], leap, found[0][3]

    def _read_back(self, row: OwnRow) -> None:
        found = self.read(f"SELECT tag, balance, version, note, image FROM {self.account} WHERE id = %s", (row.id,))
        expected = (row.tag, row.balance, row.version, row.note, row.image)
        if found != [expected]:
            self.ledger.anomaly(f"{self.name}: read after write of id {row.id}: found {found}, expected {expected}")
