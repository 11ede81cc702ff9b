"""Every difference between MySQL and MariaDB, in one place. Statements, variables, error numbers."""

from __future__ import annotations

from dataclasses import dataclass

FENCE_MESSAGE = "disallowed due to rule: enforce denied tables"
"""Text of the fence's error, as Vitess words it. The gateway recognises the fence by it."""

FENCE_ERRNO = 1644  # ER_SIGNAL_EXCEPTION
ER_BAD_DB, ER_NO_SUCH_TABLE = 1049, 1146
"""The schema, or the table, is not there."""
LOST_CONNECTION_ERRNOS = frozenset({1053, 1927, 2003, 2006, 2013, 2014, 2055, 4031})
"""Server shutting down, connection killed, gone away, lost, out of sync: the outcome of the statement is unknown."""
TRANSIENT_ERRNOS = frozenset({1205, 1213, 1020})
"""Lock wait timeout, deadlock, record changed (MariaDB snapshot isolation): the transaction may be tried again."""

CURABLE_ERRNOS = frozenset({1021, 1040, 1114, 1226, 1290, 1317, 1836, 1878, 1969, 3024, 3, 28})
"""Disk full, table full, no room for a temporary file, too many connections, read-only, a statement ended by KILL or a
time limit.

Worth trying again: somebody may mend it meanwhile.
"""

GROUP_CONCAT_MAX_LEN = 1 << 30
"""More than any server can send in a packet. MariaDB lowers 4294967295, its documented limit, and under
STRICT_ALL_TABLES refuses it instead (errno 1231)."""
STRICT_SQL_MODE = "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION"
"""Refuses to change a value silently, and accepts every value that a source may hold (zero dates, id 0)."""
_SESSION = (
    # pymysql takes autocommit for set when MySQL's first packet says so, whatever the server's default is.
    f"autocommit=1, time_zone='+00:00', sql_mode='{STRICT_SQL_MODE}', wait_timeout=86400, "
    "net_read_timeout=600, net_write_timeout=600, "
    # What would leave rows out of a result, cut a text (JSON's parts are put together so), or refuse a statement.
    f"group_concat_max_len={GROUP_CONCAT_MAX_LEN}, "
    "sql_select_limit=18446744073709551615, sql_big_selects=1, sql_safe_updates=0, sql_auto_is_null=0, "
    "completion_type=0, sql_quote_show_create=1, foreign_key_checks=1, unique_checks=1"
)
_SESSION_OF_MARIADB = (
    "tx_isolation='REPEATABLE-READ', tx_read_only=0, max_statement_time=0, idle_transaction_timeout=0, "
    "idle_readonly_transaction_timeout=0, idle_write_transaction_timeout=0, alter_algorithm='DEFAULT', "
    "sql_if_exists=0, check_constraint_checks=1"
)
_SESSION_OF_MYSQL = (
    "transaction_isolation='REPEATABLE-READ', transaction_read_only=0, max_execution_time=0, "
    "show_gipk_in_create_table_and_information_schema=1, "
    # MySQL answers from statistics a day old, which hold AUTO_INCREMENT and sizes of tables too.
    "information_schema_stats_expiry=0"
)
CASCADES_VARIABLE = "innodb_native_foreign_keys"
"""OFF since MySQL 9.6: what foreign keys change by themselves is in the binlog. MariaDB and older MySQL lack it."""
FLAVOR_NAMES = {"mariadb": "MariaDB", "mysql": "MySQL"}
"""What options and inventories call a server, and what it calls itself."""
MINIMUM_MARIADB = (10, 6)
"""The oldest MariaDB that moves are supported on."""
MINIMUM_MYSQL = (8, 4)
"""The oldest MySQL that moves are supported on."""


@dataclass(frozen=True)
class Replication:
    """How a server is set up as a replica by GTID, and what it calls the columns of its status.

    `change` takes host, port, user and password. `by_gtid` is column and value that tell that it replicates by GTID.
    """

    status: str
    change: str
    start: str
    stop: str
    forget: str
    read_only: str
    host: str
    port: str
    user: str
    by_gtid: tuple[str, object]
    io_running: str
    sql_running: str


MARIADB_REPLICATION = Replication(
    status="SHOW SLAVE STATUS",
    change="CHANGE MASTER TO MASTER_HOST=%s, MASTER_PORT=%s, MASTER_USER=%s, MASTER_PASSWORD=%s, "
    "MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1",
    start="START SLAVE",
    stop="STOP SLAVE",
    forget="RESET SLAVE ALL",
    read_only="SET GLOBAL read_only=1",
    host="Master_Host",
    port="Master_Port",
    user="Master_User",
    by_gtid=("Using_Gtid", "Slave_Pos"),
    io_running="Slave_IO_Running",
    sql_running="Slave_SQL_Running",
)
MYSQL_REPLICATION = Replication(
    status="SHOW REPLICA STATUS",
    # It gives up after ten attempts unless told otherwise, and asks for the key that encrypts the password.
    change="CHANGE REPLICATION SOURCE TO SOURCE_HOST=%s, SOURCE_PORT=%s, SOURCE_USER=%s, SOURCE_PASSWORD=%s, "
    "SOURCE_AUTO_POSITION=1, SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=1000000, GET_SOURCE_PUBLIC_KEY=1",
    start="START REPLICA",
    stop="STOP REPLICA",
    forget="RESET REPLICA ALL",
    read_only="SET GLOBAL super_read_only=1",  # our own user may write to what is only read_only
    host="Source_Host",
    port="Source_Port",
    user="Source_User",
    by_gtid=("Auto_Position", 1),
    io_running="Replica_IO_Running",
    sql_running="Replica_SQL_Running",
)


@dataclass(frozen=True)
class Flavor:
    """One kind of server. `version` is (major, minor)."""

    name: str
    version: tuple[int, int]

    @property
    def mariadb(self) -> bool:
        """True for MariaDB."""
        return self.name == "MariaDB"

    @property
    def position_sql(self) -> str:
        """A statement of one column: the replication position up to which the server's binlog is written."""
        if self.mariadb:
            return "SELECT @@global.gtid_binlog_pos"
        return "SELECT REPLACE(@@global.gtid_executed, '\\n', '')"

    @property
    def share_nowait(self) -> str:
        """The end of a SELECT that locks its rows against writers, and fails at once when a writer has one of them."""
        return "LOCK IN SHARE MODE NOWAIT" if self.mariadb else "FOR SHARE NOWAIT"

    @property
    def replication(self) -> Replication:
        """How the server is told to replicate."""
        return MARIADB_REPLICATION if self.mariadb else MYSQL_REPLICATION

    @property
    def session_sql(self) -> str:
        """A SET statement for all that a server may give to new sessions and that would change what we read or write.

        It needs no privilege. Limits on waiting for locks are left as they are: whoever runs into one tries again.
        """
        return f"SET {_SESSION}, {_SESSION_OF_MARIADB if self.mariadb else _SESSION_OF_MYSQL}"

    @property
    def apply_sql(self) -> str:
        """A SET statement for a session that writes what a stream brings: rows are taken as the source has them."""
        checks = ", check_constraint_checks=0" if self.mariadb else ""
        return f"SET foreign_key_checks=0, unique_checks=1, @movetables_apply=1{checks}"

    @property
    def key_settings(self) -> str:
        """What a session that adds keys to large tables should set, to go behind the settings of a SET statement.

        MySQL sorts in 1 MiB unless it is told otherwise, and so merges often: 64 MiB save a fifth of its work.
        MariaDB's memory for that (innodb_sort_buffer_size) can only be set when it starts.
        """
        return "" if self.mariadb else f", innodb_ddl_buffer_size={64 << 20}"

    @property
    def replication_privileges(self) -> tuple[str, ...]:
        """What reads the binlog and its position, and sees whether the server is a replica of another."""
        if self.mariadb:
            return "REPLICATION SLAVE", "BINLOG MONITOR", "SLAVE MONITOR"
        return "REPLICATION SLAVE", "REPLICATION CLIENT", "XA_RECOVER_ADMIN"  # the last for prepared transactions

    @property
    def uuid_sql(self) -> str:
        """A statement of one column that identifies the server for as long as its data lives.

        MariaDB has no server_uuid; its GTID server id is what its binlog identifies it by.
        """
        return "SELECT CONCAT('server-id-', @@global.server_id)" if self.mariadb else "SELECT @@global.server_uuid"


def flavor_of(version: str) -> Flavor:
    """The flavour of a server from its `VERSION()` text, such as ``10.11.6-MariaDB-0+deb12u1-log``."""
    version = version.removeprefix("5.5.5-")  # MariaDB's handshake hides its version behind this from old replicas
    name = "MariaDB" if "mariadb" in version.lower() else "MySQL"
    major, minor = (int(part) for part in version.split("-")[0].split(".")[:2])
    return Flavor(name, (major, minor))
