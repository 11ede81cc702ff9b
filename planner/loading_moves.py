"""From the nodes of a plan's moves to `Move`s, with the checks that a schema cannot make."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from planner.diagnostic import Mark, Report, shown, unknown_keyspace
from planner.document import Move, MoveState, OnDdl, SourceTables
from planner.duration import parse_duration
from planner.nodes import MappingNode

_E = TypeVar("_E", bound=StrEnum)

ALL_TABLES = "*"
_STATES = {state.text: state for state in MoveState}
_SETTLED = frozenset({MoveState.ABSENT, MoveState.COMPLETED})


def build_moves(node: MappingNode, known: Collection[str], absent: Collection[str], report: Report) -> tuple[Move, ...]:
    """The moves in `node`, by name; what is wrong goes to `report`, and then the result is not to be used.

    `known` are the keyspaces that moves may name, `absent` those of them that the plan wants to be gone.
    """
    moves = [_move(name, mark, child, known, absent, report) for name, mark, child in node.children()]
    _check_overlaps(moves, report)
    return tuple(sorted((placed.move for placed in moves), key=lambda move: move.name))


@dataclass(frozen=True)
class _PlacedMove:
    """A move, and where its name and its tables stand in the file."""

    move: Move
    mark: Mark
    tables: tuple[tuple[str, Mark], ...]


def _move(
    name: str, mark: Mark, node: MappingNode, known: Collection[str], absent: Collection[str], report: Report
) -> _PlacedMove:
    verify, cutover, cleanup = node.child("verify"), node.child("cutover"), node.child("cleanup")
    throttle = node.child("throttle")
    state = _STATES.get(node.text("state"), MoveState.RUNNING)
    everything = node.text("tables") == ALL_TABLES
    tables = [(ALL_TABLES, node.value_mark("tables"))] if everything else node.texts("tables")
    exclude = node.texts("exclude")
    if name.endswith("_reverse"):
        hint = "choose a name with another ending"
        report.add(
            mark, "bad-name", f"{shown(name)}: names that end in '_reverse' are those of reverse workflows", hint
        )
    _check_keyspaces(node, state, known, absent, report)
    _check_tables(tables, everything, report)
    _check_tables(exclude, False, report)
    if "exclude" in node.entries and "tables" in node.entries and not everything:
        hint = 'remove exclude, or write tables: "*"'
        report.add(node.keys["exclude"], "exclude-without-all", 'exclude goes with tables: "*" only', hint)
    timeout = _duration(cutover, "timeout", Move.timeout)
    if timeout < 1:  # Vitess: "timeout must be at least 1 second"
        report.add(cutover.value_mark("timeout"), "bad-value", f"moves.{name}.cutover.timeout must be at least 1s")
    move = Move(
        name=name,
        source=node.text("source"),
        target=node.text("target"),
        tables=tuple(sorted(table for table, _ in tables)),
        exclude=tuple(sorted(table for table, _ in exclude)),
        state=state,
        on_ddl=_choice(OnDdl, node.text("on_ddl"), Move.on_ddl),
        defer_secondary_keys=(
            node.flag("defer_secondary_keys", False)
            if "defer_secondary_keys" in node.entries
            else Move.defer_secondary_keys
        ),
        throttle_max_replica_lag=_duration(throttle, "max_replica_lag", Move.throttle_max_replica_lag),
        throttle_max_history_list=int(throttle.number("max_history_list", Move.throttle_max_history_list)),
        verify_before_switch=verify.flag("before_switch", Move.verify_before_switch),
        verify_max_age=_duration(verify, "max_age", Move.verify_max_age),
        mirror_percent=float(node.child("mirror").number("percent", Move.mirror_percent)),
        timeout=timeout,
        max_replication_lag=_duration(cutover, "max_replication_lag", Move.max_replication_lag),
        reverse_replication=cutover.flag("reverse_replication", Move.reverse_replication),
        source_tables=_choice(SourceTables, cleanup.text("source_tables"), Move.source_tables),
        keep_routing_rules=cleanup.flag("keep_routing_rules", Move.keep_routing_rules),
    )
    return _PlacedMove(move, mark, tuple(tables))


def _choice(kind: type[_E], word: str, default: _E) -> _E:
    return kind(word) if word in set(kind) else default


def _duration(node: MappingNode, key: str, default: float) -> float:
    seconds = parse_duration(node.text(key))
    return default if seconds is None else seconds


def _check_keyspaces(
    node: MappingNode, state: MoveState, known: Collection[str], absent: Collection[str], report: Report
) -> None:
    for key, allowed in (("source", _SETTLED), ("target", frozenset({MoveState.ABSENT}))):
        name = node.text(key)
        if name and name not in known:
            unknown_keyspace(name, node.value_mark(key), sorted(known), report, "the plan or its inventory")
        if name in absent and state not in allowed:
            report.add(
                node.value_mark(key),
                "contradiction",
                f"keyspace {shown(name)} should be absent, so it cannot be the {key} of a move that is {state.text}",
            )
    if node.text("source") and node.text("source") == node.text("target"):
        message = f"source and target are the same keyspace, {shown(node.text('target'))}"
        report.add(node.value_mark("target"), "same-keyspace", message, "tables move from one keyspace to another")


def _check_tables(tables: list[tuple[str, Mark]], everything: bool, report: Report) -> None:
    seen: dict[str, Mark] = {}
    for table, mark in tables:
        if table in seen:
            report.add(
                mark, "duplicate-table", f"table {shown(table)} is listed twice; first on line {seen[table].line}"
            )
        elif table == ALL_TABLES and not everything:
            report.add(
                mark, "star-in-list", "'*' cannot stand in a list", 'write tables: "*" for all tables of the source'
            )
        elif table.endswith(" "):
            report.add(mark, "bad-name", f"{shown(table)}: a table name cannot end with a space")
        elif any(ord(character) > 0xFFFF for character in table):
            report.add(mark, "bad-name", f"{shown(table)}: servers allow no character beyond U+FFFF in a table name")
        seen.setdefault(table, mark)


def _check_overlaps(moves: list[_PlacedMove], report: Report) -> None:
    """Routing rules know a table by its bare name as well, so two moves may not have one of the same name."""
    live = [placed for placed in moves if placed.move.state is not MoveState.ABSENT]
    for index, later in enumerate(live):
        for earlier in live[:index]:
            for table, mark in later.tables:
                other = _also_moved(table, later.move, earlier)
                if other is not None:
                    what = "all tables" if table == ALL_TABLES else f"table {shown(table)}"
                    report.add(
                        mark,
                        "table-in-two-moves",
                        f"{what} of {shown(later.move.source)} may be in move {shown(earlier.move.name)} too"
                        if ALL_TABLES in (table, other[0])
                        else f"{what} is in move {shown(earlier.move.name)} too",
                        f"the other is on line {other[1].line}; a table takes part in one move at a time",
                    )


def _also_moved(table: str, move: Move, earlier: _PlacedMove) -> tuple[str, Mark] | None:
    for other, mark in earlier.tables:
        both_all = table == other == ALL_TABLES
        if both_all or ALL_TABLES in (table, other):
            named, exclude = (other, move.exclude) if table == ALL_TABLES else (table, earlier.move.exclude)
            if move.source == earlier.move.source and (both_all or named not in exclude):
                return other, mark
        elif table == other:
            return other, mark
    return None
