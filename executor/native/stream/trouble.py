"""Why a stream that should go on cannot, kept in the topology while it tries again.

It is not kept beside the stream's record, because that lies on the target, and the target may be what is away. A copy
of the record goes with it, so that the stream can be shown all the same.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

from executor.native.flavor import ER_BAD_DB, ER_NO_SUCH_TABLE
from executor.native.servers import Connection, ServerError
from executor.native.topology import SCHEMA, Topology
from planner.cluster import StreamState

LATE_SECONDS = 30.0

StreamKey = tuple[str, str]
"""Keyspace and workflow."""


@dataclass(frozen=True)
class LastSeen:
    """What a stream's record said when it could last be read.

    `known` is the last moment at which the stream had everything, in seconds since the epoch, 0 if unknown.
    """

    source: str
    tables: tuple[str, ...]
    state: StreamState
    position: str
    known: float


@dataclass(frozen=True)
class Trouble:
    """What keeps the stream of `workflow` in `keyspace` from going on.

    `since` is when it first did, `next_try` when the next of the so far `tries` attempts begins, in seconds since the
    epoch by the clock of the machine that runs the streams. `seen` is None when the record was never read.
    """

    keyspace: str
    workflow: str
    message: str
    since: float
    tries: int
    next_try: float
    seen: LastSeen | None = None

    def text(self, now: float) -> str:
        """The reason, since when, and when it is tried again; `now` tells whether anybody still does."""
        tries = "once" if self.tries == 1 else f"{self.tries} times"
        text = f"{self.message}; since {_clock(self.since)}, tried {tries}, "
        if now > self.next_try + LATE_SECONDS:
            return text + f"the last time before {_clock(self.next_try)}: is `movetables serve` running?"
        return text + f"next try at {_clock(self.next_try)}"


class TroubleBoard:
    """What the topology says of streams in trouble, kept true by the process that runs the streams."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._known: dict[StreamKey, Trouble] | None = None

    def streams(self) -> list[StreamKey]:
        """The streams that are said to be in trouble, by a process before this one too. Raises ServerError."""
        return list(self._read())

    def report(self, trouble: Trouble) -> None:
        """Writes `trouble` in the place of what is known of that stream. Raises ServerError."""
        known, key = self._read(), (trouble.keyspace, trouble.workflow)
        if known.get(key) == trouble:
            return
        values = [*key, json.dumps(asdict(trouble))]
        sql = f"REPLACE INTO {SCHEMA}.stream_trouble (keyspace, workflow, val) VALUES (%s,%s,%s)"
        try:
            self._topology.connection().execute(sql, values)
        except ServerError as error:
            if error.errno != ER_NO_SUCH_TABLE:
                raise
            self._topology.create()  # the schema was made by a version that had no such table
            self._topology.connection().execute(sql, values)
        known[key] = trouble

    def clear(self, key: StreamKey) -> None:
        """Forgets what kept that stream: it goes on, or shall not. Raises ServerError."""
        known = self._read()
        if key in known:
            self._topology.connection().execute(
                f"DELETE FROM {SCHEMA}.stream_trouble WHERE keyspace=%s AND workflow=%s", list(key)
            )
            del known[key]

    def _read(self) -> dict[StreamKey, Trouble]:
        if self._known is None:
            found = reported(self._topology.connection())
            self._known = {(trouble.keyspace, trouble.workflow): trouble for trouble in found}
        return self._known


def reported(connection: Connection) -> tuple[Trouble, ...]:
    """Every stream in trouble, by keyspace and workflow; `connection` is to the topology. Raises ServerError."""
    try:
        rows = connection.query(f"SELECT val FROM {SCHEMA}.stream_trouble ORDER BY keyspace, workflow")
    except ServerError as error:
        if error.errno in (ER_BAD_DB, ER_NO_SUCH_TABLE):
            return ()
        raise
    return tuple(_decoded(json.loads(row["val"])) for row in rows)


def _decoded(found: dict[str, object]) -> Trouble:
    seen = found.pop("seen", None)
    last = None
    if isinstance(seen, dict):
        last = LastSeen(**(seen | {"tables": tuple(seen["tables"]), "state": StreamState(seen["state"])}))
    return Trouble(**found, seen=last)  # type: ignore[arg-type]


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
