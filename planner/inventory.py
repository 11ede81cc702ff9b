"""Which servers, gateways and topology make up one environment, as frozen values. `loading.py` reads it from YAML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from planner.cluster import TabletType


@dataclass(frozen=True, order=True)
class SecretRef:
    """Where a secret is to be found: an environment variable or a file, never the secret itself."""

    env: str = ""
    file: str = ""


@dataclass(frozen=True, order=True)
class Credentials:
    """Who we sign in as. `password` is None for a user without one."""

    user: str
    password: SecretRef | None = None


@dataclass(frozen=True, order=True)
class ServerAddress:
    """A server to sign in to. `managed` servers are started by us, with credentials of their own making.

    `flavor` of a managed server is mariadb, mysql, or empty when the inventory does not say.
    """

    host: str
    port: int
    credentials: Credentials | None = None
    managed: bool = False
    flavor: str = ""


@dataclass(frozen=True, order=True)
class InventoryTablet:
    """A tablet that plans may name. `type` REPLICA may be promoted to PRIMARY; PRIMARY must already be one."""

    alias: str
    keyspace: str
    type: TabletType
    server: ServerAddress


@dataclass(frozen=True, order=True)
class InventoryKeyspace:
    """A keyspace that plans may name, and the database it has on its servers."""

    name: str
    database: str


@dataclass(frozen=True, order=True)
class GatewayListener:
    """A gateway's address, and the users who may sign in. Without users it listens on loopback only, for anybody."""

    host: str
    port: int
    users: tuple[Credentials, ...] = ()


@dataclass(frozen=True)
class Inventory:
    """One environment. `data_dir` holds everything of the embedded cluster; relative paths are the file's own.

    `vars` are the values that plans use as ``${name}``.
    """

    name: str
    file: str
    cell: str
    data_dir: Path
    topology: ServerAddress
    gateway: GatewayListener
    keyspaces: tuple[InventoryKeyspace, ...] = ()
    tablets: tuple[InventoryTablet, ...] = ()
    vars: tuple[tuple[str, str], ...] = ()

    def tablet(self, alias: str) -> InventoryTablet | None:
        """The tablet of that alias, or None."""
        return next((tablet for tablet in self.tablets if tablet.alias == alias), None)

    def keyspace(self, name: str) -> InventoryKeyspace | None:
        """The keyspace of that name, or None."""
        return next((keyspace for keyspace in self.keyspaces if keyspace.name == name), None)
