"""Runs every stream that should run: looks for them on the primaries, and gives each a thread."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from executor.errors import MovetablesError
from executor.native import sidecar
from executor.native.flavor import ER_BAD_DB, ER_NO_SUCH_TABLE
from executor.native.logins import Logins
from executor.native.servers import Connection, Login, ServerError, connect
from executor.native.stream.follow import Altered
from executor.native.stream.reach import offset_of
from executor.native.stream.stream import Stream, StreamBusy
from executor.native.stream.trouble import LastSeen, StreamKey, Trouble, TroubleBoard
from executor.native.topology import Topology, TopologyState
from planner.cluster import StreamState

FOLLOWING = (StreamState.COPYING, StreamState.RUNNING)
LOOK_SECONDS = 0.2
MAX_BACK_OFF = 5.0


@dataclass(frozen=True)
class StreamName:
    """A stream and where it reads and writes."""

    keyspace: str
    workflow: str
    source: Login
    target: Login


class _Running(threading.Thread):
    """One stream's thread: runs it again after a server failed, until it is stopped or an error needs a human.

    `trouble` is what keeps the stream from going on, as long as it does; `went_on` turns True when it has.
    """

    def __init__(
        self, name: StreamName, replicas: Callable[[], Sequence[Login]], seen: Callable[[], LastSeen | None]
    ) -> None:
        super().__init__(name=f"stream {name.keyspace}.{name.workflow}", daemon=True)
        self.stream = name
        self._replicas = replicas
        self._seen = seen
        self.stop = threading.Event()
        self.trouble: Trouble | None = None
        self.went_on = False

    def run(self) -> None:
        back_off = 0.05
        while not self.stop.is_set():
            started = time.monotonic()
            try:
                Stream(
                    self.stream.source,
                    self.stream.target,
                    self.stream.keyspace,
                    self.stream.workflow,
                    self.stop.is_set,
                    replicas=self._replicas,
                    went_on=self._go_on,
                ).run()
                return
            except (ServerError, StreamBusy, Altered) as error:
                if isinstance(error, ServerError) and not error.curable:
                    self._give_up(error.message, error.hint)
                    return
                _say(f"{self.name}: {error.message}; trying again")
                back_off = 0.05 if time.monotonic() - started > 10 else min(MAX_BACK_OFF, back_off * 2)
                if isinstance(error, ServerError):
                    self._stuck(error.message, back_off)
                self.stop.wait(back_off)
            except MovetablesError as error:
                self._give_up(error.message, error.hint)
                return
            except Exception as error:  # noqa: BLE001 - a bug must show in the stream's state, not only in a log
                traceback.print_exc()
                self._give_up(f"internal error: {type(error).__name__}: {error}", "see the log of the streams process")
                return

    def _go_on(self) -> None:
        self.trouble = None
        self.went_on = True

    def _stuck(self, message: str, pause: float) -> None:
        before, now = self.trouble, time.time()
        self.trouble = Trouble(
            self.stream.keyspace,
            self.stream.workflow,
            message,
            since=before.since if before else now,
            tries=before.tries + 1 if before else 1,
            next_try=now + pause,
            seen=self._seen(),
        )

    def _give_up(self, message: str, hint: str) -> None:
        text = f"{message}. {hint}" if hint else message
        _say(f"{self.name}: error: {text}")
        while not self.stop.is_set():
            try:
                with connect(self.stream.target) as target:
                    sidecar.set_state(target, self.stream.keyspace, self.stream.workflow, StreamState.ERROR, text)
                return
            except ServerError as error:
                _say(f"{self.name}: {error.message}; trying again")
                self._stuck(f"it ended with an error that cannot be recorded ({error.message}): {text}", 1.0)
                self.stop.wait(1.0)


class Runner:
    """Keeps a thread for every stream in state Copying or Running on any registered primary."""

    def __init__(self, topology: Topology, logins: Logins) -> None:
        self._topology = topology
        self._logins = logins
        self._state = TopologyState()
        self._running: dict[StreamKey, _Running] = {}
        self._looking: dict[str, Connection] = {}
        self._ahead: dict[str, float] = {}
        self._seen: dict[StreamKey, LastSeen] = {}
        self._readable: set[str] = set()
        self._said: dict[str, str] = {}
        self._board = TroubleBoard(topology)

    def look(self) -> None:
        """Starts threads for streams that should run and have none; forgets those that ended. Tells of trouble."""
        try:
            if self._topology.version() != self._state.version:
                self._state = self._topology.read()
            self._tell()  # before those that ended are forgotten
        except ServerError as error:
            if error.errno not in (ER_BAD_DB, ER_NO_SUCH_TABLE):  # before the first apply there are no records
                _say(f"topology: {error.message}")
            return
        self._running = {key: thread for key, thread in self._running.items() if thread.is_alive()}
        state = self._state
        for keyspace in state.keyspaces:
            for record in self._streams_of(state, keyspace.name):
                key = (record.keyspace, record.workflow)
                wanted = record.state in FOLLOWING
                name = self._name(state, record)
                if key in self._running and name is not None and name != self._running[key].stream:
                    self._running[key].stop.set()  # a shard has another primary now; started anew when it has ended
                elif wanted and name is not None and key not in self._running:
                    replicas, seen = partial(self._replicas, record.keyspace), partial(self._seen.get, key)
                    self._running[key] = _Running(name, replicas, seen)
                    self._running[key].start()

    def _tell(self) -> None:
        """Keeps what the topology says of streams in trouble true. Raises ServerError."""
        for key, thread in self._running.items():
            trouble = thread.trouble
            if trouble is not None:
                self._board.report(trouble)
            elif thread.went_on:
                self._board.clear(key)
        for key in self._board.streams():
            seen = self._seen.get(key)
            if key[0] in self._readable and (seen is None or seen.state not in FOLLOWING):
                self._board.clear(key)

    def close(self) -> None:
        """Stops every thread at its next safe point; waits a little for them."""
        for thread in self._running.values():
            thread.stop.set()
        for thread in self._running.values():
            thread.join(timeout=2.0)
        for connection in self._looking.values():
            connection.close()

    def _name(self, state: TopologyState, record: sidecar.StreamRecord) -> StreamName | None:
        """None while a shard has no primary: health gives it one, and it is looked at again then."""
        source, target = state.primary(record.source_keyspace), state.primary(record.keyspace)
        if source is None or target is None:
            return None
        return StreamName(record.keyspace, record.workflow, self._logins.server(source), self._logins.server(target))

    def _replicas(self, keyspace: str) -> list[Login]:
        state = self._state
        primary = state.primary(keyspace)
        return [self._logins.server(t) for t in state.tablets if t.keyspace == keyspace and t != primary]

    def _streams_of(self, state: TopologyState, keyspace: str) -> list[sidecar.StreamRecord]:
        primary = state.primary(keyspace)
        if primary is None:
            return []
        try:
            connection = self._looking.get(primary.alias)
            if connection is None or not connection.open:
                connection = self._looking[primary.alias] = connect(self._logins.server(primary), read_timeout=10)
                self._ahead[primary.alias] = offset_of(connection)
                if sidecar.exists(connection):
                    sidecar.ensure(connection)
            records = sidecar.streams(connection, keyspace)
        except MovetablesError as error:
            if not isinstance(error, ServerError) or error.errno not in (ER_BAD_DB, ER_NO_SUCH_TABLE):
                if self._said.get(primary.alias) != error.message:  # it is asked five times a second
                    _say(f"{primary.alias}: {error.message}")
                    self._said[primary.alias] = error.message
                self._looking.pop(primary.alias).close() if primary.alias in self._looking else None
            return []
        self._said.pop(primary.alias, None)
        self._note(keyspace, records, self._ahead[primary.alias])
        return records

    def _note(self, keyspace: str, records: Sequence[sidecar.StreamRecord], ahead: float) -> None:
        self._readable.add(keyspace)
        self._seen = {key: seen for key, seen in self._seen.items() if key[0] != keyspace}
        for record in records:
            known = max(record.time_heartbeat, record.transaction_timestamp)
            self._seen[record.keyspace, record.workflow] = LastSeen(
                record.source_keyspace, record.tables, record.state, record.pos, known + ahead if known else 0.0
            )


def run(logins: Logins, stop: threading.Event) -> None:
    """Runs streams until `stop` is set. The entry of the `streams` process."""
    runner = Runner(Topology(logins.topology()), logins)
    try:
        while not stop.wait(LOOK_SECONDS):
            runner.look()
    finally:
        runner.close()


def _say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}", file=sys.stderr, flush=True)
