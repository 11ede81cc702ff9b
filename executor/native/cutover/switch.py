"""Moves the writes of a workflow's tables from one keyspace to the other, or changes nothing.

The order, and what each step is undone by until the journal row is written:

    intent recorded, gateways hold statements   record removed, gateways let go
    source fenced                               fence removed
    source's definitions held                   let go
    stream caught up, then stopped              stream started
    target's AUTO_INCREMENT raised              nothing: a gap in numbers harms nobody
    target's position recorded                  nothing
    reverse stream created, stopped             deleted
    JOURNAL ROW: from here on only forward
    target unfenced
    rules, denied tables, hold: one commit
    reverse stream started, forward frozen

The same steps bring writes back: then the workflow is ``<name>_reverse``, and at the end the forward stream, which was
frozen, starts at the recorded position and the reverse one is deleted. Vitess's order is in its `switchWrites`; the
source position is read after the fence, never before (that lost writes there), and the target's before traffic moves.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace

from executor.backend import Progress
from executor.crashpoints import reached
from executor.errors import Ambiguous, MovetablesError, Refused, TimedOut
from executor.lock import LockLost
from executor.native import sidecar
from executor.native.access import Access
from executor.native.cutover.catch_up import catch_up
from executor.native.cutover.fence import lower_fence, raise_fence
from executor.native.cutover.hold import wait_for_gateways
from executor.native.servers import Connection, ServerError, quote
from executor.native.stream.layout import describe_tables
from executor.native.topology import CutoverRecord, TopologyState
from planner import routing
from planner.cluster import StreamState, TabletType

ER_NO_SUCH_THREAD, ER_LOST = 1094, 2013

INTENT, FINISHED = "intent", "finished"
REVERSE_SUFFIX = "_reverse"


@dataclass(frozen=True)
class Cutover:
    """Writes on `tables` move from keyspace `source` to `target`, where the stream `workflow` lives.

    `timeout` is in seconds and bounds everything before the journal row.
    """

    workflow: str
    source: str
    target: str
    tables: tuple[str, ...]
    timeout: float
    reverse_replication: bool

    @property
    def back(self) -> bool:
        """True when writes return to where the move began."""
        return self.workflow.endswith(REVERSE_SUFFIX)


def opposite(workflow: str) -> str:
    """The name of the workflow that runs the other way."""
    if workflow.endswith(REVERSE_SUFFIX):
        return workflow.removesuffix(REVERSE_SUFFIX)
    return workflow + REVERSE_SUFFIX


def switch_writes(access: Access, cutover: Cutover, progress: Progress) -> None:
    """Carries out `cutover`. Settles what an earlier, killed run of it left behind first.

    Raises MovetablesError after undoing everything when it cannot be done before the journal row; Ambiguous when it
    cannot be told whether the journal row was written. Killed anywhere, it is settled by running it again.
    """
    settle(access, cutover.target, cutover.workflow)
    if _writes_at(access.topology.read(), cutover.target, cutover):
        return
    with (
        access.connect_primary(cutover.source) as source,
        access.connect_primary(cutover.target, apply=True) as target,
    ):
        progress.update("waiting for the stream to catch up before anything is held")
        catch_up(source, target, cutover.target, cutover.workflow, "cutover", cutover.timeout, progress.check_interrupt)
        with progress.shielded(f"the cutover of {cutover.target}.{cutover.workflow}"):
            _refuse_stale_journal(source, cutover)
            _refuse_different_columns(access, source, target, cutover)
            record = _record(cutover)
            try:
                _begin(access, record)
                with ExitStack() as held:
                    record = _prepare(access, cutover, record, source, target, progress, held)
                    progress.check_interrupt()
                    _write_journal(access, record, source)
            except (Ambiguous, LockLost):
                raise  # without the lock, whoever holds it now settles what we began: undoing could undo theirs
            except Exception as error:
                _undo_after(access, record, error)
                raise
            reached("cutover:journaled")
            progress.update("point of no return passed, letting clients through at the target")
            finish(access, record)


def settle(access: Access, keyspace: str, workflow: str) -> None:
    """Finishes or undoes an unfinished cutover of that workflow, as its journal row says; nothing if there is none."""
    record = access.topology.read().cutover(keyspace, workflow)
    if record is None:
        return
    if record.phase == FINISHED:
        _forget(access, record)
        return
    with access.connect_primary(record.source) as source:
        journaled = _journal_value(source, record.keyspace, record.workflow)
    if journaled is None:
        undo(access, record)
    else:
        finish(access, replace(record, reverse_position=journaled))


def _record(cutover: Cutover) -> CutoverRecord:
    return CutoverRecord(
        keyspace=cutover.target,
        workflow=cutover.workflow,
        source=cutover.source,
        tables=tuple(sorted(cutover.tables)),
        phase=INTENT,
        reverse_replication=cutover.reverse_replication,
    )


def _refuse_stale_journal(source: Connection, cutover: Cutover) -> None:
    if _journal_value(source, cutover.target, cutover.workflow) is not None:
        raise Refused(
            f"found an entry from a previous run for {cutover.target}.{cutover.workflow} in {sidecar.SCHEMA}.journal "
            f"on {source.login.name}, but the topology knows of no such run",
            "find out whether the writes of that run were switched, then delete the row",
        )


def _refuse_different_columns(access: Access, source: Connection, target: Connection, cutover: Cutover) -> None:
    """DDL that the stream was told to ignore shows at the next row only, and there may have been none since."""
    here = {t.name: t for t in describe_tables(source, access.database(cutover.source), cutover.tables)}
    for there in describe_tables(target, access.database(cutover.target), cutover.tables):
        if there.name not in here:
            raise Refused(
                f"the table {there.name} is gone from {cutover.source}",
                "if it is still to be moved, bring it back or begin again; if not, take it out of the move",
            )
        differing = {column.name for column in there.columns} ^ {column.name for column in here[there.name].columns}
        if differing:
            raise Refused(
                f"the columns of {there.name} differ between {cutover.source} and {cutover.target}: "
                f"{', '.join(sorted(differing))}",
                "make both definitions equal, then apply again",
            )


def _begin(access: Access, record: CutoverRecord) -> None:
    names = {f"{record.source}.{table}" for table in record.tables}

    def change(state: TopologyState) -> TopologyState:
        held = replace(state, switching=tuple(sorted({*state.switching, *names})))
        return held.with_denied(record.source, record.tables, True).with_cutover(record)

    state = access.topology.update(change)
    reached("cutover:intent")
    wait_for_gateways(access.topology, state.version)


def _prepare(
    access: Access,
    cutover: Cutover,
    record: CutoverRecord,
    source: Connection,
    target: Connection,
    progress: Progress,
    held: ExitStack,
) -> CutoverRecord:
    started = time.monotonic()

    def left() -> float:
        return max(0.5, cutover.timeout - (time.monotonic() - started))

    database = access.database(cutover.source)
    raise_fence(source, database, record.tables, left(), lambda reason: progress.update(reason))
    reached("cutover:fenced")
    definitions = _hold_definitions(access, cutover, database, left())
    held.callback(definitions.close)
    # Only now: a position read before the fence stood would miss what was committed in between.
    catch_up(source, target, cutover.target, cutover.workflow, "cutover", left())
    reached("cutover:caught_up")
    # Again: statements that change definitions pass the fence, and some may have come since the first look.
    _refuse_different_columns(access, source, target, cutover)
    sidecar.set_state(target, cutover.target, cutover.workflow, StreamState.STOPPED, "stopped for cutover")
    reached("cutover:stopped")
    _raise_auto_increment(source, database, target, access.database(cutover.target), record.tables)
    record = replace(record, reverse_position=target.position())
    if cutover.reverse_replication and not cutover.back:
        _create_reverse_stream(access, record, source, target)
    reached("cutover:reverse_created")
    definitions.value("SELECT 1")  # raises when it broke, because the definitions were free then
    return record


def _hold_definitions(access: Access, cutover: Cutover, database: str, timeout: float) -> Connection:
    """While the connection that this returns is open, nobody can alter, truncate, rename or drop the source's tables.

    The fence stops writes only. What was done to definitions before this returns is in the binlog before the position
    that the stream must reach, and what comes later waits. Raises TimedOut when a statement that changes a definition
    runs for more than `timeout` seconds.
    """
    connection = access.connect_primary(cutover.source)
    try:
        connection.execute(f"SET SESSION lock_wait_timeout={max(1, int(timeout))}")
        connection.execute("START TRANSACTION")
        for table in sorted(cutover.tables):
            connection.query(f"SELECT 1 FROM {quote(database)}.{quote(table)} LIMIT 1")
    except ServerError as error:
        connection.close()
        if error.transient:
            raise TimedOut(
                f"the definitions of {', '.join(sorted(cutover.tables))} could not be held within {timeout:g}s: "
                f"{error.message}",
                "wait for the statement that changes one of them, then apply again",
            ) from error
        raise
    return connection


def _create_reverse_stream(access: Access, record: CutoverRecord, source: Connection, target: Connection) -> None:
    forward = sidecar.stream(target, record.keyspace, record.workflow)
    if forward is None:
        raise MovetablesError(f"workflow {record.keyspace}.{record.workflow} vanished during its cutover")
    sidecar.ensure(source)
    sidecar.ensure(target)
    sidecar.delete_stream(source, record.source, opposite(record.workflow))
    sidecar.create_stream(
        source,
        keyspace=record.source,
        workflow=opposite(record.workflow),
        source_keyspace=record.keyspace,
        tables=record.tables,
        db_name=access.database(record.source),
        source_db_name=access.database(record.keyspace),
        on_ddl=forward.on_ddl,
        pos=record.reverse_position,
        copy=False,
    )


def _raise_auto_increment(
    source: Connection, source_database: str, target: Connection, target_database: str, tables: tuple[str, ...]
) -> None:
    sql = (
        "SELECT table_name AS name, auto_increment AS next FROM information_schema.tables "
        "WHERE table_schema=%s AND auto_increment IS NOT NULL"
    )
    there = {row["name"]: int(row["next"]) for row in target.query(sql, [target_database])}
    for row in source.query(sql, [source_database]):
        name, following = row["name"], int(row["next"])
        if name in tables and there.get(name, 0) < following:
            target.execute("SET SESSION lock_wait_timeout=2")
            target.execute(f"ALTER TABLE {quote(target_database)}.{quote(name)} AUTO_INCREMENT={following}")


def _write_journal(access: Access, record: CutoverRecord, source: Connection) -> None:
    """Writes the row that means: no way back. Raises Ambiguous when its outcome cannot be told."""
    try:
        source.execute(
            f"REPLACE INTO {sidecar.SCHEMA}.journal (keyspace, workflow, val, created_at) VALUES (%s,%s,%s,%s)",
            [record.keyspace, record.workflow, json.dumps({"position": record.reverse_position}), time.time()],
        )
    except ServerError as error:
        if not error.lost:
            raise
        try:
            with access.connect_primary(record.source) as again:
                _end(again, source.thread_id)
                if _journal_value(again, record.keyspace, record.workflow) is not None:
                    return
        except ServerError as second:
            raise Ambiguous(
                f"the connection to {source.login.name} broke while the journal row of {record.keyspace}."
                f"{record.workflow} was written, and it cannot be read: {second.message}",
                f"when the server answers again, apply again: it looks at {sidecar.SCHEMA}.journal and goes on or back",
            ) from second
        raise


def _end(connection: Connection, thread_id: int) -> None:
    """Ends a connection that broke, and waits until it is gone: its last statement may still be running."""
    user = connection.value("SELECT SUBSTRING_INDEX(USER(),'@',1)")
    deadline = time.monotonic() + 10.0
    # Not from information_schema: MySQL fails there while any statement with an emoji runs (errno 3854).
    while any((row["Id"], row["User"]) == (thread_id, user) for row in connection.processes()):
        if time.monotonic() > deadline:
            raise ServerError(f"connection {thread_id} of {connection.login.name} does not end", ER_LOST)
        try:
            connection.execute(f"KILL {thread_id}")
        except ServerError as error:
            if error.errno != ER_NO_SUCH_THREAD:
                raise
        time.sleep(0.02)


def _journal_value(source: Connection, keyspace: str, workflow: str) -> str | None:
    """The position for the opposite stream that the journal row holds; None when there is no row."""
    # FOR UPDATE waits for an insert of it that is still on its way into the table.
    value = source.value(
        f"SELECT val FROM {sidecar.SCHEMA}.journal WHERE keyspace=%s AND workflow=%s FOR UPDATE",
        [keyspace, workflow],
    )
    return None if value is None else str(json.loads(value)["position"])


def _undo_after(access: Access, record: CutoverRecord, error: Exception) -> None:
    try:
        undo(access, record)
    except MovetablesError as second:
        raise MovetablesError(
            f"the cutover of {record.keyspace}.{record.workflow} failed ({error}) and could not be undone yet: "
            f"{second.message}",
            "apply again, or leave `movetables serve` running: either undoes it as soon as the servers answer",
        ) from error


def undo(access: Access, record: CutoverRecord) -> None:
    """Takes back everything that a cutover without journal row may have done. Idempotent.

    The source comes first and by itself: a target that does not answer must not keep clients from writing there.
    """
    with access.connect_primary(record.source) as source:
        lower_fence(source, access.database(record.source), record.tables)
        if not record.workflow.endswith(REVERSE_SUFFIX):
            sidecar.delete_stream(source, record.source, opposite(record.workflow))
        sidecar.delete_markers(source, record.keyspace, record.workflow)
    access.topology.update(lambda state: _let_go(state, record).with_denied(record.source, record.tables, False))
    reached("cutover:source_open")
    with access.connect_primary(record.keyspace, apply=True) as target:
        raise_fence(target, access.database(record.keyspace), record.tables, 30.0)
        stream = sidecar.stream(target, record.keyspace, record.workflow)
        if stream is not None and stream.state is StreamState.STOPPED and stream.message == "stopped for cutover":
            sidecar.set_state(target, record.keyspace, record.workflow, StreamState.RUNNING)
    reached("cutover:undone")
    access.topology.update(
        lambda state: state.without_cutover(record.keyspace, record.workflow).with_denied(
            record.keyspace, record.tables, True
        )
    )


def finish(access: Access, record: CutoverRecord) -> None:
    """Does everything that follows the journal row. Idempotent; raises when a server does not answer: run it again."""
    with (
        access.connect_primary(record.source, apply=True) as source,
        access.connect_primary(record.keyspace, apply=True) as target,
    ):
        lower_fence(target, access.database(record.keyspace), record.tables)
        reached("cutover:unfenced")
        access.topology.update(lambda state: _routed(state, record))
        reached("cutover:routed")
        _start_opposite(source, record)
        reached("cutover:reverse_started")
        _retire(source, target, record)
        reached("cutover:frozen")
    finished = replace(record, phase=FINISHED)
    access.topology.update(lambda state: state.with_cutover(finished))
    reached("cutover:finished")
    _forget(access, finished)


def _forget(access: Access, record: CutoverRecord) -> None:
    """Deletes the journal row and then the record. A record without journal row would read as: undo me."""
    with access.connect_primary(record.source) as source:
        source.execute(
            f"DELETE FROM {sidecar.SCHEMA}.journal WHERE keyspace=%s AND workflow=%s",
            [record.keyspace, record.workflow],
        )
    reached("cutover:journal_deleted")
    access.topology.update(lambda state: state.without_cutover(record.keyspace, record.workflow))


def _start_opposite(source: Connection, record: CutoverRecord) -> None:
    """Starts the stream that keeps the keyspace which lost the writes up to date, unless it was started before."""
    if record.reverse_replication or record.workflow.endswith(REVERSE_SUFFIX):
        source.execute(
            f"UPDATE {sidecar.SCHEMA}.vreplication SET pos=%s, state=%s, message='', time_updated=%s, "
            "time_heartbeat=%s, transaction_timestamp=%s WHERE keyspace=%s AND workflow=%s AND state=%s",
            [record.reverse_position, StreamState.RUNNING.value, time.time(), time.time(), time.time(),
             record.source, opposite(record.workflow), StreamState.STOPPED.value],
        )  # fmt: skip


def _retire(source: Connection, target: Connection, record: CutoverRecord) -> None:
    if record.workflow.endswith(REVERSE_SUFFIX):
        sidecar.delete_stream(target, record.keyspace, record.workflow)
    else:
        sidecar.set_state(target, record.keyspace, record.workflow, StreamState.STOPPED, sidecar.FROZEN)
    sidecar.delete_markers(source, record.keyspace, record.workflow)


def _routed(state: TopologyState, record: CutoverRecord) -> TopologyState:
    back = record.workflow.endswith(REVERSE_SUFFIX)
    move_source, move_target = (record.keyspace, record.source) if back else (record.source, record.keyspace)
    return replace(
        _let_go(state, record),
        routing_rules=routing.with_writes_at(
            state.routing_rules, move_source, move_target, record.tables, record.keyspace
        ),
        mirror_rules=routing.with_mirror(
            state.mirror_rules, move_source, move_target, record.tables, 0, (TabletType.PRIMARY,)
        ),
    ).with_denied(record.keyspace, record.tables, False)


def _let_go(state: TopologyState, record: CutoverRecord) -> TopologyState:
    names = {f"{record.source}.{table}" for table in record.tables}
    return replace(state, switching=tuple(name for name in state.switching if name not in names))


def _writes_at(state: TopologyState, keyspace: str, cutover: Cutover) -> bool:
    move_source, move_target = (cutover.target, cutover.source) if cutover.back else (cutover.source, cutover.target)
    switched = routing.writes_switched(state.routing_rules, move_source, move_target, cutover.tables)
    if not state.routing_rules:
        raise Refused("there are no routing rules for this move", "apply the plan from its create step on")
    return switched if keyspace == move_target else not switched
