"""The servers of the embedded cluster: the topology server and one server per managed tablet, below one data folder.

    data_dir/movetables-cluster   marker: whose folder this is
             secret               password of our user on all of them
             server               mariadb or mysql: which of them a server is that the inventory says nothing about
             template-mariadb/    a fresh data folder, copied for every new server
             topology/  zone1-0000000100/  ...
             lock/  log/  run/

Durability: binlog and redo log are written to the operating system at every commit and flushed to the disk later
(innodb_flush_log_at_trx_commit=2, sync_binlog=0). A killed server therefore loses nothing that it acknowledged, which
is what may happen while the cluster is in use; only a crash of the whole machine may. Flushing would cost every
commit a disk write, on a cluster that is there for trying things out.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from executor.errors import MovetablesError, Refused
from executor.native.flavor import FLAVOR_NAMES
from executor.native.local import server as servers
from executor.native.local.local_server import LocalServer
from executor.native.local.processes import file_lock, write_whole
from executor.native.local.server import PROGRAMS
from executor.native.logins import Logins, make_secret
from planner.inventory import Inventory, ServerAddress

MARKER = "movetables-cluster"
TOPOLOGY = "topology"
TOPOLOGY_SERVER_ID = 1
TOPOLOGY_OPTIONS = ("--innodb-buffer-pool-size=16M",)
DEFAULT_FLAVOR = "mariadb"
FLAVOR_FILE = "server"


class LocalCluster:
    """The managed servers of `inventory`. Every method may be called at any time, by several processes at once."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        # A server recognises itself by its absolute path on its command line.
        self.data_dir = Path(os.path.abspath(inventory.data_dir))

    @property
    def log_dir(self) -> Path:
        """Where serve and its roles write their logs."""
        return self.data_dir / "log"

    @property
    def run_dir(self) -> Path:
        """Where serve keeps its pid file and what its roles report."""
        return self.data_dir / "run"

    def template(self, flavor: str) -> Path:
        """The data folder that new servers of a flavour are copied from."""
        return self.data_dir / f"template-{flavor}"

    @property
    def flavor(self) -> str:
        """mariadb or mysql: what a managed server is that the inventory says nothing about."""
        try:
            return (self.data_dir / FLAVOR_FILE).read_text().strip()
        except FileNotFoundError:
            return DEFAULT_FLAVOR

    def flavor_of(self, alias: str) -> str:
        """mariadb or mysql: what the server of a managed tablet is, or will be when it is started."""
        tablet = self.inventory.tablet(alias)
        return (tablet.server.flavor if tablet is not None else "") or self.flavor

    def choose_flavor(self, flavor: str) -> None:
        """Keeps `flavor` as that of servers that the inventory says nothing about, for this and all later commands.

        Raises Refused when the inventory says another for all, or servers of the other one are there already.
        """
        addresses = [self.inventory.topology, *(tablet.server for tablet in self.inventory.tablets)]
        said = [address.flavor for address in addresses if address.managed]
        if said and flavor not in said and "" not in said:
            raise Refused(
                f"{self.inventory.file} says server: {said[0]}; asked for {flavor}",
                "change it there, or leave the option out",
            )
        self.claim()
        if flavor != self.flavor and self.servers():
            raise Refused(
                f"the cluster {self.inventory.name} is made of {FLAVOR_NAMES[self.flavor]} servers; asked for "
                f"{FLAVOR_NAMES[flavor]}",
                f"leave the option out, or start over: movetables local reset -i {self.inventory.file}",
            )
        write_whole(self.data_dir / FLAVOR_FILE, f"{flavor}\n")

    def owned(self) -> bool:
        """True when the data folder is this cluster's; False when there is none yet, or an empty one.

        Raises Refused when it belongs to another cluster or holds anything that is not ours.
        """
        try:
            owner = (self.data_dir / MARKER).read_text().strip()
        except FileNotFoundError:
            if not self.data_dir.exists() or not any(self.data_dir.iterdir()):
                return False
            raise Refused(
                f"{self.data_dir} holds files and is not the data folder of a movetables cluster",
                f"give {self.inventory.file} another data_dir",
            ) from None
        except NotADirectoryError:
            raise Refused(f"{self.data_dir} is not a folder", f"give {self.inventory.file} another data_dir") from None
        if owner != self.inventory.name:
            raise Refused(
                f"{self.data_dir} belongs to the cluster {owner}, not to {self.inventory.name}",
                f"give {self.inventory.file} another data_dir, or use the inventory of {owner}",
            )
        return True

    def claim(self) -> None:
        """Makes the data folder ours: marker, secret and folders. Raises Refused as `owned` does."""
        try:
            if not self.owned():
                self.data_dir.mkdir(parents=True, exist_ok=True)
                write_whole(self.data_dir / MARKER, f"{self.inventory.name}\n")
            for folder in (self.log_dir, self.run_dir, self.data_dir / "lock"):
                folder.mkdir(exist_ok=True)
            make_secret(self.data_dir)
        except OSError as error:
            raise MovetablesError(
                f"the data folder {self.data_dir} cannot be made: {error}", f"df -h {self.data_dir}"
            ) from error

    def server_for(self, alias: str) -> LocalServer:
        """The server of a managed tablet. Raises MovetablesError when the inventory has no such managed tablet."""
        tablet = self.inventory.tablet(alias)
        if tablet is None or not tablet.server.managed:
            raise MovetablesError(
                f"{alias} is not a tablet that we start: the inventory {self.inventory.file} "
                + ("does not name it" if tablet is None else "does not say managed: local"),
                f"add {alias} under its tablets:, with managed: local",
            )
        return self._server(alias, tablet.server, tablet_uid(alias))

    def topology_server(self) -> LocalServer:
        """The topology server. Raises MovetablesError when it is not managed."""
        if not self.inventory.topology.managed:
            raise MovetablesError(f"the topology server of {self.inventory.file} is not one that we start")
        return self._server(TOPOLOGY, self.inventory.topology, TOPOLOGY_SERVER_ID)

    def _server(self, name: str, address: ServerAddress, server_id: int) -> LocalServer:
        password = Logins(self.inventory).managed_password()
        return LocalServer(name, self.data_dir / name, address.port, server_id, password, address.flavor or self.flavor)

    def start_topology(self, *, known: bool = False) -> None:
        """Starts the topology server unless it runs. See `start_tablet`."""
        self.claim()
        self._start(self.topology_server(), TOPOLOGY_OPTIONS, known)

    def start_tablet(self, alias: str, *, writable: bool = False, known: bool = False) -> None:
        """Starts the server of a managed tablet unless it runs, and waits until it answers.

        It starts read-only unless `writable`, which is for a tablet that is PRIMARY already. A `known` server must
        have its data folder: an empty one in its place would pass for a tablet that lost its rows.
        Raises MovetablesError when it does not start; no process and no half-made folder is left then.
        """
        self.claim()
        server = self.server_for(alias)
        option = PROGRAMS[server.flavor].READ_ONLY_OPTION
        self._start(server, (f"{option}={'OFF' if writable else 'ON'}",), known)

    def _start(self, server: LocalServer, options: tuple[str, ...], known: bool) -> None:
        with file_lock(self.data_dir / "lock" / server.name):
            if known and server.pid() is None and not server.initialised:
                raise MovetablesError(
                    f"{server.name} has no data folder {server.directory}: it was deleted, or never made",
                    f"put it back, or start over: movetables local reset -i {self.inventory.file}",
                )
            try:
                servers.start(server, self.template(server.flavor), options)
            except OSError as error:
                raise MovetablesError(
                    f"{server.name} cannot be started: {error}", f"df -h {self.data_dir}; ls -ld {server.directory}"
                ) from error

    def stop_tablet(self, alias: str) -> None:
        """Stops the server of a managed tablet if it runs; its data stays."""
        servers.stop(self.server_for(alias))

    def servers(self) -> tuple[LocalServer, ...]:
        """Every server that has a data folder here, by name, whether or not the inventory still names it."""
        if not self.owned():
            return ()
        folders = sorted(path.parent for path in self.data_dir.glob("*/data"))
        return tuple(LocalServer(folder.name, folder, 0, 0, "") for folder in folders)

    def stop_all(
        self, progress: Callable[[str], None] = lambda _: None, only: Callable[[str], bool] = lambda _: True
    ) -> None:
        """Stops all servers that run here, or `only` those of some names: tablets together, the topology last."""
        running = [server for server in self.servers() if only(server.name) and server.pid() is not None]
        tablets = [server for server in running if server.name != TOPOLOGY]
        for server in running:
            progress(f"stopping {server.name}")
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(servers.stop, tablets))
        for server in running:
            servers.stop(server)

    def reset(self) -> None:
        """Stops everything and deletes the data folder, if it is ours. Raises Refused as `owned` does."""
        self.stop_all()
        if self.owned():
            # The marker goes last, so that a reset that was killed can be done again.
            for path in self.data_dir.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != MARKER:
                    path.unlink()
            (self.data_dir / MARKER).unlink()
            self.data_dir.rmdir()


def tablet_uid(alias: str) -> int:
    """``100`` of ``zone1-0000000100``; the server id of its server."""
    return int(alias.rpartition("-")[2])
