"""Runs one statement on the tablet it is routed to: holds it during a switch, retries it where that is safe.

What is retried, and never more:
- a statement that met the fence, when nothing else of its transaction was done: after the topology changed;
- a statement on a routed table that the server does not know: once, after the snapshot was refreshed;
- a read outside a transaction whose connection broke before any byte of the answer: once.
A write whose connection broke is not retried: whether it happened is unknown (error 2013).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from executor.native.flavor import FENCE_ERRNO, FENCE_MESSAGE
from executor.native.gateway.backend import Answer, Backend
from executor.native.gateway.connections import Connections
from executor.native.gateway.errors import (
    CR_SERVER_LOST,
    ER_DEADLOCK,
    ER_LOCK_WAIT,
    ER_NO_SUCH_TABLE,
    ER_RECORD_CHANGED,
    BackendLost,
    ClientGone,
    GatewayError,
    with_target,
)
from executor.native.gateway.packets import MAX_PAYLOAD, STATUS_IN_TRANS, ErrorPacket, frame
from executor.native.gateway.prepared import Prepared, Refused
from executor.native.gateway.renumber import renumbered
from executor.native.gateway.routing import Route, Target
from executor.native.gateway.snapshot import Snapshot, Snapshots
from executor.native.gateway.statement import Statement
from executor.native.gateway.stream import PacketStream
from planner.cluster import SHARD, TabletType

HOLD_WINDOW = 30.0
"""How long a statement waits for a switch to end, in seconds."""
_FENCE = FENCE_MESSAGE.encode()
_SMALL = 1 << 20  # bytes of a statement that may run without a task of its own


@dataclass(slots=True)
class Query:
    """COM_QUERY. `payload` includes the command byte."""

    statement: Statement
    shape: bytes
    payload: bytes
    literals: list[bytes]

    @property
    def text(self) -> bytes:
        """The client's own text."""
        return self.payload[1:]

    def routed(self, route: Route) -> bytes:
        """The payload to send, rewritten when the route says so."""
        parts = route.parts
        if parts is None:
            return self.payload
        out = [b"\x03", parts[0]]
        for literal, part in zip(self.literals, parts[1:], strict=True):
            out += (literal, part)
        return b"".join(out)


@dataclass(slots=True)
class Execution:
    """COM_STMT_EXECUTE. `payload` includes the command byte."""

    prepared: Prepared
    payload: bytes

    @property
    def statement(self) -> Statement:
        """The prepared statement."""
        return self.prepared.statement

    @property
    def shape(self) -> bytes:
        """Its shape."""
        return self.prepared.shape

    @property
    def text(self) -> bytes:
        """The client's own text."""
        return self.prepared.text


Request = Query | Execution


@dataclass(slots=True)
class Attempt:
    """A request that was sent, and its answer: None when the connection broke."""

    request: Request
    snapshot: Snapshot
    route: Route
    backend: Backend
    answer: Answer | None = None


class StatementRunner:
    """Runs requests for one session. `sink` takes the answer's bytes, `client` is for flow control."""

    def __init__(self, connections: Connections, snapshots: Snapshots, user: str, hold_window: float) -> None:
        self._connections = connections
        self._snapshots = snapshots
        self._user = user
        self._hold_window = hold_window
        self._sent = False
        self._used: Backend | None = None

    def at_once(self, request: Request, snapshot: Snapshot, route: Route) -> tuple[Backend, bytes] | None:
        """Where to send `request` and what, if nothing has to be waited for or decided first."""
        connections = self._connections
        transaction = connections.transaction
        if route.key is None or snapshot.switching or request.statement.uses_last or route.denied:
            return None
        backend = connections.by_key.get(route.key)
        if (
            backend is None
            or backend.closed
            or backend.replayed != connections.variables.version
            or (transaction.begin is not None and not backend.begun)
            or transaction.isolation is not None
            or len(request.payload) > _SMALL
        ):
            return None
        connections.last = backend
        if isinstance(request, Query):
            return backend, frame(request.routed(route))
        if request.prepared.id not in backend.prepared:
            return None
        long_data, payload = request.prepared.bound(request.payload, backend)
        return backend, long_data + frame(payload)

    def succeeded(self, backend: Backend, route: Route) -> None:
        """Keeps account of a statement that a server answered without an error."""
        transaction = self._connections.transaction
        if backend.status & STATUS_IN_TRANS or transaction.begin is not None:
            transaction.statements += 1
            transaction.touched |= route.names
        else:
            transaction.isolation = None

    async def run(
        self,
        request: Request,
        target: Target,
        client: PacketStream | None,
        sink: Callable[[bytes], None],
        attempt: Attempt | None = None,
    ) -> Answer:
        """Runs `request` for a session at `target`; `attempt` is a first one that did not succeed.

        The Answer holds the error when there is one, which is still to be sent. Raises GatewayError, and ClientGone
        when the connection to the tablet broke in the middle of an answer.
        """
        deadline = 0.0
        refreshed = reconnected = False
        connections, snapshots = self._connections, self._snapshots
        transaction = connections.transaction
        while True:
            try:
                if attempt is None:
                    snapshot = snapshots.current
                    known = snapshot.routes(target).get(request.shape)
                    route = known or snapshot.route(request.statement, target, request.shape)
                    if (snapshot.switching or route.denied) and self._must_wait(route, snapshot):
                        deadline = deadline or time.monotonic() + self._hold_window
                        await self._wait(snapshot, deadline, route)
                        continue
                    self._sent = False
                    sent = await self._send(request, route, snapshot, target, client, sink)
                    if sent is None:
                        continue
                    answer, backend = sent
                else:
                    snapshot, route, backend = attempt.snapshot, attempt.route, attempt.backend
                    self._sent, self._used = True, backend
                    first, attempt = attempt.answer, None
                    if first is None:
                        raise BackendLost
                    answer = first
            except BackendLost:
                if self._used is not None and self._used.relayed:
                    raise ClientGone from None
                if connections.in_transaction:
                    await connections.rollback_all()
                    raise GatewayError(
                        CR_SERVER_LOST, f"Lost connection to {_place(route, target)}; the transaction was rolled back"
                    ) from None
                may_retry = not self._sent or request.statement.reads
                if may_retry and not reconnected:
                    reconnected = True
                    connections.forget_moved()
                    continue
                raise GatewayError(
                    CR_SERVER_LOST, f"Lost connection to {_place(route, target)} during query; its outcome is unknown"
                ) from None
            error = answer.error
            if error is None:
                self.succeeded(backend, route)
                return answer
            if error.errno == FENCE_ERRNO and _FENCE in error.message:
                if transaction.statements:
                    await connections.rollback_all()
                    return Answer(error=_deadlock(route))
                await connections.leave(backend)
                deadline = deadline or time.monotonic() + self._hold_window
                if time.monotonic() >= deadline:
                    return answer
                await snapshots.refresh()
                if snapshots.current is snapshot:
                    await snapshots.wait_for_change(snapshot, deadline - time.monotonic())
                continue
            if error.errno == ER_NO_SUCH_TABLE:
                if not refreshed:
                    refreshed = True
                    await snapshots.refresh()
                    if snapshots.current is not snapshot:
                        continue
                return Answer(error=with_target(error, _place(route, target), self._user, request.text))
            if error.errno in (ER_DEADLOCK, ER_RECORD_CHANGED):  # the server rolled the whole transaction back
                await connections.rollback_all()
            return answer

    async def _send(
        self,
        request: Request,
        route: Route,
        snapshot: Snapshot,
        target: Target,
        client: PacketStream | None,
        sink: Callable[[bytes], None],
    ) -> tuple[Answer, Backend] | None:
        """The answer and who gave it; None when routing changed while the connection was made, and nothing was sent."""
        connections = self._connections
        self._used = None
        last = connections.last
        last_key = connections.key_of(last) if request.statement.uses_last and not route.names and last else None
        if last_key is not None:
            backend = await connections.ready(last_key)
        elif route.key is not None:
            backend = await connections.ready(route.key)
        else:
            backend = await connections.any_ready(target.keyspace, target.type)
        try:
            if isinstance(request, Query):
                payload = request.routed(route)
                packets = frame(payload)
            else:
                long_data, payload = await request.prepared.execute_request(request.payload, backend, route)
                packets = long_data + frame(payload)
        except Refused as error:
            return Answer(error=error.packet()), backend
        if self._snapshots.current is not snapshot:
            return None
        self._sent = True
        self._used = backend
        if len(payload) // MAX_PAYLOAD == len(request.payload) // MAX_PAYLOAD:
            return await backend.run(packets, client, sink), backend
        # The rewritten statement takes another number of packets, and the server numbers its answer accordingly.
        parts: list[bytes] = []
        answer = await backend.run(packets, None, parts.append)
        data, _, _ = renumbered(
            b"".join(parts), len(request.payload) // MAX_PAYLOAD + 1, more=False, deprecate_eof=backend.deprecate_eof
        )
        sink(data)
        return answer, backend

    def _must_wait(self, route: Route, snapshot: Snapshot) -> bool:
        statement = route.statement
        touched = self._connections.transaction.touched
        if not snapshot.switching.isdisjoint(touched):
            # It uses one of the tables already: it must end before the switch can lock them, so nothing may hold it.
            return False
        if route.denied and statement.writes and touched.isdisjoint(route.names):
            return True
        return (statement.writes or statement.locking) and not snapshot.switching.isdisjoint(route.names)

    async def _wait(self, snapshot: Snapshot, deadline: float, route: Route) -> None:
        left = deadline - time.monotonic()
        if left <= 0 and route.denied and snapshot.switching.isdisjoint(route.names):
            raise GatewayError(
                FENCE_ERRNO,
                f"target: {_place(route, Target())}: vttablet: rpc error: code = FailedPrecondition desc = "
                f"{FENCE_MESSAGE} (CallerID: {self._user})",
            )
        if left <= 0:
            raise GatewayError(
                ER_LOCK_WAIT,
                "Lock wait timeout exceeded: current keyspace is being switched: "
                f"{', '.join(sorted(route.names & snapshot.switching))}; try restarting transaction",
            )
        await self._snapshots.wait_for_change(snapshot, left)


def _place(route: Route, target: Target) -> str:
    keyspace, tablet_type = route.key or (target.keyspace, TabletType.PRIMARY)
    return f"{keyspace}.{SHARD}.{tablet_type.lower()}"


def _deadlock(route: Route) -> ErrorPacket:
    return ErrorPacket(
        ER_DEADLOCK,
        "40001",
        b"Deadlock found when trying to get lock; try restarting transaction (writes to "
        + ", ".join(sorted(route.names)).encode()
        + b" were switched to another keyspace meanwhile)",
    )
