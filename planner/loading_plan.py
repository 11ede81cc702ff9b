"""From the nodes of a plan to a `Document`, with the checks that a schema cannot make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from planner.diagnostic import Mark, Report, did_you_mean, shown
from planner.document import DesiredKeyspace, Document, InitialSchema, Move, MoveState, OnDdl, SourceTables
from planner.duration import parse_duration
from planner.inventory import Inventory
from planner.strict_yaml import MappingNode

_E = TypeVar("_E", bound=StrEnum)

ALL_TABLES = "*"
_STATES = {state.text: state for state in MoveState}
_SETTLED = frozenset({MoveState.ABSENT, MoveState.COMPLETED})


def build_document(
    root: MappingNode,
    file: str,
    sha256: str,
    inventory: Inventory,
    read_file: Callable[[str], str],
    report: Report,
) -> Document:
    """The document in `root`; what is wrong goes to `report`, and then the result is not to be used."""
    keyspaces = _Keyspaces(inventory, read_file, report).build(root.child("keyspaces"))
    known = {keyspace.name for keyspace in inventory.keyspaces} | {keyspace.name for keyspace in keyspaces}
    absent = {keyspace.name for keyspace in keyspaces if keyspace.absent}
    moves = [_move(name, mark, node, known, absent, report) for name, mark, node in root.child("moves").children()]
    _check_overlaps(moves, report)
    return Document(
        name=root.text("name"),
        file=file,
        source_bytes_sha256=sha256,
        keyspaces=tuple(sorted(keyspaces, key=lambda keyspace: keyspace.name)),
        moves=tuple(sorted((placed.move for placed in moves), key=lambda move: move.name)),
    )


class _Keyspaces:
    def __init__(self, inventory: Inventory, read_file: Callable[[str], str], report: Report) -> None:
        self._inventory = inventory
        self._read_file = read_file
        self._report = report
        self._named: dict[str, Mark] = {}

    def build(self, keyspaces: MappingNode) -> list[DesiredKeyspace]:
        return [self._keyspace(name, mark, node) for name, mark, node in keyspaces.children()]

    def _keyspace(self, name: str, mark: Mark, node: MappingNode) -> DesiredKeyspace:
        if self._inventory.keyspace(name) is None:
            known = [keyspace.name for keyspace in self._inventory.keyspaces]
            _unknown_keyspace(name, mark, known, self._report, f"the inventory {self._inventory.file}")
        tablets = self._aliases(name, node, "tablets")
        absent_tablets = self._aliases(name, node, "absent_tablets")
        absent = node.text("state", "present") == "absent"
        for key in ("tablets", "initial_schema"):
            if absent and key in node.entries:
                self._report.add(
                    node.keys[key],
                    "contradiction",
                    f"keyspace {shown(name)} should be absent, so it cannot have {key}",
                    f"remove {key}, or write state: present",
                )
        return DesiredKeyspace(name, tablets, absent_tablets, self._initial_schema(node), absent)

    def _aliases(self, keyspace: str, node: MappingNode, key: str) -> tuple[str, ...]:
        aliases = node.texts(key)
        for alias, mark in aliases:
            tablet = self._inventory.tablet(alias)
            if alias in self._named:
                first = self._named[alias]
                self._report.add(
                    mark,
                    "duplicate-tablet",
                    f"tablet {alias} is named twice; first at line {first.line}, column {first.col}",
                    "a tablet serves one keyspace, once: keep one of them",
                )
            elif tablet is None:
                known = [t.alias for t in self._inventory.tablets]
                hint = did_you_mean(alias, known, "tablets") or "add it under tablets there"
                message = f"tablet {shown(alias)} is not in the inventory {self._inventory.file}"
                self._report.add(mark, "unknown-tablet", message, hint)
            elif tablet.keyspace != keyspace:
                own = [t.alias for t in self._inventory.tablets if t.keyspace == keyspace]
                self._report.add(
                    mark,
                    "wrong-keyspace",
                    f"tablet {alias} belongs to keyspace {shown(tablet.keyspace)}, not {shown(keyspace)}",
                    f"tablets of {shown(keyspace)}: {', '.join(own)}" if own else "",
                )
            self._named.setdefault(alias, mark)
        return tuple(sorted(alias for alias, _ in aliases))

    def _initial_schema(self, node: MappingNode) -> InitialSchema | None:
        path = node.text("initial_schema")
        if not path:
            return None
        try:
            return InitialSchema(path, self._read_file(path))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            hint = "the path is taken from the folder of the plan"
        except UnicodeDecodeError:
            reason, hint = "it is not UTF-8", "save it as UTF-8"
        message = f"SQL file {shown(path)} cannot be read: {reason}"
        self._report.add(node.value_mark("initial_schema"), "unreadable-file", message, hint)
        return None


@dataclass(frozen=True)
class _PlacedMove:
    """A move, and where its name and its tables stand in the file."""

    move: Move
    mark: Mark
    tables: tuple[tuple[str, Mark], ...]


def _move(name: str, mark: Mark, node: MappingNode, known: set[str], absent: set[str], report: Report) -> _PlacedMove:
    verify, cutover, cleanup = node.child("verify"), node.child("cutover"), node.child("cleanup")
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
        defer_secondary_keys=node.flag("defer_secondary_keys", Move.defer_secondary_keys),
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


def _unknown_keyspace(name: str, mark: Mark, known: list[str], report: Report, place: str) -> None:
    hint = did_you_mean(name, known, "keyspaces") or "add it under keyspaces there"
    report.add(mark, "unknown-keyspace", f"keyspace {shown(name)} is not in {place}", hint)


def _check_keyspaces(node: MappingNode, state: MoveState, known: set[str], absent: set[str], report: Report) -> None:
    for key, allowed in (("source", _SETTLED), ("target", frozenset({MoveState.ABSENT}))):
        name = node.text(key)
        if name and name not in known:
            _unknown_keyspace(name, node.value_mark(key), sorted(known), report, "the plan or its inventory")
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
