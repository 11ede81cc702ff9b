"""One side of a connection as whole packets: reassembled, queued, with flow control."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from executor.native.gateway.packets import MAX_PAYLOAD, frame, frames


class PacketStream(asyncio.Protocol):
    """Payloads as they arrive, in `packets`. `seq` is the number of the last packet that was read or written.

    While `raw` is set, it takes the bytes instead. `at_once` may take a payload that nobody had to wait for.

    `max_payload` (bytes) bounds what a peer may make us hold; a longer payload closes the connection.
    """

    closed_error: type[Exception] = ConnectionError

    def __init__(self, max_payload: int = 1 << 30) -> None:
        self.packets: deque[bytes] = deque()
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made, before any use
        self.closed = False
        self.seq = 0
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.raw: Callable[[bytes], None] | None = None
        self.at_once: Callable[[bytes], bool] | None = None
        self._max_payload = max_payload
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self.writable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the name is asyncio's
        """Wakes whoever waits; reading raises from now on."""
        self.closed = True
        for waiter in (self._waiter, self._drained):
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Takes bytes from the socket."""
        if self.raw is not None:
            self.raw(data)
            return
        size = len(data)
        if not self._buffer and not self._parts and size >= 4:
            length = data[0] | data[1] << 8 | data[2] << 16
            if size == length + 4 and length != MAX_PAYLOAD:  # nearly always: one whole packet, and nothing else
                self.seq = data[3]
                payload = data[4:]
                if self.at_once is None or self._waiter is None or self.packets or not self.at_once(payload):
                    self.packets.append(payload)
                    self.wake()
                return
        self._buffer += data
        self._split()

    def _split(self) -> None:
        buffer = self._buffer
        while len(buffer) >= 4:
            length = buffer[0] | buffer[1] << 8 | buffer[2] << 16
            if sum(map(len, self._parts)) + length > self._max_payload:
                self.transport.abort()
                return
            if len(buffer) < length + 4:
                return
            self.seq = buffer[3]
            with memoryview(buffer) as view:
                payload = bytes(view[4 : length + 4])
            del buffer[: length + 4]
            if length == MAX_PAYLOAD or self._parts:
                self._parts.append(payload)
                if length == MAX_PAYLOAD:
                    continue
                payload = b"".join(self._parts)
                self._parts = []
            self.packets.append(payload)
            self.wake()

    def wake(self) -> None:
        """Ends `wait`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self) -> bytes:
        """The next payload; raises `closed_error` when there will be none."""
        while not self.packets:
            await self.wait()
        return self.packets.popleft()

    async def wait(self) -> None:
        """Waits for a payload or for `wake`; raises `closed_error` when there will be none."""
        if self.closed:
            raise self.closed_error
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter
        self._waiter = None

    def send(self, payload: bytes) -> None:
        """Writes one payload in answer to the last one read."""
        self.transport.write(frame(payload, self.seq + 1))
        self.seq += len(payload) // MAX_PAYLOAD + 1

    def send_all(self, payloads: list[bytes]) -> None:
        """Writes several payloads in answer to the last one read."""
        self.transport.write(frames(payloads, self.seq + 1))
        self.seq += sum(len(payload) // MAX_PAYLOAD + 1 for payload in payloads)

    def pause_writing(self) -> None:
        """The peer reads too slowly."""
        self.writable = False
        if self.on_pause is not None:
            self.on_pause()

    def resume_writing(self) -> None:
        """The peer caught up."""
        self.writable = True
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self.on_resume is not None:
            self.on_resume()

    async def drain(self) -> None:
        """Waits until the peer has read most of what was written; raises `closed_error` when it is gone."""
        while not self.writable and not self.closed:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained
            self._drained = None
        if self.closed:
            raise self.closed_error

    def close(self) -> None:
        """Closes once everything written is sent."""
        if self.transport is not None and not self.closed:
            self.transport.close()
