"""Real servers for tests: a template folder, single servers, inventories on free ports, a cluster with commerce.

Ports come from MOVETABLES_TEST_PORT_BASE (23000 unless set); every pytest-xdist worker has 200 of its own.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from executor.native.local import mariadbd, up
from executor.native.local.cluster import LocalCluster
from executor.native.local.mariadbd import LocalServer
from executor.native.logins import Logins
from executor.native.promotion import promote
from executor.native.servers import Connection, Login, connect
from executor.native.topology import KeyspaceRecord, TabletRecord, Topology
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


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder fresh from mariadb-install-db, to copy servers from."""
    return mariadbd.make_template(tmp_path_factory.mktemp("mariadb") / "template")


@pytest.fixture
def make_server(tmp_path: Path, template: Path, ports: Ports) -> Iterator[MakeServer]:
    """make_server(name="server", server_id=..., options=()) starts a writable server; all stop after the test."""
    made: list[LocalServer] = []

    def make(name: str = "server", *, server_id: int | None = None, options: tuple[str, ...] = ()) -> LocalServer:
        server = LocalServer(name, tmp_path / "servers" / name, ports.take(), server_id or len(made) + 10, "secret")
        made.append(server)
        mariadbd.start(server, template, options)
        return server

    yield make
    for server in made:
        mariadbd.stop(server)


@pytest.fixture
def make_inventory(tmp_path: Path, template: Path, ports: Ports) -> Iterator[MakeInventory]:
    """make_inventory(name="test", tablets=COMMERCE + CUSTOMER) writes an inventory file of an embedded cluster.

    Its data folder is `tmp_path/name`, with the session's template in it, and everything of it stops after the test.
    """
    made: list[Inventory] = []

    def make(name: str = "test", tablets: tuple[tuple[str, int, TabletType], ...] = COMMERCE + CUSTOMER) -> Inventory:
        inventory = write_inventory(tmp_path, name, tablets, ports)
        made.append(inventory)
        local = LocalCluster(inventory)
        local.claim()
        local.template.symlink_to(template)
        return inventory

    yield make
    for inventory in made:
        up.down(inventory)


def write_inventory(
    folder: Path, name: str, tablets: tuple[tuple[str, int, TabletType], ...], ports: Ports
) -> Inventory:
    """Writes `folder`/`name`.yaml with everything managed and returns what it says."""
    keyspaces = sorted({keyspace for keyspace, _, _ in tablets})
    inventory = Inventory(
        name=name,
        file=str(folder / f"{name}.yaml"),
        cell="zone1",
        data_dir=folder / name,
        topology=ServerAddress("127.0.0.1", ports.take(), managed=True),
        gateway=GatewayListener("127.0.0.1", ports.take()),
        keyspaces=tuple(InventoryKeyspace(keyspace, f"vt_{keyspace}") for keyspace in keyspaces),
        tablets=tuple(
            InventoryTablet(f"zone1-{uid:010}", keyspace, kind, ServerAddress("127.0.0.1", ports.take(), managed=True))
            for keyspace, uid, kind in tablets
        ),
    )
    lines = [
        "version: 1",
        f"name: {name}",
        f"data_dir: ./{name}",
        f"topology: {{port: {inventory.topology.port}, managed: local}}",
        f"gateway: {{port: {inventory.gateway.port}}}",
        "keyspaces:",
        *(f"  {keyspace}: {{}}" for keyspace in keyspaces),
        "tablets:",
        *(
            f"  {t.alias}: {{keyspace: {t.keyspace}, type: {t.type.value.lower()}, "
            f"port: {t.server.port}, managed: local}}"
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
