"""What each apply did, in the topology: one row per run, one per step, the intent written before the act.

A step whose row still says `running` although its process is gone is an intent without a result: whether the step
happened is not known from here, and `resume.py` finds out by looking at the cluster.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from executor.errors import MovetablesError
from executor.lock import holders, who
from executor.native.flavor import ER_BAD_DB, ER_NO_SUCH_TABLE
from executor.native.servers import Connection, Row, ServerError
from executor.native.topology import SCHEMA, Topology
from executor.redaction import redact
from planner.step import Step

MAX_MESSAGE = 4000
_ATTEMPTS = 3


class RunState(StrEnum):
    """State of a run. `RUNNING` of a dead process means that it was killed."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    RESUMED = "resumed"


class StepState(StrEnum):
    """State of one step of a run."""

    PLANNED = "planned"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True)
class RunRecord:
    """A run in the journal. Times are seconds since 1970; `ended_at` is None while it runs and if it was killed."""

    id: str
    plan: str
    fingerprint: str
    holder: str
    command: str
    state: str
    message: str
    started_at: float
    ended_at: float | None


@dataclass(frozen=True)
class StepRecord:
    """A step of a run as the journal has it."""

    run: str
    position: int
    step: str
    state: str
    message: str
    started_at: float | None
    ended_at: float | None


class Journal(Protocol):
    """Where an apply writes what it is about to do and what came of it."""

    def begin(self, steps: Sequence[Step]) -> None:
        """The run begins; it has these steps, in this order."""

    def step(self, step: Step, state: StepState, message: str = "") -> None:
        """`step` is now in `state`."""

    def end(self, state: RunState, message: str = "") -> None:
        """The run is over."""


class NoJournal:
    """Keeps nothing: the journal of a dry run."""

    def begin(self, steps: Sequence[Step]) -> None:
        """Keeps nothing."""

    def step(self, step: Step, state: StepState, message: str = "") -> None:
        """Keeps nothing."""

    def end(self, state: RunState, message: str = "") -> None:
        """Keeps nothing."""


def new_run_id() -> str:
    """An id for a new run."""
    return str(uuid.uuid4())


class TopologyJournal:
    """The journal of run `run`, kept in `topology`. `command` must hold no secret. Raises ServerError.

    Every write may be repeated, so a connection that breaks is made again and the write retried.
    """

    def __init__(self, topology: Topology, run: str, plan: str, fingerprint: str, command: str) -> None:
        self._topology = topology
        self._run = run
        self._plan = plan
        self._fingerprint = fingerprint
        self._command = command
        self._positions: dict[str, int] = {}

    def begin(self, steps: Sequence[Step]) -> None:
        """Writes the run and its steps, all of them planned."""
        self._write(
            f"REPLACE INTO {SCHEMA}.run (id, plan, fingerprint, holder, command, state, message, started_at, ended_at) "
            "VALUES (%s, %s, %s, %s, %s, %s, '', %s, NULL)",
            [self._run, self._plan, self._fingerprint, who(), self._command, RunState.RUNNING.value, time.time()],
        )
        for position, step in enumerate(steps, start=1):
            self._add(step.id, position)

    def step(self, step: Step, state: StepState, message: str = "") -> None:
        """Writes the state of one step; committed when this returns. A step that was not planned is added."""
        if step.id not in self._positions:
            self._add(step.id, len(self._positions) + 1)
        moment = "started_at" if state is StepState.RUNNING else "ended_at"
        self._write(
            f"UPDATE {SCHEMA}.run_step SET state=%s, message=%s, {moment}=%s WHERE run=%s AND position=%s",
            [state.value, redact(message)[:MAX_MESSAGE], time.time(), self._run, self._positions[step.id]],
        )

    def end(self, state: RunState, message: str = "") -> None:
        """Writes how the run ended."""
        settle_run(self._topology, self._run, state, message)

    def _add(self, step_id: str, position: int) -> None:
        self._positions[step_id] = position
        self._write(
            f"REPLACE INTO {SCHEMA}.run_step (run, position, step, state, message, started_at, ended_at) "
            "VALUES (%s, %s, %s, %s, '', NULL, NULL)",
            [self._run, position, step_id, StepState.PLANNED.value],
        )

    def _write(self, sql: str, args: list[object]) -> None:
        write(self._topology, sql, args)


def write(topology: Topology, sql: str, args: Sequence[object]) -> None:
    """Runs a statement that may be repeated, again when the connection broke. Raises ServerError."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            topology.connection().execute(sql, args)
            return
        except ServerError as error:
            if error.lost:
                topology.close()
            if attempt == _ATTEMPTS or not (error.lost or error.transient):
                raise


def settle_run(topology: Topology, run: str, state: RunState, message: str) -> None:
    """Writes how a run ended."""
    write(
        topology,
        f"UPDATE {SCHEMA}.run SET state=%s, message=%s, ended_at=%s WHERE id=%s",
        [state.value, redact(message)[:MAX_MESSAGE], time.time(), run],
    )


def settle_step(topology: Topology, record: StepRecord, state: StepState, message: str) -> None:
    """Writes what became of a step of an earlier run."""
    write(
        topology,
        f"UPDATE {SCHEMA}.run_step SET state=%s, message=%s, ended_at=%s WHERE run=%s AND position=%s",
        [state.value, redact(message)[:MAX_MESSAGE], time.time(), record.run, record.position],
    )


def runs(connection: Connection, limit: int = 50) -> tuple[RunRecord, ...]:
    """The newest `limit` runs, newest first."""
    return tuple(
        RunRecord(**row)
        for row in _rows(
            connection,
            "SELECT id, plan, fingerprint, holder, command, state, message, started_at, ended_at "
            f"FROM {SCHEMA}.run ORDER BY started_at DESC, id LIMIT %s",
            [limit],
        )
    )


def find_run(connection: Connection, run: str) -> RunRecord:
    """The run whose id begins with `run`. Raises MovetablesError unless there is exactly one."""
    found = [record for record in runs(connection, limit=100_000) if record.id.startswith(run)]
    if len(found) != 1:
        raise MovetablesError(f"{len(found)} runs have an id that begins with {run!r}", "movetables history")
    return found[0]


def steps_of(connection: Connection, run: str) -> tuple[StepRecord, ...]:
    """The steps of one run, in the order in which they run."""
    sql = f"SELECT * FROM {SCHEMA}.run_step WHERE run=%s ORDER BY position"
    return tuple(StepRecord(**row) for row in _rows(connection, sql, [run]))


def killed_runs(connection: Connection) -> tuple[RunRecord, ...]:
    """Runs that say they are running although nobody holds their locks, oldest first: their process is gone."""
    alive = {holder.run for holder in holders(connection) if holder.alive}
    rows = _rows(
        connection,
        "SELECT id, plan, fingerprint, holder, command, state, message, started_at, ended_at "
        f"FROM {SCHEMA}.run WHERE state=%s ORDER BY started_at, id",
        [RunState.RUNNING.value],
    )
    return tuple(RunRecord(**row) for row in rows if row["id"] not in alive)


def _rows(connection: Connection, sql: str, args: Sequence[object]) -> list[Row]:
    try:
        return connection.query(sql, args)
    except ServerError as error:
        if error.errno in (ER_BAD_DB, ER_NO_SUCH_TABLE):
            return []
        raise
