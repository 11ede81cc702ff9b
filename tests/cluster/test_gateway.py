"""The gateway in front of real servers: clients, routing, transactions, holding, losses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT

from executor.native.flavor import FENCE_MESSAGE
from executor.native.gateway import backend as raw
from executor.native.gateway.packets import COM_STMT_EXECUTE, COM_STMT_PREPARE, frame
from executor.native.gateway.result import Expect
from executor.native.local.local_server import LocalServer
from executor.native.local.server import start, stop
from executor.native.servers import Login, connect
from executor.native.topology import KeyspaceRecord, TabletRecord, Topology, TopologyState
from planner.cluster import TabletType
from planner.routing import with_move_created, with_reads_at, with_writes_at

BASE = 22000 + 10 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 8)
GATEWAY_PORT, OTHER_PORT = BASE + 8, BASE + 9
TABLES = ["customer", "corder"]

GATEWAY = """
import json, logging, sys
from pathlib import Path
from executor.errors import MovetablesError
from executor.native.gateway.server import run
from executor.native.servers import Login
from planner.inventory import GatewayListener, Inventory, ServerAddress
logging.basicConfig(level=logging.WARNING)
a = json.loads(sys.argv[1])
inventory = Inventory("test", "inventory.yaml", "zone1", Path("."), ServerAddress("127.0.0.1", a["topology"]),
                      GatewayListener(a["host"], a["port"]))
login = lambda tablet: Login(tablet.alias, tablet.host, tablet.port, "movetables", "secret")
try:
    run(inventory, Login("topology", "127.0.0.1", a["topology"], "movetables", "secret"), login, a["users"],
        (a["host"], a["port"]), lambda: print("ready", flush=True), a["hold_window"])
except MovetablesError as error:
    sys.exit(f"{error.message} | {error.hint}")
"""


@dataclass
class Cluster:
    servers: dict[str, LocalServer]
    topology: Topology

    def on(self, name: str, sql: str) -> Any:
        with connect(self.servers[name].login) as connection:
            return connection.value(sql)

    def rows(self, name: str, table: str) -> int:
        return int(self.on(name, f"SELECT COUNT(*) FROM {table}"))

    def change(self, change: Callable[[TopologyState], TopologyState]) -> int:
        return self.topology.update(change).version

    def wait_seen(self, version: int) -> None:
        def seen() -> bool:
            value = self.topology.connection().value("SELECT MIN(seen_version) FROM movetables_topo.gateway")
            return value is not None and int(value) >= version

        wait_until(seen)


def wait_until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


def start_gateway(topology_port: int, port: int, **options: Any) -> subprocess.Popen[str]:
    arguments = {"topology": topology_port, "host": "127.0.0.1", "port": port, "users": {}, "hold_window": 10.0}
    return subprocess.Popen(
        [sys.executable, "-c", GATEWAY, json.dumps(arguments | options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def gateway(topology_port: int, port: int, **options: Any) -> Iterator[subprocess.Popen[str]]:
    process = start_gateway(topology_port, port, **options)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        ready = process.stdout.readline()
        assert ready == "ready\n", process.stderr.read()
        yield process
    finally:
        process.terminate()
        try:
            _, errors = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert "Traceback" not in errors, errors


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, template: Path, flavor: str) -> Iterator[Cluster]:
    base = tmp_path_factory.mktemp("gateway")
    names = ("topology", "commerce", "commerce-replica", "customer")
    found = {name: LocalServer(name, base / name, BASE + i, 100 + i, "secret", flavor) for i, name in enumerate(names)}
    topology = Topology(found["topology"].login)
    try:
        for server in found.values():
            start(server, template)
        topology.create()
        yield Cluster(found, topology)
    finally:
        topology.close()
        for server in found.values():
            stop(server)


def initial_state(state: TopologyState, cluster: Cluster) -> TopologyState:
    state = TopologyState(state.version)
    for keyspace in ("commerce", "customer"):
        state = state.with_keyspace(KeyspaceRecord(keyspace, f"vt_{keyspace}"))
    for alias, keyspace, tablet_type, server in (
        ("zone1-0000000100", "commerce", TabletType.PRIMARY, "commerce"),
        ("zone1-0000000101", "commerce", TabletType.REPLICA, "commerce-replica"),
        ("zone1-0000000200", "customer", TabletType.PRIMARY, "customer"),
    ):
        term = "2026-01-02T03:04:05Z" if tablet_type is TabletType.PRIMARY else ""
        port = cluster.servers[server].port
        state = state.with_tablet(TabletRecord(alias, keyspace, tablet_type, "127.0.0.1", port, True, term))
    return state


@pytest.fixture(scope="module")
def running(servers: Cluster) -> Iterator[subprocess.Popen[str]]:
    servers.change(lambda state: initial_state(state, servers))
    with gateway(servers.servers["topology"].port, GATEWAY_PORT, hold_window=10.0) as process:
        yield process


@pytest.fixture
def cluster(servers: Cluster, running: subprocess.Popen[str]) -> Cluster:
    for name in ("commerce", "commerce-replica", "customer"):
        with connect(servers.servers[name].login) as connection:
            database = f"vt_{name.partition('-')[0]}"
            for statement in (
                f"DROP DATABASE IF EXISTS {database}",
                f"CREATE DATABASE {database}",
                f"CREATE TABLE {database}.customer (customer_id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, "
                "email VARBINARY(128))",
                f"CREATE TABLE {database}.corder (order_id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, "
                "customer_id BIGINT, data LONGBLOB)",
            ):
                connection.execute(statement)
            if database == "vt_commerce":
                connection.execute("CREATE TABLE vt_commerce.product (sku VARBINARY(128) PRIMARY KEY, price BIGINT)")
    version = servers.change(lambda state: initial_state(state, servers))
    servers.wait_seen(version)
    return servers


def client(database: str | None = "commerce", port: int = GATEWAY_PORT, **options: Any) -> Any:
    options = {"autocommit": True, "user": "app", "max_allowed_packet": 64 << 20} | options
    return pymysql.connect(host="127.0.0.1", port=port, database=database, **options)


def fetch(connection: Any, sql: str, args: Any = None) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, args)
        return cursor.fetchall()


def mysql(*arguments: str, text: str = "", port: int = GATEWAY_PORT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["mysql", "--no-defaults", "-h127.0.0.1", f"-P{port}", "-uapp", *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def created(state: TopologyState) -> TopologyState:
    return replace(state, routing_rules=with_move_created(state.routing_rules, "commerce", "customer", TABLES))


def switched(state: TopologyState) -> TopologyState:
    rules = with_reads_at(
        created(state).routing_rules,
        "commerce",
        "customer",
        TABLES,
        [TabletType.REPLICA, TabletType.RDONLY],
        "customer",
    )
    rules = with_writes_at(rules, "commerce", "customer", TABLES, "customer")
    return replace(state, routing_rules=rules, switching=())


def switching(state: TopologyState) -> TopologyState:
    held = replace(created(state), switching=("commerce.customer", "commerce.corder"))
    return held.with_denied("commerce", TABLES, True)  # in the same commit, as a cutover does


def fence(cluster: Cluster, server: str, table: str) -> None:
    with connect(cluster.servers[server].login, database=f"vt_{server}") as connection:
        for event in ("INSERT", "UPDATE", "DELETE"):
            connection.execute(
                f"CREATE TRIGGER fence_{table}_{event} BEFORE {event} ON {table} FOR EACH ROW "
                "IF @movetables_apply IS NULL THEN SIGNAL SQLSTATE '45000' "
                f"SET MESSAGE_TEXT = '{FENCE_MESSAGE}'; END IF"
            )


class Worker(threading.Thread):
    """Runs `act` in the background; `result` raises what it raised."""

    def __init__(self, act: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._act = act
        self._value: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._value = self._act()
        except BaseException as error:  # noqa: BLE001 - handed to the test by result()
            self._error = error

    def result(self, timeout: float = 15.0) -> Any:
        self.join(timeout)
        assert not self.is_alive(), "still waiting"
        if self._error is not None:
            raise self._error
        return self._value


def test_mysql_client_runs_a_file_with_use(cluster: Cluster) -> None:
    result = mysql(
        "--table",
        text="use commerce\ninsert into customer(email) values ('alice@domain.com'), ('bob@domain.com');\n"
        "select 'Using commerce' as ``;\nselect * from customer;\nselect database();\nshow tables;\n"
        "use customer;\nselect count(*) from customer;\n",
    )
    assert result.returncode == 0, result.stderr
    assert "|           2 | bob@domain.com   |" in result.stdout
    assert "| commerce   |" in result.stdout
    assert "| Tables_in_vt_commerce |" in result.stdout
    assert cluster.rows("commerce", "vt_commerce.customer") == 2


def test_shows_of_the_cluster(cluster: Cluster) -> None:
    text = mysql("--table", "-e", "show vitess_tablets; show keyspaces; show databases like 'cust%'").stdout
    assert "| Cell  | Keyspace | Shard | TabletType | State   | Alias            | Hostname  | PrimaryTermStart" in text
    assert "| zone1 | commerce | 0     | PRIMARY    | SERVING | zone1-0000000100 | 127.0.0.1 | 2026-01-02T03:04" in text
    assert "| zone1 | commerce | 0     | REPLICA    | SERVING | zone1-0000000101 | 127.0.0.1 |" in text
    with client(None) as connection:
        assert fetch(connection, "show vitess_shards") == (("commerce/0",), ("customer/0",))
        assert fetch(connection, "SHOW VITESS_TABLETS LIKE '%200'")[0][5] == "zone1-0000000200"
        assert fetch(connection, "show databases like 'cust%'") == (("customer",),)
        assert fetch(connection, "show vitess_targets")[0] == ("commerce:0@primary",)


def test_unknown_keyspaces_and_missing_ones(cluster: Cluster) -> None:
    with pytest.raises(pymysql.err.OperationalError, match=r"1049.*Unknown database 'nope'"):
        client("nope")
    with client(None) as connection:
        with pytest.raises(pymysql.err.OperationalError, match="1049"):
            connection.select_db("commerce@master")
        with pytest.raises(pymysql.err.OperationalError, match=r"1046.*commerce, customer"):
            fetch(connection, "select * from customer")
        assert fetch(connection, "select 1") == ((1,),)
        assert fetch(connection, "select database()") == ((None,),)
        with pytest.raises(pymysql.err.MySQLError, match=r"1049.*vt_commerce"):
            fetch(connection, "select * from vt_commerce.customer")


def test_names_follow_the_routing_rules(cluster: Cluster) -> None:
    with client() as connection:
        fetch(connection, "insert into customer(email) values ('old')")
        cluster.wait_seen(cluster.change(switched))
        fetch(connection, "insert into customer(email) values ('new')")
        fetch(connection, "insert into commerce.customer(email) values ('new2')")
        sql = "select commerce.customer.email, customer.customer_id from commerce.customer where customer.email <> '`'"
        assert [row[0] for row in fetch(connection, sql)] == [b"new", b"new2"]
        fetch(connection, "insert into product values ('a', 1)")
        with pytest.raises(
            pymysql.err.MySQLError, match=r"1235.*product in keyspace commerce; corder in keyspace cust"
        ):
            fetch(connection, "select * from corder join product")
    assert cluster.rows("customer", "vt_customer.customer") == 2
    with client(None) as connection:
        assert len(fetch(connection, "select * from customer")) == 2  # by the rule of the plain name


def test_error_for_a_table_that_is_not_there_names_target_and_statement(cluster: Cluster) -> None:
    result = mysql("commerce", "-e", 'select * from gone where a="x"')
    assert result.stderr.endswith(
        "ERROR 1146 (42S02) at line 1: target: commerce.0.primary: vttablet: rpc error: code = NotFound desc = "
        "Table 'vt_commerce.gone' doesn't exist (errno 1146) (sqlstate 42S02) (CallerID: app): "
        'Sql: "select * from gone where a=\\"x\\"", BindVars: {}\n'
    )


def test_transaction_over_two_keyspaces(cluster: Cluster) -> None:
    with client(autocommit=False) as connection:
        fetch(connection, "insert into commerce.product values ('a', 1)")
        fetch(connection, "insert into customer.customer(email) values ('a')")
        connection.rollback()
        assert fetch(connection, "select count(*) from product") == ((0,),)
        connection.begin()
        fetch(connection, "insert into commerce.product values ('b', 1)")
        fetch(connection, "savepoint s")
        fetch(connection, "insert into customer.customer(email) values ('b')")
        fetch(connection, "rollback to s")
        fetch(connection, "insert into customer.customer(email) values ('c')")
        connection.commit()
    assert cluster.rows("commerce", "vt_commerce.product") == 1
    assert cluster.on("customer", "SELECT GROUP_CONCAT(email) FROM vt_customer.customer") == b"c"


def test_client_that_goes_away_in_a_transaction_is_rolled_back(cluster: Cluster) -> None:
    connection = client()
    connection.begin()
    fetch(connection, "insert into product values ('a', 1)")
    connection._force_close()
    with client() as other:
        fetch(other, "set innodb_lock_wait_timeout=10")
        fetch(other, "insert into product values ('a', 2)")
        assert fetch(other, "select price from product") == ((2,),)


def test_packets_of_twenty_mebibytes_in_and_out(cluster: Cluster) -> None:
    blob = os.urandom(20 << 20)
    with client() as connection:
        with connection.cursor() as cursor:
            cursor.execute("insert into commerce.corder(data) values (_binary %s)", [blob])
        assert fetch(connection, "select data from corder")[0][0] == blob
        assert fetch(connection, "select 1") == ((1,),)


@pytest.mark.parametrize("off", [-20, -12, -1, 0, 1, 20])
def test_statement_near_the_largest_packet(cluster: Cluster, off: int) -> None:
    sql = "insert into commerce.corder(data) values ('{}')"
    fill = "x" * (0xFFFFFF - 1 - len(sql) + 2 + off)
    with client() as connection:
        fetch(connection, sql.format(fill))
        assert fetch(connection, "select length(data), 1 from corder") == ((len(fill), 1),)


def test_many_rows_pass_a_slow_reader(cluster: Cluster, flavor: str) -> None:
    with client(cursorclass=pymysql.cursors.SSCursor) as connection, connection.cursor() as cursor:
        depth = "cte_max_recursion_depth" if flavor == "mysql" else "max_recursive_iterations"
        cursor.execute(f"set session {depth} = 100000")
        cursor.execute(
            "with recursive n (seq) as (select 1 union all select seq + 1 from n where seq < 100000) "
            "select seq, repeat('x', 1000) from n"
        )
        assert cursor.fetchone()[0] == 1
        assert sum(1 for _ in cursor) == 99999
        cursor.execute("select 2")
        assert cursor.fetchall() == [(2,)]


def test_clients_are_told_the_version_of_the_servers(cluster: Cluster, flavor: str) -> None:
    with client() as connection, connect(cluster.servers["commerce"].login) as server:
        told = connection.get_server_info()
        assert told == f"{server.value('SELECT VERSION()')}-movetables"
        assert ("MariaDB" in told) is (flavor == "mariadb")


def test_session_settings_reach_every_connection(cluster: Cluster) -> None:
    with client(charset="latin1") as connection:
        fetch(connection, "set @a = 5, @b := 'x;y', time_zone = '+03:00'")
        fetch(connection, "/*!40101 SET @old=@@sql_mode, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */")
        fetch(connection, "SET NAMES utf8mb4")
        connection.select_db("customer")
        sql = (
            "select @a, @b, @@time_zone, @@sql_mode, @@character_set_client "
            "from customer.customer right join (select 1) x on 1"
        )
        assert fetch(connection, sql) == ((5, "x;y", "+03:00", "NO_AUTO_VALUE_ON_ZERO", "utf8mb4"),)
        with pytest.raises(pymysql.err.MySQLError, match="1193"):
            fetch(connection, "set nonsense = 1")
        for refused in ("set @movetables_apply=1", "select @`movetables_apply` := 1", "set @'movetables_apply'=1"):
            with pytest.raises(pymysql.err.MySQLError, match=r"reserved"):
                fetch(connection, refused)
        with pytest.raises(pymysql.err.MySQLError, match="1235"):
            fetch(connection, "set global max_connections=1")


def test_replica_sessions_read_from_replicas_and_do_not_write(cluster: Cluster) -> None:
    cluster.on("commerce-replica", "INSERT INTO vt_commerce.customer(email) VALUES ('replica')")
    with client("commerce@replica") as connection:
        assert fetch(connection, "select email from customer") == ((b"replica",),)
        assert fetch(connection, "select database()") == (("commerce@replica",),)
        with pytest.raises(pymysql.err.MySQLError, match=r"1290.*only for primary.*replica"):
            fetch(connection, "insert into customer(email) values ('x')")
        fetch(connection, "use commerce@primary")
        assert fetch(connection, "select email from customer") == ()
        fetch(connection, "use `commerce@rdonly`")
        with pytest.raises(pymysql.err.MySQLError, match=r"no healthy tablet available for .*RDONLY"):
            fetch(connection, "select email from customer")


def test_writes_wait_while_their_table_is_switching_and_then_go_to_the_new_keyspace(cluster: Cluster) -> None:
    with client() as writer, client() as in_transaction, client() as reader:
        cluster.wait_seen(cluster.change(created))
        in_transaction.begin()
        fetch(in_transaction, "insert into corder(customer_id) values (1)")
        cluster.wait_seen(cluster.change(switching))
        waiting = Worker(lambda: fetch(writer, "insert into customer(email) values ('held')"))
        locking = Worker(lambda: fetch(client(), "select * from customer for update"))
        assert fetch(reader, "select count(*) from customer") == ((0,),)
        fetch(reader, "insert into product values ('not held', 1)")
        fetch(in_transaction, "insert into customer(email) values ('goes on')")
        in_transaction.commit()
        assert waiting.is_alive()
        assert locking.is_alive()
        cluster.change(switched)
        waiting.result()
        locking.result()
    assert cluster.on("commerce", "SELECT GROUP_CONCAT(email) FROM vt_commerce.customer") == b"goes on"
    assert cluster.on("customer", "SELECT GROUP_CONCAT(email) FROM vt_customer.customer") == b"held"


def test_statement_that_meets_the_fence_is_run_again_where_routing_goes_next(cluster: Cluster) -> None:
    cluster.wait_seen(cluster.change(created))
    fence(cluster, "commerce", "customer")
    with client() as single, client() as first, client() as later:
        waiting = Worker(lambda: fetch(single, "insert into customer(email) values ('single')"))
        first.begin()
        first_of_transaction = Worker(lambda: fetch(first, "insert into customer(email) values ('first')"))
        later.begin()
        fetch(later, "insert into product values ('undone', 1)")
        with pytest.raises(pymysql.err.OperationalError, match="1213"):
            fetch(later, "insert into customer(email) values ('later')")
        assert fetch(later, "select count(*) from product") == ((0,),)
        cluster.on("commerce", "ALTER TABLE vt_commerce.customer COMMENT 'nobody holds a lock on it'")
        assert waiting.is_alive()
        assert first_of_transaction.is_alive()
        cluster.change(switched)
        waiting.result()
        first_of_transaction.result()
        first.commit()
    assert cluster.rows("commerce", "vt_commerce.customer") == 0
    assert cluster.rows("customer", "vt_customer.customer") == 2


def test_reads_that_race_with_completion_are_retried_on_the_new_routing(cluster: Cluster) -> None:
    with client() as connection:
        fetch(connection, "select * from customer")
        cluster.on("commerce", "DROP TABLE vt_commerce.customer")
        cluster.change(switched)
        assert fetch(connection, "select * from customer") == ()


def test_lost_tablet_connections(cluster: Cluster) -> None:
    kill = "SELECT CONCAT('KILL ', GROUP_CONCAT(id)) FROM information_schema.processlist WHERE db='vt_commerce'"

    def lose() -> None:
        with connect(cluster.servers["commerce"].login) as admin:
            for row in admin.query("SELECT id FROM information_schema.processlist WHERE db='vt_commerce'"):
                admin.execute(f"KILL {row['id']}")
        wait_until(lambda: cluster.on("commerce", kill) is None)

    with client() as connection:
        fetch(connection, "insert into product values ('kept', 1)")
        lose()
        assert fetch(connection, "select count(*) from product") == ((1,),)
        connection.begin()
        fetch(connection, "insert into product values ('undone', 1)")
        lose()
        with pytest.raises(pymysql.err.OperationalError, match=r"2013.*rolled back"):
            fetch(connection, "insert into product values ('never', 1)")
        assert fetch(connection, "select sku from product") == ((b"kept",),)
        sleeping = Worker(lambda: fetch(connection, "insert into product select 'unknown', sleep(20)"))
        wait_until(
            lambda: (
                "sleep(20)"
                in str(
                    cluster.on(
                        "commerce",
                        "SELECT GROUP_CONCAT(info) FROM information_schema.processlist WHERE db='vt_commerce'",
                    )
                )
            )
        )
        lose()
        with pytest.raises(pymysql.err.OperationalError, match=r"2013.*outcome is unknown"):
            sleeping.result()
        # MySQL's SLEEP ends as if it were over when its connection is killed.
        assert fetch(connection, "select sku from product where sku <> 'unknown'") == ((b"kept",),)


def test_kill_query(cluster: Cluster) -> None:
    with client() as connection, client() as other:
        sleeping = Worker(lambda: fetch(connection, "select sleep(20) from (select 1) x"))
        busy = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'select sleep(20)%'"
        wait_until(lambda: cluster.on("commerce", busy) == 1)
        fetch(other, f"kill query {connection.thread_id()}")
        with contextlib.suppress(pymysql.err.OperationalError):
            assert sleeping.result() == ((1,),)
        fetch(other, f"kill {connection.thread_id()}")
        with pytest.raises(pymysql.err.MySQLError):
            fetch(connection, "select 1")


def test_load_data_local_and_several_statements_in_one(cluster: Cluster, tmp_path: Path) -> None:
    rows = tmp_path / "rows.tsv"
    rows.write_text("".join(f"sku{i}\t{i}\n" for i in range(200_000)))
    with client(local_infile=True, client_flag=CLIENT.MULTI_STATEMENTS) as connection:
        with connection.cursor() as cursor:
            cursor.execute(f"load data local infile '{rows}' into table commerce.product")
            cursor.execute(
                "select count(*) from product; insert into customer(email) values ('a;b'), ('c'); select 2 ;"
            )
            assert cursor.fetchall() == ((200_000,),)
            assert cursor.nextset()
            assert cursor.rowcount == 2
            assert cursor.nextset()
            assert cursor.fetchall() == ((2,),)
            assert not cursor.nextset()
        with pytest.raises(pymysql.err.ProgrammingError, match="1064"), client() as single:
            fetch(single, "select 1; select 2")
        with connection.cursor() as cursor:
            cursor.execute("select 1; select * from nope; select 3")
            with pytest.raises(pymysql.err.MySQLError, match="1146"):
                cursor.nextset()


def test_prepared_statement_follows_a_change_of_routing(cluster: Cluster) -> None:
    async def execute(connection: raw.Backend, number: bytes, email: bytes, typed: bool) -> None:
        parameters = b"\0" + (b"\x01\xfd\x00" if typed else b"\0") + bytes((len(email),)) + email
        answer, _ = await connection.collect(frame(bytes((COM_STMT_EXECUTE,)) + number + b"\0\x01\0\0\0" + parameters))
        assert answer.error is None, answer.error
        assert answer.affected == 1

    async def scenario() -> None:
        connection = await raw.connect(Login("gateway", "127.0.0.1", GATEWAY_PORT, "app"), database="commerce")
        sql = b"insert into commerce.customer(email) values (?)"
        _, data = await connection.collect(frame(bytes((COM_STMT_PREPARE,)) + sql), Expect.PREPARED)
        number = data[5:9]
        await execute(connection, number, b"before", True)
        version = await asyncio.to_thread(cluster.change, switched)
        await asyncio.to_thread(cluster.wait_seen, version)
        await execute(connection, number, b"after", False)
        await execute(connection, number, b"again", False)
        connection.close()

    asyncio.run(scenario())
    assert cluster.rows("commerce", "vt_commerce.customer") == 1
    assert cluster.on("customer", "SELECT GROUP_CONCAT(email) FROM vt_customer.customer") == b"after,again"


@pytest.mark.parametrize("mode", ["auto", "disable"])
def test_sysbench_runs_through_the_gateway(cluster: Cluster, mode: str) -> None:
    common = [
        "--mysql-host=127.0.0.1", f"--mysql-port={GATEWAY_PORT}", "--mysql-user=app", "--mysql-db=commerce",
        "--tables=2", "--table-size=500", f"--db-ps-mode={mode}",
    ]  # fmt: skip
    commands = [
        ["oltp_read_write", *common, "prepare"],
        ["oltp_point_select", *common, "--threads=4", "--events=400", "--time=20", "run"],
        ["oltp_read_write", *common, "--threads=2", "--events=40", "--time=20", "run"],
        ["oltp_read_write", *common, "cleanup"],
    ]
    for command in commands:
        result = subprocess.run(["sysbench", *command], capture_output=True, text=True, check=False, timeout=60)
        assert result.returncode == 0, result.stdout + result.stderr


def test_fifty_connections_at_once(cluster: Cluster) -> None:
    def work(i: int) -> None:
        with client() as connection:
            for j in range(10):
                fetch(connection, "insert into product values (%s, %s)", [f"{i}-{j}", j])

    for worker in [Worker(lambda i=i: work(i)) for i in range(50)]:
        worker.result(60)
    assert cluster.rows("commerce", "vt_commerce.product") == 500


def test_refused_statements_say_what_to_do(cluster: Cluster) -> None:
    with client() as connection:
        for sql, text in (
            ("lock tables customer write", "transactions"),
            ("xa start 'a'", "transactions"),
            ("prepare s from 'select 1'", "protocol"),
            ("drop database vt_commerce", "inventory"),
            ("grant all on *.* to x", "tablet itself"),
            ("set sql_mode='ansi_quotes'", "quotes"),
            ("set names gbk", "utf8mb4"),
        ):
            with pytest.raises(pymysql.err.MySQLError, match=f"1235.*{text}"):
                fetch(connection, sql)
        assert fetch(connection, "select 1") == ((1,),)
        fetch(connection, "unlock tables")
        connection.ping(reconnect=False)


class CachingSha2Connection(pymysql.connections.Connection):
    """Answers the greeting with caching_sha2_password, whatever the server prefers, as MySQL 9's client does."""

    def _get_server_information(self) -> None:
        super()._get_server_information()
        self._auth_plugin_name = "caching_sha2_password"


def test_users_sign_in_with_their_password(cluster: Cluster) -> None:
    with gateway(cluster.servers["topology"].port, OTHER_PORT, users={"app": "right", "bare": ""}):
        with client(port=OTHER_PORT, password="right") as connection:
            assert fetch(connection, "select 1") == ((1,),)
        client(port=OTHER_PORT, user="bare").close()
        sha2 = {"host": "127.0.0.1", "port": OTHER_PORT, "user": "app"}
        with CachingSha2Connection(password="right", **sha2) as connection:
            assert fetch(connection, "select 1") == ((1,),)
        with pytest.raises(pymysql.err.OperationalError, match="1045"):
            CachingSha2Connection(password="wrong", **sha2)
        for user, password in (("app", "wrong"), ("app", ""), ("other", "right"), ("bare", "x")):
            with pytest.raises(
                pymysql.err.OperationalError, match=f"1045.*Access denied for user '{user}'@'127.0.0.1'"
            ):
                client(port=OTHER_PORT, user=user, password=password)


def test_ports_and_addresses_that_cannot_be_used_are_explained(cluster: Cluster) -> None:
    for options, text in (({}, "cannot listen on"), ({"host": "0.0.0.0"}, "gateway.users")):
        process = start_gateway(cluster.servers["topology"].port, GATEWAY_PORT, **options)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 1
        assert text in errors
        assert "Traceback" not in errors


def test_sigterm_lets_a_transaction_end_and_closes_idle_sessions(cluster: Cluster) -> None:
    with gateway(cluster.servers["topology"].port, OTHER_PORT) as process:
        idle, working = client(port=OTHER_PORT), client(port=OTHER_PORT)
        working.begin()
        fetch(working, "insert into product values ('a', 1)")
        process.send_signal(signal.SIGTERM)

        def idle_closed() -> bool:
            try:
                idle.ping(reconnect=False)
            except (pymysql.err.MySQLError, OSError):
                return True
            return False

        wait_until(idle_closed)
        fetch(working, "insert into product values ('b', 1)")
        working.commit()
        assert process.wait(10) == 0
        working.close()
    assert cluster.rows("commerce", "vt_commerce.product") == 2


def test_routing_goes_on_while_the_topology_is_down(cluster: Cluster) -> None:
    server = cluster.servers["topology"]
    with client() as connection:
        stop(server)
        try:
            for _ in range(20):
                fetch(connection, "select * from customer")
            with client() as other:
                fetch(other, "select * from customer")
        finally:
            start(server, Path("unused"))
            cluster.topology.close()
        cluster.wait_seen(cluster.change(switched))
        fetch(connection, "insert into customer(email) values ('x')")
    assert cluster.rows("customer", "vt_customer.customer") == 1


def test_gateway_that_finds_no_topology_yet_ends_at_sigterm(cluster: Cluster) -> None:
    process = start_gateway(OTHER_PORT, OTHER_PORT)  # nobody listens there
    wait_until(lambda: catches_sigterm(process.pid))
    process.terminate()
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 0, errors


def catches_sigterm(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)
