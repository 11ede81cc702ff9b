"""The tables of the workload, how they begin, and the moved ones among them.

`account` has the shared accounts (owner 0), which all clients transfer between, and rows that one client owns and
knows exactly. Every transaction on shared accounts adds two rows to `transfer_log`, one per account, that tell the
version, balance and tag which it left behind. `audit` stays where it is.
"""

from __future__ import annotations

from tests.workload.client import Raw

MOVED_TABLES = ("account", "transfer_log")
SHARED_ACCOUNTS = 40
OPENING_BALANCE = 1000

CREATE = {
    "account": """CREATE TABLE {name} (
        id BIGINT NOT NULL AUTO_INCREMENT,
        owner INT NOT NULL,
        tag VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
        balance DECIMAL(20,2) NOT NULL,
        version BIGINT UNSIGNED NOT NULL,
        last_txn VARCHAR(64) CHARACTER SET ascii NOT NULL,
        note TEXT CHARACTER SET utf8mb4,
        image VARBINARY(255),
        changed DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
        PRIMARY KEY (id), UNIQUE KEY tag (tag), KEY owner (owner)
    ) ENGINE=InnoDB""",
    "transfer_log": """CREATE TABLE {name} (
        id BIGINT NOT NULL AUTO_INCREMENT,
        txn VARCHAR(64) CHARACTER SET ascii NOT NULL,
        account_id BIGINT NOT NULL,
        version BIGINT UNSIGNED NOT NULL,
        balance DECIMAL(20,2) NOT NULL,
        tag VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
        PRIMARY KEY (id), KEY txn (txn), KEY account_id (account_id)
    ) ENGINE=InnoDB""",
    "audit": """CREATE TABLE {name} (
        id BIGINT NOT NULL AUTO_INCREMENT,
        txn VARCHAR(64) CHARACTER SET ascii NOT NULL,
        PRIMARY KEY (id), KEY txn (txn)
    ) ENGINE=InnoDB""",
}


def qualified(keyspace: str | None, table: str) -> str:
    """``keyspace.table``, or ``table`` where `keyspace` is None."""
    return f"{keyspace}.{table}" if keyspace else table


def prepare(connection: Raw, keyspace: str | None = None) -> None:
    """Creates the three tables in `keyspace` and fills the shared accounts. Raises the driver's errors."""
    with connection.cursor() as cursor:
        for table, sql in CREATE.items():
            cursor.execute(sql.format(name=qualified(keyspace, table)))
        cursor.executemany(
            f"INSERT INTO {qualified(keyspace, 'account')} (id, owner, tag, balance, version, last_txn) "
            "VALUES (%s, 0, %s, %s, 0, '')",
            [(number, f"shared-{number}", OPENING_BALANCE) for number in range(1, SHARED_ACCOUNTS + 1)],
        )
    connection.commit()
