"""Making a tablet the PRIMARY of its shard, and the shard's other tablets its replicas.

On servers that we started, replication is ours to set up. On all others it is not: their owner says which server is
the primary by configuring them, and promoting only records what is found there.

Every function may be interrupted anywhere and called again; what is right already is left as it is. The topology
learns of the PRIMARY last, in one commit. There is no demotion: while a shard has a PRIMARY, no other tablet can
become one, because replication is asynchronous and a dead primary may hold writes that no replica has.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from executor.errors import MovetablesError, Refused
from executor.native import sidecar
from executor.native.binlog.positions import parse
from executor.native.logins import Logins
from executor.native.servers import Connection, Login, ServerError, connect, quote
from executor.native.topology import TabletRecord, Topology, TopologyState
from executor.native.waiting import wait_until
from planner.cluster import TabletType

READ_TIMEOUT = 30.0


def promote(keyspace: str, alias: str, logins: Logins, topology: Topology, timeout: float = 30.0) -> None:
    """Makes `alias` the PRIMARY of `keyspace`, and every other registered tablet of it a running replica.

    `timeout` is how long, in seconds, each replica may take to connect. A replica that cannot be attached does not
    hinder the promotion, but raises MovetablesError after it; so does calling again until it can. Raises Refused when
    the shard has another PRIMARY, another tablet holds writes that `alias` lacks, or an external server is not
    writable.
    """
    state = topology.read()
    record, database = _promotable(state, keyspace, alias)
    others = [t for t in state.tablets if t.keyspace == keyspace and t.alias != alias]
    with ExitStack() as stack:
        primary = stack.enter_context(connect(logins.server(record), read_timeout=READ_TIMEOUT))
        if record.managed:
            _refuse_to_lose_writes(record, primary, [o for o in others if o.managed], logins)
            _make_writable(primary, database)
        else:
            _check_external_primary(record, primary)
        failures = []
        for other in others:
            try:
                attach(other, record, logins, timeout)
            except MovetablesError as error:
                failures.append(error)
        topology.update(lambda current: _with_primary(current, keyspace, alias))
    if failures:
        raise MovetablesError(
            f"{alias} is PRIMARY of {keyspace}, but not every tablet replicates from it: "
            + "; ".join(failure.message for failure in failures),
            failures[0].hint,
        )


def attach_replica(keyspace: str, alias: str, logins: Logins, topology: Topology, timeout: float = 30.0) -> None:
    """Makes the registered tablet `alias` replicate from the PRIMARY of `keyspace`; nothing when there is none yet.

    Raises MovetablesError when it does not run within `timeout` seconds.
    """
    state = topology.read()
    record, primary = state.tablet(alias), state.primary(keyspace)
    if record is None:
        raise MovetablesError(f"tablet {alias} is not registered in the topology")
    if primary is not None and primary.alias != alias:
        attach(record, primary, logins, timeout)


def attach(replica: TabletRecord, primary: TabletRecord, logins: Logins, timeout: float = 30.0) -> None:
    """Makes `replica` replicate from `primary` and waits until it does; an external server is left as it is.

    It fetches everything since its own position; a new server starts at the primary's first binlog. Raises
    MovetablesError with the server's own words when replication does not run within `timeout` seconds, and Refused
    when the server holds writes of its own.
    """
    if not replica.managed:
        return
    source = logins.server(primary)
    with connect(logins.server(replica), read_timeout=READ_TIMEOUT) as connection:
        status, words = replication(connection), connection.flavor.replication
        if not follows(status, source) or not running(status):
            _refuse_own_writes(replica, connection, source)
            if status is not None:
                connection.execute(words.stop)
            connection.execute(words.read_only)
            connection.execute(words.change, [source.host, source.port, source.user, source.password])
            connection.execute(words.start)
        wait_until(
            lambda: running(replication(connection)),
            timeout,
            lambda: f"{replica.alias} to replicate from {primary.alias}: {trouble(replication(connection))}",
        )


def replication(connection: Connection) -> Status | None:
    """What the server says of its replication; None when it is not a replica."""
    words = connection.flavor.replication
    row = connection.one(words.status)
    if row is None:
        return None
    column, value = words.by_gtid
    return Status(
        source=(row[words.host], row[words.port], row[words.user]),
        by_gtid=row[column] == value,
        io=row[words.io_running],
        sql=row[words.sql_running],
        errors=tuple(str(row[field]) for field in ("Last_IO_Error", "Last_SQL_Error") if row[field]),
    )


@dataclass(frozen=True)
class Status:
    """What a replica says of its replication. `io` and `sql` are Yes, No or what its thread waits for."""

    source: tuple[str, int, str]
    by_gtid: bool
    io: str
    sql: str
    errors: tuple[str, ...]


def running(status: Status | None) -> bool:
    """True when both threads of a replica run and it is connected."""
    return status is not None and status.io == "Yes" and status.sql == "Yes"


def stopped(status: Status | None) -> bool:
    """True when a thread of a replica has ended; one that is trying to connect has not."""
    return status is None or "No" in (status.io, status.sql)


def follows(status: Status | None, source: Login) -> bool:
    """True when a replica is set up to replicate from `source` by GTID."""
    return status is not None and status.by_gtid and status.source == (source.host, source.port, source.user)


def trouble(status: Status | None) -> str:
    """What hinders a replica, in its own words."""
    if status is None:
        return "it is not set up as a replica"
    return "; ".join((f"IO thread {status.io}, SQL thread {status.sql}", *status.errors))


def most_advanced(records: list[TabletRecord], logins: Logins) -> TabletRecord | None:
    """The tablet, of those that answer, that holds every write that the others hold; the first alias among equals.

    None when no tablet answers. Raises Refused when two of them each hold writes that the other lacks.
    """
    positions = {}
    for record in sorted(records):
        try:
            with connect(logins.server(record), read_timeout=READ_TIMEOUT) as connection:
                positions[record] = connection.position()
        except ServerError:
            continue  # a server that does not answer cannot be promoted
    for record, position in positions.items():
        if not any(lacks(position, other) for other in positions.values()):
            return record
    if positions:
        found = ", ".join(f"{record.alias} at {position}" for record, position in positions.items())
        raise Refused(f"no tablet holds the writes of all the others: {found}", "remove those that should not serve")
    return None


def lacks(position: str, other: str) -> bool:
    """True when the position `other` of a server holds a transaction that `position` does not.

    Of MariaDB's only the sequence numbers of the domains count: within a shard, one primary at a time writes.
    """
    return not parse(position).contains(parse(other))


def _promotable(state: TopologyState, keyspace: str, alias: str) -> tuple[TabletRecord, str]:
    found, record, primary = state.keyspace(keyspace), state.tablet(alias), state.primary(keyspace)
    if found is None:
        raise MovetablesError(f"keyspace {keyspace} is not registered in the topology")
    if record is None or record.keyspace != keyspace:
        raise MovetablesError(f"tablet {alias} is not registered in the topology as a tablet of {keyspace}")
    if record.type is TabletType.RDONLY:
        raise Refused(f"{alias} is RDONLY, and only a REPLICA can become PRIMARY", "promote a REPLICA")
    if primary is not None and primary.alias != alias:
        raise Refused(
            f"{keyspace} has a PRIMARY already, {primary.alias}; expected none",
            f"start {primary.alias} again: a replica may lack its last writes, so it is never replaced",
        )
    return record, found.database


def _refuse_to_lose_writes(
    record: TabletRecord, primary: Connection, others: list[TabletRecord], logins: Logins
) -> None:
    position = primary.position()
    for other in others:
        try:
            with connect(logins.server(other), read_timeout=READ_TIMEOUT) as connection:
                theirs = connection.position()
        except ServerError:
            continue  # attaching it will tell
        if lacks(position, theirs):
            raise Refused(
                f"{other.alias} holds writes ({theirs}) that {record.alias} lacks ({position or 'none'})",
                f"promote {other.alias} instead",
            )


def _make_writable(primary: Connection, database: str) -> None:
    if replication(primary) is not None:
        primary.execute(primary.flavor.replication.stop)
        primary.execute(primary.flavor.replication.forget)
    if int(primary.value("SELECT @@global.read_only")):
        primary.execute("SET GLOBAL read_only=0")
    if primary.value("SELECT 1 FROM information_schema.schemata WHERE schema_name=%s", [database]) is None:
        primary.execute(f"CREATE DATABASE IF NOT EXISTS {quote(database)}")
    sidecar.ensure(primary)


def _check_external_primary(record: TabletRecord, primary: Connection) -> None:
    address = f"{record.alias} ({record.host}:{record.port})"
    if replication(primary) is not None:
        raise Refused(
            f"{address} is a replica of another server; expected the primary of its servers",
            "make it the primary yourself, or name the one that is as PRIMARY in the inventory",
        )
    if int(primary.value("SELECT @@global.read_only")):
        raise Refused(f"{address} has read_only=1; expected a writable server", "SET GLOBAL read_only=0 on it")


def _refuse_own_writes(replica: TabletRecord, connection: Connection, source: Login) -> None:
    with connect(source, read_timeout=READ_TIMEOUT) as primary:
        ours, theirs = connection.position(), primary.position()
    if lacks(theirs, ours):
        raise Refused(
            f"{replica.alias} holds writes ({ours}) that its primary {source.name} lacks ({theirs or 'none'})",
            f"stop {replica.alias}, delete its data folder and start it again as a new server",
        )


def _with_primary(state: TopologyState, keyspace: str, alias: str) -> TopologyState:
    """`state` with `alias` as PRIMARY; unchanged when it is one. Raises Refused when another became it meanwhile."""
    record, _ = _promotable(state, keyspace, alias)
    if record.type is TabletType.PRIMARY and record.primary_term_start:
        return state
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return state.with_tablet(replace(record, type=TabletType.PRIMARY, primary_term_start=now))
