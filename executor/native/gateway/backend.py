"""A connection to one tablet: signs in with the client's capabilities, so that its answers can be relayed as bytes.

Signs in with mysql_native_password or caching_sha2_password (RSA when the password is not in the server's cache).
There is no TLS to tablets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from executor.native.flavor import MINIMUM_MARIADB, MINIMUM_MYSQL, flavor_of
from executor.native.gateway import auth, packets
from executor.native.gateway.errors import BackendLost, BackendUnavailable
from executor.native.gateway.packets import ErrorPacket, frame, read_nul, text_rows
from executor.native.gateway.result import Expect, ResultReader
from executor.native.gateway.stream import PacketStream
from executor.native.servers import Login

PASSED_ON = (
    packets.CLIENT_FOUND_ROWS
    | packets.CLIENT_LONG_FLAG
    | packets.CLIENT_LOCAL_FILES
    | packets.CLIENT_IGNORE_SPACE
    | packets.CLIENT_INTERACTIVE
    | packets.CLIENT_MULTI_RESULTS
    | packets.CLIENT_PS_MULTI_RESULTS
    | packets.CLIENT_DEPRECATE_EOF
)
"""Capabilities that change answers: used towards the server exactly as the client negotiated them."""

MYSQL_DEFAULT_COLLATION, UTF8MB4_GENERAL = 255, 45

ALWAYS = (
    packets.CLIENT_LONG_PASSWORD  # without it, MariaDB would look for extended capabilities
    | packets.CLIENT_PROTOCOL_41
    | packets.CLIENT_TRANSACTIONS
    | packets.CLIENT_SECURE_CONNECTION
    | packets.CLIENT_PLUGIN_AUTH
)


@dataclass
class Answer:
    """The end of an answer: status flags, affected rows, and the ERR packet when it consists of one."""

    status: int = 0
    affected: int = 0
    error: ErrorPacket | None = None
    failed_midway: bool = False
    payload: bytes = field(default=b"", repr=False)


class Backend(PacketStream):
    """One connection. `status` holds the server's last status flags; `thread_id` is its id on the server.

    `version` is what the server says of itself, such as ``10.11.6-MariaDB``.
    """

    closed_error = BackendLost

    def __init__(self, login: Login) -> None:
        super().__init__()
        self.login = login
        self.thread_id = 0
        self.version = ""
        self.status = packets.STATUS_AUTOCOMMIT
        self.deprecate_eof = False
        self.prepared: dict[int, int] = {}
        self.replayed = 0
        self.begun = False
        self.relayed = False
        self._reader: ResultReader | None = None
        self._out: PacketStream | None = None
        self._sink: Callable[[bytes], None] | None = None
        self._done: Callable[[Answer | None], None] | None = None
        self._held = b""
        self._deciding = False
        self.raw = None

    @property
    def in_transaction(self) -> bool:
        """True while the server holds a transaction open on this connection."""
        return bool(self.status & packets.STATUS_IN_TRANS)

    def data_received(self, data: bytes) -> None:
        """Takes bytes from the server; relays them when an answer is awaited."""
        reader = self._reader
        if reader is None:
            super().data_received(data)
            return
        if self._deciding:
            if self._held:
                data = self._held + data
            # An answer that is nothing but an error is not relayed: it may mean that the statement is to be run again.
            if len(data) < 5 or (data[4] == 0xFF and len(data) < 4 + (data[0] | data[1] << 8 | data[2] << 16)):
                self._held = data
                return
            self._deciding = False
            self._held = b""
            if data[4] == 0xFF:
                self._finish(Answer(error=ErrorPacket.parse(data[4:])))
                return
        try:
            reader.feed(data)
        except (ValueError, IndexError):
            self.transport.abort()
            return
        self.relayed = True
        if self._sink is not None:
            self._sink(data)
        if reader.expect == Expect.DONE:
            status = reader.status
            if not reader.failed:
                self.status = status
            self._finish(Answer(status, reader.affected, failed_midway=reader.failed))
        elif reader.expect == Expect.INFILE:
            self._ask_for_file()

    def _finish(self, answer: Answer) -> None:
        self._reader = None
        self._sink = None
        if self._out is not None:
            self._out.on_pause = self._out.on_resume = None
            self._out = None
        done, self._done = self._done, None
        if done is not None:
            done(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fails the statement that runs."""
        super().connection_lost(exc)
        self._reader = None
        if self._out is not None:
            self._out.on_pause = self._out.on_resume = None
            self._out.raw = None
            self._out = None
        done, self._done = self._done, None
        if done is not None:
            done(None)

    def run(
        self, request: bytes, client: PacketStream | None, sink: Callable[[bytes], None], expect: Expect = Expect.FIRST
    ) -> asyncio.Future[Answer]:
        """Sends `request` (whole packets) and passes the answer's bytes to `sink`.

        An answer that is an error and nothing else is not passed on; it is in the Answer. `client` is the connection
        that `sink` writes to, for flow control and for LOCAL INFILE. The future raises BackendLost.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def done(answer: Answer | None) -> None:
            if future.done():
                return
            if answer is None:
                future.set_exception(BackendLost())
            else:
                future.set_result(answer)

        if self.closed or self.transport.is_closing():
            done(None)
        else:
            self.start(request, client, sink, done, expect)
        return future

    def start(
        self,
        request: bytes,
        client: PacketStream | None,
        sink: Callable[[bytes], None],
        done: Callable[[Answer | None], None],
        expect: Expect = Expect.FIRST,
    ) -> None:
        """As `run`, on an open connection; calls `done` with the Answer, or with None when the connection breaks."""
        self._reader = ResultReader(expect, self.deprecate_eof)
        self._sink = sink
        self._done = done
        self._deciding = True
        self.relayed = False
        if client is not None:
            self._out = client
            client.on_pause = self.transport.pause_reading
            client.on_resume = self._resume
        self.transport.write(request)

    def _resume(self) -> None:
        if not self.closed:
            self.transport.resume_reading()

    def _ask_for_file(self) -> None:
        client = self._out
        if client is None:
            self.transport.abort()
            return
        tail = bytearray()

        def forward(data: bytes) -> None:
            self.transport.write(data)
            tail.extend(data)
            pos = 0
            while len(tail) - pos >= 4:
                length = tail[pos] | tail[pos + 1] << 8 | tail[pos + 2] << 16
                if length == 0:
                    client.raw = None
                    self.on_pause = self.on_resume = None
                    client.transport.resume_reading()
                    if self._reader is not None:
                        self._reader.resume()
                    return
                if len(tail) - pos < 4 + length:
                    break
                pos += 4 + length
            del tail[:pos]

        self.on_pause = client.transport.pause_reading
        self.on_resume = client.transport.resume_reading
        client.raw = forward

    async def collect(self, request: bytes, expect: Expect = Expect.FIRST) -> tuple[Answer, bytes]:
        """Sends `request` and returns the whole answer's bytes."""
        parts: list[bytes] = []
        answer = await self.run(request, None, parts.append, expect)
        return answer, b"".join(parts)

    async def query(self, sql: bytes) -> Answer:
        """Runs a statement whose rows nobody wants."""
        return await self.run(frame(b"\x03" + sql), None, _nowhere)

    async def rows(self, sql: str) -> list[tuple[bytes | None, ...]]:
        """Runs a statement and returns its rows; raises BackendUnavailable when the server refuses it."""
        answer, data = await self.collect(frame(b"\x03" + sql.encode()))
        if answer.error is not None:
            raise BackendUnavailable(f"{self.login.name} ({self.login.address}): {answer.error.message.decode()}")
        payloads, pos = [], 0
        while pos < len(data):
            length = int.from_bytes(data[pos : pos + 3], "little")
            payloads.append(data[pos + 4 : pos + 4 + length])
            pos += 4 + length
        if payloads[0][0] == 0:
            return []
        return text_rows(payloads, deprecate_eof=self.deprecate_eof)

    async def sign_in(self, capabilities: int, charset: int, database: str) -> None:
        """Answers the server's greeting. Raises BackendUnavailable with the server's reason when it refuses."""
        greeting = await self.read()
        if greeting[:1] == b"\xff":
            raise self._refused(greeting)
        version, pos = read_nul(greeting, 1)
        flavor = flavor_of(version.decode("latin1"))
        minimum = MINIMUM_MARIADB if flavor.mariadb else MINIMUM_MYSQL
        if flavor.version < minimum:
            raise BackendUnavailable(
                f"{self.login.name} ({self.login.address}) runs {version.decode('latin1')}; "
                f"the gateway serves {flavor.name} {minimum[0]}.{minimum[1]} and later"
            )
        self.version = version.decode("latin1").removeprefix("5.5.5-")
        if flavor.mariadb and charset == MYSQL_DEFAULT_COLLATION:
            charset = UTF8MB4_GENERAL  # MariaDB does not know that number, and would take its own default
        self.thread_id = int.from_bytes(greeting[pos : pos + 4], "little")
        nonce = greeting[pos + 4 : pos + 12]
        offered = int.from_bytes(greeting[pos + 13 : pos + 15] + greeting[pos + 18 : pos + 20], "little")
        nonce += greeting[pos + 31 : pos + 43]
        plugin = read_nul(greeting, pos + 44)[0].decode() or auth.NATIVE
        flags = (capabilities & PASSED_ON & offered) | ALWAYS
        if database:
            flags |= packets.CLIENT_CONNECT_WITH_DB
        if (capabilities ^ flags) & packets.CLIENT_DEPRECATE_EOF:
            raise BackendUnavailable(f"{self.login.name} ({self.login.address}) cannot end results as the client wants")
        self.deprecate_eof = bool(flags & packets.CLIENT_DEPRECATE_EOF)
        answer = auth.proof(plugin, self.login.password, nonce)
        if answer is None:
            plugin, answer = auth.NATIVE, b""
        self.send(
            flags.to_bytes(4, "little")
            + (1 << 30).to_bytes(4, "little")
            + bytes((charset & 255,))
            + bytes(23)
            + self.login.user.encode()
            + b"\0"
            + bytes((len(answer),))
            + answer
            + (database.encode() + b"\0" if database else b"")
            + plugin.encode()
            + b"\0"
        )
        await self._authenticate(plugin, nonce)

    async def _authenticate(self, plugin: str, nonce: bytes) -> None:
        while True:
            packet = await self.read()
            if packet[:1] == b"\x00":
                return
            if packet[:1] == b"\xff":
                raise self._refused(packet)
            if packet[:1] == b"\xfe":
                name, pos = read_nul(packet, 1)
                plugin, nonce = name.decode(), packet[pos : pos + 20]
                answer = auth.proof(plugin, self.login.password, nonce)
                if answer is None:
                    raise BackendUnavailable(f"{self.login.name} ({self.login.address}) wants sign-in method {plugin}")
                self.send(answer)
            elif packet == auth.FULL_AUTH:
                self.send(auth.REQUEST_KEY)
                key = await self.read()
                self.send(auth.sealed_password(self.login.password, nonce, key[1:]))
            elif packet != auth.FAST_AUTH_OK:
                raise BackendUnavailable(
                    f"{self.login.name} ({self.login.address}) answered the sign-in with {packet!r}"
                )

    def _refused(self, payload: bytes) -> BackendUnavailable:
        error = ErrorPacket.parse(payload)
        return BackendUnavailable(
            f"{self.login.name} ({self.login.address}): {error.message.decode(errors='replace')} (errno {error.errno})"
        )


def _nowhere(_data: bytes) -> None:
    return None


async def connect(
    login: Login, *, capabilities: int = 0, charset: int = 45, database: str = "", timeout: float = 5.0
) -> Backend:
    """Connects and signs in. `timeout` is in seconds; raises BackendUnavailable."""
    backend: Backend | None = None
    try:
        async with asyncio.timeout(timeout):
            _, backend = await asyncio.get_running_loop().create_connection(
                lambda: Backend(login), login.host, login.port
            )
            await backend.sign_in(capabilities, charset, database)
        return backend
    except BaseException as error:
        if backend is not None:
            backend.close()
        if isinstance(error, BackendLost):
            raise BackendUnavailable(f"{login.name} ({login.address}) closed the connection") from error
        if isinstance(error, OSError | TimeoutError):
            raise BackendUnavailable(f"{login.name} ({login.address}) does not answer: {error}") from error
        raise
