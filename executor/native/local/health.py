"""The role that keeps the cluster whole: once a second it looks at every server and repairs what it may repair.

- A managed server that the topology knows and that does not run is started again.
- A keyspace without a PRIMARY gets one, of its managed REPLICA tablets that answer the one that holds most writes.
- A managed tablet that does not replicate from its PRIMARY is attached to it; a stopped one is started.
- A cutover that a killed apply left unfinished is finished or undone.

There is no failover: a PRIMARY that is dead stays PRIMARY and is started again, because replication is asynchronous
and its replicas may lack writes that clients were told are safe. What belongs to an apply is left to it: repairs that
could cross its steps are made under the lock of the keyspace, which it holds.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from functools import partial

from executor.errors import LockHeld, MovetablesError
from executor.lock import Lock
from executor.native.access import Access
from executor.native.cutover.switch import settle
from executor.native.local import server as servers
from executor.native.local.cluster import LocalCluster
from executor.native.promotion import Status, attach, follows, most_advanced, promote, replication, stopped, trouble
from executor.native.servers import Connection, connect
from executor.native.topology import CutoverRecord, TabletRecord
from planner.cluster import TabletType
from planner.inventory import Inventory

INTERVAL = 1.0
_log = logging.getLogger(__name__)


class Health:
    """One pass after the other over the cluster of `inventory`. Not for use by two threads."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._cluster = LocalCluster(inventory)
        self._access = Access(inventory)
        self._logins, self._topology = self._access.logins, self._access.topology
        self._stopped_before: set[str] = set()
        self._said: dict[str, str] = {}

    def check(self) -> None:
        """One pass. What cannot be repaired is logged, once until it changes, and tried again in the next."""
        servers.reap()
        if not self._try("topology", self._start_topology):
            return
        try:
            state = self._topology.read()
        except MovetablesError as error:
            self._say("topology records", error.message)
            return
        self._say("topology records", "")
        managed = [record for record in state.tablets if record.managed]
        for record in managed:
            self._try(f"server of {record.alias}", partial(self._start_tablet, record))
        for keyspace in (k for k in state.keyspaces if state.primary(k.name) is None):
            self._try(f"PRIMARY of {keyspace.name}", partial(self._promote, keyspace.name))
        for record in managed:
            primary = state.primary(record.keyspace)
            if primary is not None and primary.alias != record.alias:
                self._try(f"replication of {record.alias}", partial(self._replicate, record, primary))
        for cutover in state.cutovers:
            self._try(f"cutover of {cutover.keyspace}.{cutover.workflow}", partial(self._recover, cutover))

    def close(self) -> None:
        """Closes the connection to the topology."""
        self._access.close()

    def _try(self, what: str, act: Callable[[], object]) -> bool:
        try:
            act()
        except LockHeld:
            return False  # an apply is at work there, and will leave it in order
        except MovetablesError as error:
            self._say(what, error.message)
            return False
        self._say(what, "")
        return True

    def _say(self, what: str, trouble_found: str) -> None:
        if self._said.get(what, "") != trouble_found:
            _log.warning("%s: %s", what, trouble_found or "well again")
        self._said[what] = trouble_found

    def _start_topology(self) -> None:
        if self._inventory.topology.managed and self._cluster.topology_server().pid() is None:
            self._cluster.start_topology(known=True)
            _log.warning("the topology server did not run; started it")

    def _start_tablet(self, record: TabletRecord) -> None:
        if self._cluster.server_for(record.alias).pid() is not None:
            return
        now = self._topology.read().tablet(record.alias)
        if now is None:
            return  # it was removed since, and then stopped
        self._cluster.start_tablet(record.alias, writable=now.type is TabletType.PRIMARY, known=True)
        _log.warning("%s did not run; started it", record.alias)

    def _promote(self, keyspace: str) -> None:
        if self._candidate(keyspace) is None:
            return
        with self._lock([keyspace], "promote a PRIMARY"):
            chosen = self._candidate(keyspace)
            if chosen is not None:
                _log.info("promoting %s to PRIMARY of %s", chosen.alias, keyspace)
                promote(keyspace, chosen.alias, self._logins, self._topology)

    def _candidate(self, keyspace: str) -> TabletRecord | None:
        state = self._topology.read()
        if state.keyspace(keyspace) is None or state.primary(keyspace) is not None:
            return None
        replicas = [t for t in state.tablets if t.keyspace == keyspace and t.managed and t.type is TabletType.REPLICA]
        return most_advanced(replicas, self._logins)

    def _replicate(self, record: TabletRecord, primary: TabletRecord) -> None:
        source = self._logins.server(primary)
        with connect(self._logins.server(record), read_timeout=30.0) as connection:
            status = replication(connection)
            if status is not None and follows(status, source):
                self._start_replication(record.alias, status, connection)
                return
        with self._lock([record.keyspace], f"attach {record.alias}"):
            now = self._topology.read()
            current, source_record = now.tablet(record.alias), now.primary(record.keyspace)
            if current is not None and source_record is not None and current.alias != source_record.alias:
                _log.info("attaching %s to %s", record.alias, primary.alias)
                attach(current, source_record, self._logins)

    def _start_replication(self, alias: str, status: Status, connection: Connection) -> None:
        is_stopped = stopped(status)
        # Stopped in two passes: not just between two statements of an apply that sets it up.
        if is_stopped and alias in self._stopped_before:
            self._stopped_before.discard(alias)
            connection.execute(connection.flavor.replication.start)
            raise MovetablesError(f"replication had stopped and was started again: {trouble(status)}")
        if is_stopped:
            self._stopped_before.add(alias)
        else:
            self._stopped_before.discard(alias)

    def _recover(self, cutover: CutoverRecord) -> None:
        with self._lock([cutover.source, cutover.keyspace], f"recover the cutover of {cutover.workflow}"):
            _log.info("recovering the cutover of %s.%s", cutover.keyspace, cutover.workflow)
            settle(self._access, cutover.keyspace, cutover.workflow)

    def _lock(self, keyspaces: list[str], command: str) -> Lock:
        return Lock(
            self._logins.topology(), self._inventory.name, keyspaces, f"health-{os.getpid()}", f"serve: {command}"
        )


def run(inventory: Inventory, stop: threading.Event, ready: Callable[[], None]) -> None:
    """Looks after the cluster every second until `stop` is set; calls `ready` after the first pass."""
    health = Health(inventory)
    try:
        health.check()
        ready()
        while not stop.wait(INTERVAL):
            health.check()
    finally:
        health.close()
