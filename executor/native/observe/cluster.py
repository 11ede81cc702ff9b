"""Puts together what the topology and every server of the inventory say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from executor.errors import MovetablesError
from executor.native.access import Access
from executor.native.flavor import FLAVOR_NAMES
from executor.native.local.cluster import LocalCluster
from executor.native.observe.server import observe_server
from executor.native.observe.tables import observe_others, observe_tables
from executor.native.observe.workflows import last_seen, observe_workflows
from executor.native.servers import Connection, Login, connect
from executor.native.stream.trouble import Trouble, reported
from executor.native.topology import TopologyState
from planner.cluster import Cluster, Keyspace, Server, Table, Tablet, TabletType, Workflow

CONNECT_SECONDS = 3.0
READ_SECONDS = 30.0
PARALLEL = 8


@dataclass(frozen=True)
class _Found:
    """What one server told. All but `tablet` only of the server that stands for its keyspace."""

    tablet: Tablet
    tables: tuple[Table, ...] = ()
    others: tuple[tuple[str, str], ...] = ()
    workflows: tuple[Workflow, ...] = ()


def observe_cluster(access: Access) -> Cluster:
    """The cluster as it is now.

    Raises ServerError when the topology cannot be read; a tablet's server that does not answer is a fact
    (`Server.error`). A keyspace's tables are read from its PRIMARY; before it is registered, from the tablet that the
    inventory declares PRIMARY.
    """
    state = access.topology.read()
    troubles = reported(access.topology.connection())
    tablets = _tablets(access, state)
    with ThreadPoolExecutor(PARALLEL) as pool:
        found = list(pool.map(lambda tablet: _observe_tablet(access, state, tablets, troubles, tablet), tablets))
    keyspaces = _keyspaces(access, state)
    held = {item.tablet.keyspace: item for item in found if item.tables or item.others}
    return Cluster(
        name=access.inventory.name,
        keyspaces=tuple(
            replace(keyspace, tables=item.tables, others=item.others)
            if (item := held.get(keyspace.name)) is not None
            else keyspace
            for keyspace in keyspaces
        ),
        tablets=tuple(item.tablet for item in found),
        workflows=_workflows(found),
        routing_rules=state.routing_rules,
        mirror_rules=state.mirror_rules,
        completed=tuple(sorted(state.completed)),
        switching=state.switching,
        unreadable=tuple(_unreadable(found, troubles)),
    )


def _workflows(found: Sequence[_Found]) -> tuple[Workflow, ...]:
    silent = {
        item.tablet.keyspace: f"its source, {item.tablet.alias}, does not answer: {item.tablet.server.error}"
        for item in found
        if item.tablet.registered
        and item.tablet.type is TabletType.PRIMARY
        and item.tablet.server is not None
        and item.tablet.server.error
    }
    workflows = (
        replace(w, trouble=w.trouble or silent.get(w.source, "")) if w.lag is not None else w
        for item in found
        for w in item.workflows
    )
    return tuple(sorted(workflows, key=lambda w: (w.target, w.name)))


def _unreadable(found: Sequence[_Found], troubles: Sequence[Trouble]) -> Iterator[Workflow]:
    """What the streams' process has told of workflows whose own records cannot be read now."""
    for item in found:
        tablet = item.tablet
        if tablet.registered and tablet.type is TabletType.PRIMARY and tablet.server and tablet.server.error:
            workflows = (last_seen(t, tablet.alias) for t in troubles if t.keyspace == tablet.keyspace)
            yield from (workflow for workflow in workflows if workflow is not None)


def _tablets(access: Access, state: TopologyState) -> list[Tablet]:
    tablets = {
        tablet.alias: Tablet(
            tablet.alias,
            tablet.keyspace,
            tablet.type,
            tablet.server.host,
            tablet.server.port,
            managed=tablet.server.managed,
        )
        for tablet in access.inventory.tablets
    }
    for record in state.tablets:
        tablets[record.alias] = Tablet(
            record.alias,
            record.keyspace,
            record.type,
            record.host,
            record.port,
            managed=record.managed,
            registered=True,
            primary_term_start=record.primary_term_start,
        )
    return [tablets[alias] for alias in sorted(tablets)]


def _keyspaces(access: Access, state: TopologyState) -> list[Keyspace]:
    keyspaces = {k.name: Keyspace(k.name, k.database) for k in access.inventory.keyspaces}
    for record in state.keyspaces:
        keyspaces[record.name] = Keyspace(
            record.name, record.database, registered=True, denied_tables=record.denied_tables
        )
    return [keyspaces[name] for name in sorted(keyspaces)]


def _stands_for_keyspace(tablet: Tablet, tablets: list[Tablet]) -> bool:
    others = [t for t in tablets if t.keyspace == tablet.keyspace and t.type is TabletType.PRIMARY]
    registered = [t for t in others if t.registered]
    return tablet in (registered or others)[:1]


def _observe_tablet(
    access: Access, state: TopologyState, tablets: list[Tablet], troubles: Sequence[Trouble], tablet: Tablet
) -> _Found:
    local = LocalCluster(access.inventory)
    flavor = FLAVOR_NAMES[local.flavor_of(tablet.alias)] if tablet.managed else ""
    silent = Server(address=f"{tablet.host}:{tablet.port}", flavor=flavor)
    try:
        connection = connect(_login(access, state, tablet), connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS)
    except MovetablesError as error:
        return _Found(replace(tablet, server=replace(silent, error=error.message)))
    with connection:
        try:
            return _read_tablet(access, state, tablets, troubles, tablet, connection)
        except MovetablesError as error:
            return _Found(replace(tablet, server=replace(silent, error=error.message)))


def _read_tablet(
    access: Access,
    state: TopologyState,
    tablets: list[Tablet],
    troubles: Sequence[Trouble],
    tablet: Tablet,
    connection: Connection,
) -> _Found:
    database = next((k.database for k in _keyspaces(access, state) if k.name == tablet.keyspace), tablet.keyspace)
    data_dir = LocalCluster(access.inventory).server_for(tablet.alias).directory if tablet.managed else None
    server = observe_server(connection, database, data_dir)
    seen = replace(tablet, running=True, server=server)
    if not _stands_for_keyspace(tablet, tablets):
        return _Found(seen)
    keyspace = state.keyspace(tablet.keyspace)
    blind = f"TRIGGER ON `{database}`.*" in server.missing_privileges
    tables = observe_tables(connection, database, keyspace.denied_tables if blind and keyspace is not None else None)
    others = observe_others(connection, database)
    if not tablet.registered:
        return _Found(seen, tables, others)
    return _Found(seen, tables, others, observe_workflows(connection, tablet.keyspace, tablet.alias, state, troubles))


def _login(access: Access, state: TopologyState, tablet: Tablet) -> Login:
    record = state.tablet(tablet.alias)
    return access.logins.server(record) if record is not None else access.logins.tablet(tablet.alias)
