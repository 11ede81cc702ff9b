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
from executor.native.stream.stream import Stream, StreamBusy
from executor.native.topology import Topology, TopologyState
from planner.cluster import StreamState

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
    """One stream's thread: runs it again after a server failed, until it is stopped or an error needs a human."""

    def __init__(self, name: StreamName, replicas: Callable[[], Sequence[Login]]) -> None:
        super().__init__(name=f"stream {name.keyspace}.{name.workflow}", daemon=True)
        self.stream = name
        self._replicas = replicas
        self.stop = threading.Event()

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
                ).run()
                return
            except (ServerError, StreamBusy, Altered) as error:
                if isinstance(error, ServerError) and not error.curable:
                    self._give_up(error.message, error.hint)
                    return
                _say(f"{self.name}: {error.message}; trying again")
                back_off = 0.05 if time.monotonic() - started > 10 else min(MAX_BACK_OFF, back_off * 2)
                self.stop.wait(back_off)
            except MovetablesError as error:
                self._give_up(error.message, error.hint)
                return
            except Exception as error:  # noqa: BLE001 - a bug must show in the stream's state, not only in a log
                traceback.print_exc()
                self._give_up(f"internal error: {type(error).__name__}: {error}", "see the log of the streams process")
                return

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
                self.stop.wait(1.0)


class Runner:
    """Keeps a thread for every stream in state Copying or Running on any registered primary."""

    def __init__(self, topology: Topology, logins: Logins) -> None:
        self._topology = topology
        self._logins = logins
        self._state = TopologyState()
        self._running: dict[tuple[str, str], _Running] = {}
        self._looking: dict[str, Connection] = {}

    def look(self) -> None:
        """Starts threads for streams that should run and have none; forgets those that ended."""
        self._running = {key: thread for key, thread in self._running.items() if thread.is_alive()}
        try:
            if self._topology.version() != self._state.version:
                self._state = self._topology.read()
        except ServerError as error:
            if error.errno not in (ER_BAD_DB, ER_NO_SUCH_TABLE):  # before the first apply there are no records
                _say(f"topology: {error.message}")
            return
        state = self._state
        for keyspace in state.keyspaces:
            for record in self._streams_of(state, keyspace.name):
                key = (record.keyspace, record.workflow)
                wanted = record.state in (StreamState.COPYING, StreamState.RUNNING)
                name = self._name(state, record)
                if key in self._running and name is not None and name != self._running[key].stream:
                    self._running[key].stop.set()  # a shard has another primary now; started anew when it has ended
                elif wanted and name is not None and key not in self._running:
                    self._running[key] = _Running(name, partial(self._replicas, record.keyspace))
                    self._running[key].start()

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
            return sidecar.streams(connection, keyspace)
        except ServerError as error:
            if error.errno not in (ER_BAD_DB, ER_NO_SUCH_TABLE):
                _say(f"{primary.alias}: {error.message}")
                self._looking.pop(primary.alias).close() if primary.alias in self._looking else None
            return []


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
