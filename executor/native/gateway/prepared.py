"""Prepared statements: the client's ids, and what each tablet connection calls the same statement.

A statement is prepared again, lazily, on any other connection that routing sends it to. The types of its parameters are
kept, because a client sends them only once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from executor.native.gateway.backend import Backend
from executor.native.gateway.errors import GatewayError
from executor.native.gateway.packets import (
    COM_STMT_CLOSE,
    COM_STMT_EXECUTE,
    COM_STMT_PREPARE,
    COM_STMT_SEND_LONG_DATA,
    frame,
)
from executor.native.gateway.result import Expect
from executor.native.gateway.routing import Route, Target
from executor.native.gateway.scan import join
from executor.native.gateway.statement import Statement


@dataclass(eq=False)
class Prepared:
    """A statement that the client prepared as `id`, when the session was at `target`.

    `types` are the parameter types of its last execution, `long_data` the payloads of SEND_LONG_DATA since then.
    `local` statements are answered by the gateway itself.
    """

    id: int
    text: bytes
    shape: bytes
    literals: list[bytes]
    statement: Statement
    target: Target
    parameters: int = 0
    local: bool = False
    types: bytes = b""
    long_data: list[bytes] = field(default_factory=list)
    typed_on: set[Backend] = field(default_factory=set)
    cursor_on: Backend | None = None

    def sql(self, route: Route) -> bytes:
        """The text to prepare for `route`."""
        if route.parts is None:
            return self.text
        return join(b"\0".join(route.parts), self.literals)

    async def id_on(self, backend: Backend, route: Route) -> int:
        """What `backend` calls this statement, preparing it there first if need be. Raises GatewayError."""
        found = backend.prepared.get(self.id)
        if found is not None:
            return found
        answer, data = await backend.collect(frame(bytes((COM_STMT_PREPARE,)) + self.sql(route)), Expect.PREPARED)
        if answer.error is not None:
            raise Refused(answer.error.errno, answer.error.message.decode(errors="replace"))
        backend.prepared[self.id] = found = int.from_bytes(data[5:9], "little")
        self.typed_on.discard(backend)
        return found

    async def execute_request(self, payload: bytes, backend: Backend, route: Route) -> tuple[bytes, bytes]:
        """The client's COM_STMT_EXECUTE for `backend`: packets to send before it, and its payload."""
        await self.id_on(backend, route)
        return self.bound(payload, backend)

    def bound(self, payload: bytes, backend: Backend) -> tuple[bytes, bytes]:
        """As `execute_request`, for a `backend` that has the statement prepared."""
        number = backend.prepared[self.id].to_bytes(4, "little")
        bitmap_end = 10 + (self.parameters + 7) // 8
        if self.parameters:
            if payload[bitmap_end] == 1:
                self.types = payload[bitmap_end + 1 : bitmap_end + 1 + 2 * self.parameters]
            elif backend not in self.typed_on:
                payload = payload[:bitmap_end] + b"\x01" + self.types + payload[bitmap_end + 1 :]
            self.typed_on.add(backend)
        long_data = b"".join(frame(bytes((COM_STMT_SEND_LONG_DATA,)) + number + part[5:]) for part in self.long_data)
        return long_data, bytes((COM_STMT_EXECUTE,)) + number + payload[5:]

    def close_on(self, backend: Backend) -> None:
        """Tells `backend` to forget the statement."""
        number = backend.prepared.pop(self.id, None)
        self.typed_on.discard(backend)
        if number is not None and not backend.closed:
            backend.transport.write(frame(bytes((COM_STMT_CLOSE,)) + number.to_bytes(4, "little")))


class Refused(GatewayError):
    """A server refused to prepare the statement; handled like the server's error of an execution."""
