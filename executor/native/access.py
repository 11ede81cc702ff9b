"""What every native step needs: the inventory, sign-ins, the topology, and connections to primaries by keyspace."""

from __future__ import annotations

from executor.errors import MovetablesError
from executor.native.logins import Logins
from executor.native.servers import Connection, Login, connect
from executor.native.topology import Topology, TopologyState
from planner.inventory import Inventory


class Access:
    """One environment, opened. Not for use by two threads."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.logins = Logins(inventory)
        self.topology = Topology(self.logins.topology())

    def close(self) -> None:
        """Closes the topology's connection."""
        self.topology.close()

    def primary(self, keyspace: str, state: TopologyState | None = None) -> Login:
        """How to sign in to the PRIMARY of `keyspace`. Raises MovetablesError when it has none."""
        record = (state or self.topology.read()).primary(keyspace)
        if record is None:
            raise MovetablesError(
                f"keyspace {keyspace} has no PRIMARY", f"movetables show -i {self.inventory.file} lists its tablets"
            )
        return self.logins.server(record)

    def connect_primary(self, keyspace: str, *, apply: bool = False, read_timeout: float | None = None) -> Connection:
        """A connection to the PRIMARY of `keyspace`; with `apply` it may write to fenced tables."""
        return connect(self.primary(keyspace), apply=apply, read_timeout=read_timeout)

    def database(self, keyspace: str) -> str:
        """The database that `keyspace` has on its servers. Raises MovetablesError when it is not known."""
        record = self.topology.read().keyspace(keyspace)
        if record is not None:
            return record.database
        entry = self.inventory.keyspace(keyspace)
        if entry is None:
            raise MovetablesError(f"keyspace {keyspace} is not in {self.inventory.file}")
        return entry.database
