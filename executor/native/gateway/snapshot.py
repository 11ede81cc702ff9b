"""What the gateway knows of the cluster: one immutable snapshot of the topology, replaced when its version changes.

Polls the version every 100 ms, and every 5 ms while something is switching or a statement waits. When the topology does
not answer, the last snapshot goes on serving. Registers this gateway in `movetables_topo.gateway`: `seen_version` is
written as soon as statements are routed by that version, the heartbeat every second.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from executor.errors import MovetablesError
from executor.native.gateway.backend import Backend, connect
from executor.native.gateway.errors import BackendLost, BackendUnavailable
from executor.native.gateway.routing import Route, Target, route
from executor.native.gateway.statement import Statement
from executor.native.servers import Login, ServerError
from executor.native.topology import SCHEMA, TabletRecord, Topology, TopologyState
from planner.routing import as_mapping

IDLE_INTERVAL, SWITCHING_INTERVAL, HEARTBEAT, RETRY_INTERVAL = 0.1, 0.005, 1.0, 0.5
PROBE_TIMEOUT = 2.0
_ROUTES_KEPT = 10_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """One version of the topology, with the routes that were found under it."""

    state: TopologyState = field(default_factory=TopologyState)
    rules: dict[str, str] = field(default_factory=dict)
    switching: frozenset[str] = frozenset()
    _routes: dict[Target, dict[bytes, Route]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, state: TopologyState) -> Snapshot:
        """The snapshot of `state`."""
        return cls(state, as_mapping(state.routing_rules), frozenset(state.switching))

    def routes(self, target: Target) -> dict[bytes, Route]:
        """The routes that are known for `target`, by shape."""
        return self._routes.setdefault(target, {})

    def route(self, statement: Statement, target: Target, key: bytes) -> Route:
        """Routes `statement`, and remembers it under the shape `key`. Raises GatewayError."""
        found = route(statement, target, self.state, self.rules)
        routes = self.routes(target)
        if len(key) < 16384:
            if len(routes) >= _ROUTES_KEPT:
                routes.clear()
            routes[key] = found
        return found


class Snapshots:
    """Keeps `current` up to date until cancelled. `seen` is called on the event loop after every change."""

    def __init__(self, login: Login, gateway_id: str, host: str, port: int) -> None:
        self.current = Snapshot()
        self._login = login
        self._topology = Topology(login, read_timeout=5.0)
        self._identity = (gateway_id, host, port)
        self._connection: Backend | None = None
        self._changed = asyncio.Event()
        self._poke = asyncio.Event()
        self._waiting = 0
        self._polls = 0
        self._polled = asyncio.Event()
        self._beat = 0.0
        self._seen = -1
        self._down = False
        self._version = ""
        self._version_of: TabletRecord | None = None

    async def server_version(self, login_of: Callable[[TabletRecord], Login]) -> str:
        """What the PRIMARY of the first keyspace says that it is; the topology server before there is one."""
        state = self.current.state
        primary = next(filter(None, (state.primary(k.name) for k in state.keyspaces)), None)
        if primary is not None and primary != self._version_of:
            try:
                probe = await connect(login_of(primary), timeout=PROBE_TIMEOUT)
            except BackendUnavailable as error:
                _log.info("which version to tell clients is not known yet: %s", error)
            else:
                self._version, self._version_of = probe.version, primary
                probe.close()
        if not self._version and self._connection is not None:
            return self._connection.version
        return self._version

    async def start(self, timeout: float) -> None:
        """Reads the first snapshot; raises MovetablesError when there is none within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                await self._poll()
                return
            except (BackendUnavailable, BackendLost, ServerError) as error:
                if time.monotonic() > deadline:
                    raise MovetablesError(
                        f"the gateway cannot read the topology: {error}",
                        "apply a plan, which creates it, or check that the topology server runs: "
                        f"mysql -h {self._login.host} -P {self._login.port} "
                        f"-u {self._login.user} -p",
                    ) from error
                await asyncio.sleep(0.05)

    async def run(self) -> None:
        """Polls for ever."""
        while True:
            interval = SWITCHING_INTERVAL if self.current.switching or self._waiting else IDLE_INTERVAL
            try:
                async with asyncio.timeout(interval):
                    await self._poke.wait()
            except TimeoutError:
                pass
            self._poke.clear()
            try:
                await self._poll()
                if self._down:
                    _log.warning("the topology answers again")
                self._down = False
            except (BackendUnavailable, BackendLost, ServerError) as error:
                if self._connection is not None:
                    self._connection.close()
                    self._connection = None
                if not self._down:
                    _log.warning("the topology does not answer, routing goes on as it is: %s", error)
                self._down = True
                await asyncio.sleep(RETRY_INTERVAL)

    async def _poll(self) -> None:
        if self._connection is None or self._connection.closed:
            self._connection = await connect(self._login)
            self._beat, self._seen = 0.0, -1
        rows = await self._connection.rows(f"SELECT version FROM {SCHEMA}.topo_version")
        version = int(rows[0][0] or 0) if rows else 0
        if version != self.current.state.version:
            state = await asyncio.to_thread(self._topology.read)
            if state.version != self.current.state.version:
                self.current = Snapshot.of(state)
                self._changed.set()
                self._changed = asyncio.Event()
        self._polls += 1
        self._polled.set()
        self._polled = asyncio.Event()
        now = time.monotonic()
        if self._seen != self.current.state.version or now - self._beat >= HEARTBEAT:
            await self._register()
            self._beat, self._seen = now, self.current.state.version

    async def _register(self) -> None:
        gateway_id, host, port = self._identity
        connection = self._connection
        if connection is None:
            return
        values = (
            f"'{_quoted(gateway_id)}', '{_quoted(host)}', {port}, {os.getpid()}, {time.time():.6f}, "
            f"{self.current.state.version}"
        )
        await connection.rows(
            f"REPLACE INTO {SCHEMA}.gateway (id, host, port, pid, heartbeat, seen_version) VALUES ({values})"
        )

    async def unregister(self) -> None:
        """Removes this gateway from the topology, if it answers."""
        self._topology.close()
        if self._connection is None:
            return
        try:
            async with asyncio.timeout(2):
                await self._connection.rows(f"DELETE FROM {SCHEMA}.gateway WHERE id='{_quoted(self._identity[0])}'")
        except (BackendUnavailable, BackendLost, TimeoutError) as error:
            _log.warning("this gateway's row stays in the topology: %s", error)
        self._connection.close()

    async def wait_for_change(self, seen: Snapshot, timeout: float) -> None:
        """Returns when `current` is another than `seen`, or after `timeout` seconds. Polls fast meanwhile."""
        if self.current is not seen:
            return
        self._waiting += 1
        changed = self._changed
        self._poke.set()
        try:
            async with asyncio.timeout(timeout):
                await changed.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1

    async def refresh(self, timeout: float = 2.0) -> None:
        """Polls at once and returns when a poll that began afterwards is done, or after `timeout` seconds."""
        target = self._polls + 2  # one poll may be under way, from before
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout):
                while self._polls < target:
                    polled = self._polled
                    self._poke.set()
                    await polled.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "''")
