"""Where a statement goes: one keyspace and tablet type, and the shape to send there.

Behaviour: Vitess `FindRoutedTable` (planner.routing.resolve). A qualifier in a statement names a keyspace; it is
replaced by the keyspace's database at the token's place. An unqualified name needs no change, because a connection's
default database is that of the keyspace it serves. A statement that would need two keyspaces at once is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from executor.native.gateway.errors import (
    ER_NO_DB,
    ER_OPTION_PREVENTS,
    GatewayError,
    not_supported,
    unknown_database,
)
from executor.native.gateway.statement import Statement, Verb
from executor.native.gateway.tables import Name
from executor.native.servers import quote
from executor.native.topology import TopologyState
from planner.cluster import SHARD, TabletType
from planner.routing import resolve

SYSTEM_SCHEMAS = frozenset({"information_schema", "performance_schema", "mysql", "sys"})

Key = tuple[str, TabletType]


@dataclass(frozen=True)
class Target:
    """What ``use`` chose. `keyspace` is "" for a session without one; `text` is as the client wrote it."""

    keyspace: str = ""
    type: TabletType = TabletType.PRIMARY
    text: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """Where one shape goes. `key` is None when any primary will do.

    `parts` are the pieces between the literals of the statement to send, None when it is to be sent as it came.
    `names` are the ``keyspace.table`` names that it touches, as routed; `denied` tells that one of them may not be
    written where it is.
    """

    statement: Statement
    key: Key | None
    parts: tuple[bytes, ...] | None
    names: frozenset[str]
    denied: bool


def parse_target(text: str, state: TopologyState) -> Target:
    """The target that ``use`` names: ``commerce``, ``commerce@replica``, ``commerce:0@rdonly`` or ``@primary``.

    Raises GatewayError 1049 for an unknown keyspace, shard or tablet type.
    """
    name, at, type_text = text.partition("@")
    keyspace, _, shard = name.partition(":")
    tablet_type = TabletType.PRIMARY
    if at:
        try:
            tablet_type = TabletType(type_text.upper())
        except ValueError:
            raise unknown_database(text) from None
    known = keyspace == "" if not shard and at and not keyspace else state.keyspace(keyspace) is not None
    if not known or shard not in ("", SHARD):
        raise unknown_database(text)
    return Target(keyspace, tablet_type, text)


def route(statement: Statement, target: Target, state: TopologyState, rules: Mapping[str, str]) -> Route:
    """Routes `statement` for a session at `target`. Raises GatewayError with what to do instead."""
    resolved: dict[str, list[str]] = {}
    edits: list[tuple[int, int, bytes]] = []
    system = False
    for ref in statement.refs:
        if ref.qualifier.lower() in SYSTEM_SCHEMAS:
            system = True
            if statement.writes and ref.qualifier.lower() == "mysql":
                raise not_supported(
                    f"a {statement.word} statement that uses {ref.qualifier}.{ref.table} is not supported by the "
                    "gateway; connect to the tablet itself for that"
                )
            continue
        keyspace, table = _resolve(ref, target, state, rules)
        resolved.setdefault(keyspace, []).append(table)
        if ref.qualifier:
            edits.append((*ref.qualifier_span, _database(keyspace, state)))
        if table != ref.table:
            edits.append((*ref.table_span, quote(table).encode()))
    for schema in statement.schemas:
        if schema.qualifier.lower() in SYSTEM_SCHEMAS:
            continue
        if state.keyspace(schema.qualifier) is None:
            raise unknown_database(schema.qualifier)
        resolved.setdefault(schema.qualifier, [])
        edits.append((*schema.qualifier_span, _database(schema.qualifier, state)))
    if len(resolved) > 1:
        raise _two_keyspaces(statement, resolved)
    for column in statement.columns:
        if state.keyspace(column.qualifier) is not None:
            keyspace = column.qualifier
            if column.table:
                keyspace = _resolve(column, target, state, rules)[0]
            edits.append((*column.qualifier_span, _database(keyspace, state)))
    if not system:  # the tables of information_schema know the databases, not the keyspaces
        literal = b"'" + target.text.encode().replace(b"'", b"''") + b"'" if target.text else b"NULL"
        edits += ((start, end, literal) for _, start, end in statement.calls)
    chosen = next(iter(resolved), target.keyspace)
    if statement.writes and target.type is not TabletType.PRIMARY and not system:
        raise GatewayError(
            ER_OPTION_PREVENTS,
            f"{statement.word} statement is supported only for primary tablet type, current type: "
            f"{target.type.lower()}; type: use {chosen or '@primary'}",
        )
    if statement.verb is Verb.DDL and not chosen:
        raise _no_keyspace(state)
    return Route(
        statement,
        (chosen, target.type) if chosen else None,
        _edited(statement.shape, edits) if edits else None,
        frozenset(f"{keyspace}.{table}" for keyspace, tables in resolved.items() for table in tables),
        any(
            table in record.denied_tables
            for keyspace, tables in resolved.items()
            if (record := state.keyspace(keyspace)) is not None
            for table in tables
        ),
    )


def _resolve(ref: Name, target: Target, state: TopologyState, rules: Mapping[str, str]) -> tuple[str, str]:
    keyspace = ref.qualifier or target.keyspace
    if ref.qualifier and state.keyspace(ref.qualifier) is None:
        raise unknown_database(ref.qualifier)
    found = resolve(rules, keyspace or None, ref.table, target.type)
    if found is not None:
        return found
    if keyspace:
        return keyspace, ref.table
    if len(state.keyspaces) == 1:
        return state.keyspaces[0].name, ref.table
    raise _no_keyspace(state)


def _no_keyspace(state: TopologyState) -> GatewayError:
    names = ", ".join(keyspace.name for keyspace in state.keyspaces) or "none yet"
    return GatewayError(ER_NO_DB, f"No database selected: type use and a keyspace; keyspaces: {names}")


def _database(keyspace: str, state: TopologyState) -> bytes:
    record = state.keyspace(keyspace)
    if record is None:
        raise unknown_database(keyspace)
    return quote(record.database).encode()


def _two_keyspaces(statement: Statement, resolved: Mapping[str, list[str]]) -> GatewayError:
    places = "; ".join(
        f"{', '.join(sorted(set(tables)))} in keyspace {keyspace}" if tables else f"keyspace {keyspace}"
        for keyspace, tables in sorted(resolved.items())
    )
    return not_supported(
        f"this {statement.word} statement needs two keyspaces at once, and one server cannot answer it: {places}; "
        "run one statement per keyspace"
    )


def _edited(shape: bytes, edits: list[tuple[int, int, bytes]]) -> tuple[bytes, ...]:
    out: list[bytes] = []
    last = 0
    for start, end, text in sorted(edits):
        out += (shape[last:start], text)
        last = end
    out.append(shape[last:])
    return tuple(b"".join(out).split(b"\0"))
