"""Waits until a stream has applied everything that its source has written."""

from __future__ import annotations

import time
from collections.abc import Callable

from executor.errors import MovetablesError, TimedOut
from executor.native import sidecar
from executor.native.binlog import positions
from executor.native.cutover.standstill import standstill
from executor.native.servers import Connection
from planner.cluster import StreamState

POLL_SECONDS = 0.002


def catch_up(
    source: Connection,
    target: Connection,
    keyspace: str,
    workflow: str,
    purpose: str,
    timeout: float,
    check: Callable[[], None] = lambda: None,
) -> str:
    """Commits a marker on `source` and waits until the stream's recorded position covers it; returns that position.

    The marker makes the stream commit its position at once, even if nothing of its tables changed. Raises TimedOut
    after `timeout` seconds, MovetablesError at once when the stream does not run.
    """
    sidecar.write_marker(source, keyspace, workflow, purpose)
    wanted = positions.parse(source.position())
    deadline = time.monotonic() + timeout
    while True:
        record = sidecar.stream(target, keyspace, workflow)
        if record is None:
            raise MovetablesError(f"workflow {keyspace}.{workflow} does not exist")
        if positions.parse(record.pos).contains(wanted):
            return record.pos
        if record.state not in (StreamState.RUNNING, StreamState.COPYING):
            raise MovetablesError(
                f"the stream of {keyspace}.{workflow} is {record.state}: {record.message or 'stopped'}",
                "start it: set the move's state to running and apply",
            )
        if time.monotonic() > deadline:
            held = standstill(target, record)
            raise TimedOut(
                f"failed to sync up replication between the source and target: {keyspace}.{workflow} did not reach "
                f"{wanted.text} within {timeout:g}s, it stands at {record.pos}" + (f": {held}" if held else ""),
                "is `movetables serve` running? raise cutover.timeout, or wait until the lag is small",
            )
        check()
        time.sleep(POLL_SECONDS)
