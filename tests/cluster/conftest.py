"""Real servers for tests: template folders, single servers, inventories on free ports, a cluster with commerce.

Every test that uses a server runs on MariaDB and on MySQL. A test, or a module by its `pytestmark`, says otherwise with
``@pytest.mark.servers("mariadb", "mysql", "mariadb-mysql", "mysql-mariadb")``: of a pair, the first is the source. The
fixture `flavor` is the test's server, and `pairing` tells source and target.

Ports come from MOVETABLES_TEST_PORT_BASE (23000 unless set); every pytest-xdist worker has 200 of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from executor.native.local import mysqld, up
from executor.native.local import server as servers
from executor.native.local.cluster import LocalCluster
from executor.native.local.local_server import LocalServer
from executor.native.logins import Logins
from executor.native.promotion import promote
from executor.native.servers import Connection, Login, connect
from executor.native.topology import KeyspaceRecord, TabletRecord, Topology
from executor.native.waiting import wait_until
from planner.cluster import TabletType
from planner.inventory import GatewayListener, Inventory, InventoryKeyspace, InventoryTablet, ServerAddress

PORTS_PER_WORKER = 200
COMMERCE = (
    ("commerce", 100, TabletType.REPLICA),
    ("commerce", 101, TabletType.REPLICA),
    ("commerce", 102, TabletType.RDONLY),
)
CUSTOMER = (
    ("customer", 200, TabletType.REPLICA),
    ("customer", 201, TabletType.REPLICA),
    ("customer", 202, TabletType.RDONLY),
)
MakeServer = Callable[..., LocalServer]
MakeInventory = Callable[..., Inventory]
Templates = Callable[[str], Path]
WITHOUT_MYSQL = "MySQL is not on this machine; script/mysql fetches it"


@dataclass(frozen=True)
class Pairing:
    """Which servers a test runs on: those of the source, and of the target. Everything else is as the source."""

    source: str
    target: str

    def of(self, keyspace: str) -> str:
        """The flavour of a keyspace's servers."""
        return self.target if keyspace == "customer" else self.source


MARIADB = Pairing("mariadb", "mariadb")


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marker known, and Ctrl-C for the programs that tests start: a job in the background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "servers(*pairings): which servers to run on, both flavours unless given")


def pytest_report_header() -> str:
    """Says once which half is left out."""
    return "" if mysqld.installed() else f"Cluster tests run on MariaDB only: {WITHOUT_MYSQL}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test on every server that it is for."""
    if "pairing" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("servers")
    chosen = metafunc.config.getoption("--server")
    missing = pytest.mark.skipif(not mysqld.installed(), reason=WITHOUT_MYSQL)
    metafunc.parametrize(
        "pairing",
        [
            pytest.param(name, marks=[missing] if "mysql" in name else [])
            for name in (marker.args if marker else ("mariadb", "mysql"))
            if chosen in (None, name)
        ],
        indirect=True,
        scope="module",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lets the servers that a module shares be made by one worker, and each flavour's by another."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        name = callspec.params.get("pairing", "") if callspec is not None else ""
        item.add_marker(pytest.mark.xdist_group(f"{item.path.name}:{name}"))


class Ports:
    """Hands out ports of this worker's range that nobody listens on, in turn."""

    def __init__(self) -> None:
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        base = int(os.environ.get("MOVETABLES_TEST_PORT_BASE", "23000"))
        self._range = range(base + worker * PORTS_PER_WORKER, base + (worker + 1) * PORTS_PER_WORKER)
        self._next = 0

    def take(self) -> int:
        """The next free port."""
        for _ in self._range:
            port = self._range[self._next % len(self._range)]
            self._next += 1
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return port
        raise RuntimeError(f"no free port in {self._range}")


@pytest.fixture(scope="session", autouse=True)
def importable() -> Iterator[None]:
    """Processes that tests start find the packages, whatever folder the tests are started from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        yield


@pytest.fixture(scope="session")
def ports() -> Ports:
    """Free ports of this worker."""
    return Ports()


@pytest.fixture(scope="module")
def pairing(request: pytest.FixtureRequest) -> Pairing:
    """The servers of the test."""
    source, _, target = request.param.partition("-")
    return Pairing(source, target or source)


@pytest.fixture(scope="module")
def flavor(pairing: Pairing) -> str:
    """The server of the test, mariadb or mysql: of a pair, the source."""
    return pairing.source


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """templates(flavor) is a fresh data folder, made once, to copy servers from."""
    folder = tmp_path_factory.mktemp("templates")
    return lambda flavor: servers.make_template(folder / flavor, flavor)


@pytest.fixture(scope="module")
def template(templates: Templates, flavor: str) -> Path:
    """A fresh data folder of the test's flavour, to copy servers from."""
    return templates(flavor)


@pytest.fixture
def make_server(tmp_path: Path, templates: Templates, flavor: str, ports: Ports) -> Iterator[MakeServer]:
    """make_server(name="server", server_id=..., options=(), flavor=None) starts a writable server, of the test's
    flavour unless told otherwise. All end after the test.
    """
    made: list[LocalServer] = []
    of_test = flavor

    def make(
        name: str = "server", *, server_id: int | None = None, options: tuple[str, ...] = (), flavor: str | None = None
    ) -> LocalServer:
        folder, number = tmp_path / "servers" / name, server_id or len(made) + 10
        server = LocalServer(name, folder, ports.take(), number, "secret", flavor or of_test)
        made.append(server)
        servers.start(server, templates(server.flavor), options)
        return server

    yield make
    for server in made:
        dispose(server)


def kill(server: LocalServer) -> None:
    """Ends a server whose data nobody needs any more, if it runs; a MySQL server takes 1.5 s to stop in order."""
    pid = server.pid()
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: server.gone(pid), 30, f"{server.name} to be gone")
    servers.reap()


def dispose(server: LocalServer) -> None:
    """Ends a server and deletes its data: those of all tests together fill a disk. What it logged stays."""
    kill(server)
    shutil.rmtree(server.data, ignore_errors=True)


def discard(inventory: Inventory) -> None:
    """Ends everything of an embedded cluster whose data nobody needs any more."""
    local = LocalCluster(inventory)
    if local.owned():
        up._stop_serve(local)
        for server in local.servers():
            dispose(server)


@pytest.fixture
def make_inventory(tmp_path: Path, templates: Templates, pairing: Pairing, ports: Ports) -> Iterator[MakeInventory]:
    """make_inventory(name="test", tablets=COMMERCE + CUSTOMER) writes an inventory file of an embedded cluster.

    Its data folder is `tmp_path/name`, with the session's templates in it, and everything of it ends after the test.
    """
    made: list[Inventory] = []

    def make(name: str = "test", tablets: tuple[tuple[str, int, TabletType], ...] = COMMERCE + CUSTOMER) -> Inventory:
        inventory = write_inventory(tmp_path, name, tablets, ports, pairing)
        made.append(inventory)
        prepare(inventory, templates, pairing)
        return inventory

    yield make
    for inventory in made:
        discard(inventory)


def prepare(inventory: Inventory, templates: Templates, pairing: Pairing) -> LocalCluster:
    """Makes the data folder of an embedded cluster with the session's templates in it."""
    local = LocalCluster(inventory)
    local.claim()
    for flavor in {pairing.source, pairing.target}:
        local.template(flavor).symlink_to(templates(flavor))
    return local


def write_inventory(
    folder: Path, name: str, tablets: tuple[tuple[str, int, TabletType], ...], ports: Ports, pairing: Pairing = MARIADB
) -> Inventory:
    """Writes `folder`/`name`.yaml with everything managed and returns what it says."""

    def managed(flavor: str) -> ServerAddress:
        return ServerAddress("127.0.0.1", ports.take(), managed=True, flavor=flavor)

    keyspaces = sorted({keyspace for keyspace, _, _ in tablets})
    inventory = Inventory(
        name=name,
        file=str(folder / f"{name}.yaml"),
        cell="zone1",
        data_dir=folder / name,
        topology=managed(pairing.source),
        gateway=GatewayListener("127.0.0.1", ports.take()),
        keyspaces=tuple(InventoryKeyspace(keyspace, f"vt_{keyspace}") for keyspace in keyspaces),
        tablets=tuple(
            InventoryTablet(f"zone1-{uid:010}", keyspace, kind, managed(pairing.of(keyspace)))
            for keyspace, uid, kind in tablets
        ),
    )
    lines = [
        "version: 1",
        f"name: {name}",
        f"data_dir: ./{name}",
        f"server: {pairing.source}",
        f"topology: {{port: {inventory.topology.port}, managed: local}}",
        f"gateway: {{port: {inventory.gateway.port}}}",
        "keyspaces:",
        *(f"  {keyspace}: {{}}" for keyspace in keyspaces),
        "tablets:",
        *(
            f"  {t.alias}: {{keyspace: {t.keyspace}, type: {t.type.value.lower()}, "
            f"port: {t.server.port}, managed: local, server: {t.server.flavor}}}"
            for t in inventory.tablets
        ),
    ]
    Path(inventory.file).write_text("\n".join(lines) + "\n")
    return inventory


@dataclass
class TestCluster:
    """An embedded cluster, without `serve` until asked for. `topology` belongs to the test's thread."""

    __test__ = False

    inventory: Inventory
    local: LocalCluster
    logins: Logins
    topology: Topology

    def register(self, keyspace: str) -> None:
        """Starts the keyspace's tablets and registers them and the keyspace; nobody is PRIMARY yet."""
        tablets = [tablet for tablet in self.inventory.tablets if tablet.keyspace == keyspace]
        for tablet in tablets:
            self.local.start_tablet(tablet.alias)
        found = self.inventory.keyspace(keyspace)
        assert found is not None
        self.topology.update(lambda state: state.with_keyspace(KeyspaceRecord(keyspace, found.database)))
        for t in tablets:
            record = TabletRecord(t.alias, keyspace, t.type, t.server.host, t.server.port, t.server.managed)
            self.topology.update(lambda state, record=record: state.with_tablet(record))  # type: ignore[misc]

    def add_keyspace(self, keyspace: str) -> None:
        """Registers the keyspace and makes its first REPLICA the PRIMARY."""
        self.register(keyspace)
        alias = min(t.alias for t in self.inventory.tablets if (t.keyspace, t.type) == (keyspace, TabletType.REPLICA))
        promote(keyspace, alias, self.logins, self.topology)

    def serve(self) -> None:
        """Starts `serve`: streams, health and the gateway, which listens when this returns."""
        up.up(self.inventory, lambda _: None)

    def gateway(self, database: str | None = None) -> Connection:
        """A connection to the gateway, as a user that it lets in without a password."""
        listener = self.inventory.gateway
        login = Login("gateway", listener.host, listener.port, "app")
        return connect(login, database=database, read_timeout=30.0)

    def connect(self, alias: str, database: str | None = None) -> Connection:
        """A connection to a tablet's server."""
        return connect(self.logins.tablet(alias), database=database, read_timeout=30.0)

    def primary(self, keyspace: str, *, database: bool = True) -> Connection:
        """A connection to the PRIMARY of a keyspace, in its database."""
        state = self.topology.read()
        record, found = state.primary(keyspace), state.keyspace(keyspace)
        assert record is not None
        assert found is not None
        return self.connect(record.alias, found.database if database else None)


@pytest.fixture
def empty_cluster(make_inventory: MakeInventory) -> Iterator[TestCluster]:
    """A topology server with its schema, and nothing else."""
    inventory = make_inventory()
    local = LocalCluster(inventory)
    local.start_topology()
    logins = Logins(inventory)
    topology = Topology(logins.topology())
    topology.create()
    yield TestCluster(inventory, local, logins, topology)
    topology.close()


@pytest.fixture
def cluster(empty_cluster: TestCluster) -> TestCluster:
    """commerce with a PRIMARY, a REPLICA and a RDONLY; `cluster.add_keyspace("customer")` adds the target."""
    empty_cluster.add_keyspace("commerce")
    return empty_cluster
