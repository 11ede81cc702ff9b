"""Compares the tables with everything that the clients were told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tests.workload.accounts import AccountClient, OwnRow, Touch, Transfer
from tests.workload.client import Raw
from tests.workload.ledger import Ledger, Outcome, Write
from tests.workload.schema import OPENING_BALANCE, SHARED_ACCOUNTS, qualified
from tests.workload.verdict import Findings, Verdict

ON_SHARED_ACCOUNTS = ("transfer", "swap")


@dataclass(frozen=True, slots=True)
class Account:
    """A row of ``account``."""

    id: int
    owner: int
    tag: str
    balance: Decimal
    version: int
    last_txn: str
    note: str | None
    image: bytes | None


@dataclass(frozen=True, slots=True)
class Logged:
    """A row of ``transfer_log``."""

    id: int
    txn: str
    touch: Touch


def verify(
    connection: Raw,
    ledger: Ledger,
    clients: Sequence[AccountClient],
    keyspace: str | None,
    home: str | None,
) -> Verdict:
    """Reads all three tables and judges them. The clients must have ended.

    `keyspace` is where the moved tables are addressed, `home` where ``audit`` is, each a name that qualifies tables on
    this connection (a database, on a server) or None for its default. Raises the driver's errors.
    """
    findings = Findings.none()
    columns = "id, owner, tag, balance, version, last_txn, note, image"
    accounts = [Account(*row) for row in _all(connection, f"SELECT {columns} FROM {qualified(keyspace, 'account')}")]
    columns = "id, txn, account_id, version, balance, tag"
    log = [
        Logged(row[0], row[1], Touch(*row[2:]))
        for row in _all(connection, f"SELECT {columns} FROM {qualified(keyspace, 'transfer_log')} ORDER BY id")
    ]
    audit = _all(connection, f"SELECT id, txn FROM {qualified(home, 'audit')}")
    _transactions(findings, ledger.writes, log)
    _histories(findings, [account for account in accounts if account.owner == 0], log)
    for client in clients:
        _own_rows(findings, client, [account for account in accounts if account.owner == client.number])
    known = {0, *(client.number for client in clients)}
    findings.phantoms += [f"account {a.id} of unknown owner {a.owner}" for a in accounts if a.owner not in known]
    _audit(findings, ledger.writes, audit)
    _ids(findings, ledger.writes)
    return findings.verdict(ledger)


def _all(connection: Raw, sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def _transactions(findings: Findings, writes: Iterable[Write], log: Iterable[Logged]) -> None:
    """Every transaction is in the log as a whole, once, if it was acknowledged; if it failed, not at all."""
    by_txn: dict[str, list[Logged]] = defaultdict(list)
    for row in log:
        by_txn[row.txn].append(row)
    for write in writes:
        if write.kind not in ON_SHARED_ACCOUNTS:
            continue
        rows = by_txn.pop(write.txn, [])
        what = f"{write.kind} {write.txn} ({write.outcome})"
        if write.outcome is Outcome.FAILED:
            if rows:
                findings.phantoms.append(f"{what} left {len(rows)} rows in transfer_log")
            continue
        if not rows:
            if write.outcome is Outcome.ACKNOWLEDGED:
                findings.lost.append(f"{what} is not in transfer_log: {write.detail}")
            continue
        transfer: Transfer = write.detail
        sent = sorted(transfer.touches, key=_by_account)
        found = sorted((row.touch for row in rows), key=_by_account)
        if found == sent:
            if write.outcome is Outcome.ACKNOWLEDGED and min(row.id for row in rows) != transfer.first_id:
                findings.contradictions.append(f"{what} was told id {transfer.first_id}, its rows are {rows}")
        elif len(found) > len(sent):
            findings.duplicated.append(f"{what} has {len(found)} rows in transfer_log")
        elif len(found) < len(sent):
            findings.orphans.append(f"{what} has only {found} in transfer_log, sent were {sent}")
        else:
            findings.contradictions.append(f"{what} stands as {found} in transfer_log, sent were {sent}")
    findings.phantoms += [f"transaction {txn} in transfer_log was never sent" for txn in by_txn]


def _by_account(touch: Touch) -> int:
    return touch.account


def _histories(findings: Findings, accounts: Sequence[Account], log: Iterable[Logged]) -> None:
    """The log tells every version of every shared account once, and the last is what the account is."""
    histories: dict[int, list[Logged]] = defaultdict(list)
    for row in log:
        histories[row.touch.account].append(row)
    found = {account.id: account for account in accounts}
    for number in range(1, SHARED_ACCOUNTS + 1):
        account, history = found.pop(number, None), histories.pop(number, [])
        if account is None:
            findings.lost.append(f"shared account {number}")
            continue
        versions = sorted(row.touch.version for row in history)
        if len(set(versions)) < len(versions):
            twice = sorted({version for version in versions if versions.count(version) > 1})
            findings.duplicated.append(f"account {number}: versions {twice} were written by two transactions each")
        last = max(history, key=lambda row: row.touch.version, default=None)
        if account.version != len(set(versions)):
            kind = findings.lost if account.version < len(set(versions)) else findings.orphans
            kind.append(f"account {number} has version {account.version}, transfer_log {len(set(versions))} of them")
        elif last and (account.balance, account.tag, account.last_txn) != (
            last.touch.balance,
            last.touch.tag,
            last.txn,
        ):
            findings.contradictions.append(f"account {number} is {account}, its last transaction left {last}")
    findings.phantoms += [f"shared account {number} was never made" for number in found]
    findings.orphans += [f"transfer_log tells of account {number}, which never was" for number in histories]
    total = sum((account.balance for account in accounts), Decimal(0))
    if total != SHARED_ACCOUNTS * OPENING_BALANCE:
        findings.contradictions.append(f"sum of balances is {total}, not {SHARED_ACCOUNTS * OPENING_BALANCE}")


def _own_rows(findings: Findings, client: AccountClient, accounts: Sequence[Account]) -> None:
    """The rows of one client are exactly what it was told; rows of unknown outcome may be as sent, or be missing."""
    found = {account.tag: account for account in accounts}
    for tag, row in client.own.items():
        account = found.pop(tag, None)
        if tag in client.uncertain:
            continue
        if account is None:
            findings.lost.append(f"{client.name}: {row}")
        elif not _same(account, row) or account.id != row.id:
            findings.contradictions.append(f"{client.name}: {account} should be {row}")
    for tag, row in client.maybe.items():
        account = found.pop(tag, None)
        if account is not None and not _same(account, row):
            findings.contradictions.append(f"{client.name}: {account} was sent as {row}")
    findings.phantoms += [f"{client.name}: {account} was deleted, or never made" for account in found.values()]


def _same(account: Account, row: OwnRow) -> bool:
    return (account.tag, account.balance, account.version, account.note, account.image) == (
        row.tag,
        row.balance,
        row.version,
        row.note,
        row.image,
    )


def _audit(findings: Findings, writes: Iterable[Write], rows: Iterable[tuple[Any, ...]]) -> None:
    ids: dict[str, list[int]] = defaultdict(list)
    for number, txn in rows:
        ids[txn].append(number)
    for write in writes:
        if write.kind != "audit":
            continue
        found = ids.pop(write.txn, [])
        if len(found) > 1:
            findings.duplicated.append(f"audit {write.txn} is there {len(found)} times")
        elif write.outcome is Outcome.ACKNOWLEDGED and found != [write.detail]:
            findings.lost.append(f"audit {write.txn} with id {write.detail}: found {found}")
        elif write.outcome is Outcome.FAILED and found:
            findings.phantoms.append(f"audit {write.txn} failed and is there")
    findings.phantoms += [f"audit {txn} was never sent" for txn in ids]


def _ids(findings: Findings, writes: Iterable[Write]) -> None:
    """No AUTO_INCREMENT id was handed out twice, on whichever side it was."""
    given: dict[tuple[str, int], str] = {}
    for write in writes:
        if write.outcome is not Outcome.ACKNOWLEDGED:
            continue
        table, ids = "account", []
        if write.kind == "insert":
            ids = [write.detail]
        elif write.kind in ON_SHARED_ACCOUNTS:
            table, ids = "transfer_log", [write.detail.first_id, write.detail.first_id + 1]
        for number in ids:
            if (table, number) in given:
                findings.duplicated.append(f"{table} id {number}: given to {given[table, number]} and {write.txn}")
            given[table, number] = write.txn
