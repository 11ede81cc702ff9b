"""One client: reads its commands, keeps its state, answers what the gateway can answer itself.

The limits of the gateway are listed in the package's own docstring.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping

from executor.native.gateway import admin, packets
from executor.native.gateway.backend import Answer, connect
from executor.native.gateway.connections import Connections, LoginOf
from executor.native.gateway.errors import (
    CR_SERVER_LOST,
    ER_NO_SUCH_THREAD,
    ER_PARSE,
    ER_UNKNOWN_STMT,
    ER_UNSUPPORTED_PS,
    BackendLost,
    BackendUnavailable,
    ClientGone,
    GatewayError,
    not_supported,
)
from executor.native.gateway.execute import Attempt, Execution, Query, StatementRunner
from executor.native.gateway.handshake import ClientHello
from executor.native.gateway.packets import ErrorPacket, frame
from executor.native.gateway.prepared import Prepared
from executor.native.gateway.renumber import renumbered
from executor.native.gateway.result import Expect
from executor.native.gateway.routing import Route, Target, parse_target
from executor.native.gateway.scan import UnclosedLiteral, join, split
from executor.native.gateway.snapshot import Snapshots
from executor.native.gateway.statement import Statement, Verb, analyse
from executor.native.gateway.stream import PacketStream
from executor.native.gateway.variables import autocommit_in, refuse_unsafe
from executor.native.topology import TabletRecord

_log = logging.getLogger(__name__)
_STARTED = time.monotonic()
_LITERAL = re.compile(rb"^['\"](.*)['\"]$", re.DOTALL)


class ClientStream(PacketStream):
    """A client's connection; `on_lost` is called when it goes away."""

    closed_error = ClientGone
    on_lost: Callable[[], object] | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells the session."""
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()


class Session:
    """See the module. `registry` holds every session by its connection id, for KILL."""

    def __init__(
        self,
        session_id: int,
        client: ClientStream,
        hello: ClientHello,
        snapshots: Snapshots,
        login_of: LoginOf,
        registry: MutableMapping[int, Session],
        hold_window: float,
    ) -> None:
        self.id = session_id
        self.client = client
        self.busy = False
        self.connections = Connections(hello, snapshots, login_of)
        self._hello = hello
        self._snapshots = snapshots
        self._login_of = login_of
        self._registry = registry
        self._runner = StatementRunner(self.connections, snapshots, hello.user, hold_window)
        self._target = Target()
        self._prepared: dict[int, Prepared] = {}
        self._next_prepared = 1
        self._multi = bool(hello.capabilities & packets.CLIENT_MULTI_STATEMENTS)
        self._snapshot = snapshots.current
        self._routes = self._snapshot.routes(self._target)
        self._attempt: Attempt | None = None
        self._attempt_failed = False
        self._collected: list[bytes] | None = None
        self._commands: dict[int, Callable[[bytes], Awaitable[None]]] = {
            packets.COM_QUERY: self._query,
            packets.COM_STMT_EXECUTE: self._execute,
            packets.COM_STMT_PREPARE: self._prepare,
            packets.COM_STMT_CLOSE: self._close_prepared,
            packets.COM_STMT_RESET: self._reset_prepared,
            packets.COM_STMT_SEND_LONG_DATA: self._long_data,
            packets.COM_STMT_FETCH: self._fetch,
            packets.COM_INIT_DB: self._init_db,
            packets.COM_PING: self._ping,
            packets.COM_STATISTICS: self._statistics,
            packets.COM_SET_OPTION: self._set_option,
            packets.COM_RESET_CONNECTION: self._reset,
            packets.COM_PROCESS_KILL: self._process_kill,
        }
        self._verbs: dict[Verb, Callable[[Statement, bytes], Awaitable[None]]] = {
            Verb.DDL: self._ddl,
            Verb.BEGIN: self._begin,
            Verb.COMMIT: self._end_transaction,
            Verb.ROLLBACK: self._end_transaction,
            Verb.SAVEPOINT: self._savepoint,
            Verb.SET: self._set,
            Verb.SET_TRANSACTION: self._set_transaction,
            Verb.USE: self._use,
            Verb.KILL: self._kill_statement,
            Verb.LAST: self._last,
            Verb.ADMIN: self._admin,
            Verb.DATABASE: self._database,
            Verb.NOTHING: self._nothing,
            Verb.EMPTY: self._empty,
            Verb.REFUSED: self._refused,
        }

    def use(self, name: str) -> None:
        """Chooses the keyspace and tablet type; raises GatewayError 1049."""
        self._target = parse_target(name, self._snapshots.current.state) if name else Target()
        self._routes = self._snapshot.routes(self._target)

    async def run(self) -> None:
        """Answers commands until the client leaves."""
        client = self.client
        client.at_once = self._at_once
        try:
            while True:
                if self._attempt is not None and self._attempt_failed:
                    await self._run_again()
                    continue
                if not client.packets or self._attempt is not None:
                    await client.wait()
                    continue
                payload = client.packets.popleft()
                command = payload[0] if payload else -1
                if command == packets.COM_QUIT:
                    return
                if self._snapshots.current is not self._snapshot:
                    self._snapshot = self._snapshots.current
                    self._routes = self._snapshot.routes(self._target)
                    self.connections.forget_moved()
                handler = self._commands.get(command, self._unknown_command)
                await self._answered(handler(payload))
        except ClientGone:
            return
        finally:
            self.connections.close()
            client.close()

    async def _answered(self, handling: Awaitable[object]) -> None:
        self.busy = True
        try:
            await handling
        except GatewayError as error:
            self._reply_error(error.packet())
        except (BackendLost, BackendUnavailable) as error:
            await self.connections.rollback_all()
            self._reply_error(GatewayError(CR_SERVER_LOST, f"Lost connection to a tablet: {error}").packet())
        self.busy = False
        if not self.client.writable:
            await self.client.drain()

    async def _unknown_command(self, payload: bytes) -> None:
        command = payload[0] if payload else 0
        raise not_supported(f"command 0x{command:02x} of the protocol is not supported by the gateway")

    # -- the short way: a statement that needs no decision is passed on without waking the session's task ---------

    def _at_once(self, payload: bytes) -> bool:
        snapshot = self._snapshots.current
        if self._attempt is not None or snapshot is not self._snapshot or not payload:
            return False
        request: Query | Execution
        if payload[0] == packets.COM_QUERY:
            try:
                shape, literals = split(payload[1:])
            except UnclosedLiteral:
                return False
            route = self._routes.get(shape)
            if route is None or route.statement.verb is not Verb.DATA:
                return False
            request = Query(route.statement, shape, payload, literals)
        elif payload[0] == packets.COM_STMT_EXECUTE:
            prepared = self._prepared.get(int.from_bytes(payload[1:5], "little"))
            if prepared is None or prepared.local or prepared.statement.verb is not Verb.DATA or prepared.long_data:
                return False
            routes = self._routes if prepared.target is self._target else snapshot.routes(prepared.target)
            route = routes.get(prepared.shape)
            if route is None:
                return False
            request = Execution(prepared, payload)
        else:
            return False
        ready = self._runner.at_once(request, snapshot, route)
        if ready is None:
            return False
        backend, data = ready
        self.busy = True
        self._attempt = Attempt(request, snapshot, route, backend)
        backend.start(data, self.client, self.client.transport.write, self._attempt_done)
        return True

    def _attempt_done(self, answer: Answer | None) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        if answer is not None and answer.error is None:
            self._runner.succeeded(attempt.backend, attempt.route)
            if isinstance(attempt.request, Execution):
                attempt.request.prepared.cursor_on = attempt.backend
            self._attempt = None
            self.busy = False
            if self.client.packets:
                self.client.wake()
            return
        attempt.answer = answer
        self._attempt_failed = True
        self.client.wake()

    async def _run_again(self) -> None:
        attempt, self._attempt, self._attempt_failed = self._attempt, None, False
        if attempt is None:
            return
        request = attempt.request
        target = request.prepared.target if isinstance(request, Execution) else self._target
        await self._answered(self._relay(request, target, attempt))

    # -- answers -------------------------------------------------------------------------------------------------

    @property
    def _status(self) -> int:
        connections = self.connections
        return (packets.STATUS_AUTOCOMMIT if connections.autocommit else 0) | (
            packets.STATUS_IN_TRANS if connections.in_transaction else 0
        )

    def _reply(self, payloads: list[bytes]) -> None:
        if self._collected is not None:
            self._collected.append(packets.frames(payloads))
        else:
            self.client.send_all(payloads)

    def _reply_ok(self) -> None:
        self._reply([packets.ok(self._status)])

    def _reply_error(self, error: ErrorPacket) -> None:
        self._reply([error.payload()])

    def _reply_table(self, table: admin.Table) -> None:
        columns, rows = table
        self._reply(packets.result_set(columns, rows, self._status, deprecate_eof=self._hello.deprecate_eof))

    async def _relay(self, request: Query | Execution, target: Target, attempt: Attempt | None = None) -> Answer:
        if self._collected is not None:
            answer = await self._runner.run(request, target, None, self._collected.append)
        else:
            answer = await self._runner.run(request, target, self.client, self.client.transport.write, attempt)
        if answer.error is not None:
            self._reply_error(answer.error)
        return answer

    # -- queries -------------------------------------------------------------------------------------------------

    async def _query(self, payload: bytes) -> None:
        try:
            shape, literals = split(payload[1:])
        except UnclosedLiteral:
            raise GatewayError(
                ER_PARSE,
                "You have an error in your SQL syntax: a quote is not closed, or a NUL byte stands outside quotes",
            ) from None
        statement = analyse(shape)
        if statement.verb is Verb.DATA:
            await self._relay(Query(statement, shape, payload, literals), self._target)
        elif statement.parts:
            await self._several(statement, literals)
        else:
            await self._verbs[statement.verb](statement, payload[1:])

    async def _several(self, statement: Statement, literals: list[bytes]) -> None:
        if not self._multi:
            raise GatewayError(
                ER_PARSE,
                "You have an error in your SQL syntax: several statements in one, without CLIENT_MULTI_STATEMENTS",
            )
        seq = self.client.seq + 1
        used = 0
        for at, part in enumerate(statement.parts):
            mine = literals[used : used + part.count(b"\0")]
            used += len(mine)
            last = at == len(statement.parts) - 1
            self._collected = []
            failed = False
            try:
                await self._query(b"\x03" + join(part, mine))
            except GatewayError as error:
                self._reply_error(error.packet())
            finally:
                collected, self._collected = self._collected, None
            data, seq, failed = renumbered(
                b"".join(collected), seq, more=not last, deprecate_eof=self._hello.deprecate_eof
            )
            self.client.transport.write(data)
            await self.client.drain()
            if failed:
                return

    async def _ddl(self, statement: Statement, text: bytes) -> None:
        await self._commit_before_ddl()
        shape, literals = split(text)
        await self._relay(Query(statement, shape, b"\x03" + text, literals), self._target)

    async def _commit_before_ddl(self) -> None:
        if self.connections.in_transaction:
            error = await self.connections.finish(b"COMMIT")  # what the server does before DDL, on every tablet
            if error is not None:
                raise GatewayError(error.errno, error.message.decode(errors="replace"))

    async def _begin(self, _statement: Statement, text: bytes) -> None:
        if self.connections.in_transaction:
            error = await self.connections.finish(b"COMMIT")
            if error is not None:
                self._reply_error(error)
                return
        self.connections.transaction.start(text)
        self._reply_ok()

    async def _end_transaction(self, statement: Statement, _text: bytes) -> None:
        words = [word.upper() for word in statement.words]
        if "CHAIN" in words and "NO" not in words:
            raise not_supported("AND CHAIN is not supported by the gateway; begin the next transaction yourself")
        plain = b"COMMIT" if statement.verb is Verb.COMMIT else b"ROLLBACK"
        error = await self.connections.finish(plain)
        if error is not None:
            self._reply_error(error)
        else:
            self._reply_ok()

    async def _savepoint(self, statement: Statement, text: bytes) -> None:
        connections = self.connections
        for backend in list(connections.by_key.values()):
            if backend.begun or backend.in_transaction:
                answer = await backend.query(text)
                if answer.error is not None:
                    self._reply_error(answer.error)
                    return
        if statement.word == "savepoint":
            connections.transaction.savepoints.append(text)
        self._reply_ok()

    # -- session state -------------------------------------------------------------------------------------------

    async def _set(self, statement: Statement, text: bytes) -> None:
        refuse_unsafe(text)
        connections = self.connections
        autocommit = autocommit_in(text)
        if autocommit and not connections.autocommit and connections.in_transaction:
            error = await connections.finish(b"COMMIT")
            if error is not None:
                self._reply_error(error)
                return
        if statement.refs:
            raise not_supported("SET with a subquery is not supported by the gateway; SELECT the value first")
        if self._snapshots.current.state.keyspaces:
            backend = await connections.any_ready(self._target.keyspace, self._target.type)
            answer = await backend.query(text)
            if answer.error is not None:
                self._reply_error(answer.error)
                return
            connections.variables.record(text)
            backend.replayed = connections.variables.version
        else:
            connections.variables.record(text)
        if autocommit is not None:
            connections.autocommit = autocommit
        self._reply_ok()

    async def _set_transaction(self, _statement: Statement, text: bytes) -> None:
        if self.connections.in_transaction:
            raise GatewayError(1568, "Transaction characteristics can't be changed while a transaction is in progress")
        self.connections.transaction.isolation = text
        self._reply_ok()

    async def _use(self, statement: Statement, _text: bytes) -> None:
        self.use("".join(statement.words[1:]))
        self._reply_ok()

    async def _init_db(self, payload: bytes) -> None:
        self.use(payload[1:].decode(errors="replace"))
        self._reply_ok()

    async def _database(self, _statement: Statement, text: bytes) -> None:
        name = re.sub(rb"^\s*select\s*", b"", text, flags=re.IGNORECASE).decode(errors="replace").strip(" ;\n\t")
        self._reply_table(((name,), [(self._target.text or None,)]))

    async def _nothing(self, _statement: Statement, _text: bytes) -> None:
        self._reply_ok()

    async def _empty(self, _statement: Statement, _text: bytes) -> None:
        raise GatewayError(1065, "Query was empty")

    async def _refused(self, statement: Statement, _text: bytes) -> None:
        raise not_supported(statement.refusal)

    async def _last(self, _statement: Statement, text: bytes) -> None:
        backend = self.connections.last
        if backend is None or backend.closed:
            backend = await self.connections.any_ready(self._target.keyspace, self._target.type)
        sink = self._collected.append if self._collected is not None else self.client.transport.write
        answer = await backend.run(frame(b"\x03" + text), None, sink)
        if answer.error is not None:
            self._reply_error(answer.error)

    async def _admin(self, statement: Statement, text: bytes) -> None:
        like = None
        _, literals = split(text)
        if "LIKE" in (word.upper() for word in statement.words) and literals:
            match = _LITERAL.match(literals[0])
            like = match.group(1).decode() if match else None
        self._reply_table(await admin.answer(statement.word, like, self._snapshots.current.state, self._answers))

    async def _answers(self, tablet: TabletRecord) -> bool:
        try:
            (await connect(self._login_of(tablet), timeout=1.0)).close()
        except BackendUnavailable:
            return False
        return True

    # -- prepared statements -------------------------------------------------------------------------------------

    async def _prepare(self, payload: bytes) -> None:
        text = payload[1:]
        try:
            shape, literals = split(text)
        except UnclosedLiteral:
            raise GatewayError(ER_PARSE, "You have an error in your SQL syntax: a quote is not closed") from None
        statement = analyse(shape)
        prepared = Prepared(self._next_prepared, text, shape, literals, statement, self._target)
        self._next_prepared += 1
        if statement.parts or statement.verb in (Verb.EMPTY, Verb.REFUSED):
            raise GatewayError(
                ER_UNSUPPORTED_PS,
                statement.refusal or "This command is not supported in the prepared statement protocol yet",
            )
        number = prepared.id.to_bytes(4, "little")
        if statement.verb not in (Verb.DATA, Verb.DDL):
            if "?" in statement.words:
                raise GatewayError(ER_UNSUPPORTED_PS, "the gateway cannot prepare this statement with parameters")
            prepared.local = True
            self._prepared[prepared.id] = prepared
            self._reply([b"\0" + number + bytes(4) + b"\0\0\0"])
            return
        route = self._route(statement, shape)
        if route.key is not None:
            backend = await self.connections.ready(route.key)
        else:
            backend = await self.connections.any_ready(self._target.keyspace, self._target.type)
        request = frame(bytes((packets.COM_STMT_PREPARE,)) + prepared.sql(route))
        answer, data = await backend.collect(request, Expect.PREPARED)
        if answer.error is not None:
            self._reply_error(answer.error)
            return
        backend.prepared[prepared.id] = int.from_bytes(data[5:9], "little")
        prepared.parameters = int.from_bytes(data[11:13], "little")
        self._prepared[prepared.id] = prepared
        self.client.transport.write(data[:5] + number + data[9:])

    def _route(self, statement: Statement, shape: bytes) -> Route:
        snapshot = self._snapshots.current
        return snapshot.routes(self._target).get(shape) or snapshot.route(statement, self._target, shape)

    def _known(self, payload: bytes) -> Prepared:
        number = int.from_bytes(payload[1:5], "little")
        prepared = self._prepared.get(number)
        if prepared is None:
            raise GatewayError(ER_UNKNOWN_STMT, f"Unknown prepared statement handler ({number}) given to the gateway")
        return prepared

    async def _execute(self, payload: bytes) -> None:
        prepared = self._known(payload)
        if prepared.local:
            await self._verbs[prepared.statement.verb](prepared.statement, prepared.text)
            return
        if prepared.statement.verb is Verb.DDL:
            await self._commit_before_ddl()
        await self._relay(Execution(prepared, payload), prepared.target)
        prepared.cursor_on = self.connections.last
        if prepared.long_data:
            prepared.long_data = []

    async def _close_prepared(self, payload: bytes) -> None:
        prepared = self._prepared.pop(int.from_bytes(payload[1:5], "little"), None)
        if prepared is not None:
            for backend in self.connections.by_key.values():
                prepared.close_on(backend)

    async def _reset_prepared(self, payload: bytes) -> None:
        prepared = self._known(payload)
        prepared.long_data = []
        for backend in self.connections.by_key.values():
            number = backend.prepared.get(prepared.id)
            if number is not None:
                await backend.collect(frame(payload[:1] + number.to_bytes(4, "little")))
        self._reply_ok()

    async def _long_data(self, payload: bytes) -> None:
        prepared = self._prepared.get(int.from_bytes(payload[1:5], "little"))
        if prepared is not None:  # the protocol has no answer to this command
            prepared.long_data.append(payload)

    async def _fetch(self, payload: bytes) -> None:
        prepared = self._known(payload)
        backend = prepared.cursor_on
        number = backend.prepared.get(prepared.id) if backend is not None else None
        if backend is None or number is None:
            raise GatewayError(1421, f"The statement ({prepared.id}) has no open cursor")
        request = frame(payload[:1] + number.to_bytes(4, "little") + payload[5:])
        answer = await backend.run(request, self.client, self.client.transport.write, Expect.ROWS)
        if answer.error is not None:
            self._reply_error(answer.error)

    # -- other commands ------------------------------------------------------------------------------------------

    async def _ping(self, _payload: bytes) -> None:
        self._reply_ok()

    async def _statistics(self, _payload: bytes) -> None:
        uptime = int(time.monotonic() - _STARTED)
        version = self._snapshot.state.version
        self._reply([f"Uptime: {uptime}  Threads: {len(self._registry)}  Topology version: {version}".encode()])

    async def _set_option(self, payload: bytes) -> None:
        self._multi = payload[1:3] == b"\0\0"
        self._reply([packets.eof(self._status)])

    async def _reset(self, _payload: bytes) -> None:
        await self.connections.rollback_all()
        self.connections.close()
        self.connections.variables.clear()
        self.connections.autocommit = True
        self._prepared.clear()
        self._reply_ok()

    async def _process_kill(self, payload: bytes) -> None:
        await self._kill(int.from_bytes(payload[1:5], "little"), query=False)

    async def _kill_statement(self, _statement: Statement, text: bytes) -> None:
        match = re.search(rb"(\d+)\s*;?\s*$", text)
        if match is None:
            raise not_supported("KILL takes a connection id here")
        await self._kill(int(match.group(1)), query=b"query" in text.lower())

    async def _kill(self, session_id: int, *, query: bool) -> None:
        victim = self._registry.get(session_id)
        if victim is None or victim._hello.user != self._hello.user:
            raise GatewayError(ER_NO_SUCH_THREAD, f"Unknown thread id: {session_id}")
        if query:
            for backend in list(victim.connections.by_key.values()):
                if victim.busy and not backend.closed:
                    killer = await connect(backend.login)
                    await killer.query(f"KILL QUERY {backend.thread_id}".encode())
                    killer.close()
        else:
            victim.client.transport.abort()
        self._reply_ok()
