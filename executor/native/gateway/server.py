"""The gateway process: listens, signs clients in, gives each a session; drains at SIGTERM."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import logging
import os
import signal
from collections.abc import Callable, Mapping

from executor.errors import MovetablesError
from executor.native.gateway import packets
from executor.native.gateway.errors import ClientGone, GatewayError
from executor.native.gateway.execute import HOLD_WINDOW
from executor.native.gateway.handshake import sign_in
from executor.native.gateway.session import ClientStream, Session
from executor.native.gateway.snapshot import Snapshots
from executor.native.servers import Login
from executor.native.topology import TabletRecord
from planner.inventory import Inventory

SIGN_IN_TIMEOUT, DRAIN_TIMEOUT = 10.0, 10.0
_log = logging.getLogger(__name__)


class _Gateway:
    def __init__(
        self,
        snapshots: Snapshots,
        login_of: Callable[[TabletRecord], Login],
        users: Mapping[str, str],
        hold_window: float,
    ) -> None:
        self.sessions: dict[int, Session] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self._snapshots = snapshots
        self._login_of = login_of
        self._users = users
        self._hold_window = hold_window
        self._ids = itertools.count(1)

    def accept(self) -> ClientStream:
        """The protocol of a new client connection."""
        gateway = self

        class Accepted(ClientStream):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                task = asyncio.get_running_loop().create_task(gateway.serve(self))
                gateway.tasks.add(task)
                task.add_done_callback(gateway.tasks.discard)
                self.on_lost = task.cancel

        return Accepted()

    async def serve(self, client: ClientStream) -> None:
        """One client, from greeting to goodbye."""
        session_id = next(self._ids)
        try:
            try:
                async with asyncio.timeout(SIGN_IN_TIMEOUT):
                    version = await self._snapshots.server_version(self._login_of)
                    hello = await sign_in(client, session_id, self._users, version)
                session = Session(
                    session_id, client, hello, self._snapshots, self._login_of, self.sessions, self._hold_window
                )
                session.use(hello.database)
            except GatewayError as error:
                client.send(error.packet().payload())
                return
            client.send(packets.ok(packets.STATUS_AUTOCOMMIT))
            self.sessions[session_id] = session
            try:
                await session.run()
            finally:
                del self.sessions[session_id]
        except (ClientGone, TimeoutError):
            return
        except asyncio.CancelledError:
            if not client.closed:
                raise
        except Exception:
            _log.exception("a session ended by a bug of the gateway")
            raise
        finally:
            client.close()

    async def drain(self) -> None:
        """Lets running statements and transactions end, closes the rest."""
        deadline = asyncio.get_running_loop().time() + DRAIN_TIMEOUT
        while self.tasks and asyncio.get_running_loop().time() < deadline:
            for session in list(self.sessions.values()):
                if not session.busy and not session.connections.in_transaction:
                    session.client.close()
            await asyncio.sleep(0.02)
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def _check_reachable_by(host: str, users: Mapping[str, str]) -> None:
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback and not users:
        raise MovetablesError(
            f"the gateway would listen on {host} for anybody",
            "configure gateway.users in the inventory, or let it listen on 127.0.0.1",
        )


async def serve(
    inventory: Inventory,
    topology_login: Login,
    backend_login: Callable[[TabletRecord], Login],
    users: Mapping[str, str],
    listen: tuple[str, int],
    ready: Callable[[], None] | None = None,
    hold_window: float = HOLD_WINDOW,
) -> None:
    """Serves until SIGTERM or SIGINT.

    `users` maps names to passwords; empty lets anybody in, on loopback only. `ready` is called once clients can
    connect. `hold_window` is how long a statement may wait for a switch, in seconds. Raises MovetablesError when the
    port is taken, the topology does not answer for 30 seconds, or the address is not safe without users.
    """
    host, port = listen
    _check_reachable_by(host, users)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    snapshots = Snapshots(topology_login, f"{inventory.name}-{host}-{port}"[:64], host, port)
    gateway = _Gateway(snapshots, backend_login, users, hold_window)
    stopping = loop.create_task(stop.wait())
    starting = loop.create_task(snapshots.start(timeout=30.0))
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        return
    starting.result()
    try:
        server = await loop.create_server(gateway.accept, host, port, backlog=1024)
    except OSError as error:
        await snapshots.unregister()
        raise MovetablesError(
            f"the gateway cannot listen on {host}:{port}: {os.strerror(error.errno) if error.errno else error}",
            f"another program has the port (ss -ltnp 'sport = :{port}' names it), or give gateway.port another value",
        ) from error
    polling = loop.create_task(snapshots.run())
    try:
        if ready is not None:
            ready()
        await asyncio.wait({stopping, polling}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if polling.done():
            polling.result()
        server.close()
        await gateway.drain()
    finally:
        polling.cancel()
        await snapshots.unregister()


def run(
    inventory: Inventory,
    topology_login: Login,
    backend_login: Callable[[TabletRecord], Login],
    users: Mapping[str, str],
    listen: tuple[str, int],
    ready: Callable[[], None] | None = None,
    hold_window: float = HOLD_WINDOW,
) -> None:
    """`serve`, on uvloop where it is installed, in a process of its own."""
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(inventory, topology_login, backend_login, users, listen, ready, hold_window))
