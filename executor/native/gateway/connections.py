"""The tablet connections of one session: one per keyspace and tablet type, made when first needed.

Each gets the session's variables, and joins the session's transaction when a statement of it first goes there. COMMIT
with several tablets commits one after the other, as Vitess does in its MULTI mode: a failure in between leaves the
earlier ones committed, and the error names them.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from executor.native.gateway.backend import Backend, connect
from executor.native.gateway.errors import (
    CR_SERVER_LOST,
    ER_NO_DB,
    ER_UNKNOWN,
    BackendLost,
    BackendUnavailable,
    GatewayError,
)
from executor.native.gateway.handshake import ClientHello
from executor.native.gateway.packets import ErrorPacket
from executor.native.gateway.routing import Key
from executor.native.gateway.snapshot import Snapshots
from executor.native.gateway.transaction import Transaction
from executor.native.gateway.variables import Variables
from executor.native.servers import Login
from executor.native.topology import TabletRecord
from planner.cluster import SHARD, TabletType

LoginOf = Callable[[TabletRecord], Login]
_turn = itertools.count()


class Connections:
    """See the module. Not for use by two statements at a time."""

    def __init__(self, hello: ClientHello, snapshots: Snapshots, login_of: LoginOf) -> None:
        self.by_key: dict[Key, Backend] = {}
        self.last: Backend | None = None
        self.variables = Variables()
        self.transaction = Transaction()
        self.autocommit = True
        self._hello = hello
        self._snapshots = snapshots
        self._login_of = login_of
        self._tablets: dict[Backend, TabletRecord] = {}

    @property
    def in_transaction(self) -> bool:
        """True between BEGIN and its end, and while a tablet holds a transaction open."""
        return self.transaction.begin is not None or any(b.in_transaction for b in self.by_key.values())

    async def ready(self, key: Key) -> Backend:
        """The connection of `key`, with the session's variables, in the session's transaction.

        Raises GatewayError when no tablet can be reached or a variable cannot be set there, and BackendLost.
        """
        backend = self.by_key.get(key)
        if backend is None or backend.closed:
            if backend is not None:
                self._drop(key)
                if backend.begun or backend.in_transaction:
                    raise BackendLost
            backend = await self._connect(key)
        if backend.replayed != self.variables.version:
            for sql in self.variables.since(backend.replayed):
                await self._quiet(backend, sql)
            backend.replayed = self.variables.version
        transaction = self.transaction
        if transaction.isolation is not None and not backend.in_transaction and not backend.begun:
            await self._quiet(backend, transaction.isolation)
        if transaction.begin is not None and not backend.begun:
            await self._quiet(backend, transaction.begin)
            backend.begun = True
            for savepoint in transaction.savepoints:
                await self._quiet(backend, savepoint)
        self.last = backend
        return backend

    async def any_ready(self, keyspace: str, tablet_type: TabletType) -> Backend:
        """A connection for a statement without tables: of `keyspace` if there is one, else the last used, else any."""
        if not keyspace:
            for key, backend in self.by_key.items():
                if backend is self.last and not backend.closed:
                    return await self.ready(key)
            keyspaces = self._snapshots.current.state.keyspaces
            served = [k.name for k in keyspaces if self._snapshots.current.state.primary(k.name) is not None]
            if not served:
                raise GatewayError(ER_NO_DB, "No keyspace is served yet: apply a plan that creates one")
            keyspace = served[0]
        return await self.ready((keyspace, tablet_type))

    async def _quiet(self, backend: Backend, sql: bytes) -> None:
        answer = await backend.query(sql)
        if answer.error is not None:
            raise GatewayError(answer.error.errno, answer.error.message.decode(errors="replace"))

    async def _connect(self, key: Key) -> Backend:
        keyspace, tablet_type = key
        state = self._snapshots.current.state
        record = state.keyspace(keyspace)
        tablets = [t for t in state.tablets if t.keyspace == keyspace and t.type is tablet_type]
        target = f"{keyspace}.{SHARD}.{tablet_type.lower()}"
        reasons: list[str] = []
        first = next(_turn) % len(tablets) if tablets else 0
        for tablet in tablets[first:] + tablets[:first]:
            try:
                backend = await connect(
                    self._login_of(tablet),
                    capabilities=self._hello.capabilities,
                    charset=self._hello.charset,
                    database=record.database if record else "",
                )
            except BackendUnavailable as error:
                reasons.append(str(error))
                continue
            self.by_key[key] = backend
            self._tablets[backend] = tablet
            return backend
        detail = f" ({'; '.join(reasons)})" if reasons else ""
        if tablet_type is TabletType.PRIMARY and tablets:
            raise GatewayError(
                ER_UNKNOWN,
                f"target: {target}: primary is not serving, there may be a reparent operation in progress{detail}",
            )
        raise GatewayError(
            ER_UNKNOWN,
            f'target: {target}: no healthy tablet available for \'keyspace:"{keyspace}" shard:"{SHARD}" '
            f"tablet_type:{tablet_type}'{detail}",
        )

    def key_of(self, backend: Backend) -> Key | None:
        """What `backend` serves in this session."""
        return next((key for key, value in self.by_key.items() if value is backend), None)

    def tablet_of(self, backend: Backend) -> TabletRecord:
        """The tablet that `backend` is connected to."""
        return self._tablets[backend]

    def _drop(self, key: Key) -> None:
        backend = self.by_key.pop(key)
        self._tablets.pop(backend, None)
        backend.close()
        if self.last is backend:
            self.last = None

    def forget_moved(self) -> None:
        """Closes idle connections to tablets that no longer serve what they were made for."""
        tablets = set(self._snapshots.current.state.tablets)
        for key, backend in list(self.by_key.items()):
            if backend.closed or (self._tablets[backend] not in tablets and not backend.in_transaction):
                if backend.closed and (backend.begun or backend.in_transaction):
                    continue  # the next statement must learn that its transaction is gone
                self._drop(key)

    def _open(self) -> list[Backend]:
        return [b for b in self.by_key.values() if b.begun or b.in_transaction]

    async def finish(self, sql: bytes) -> ErrorPacket | None:
        """Sends COMMIT or ROLLBACK, as the client wrote it, to every tablet of the transaction, and ends it.

        Returns the error of the first that failed; the ones after it are rolled back.
        """
        done: list[str] = []
        error: ErrorPacket | None = None
        for backend in self._open():
            key = self.key_of(backend)
            name = key[0] if key else ""
            if error is not None:
                await self._abandon(backend)
                continue
            try:
                answer = await backend.query(sql)
                error = answer.error
                lost = b""
            except BackendLost:
                lost = f"Lost connection to keyspace {name} during {sql.decode(errors='replace')}".encode()
                error = ErrorPacket(CR_SERVER_LOST, "HY000", lost)
            backend.begun = False
            if error is None:
                done.append(name)
            elif done:
                note = f"; already committed in keyspace {', '.join(done)}".encode()
                error = ErrorPacket(error.errno, error.sqlstate, error.message + note)
        self.transaction.end()
        return error

    async def _abandon(self, backend: Backend) -> None:
        backend.begun = False
        try:
            async with asyncio.timeout(5):
                answer = await backend.query(b"ROLLBACK")
            if answer.error is None:
                return
        except (BackendLost, TimeoutError):
            pass
        key = self.key_of(backend)
        if key is not None:
            self._drop(key)  # the server rolls back a connection that goes away

    async def rollback_all(self) -> None:
        """Rolls back on every tablet of the transaction and ends it; never raises."""
        for backend in self._open():
            await self._abandon(backend)
        self.transaction.end()

    async def leave(self, backend: Backend) -> None:
        """Takes one tablet, on which nothing was done yet, out of the transaction, so that it holds no locks."""
        if backend.begun or backend.in_transaction:
            await self._abandon(backend)

    def close(self) -> None:
        """Closes every connection; the servers roll back what is open."""
        for key in list(self.by_key):
            self._drop(key)
