"""Routing and mirror rules: what each phase of a move sets, how a name is resolved, what state the rules tell.

Behaviour: Vitess `traffic_switcher.go` (rules of each phase), `vindexes/vschema.go FindRoutedTable` (resolution) and
`workflow/state.go` (the traffic_state sentence).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from planner.cluster import MirrorRule, RoutingRule, TabletType

READ_TYPES = (TabletType.REPLICA, TabletType.RDONLY)

Rules = tuple[RoutingRule, ...]


def suffix(tablet_type: TabletType) -> str:
    """``""`` for PRIMARY, ``@replica`` and ``@rdonly`` for the others."""
    return "" if tablet_type is TabletType.PRIMARY else f"@{tablet_type.lower()}"


def _rules(mapping: Mapping[str, str]) -> Rules:
    return tuple(RoutingRule(from_table, to_table) for from_table, to_table in sorted(mapping.items()))


def as_mapping(rules: Iterable[RoutingRule]) -> dict[str, str]:
    """``{from_table: to_table}`` of `rules`."""
    return {rule.from_table: rule.to_table for rule in rules}


def _keys(source: str, target: str, table: str, tablet_type: TabletType) -> tuple[str, str, str]:
    end = suffix(tablet_type)
    return f"{table}{end}", f"{target}.{table}{end}", f"{source}.{table}{end}"


def with_move_created(rules: Rules, source: str, target: str, tables: Sequence[str]) -> Rules:
    """`rules` plus nine per table that send every name of it to the source (Vitess setupInitialRoutingRules)."""
    mapping = as_mapping(rules)
    for table in tables:
        for tablet_type in TabletType:
            for key in _keys(source, target, table, tablet_type):
                mapping[key] = f"{source}.{table}"
    return _rules(mapping)


def with_reads_at(
    rules: Rules, source: str, target: str, tables: Sequence[str], types: Sequence[TabletType], to_keyspace: str
) -> Rules:
    """`rules` with the reads of `types` on `tables` served by `to_keyspace`, which is `source` or `target`."""
    mapping = as_mapping(rules)
    for table in tables:
        for tablet_type in types:
            for key in _keys(source, target, table, tablet_type):
                mapping[key] = f"{to_keyspace}.{table}"
    return _rules(mapping)


def with_writes_at(rules: Rules, source: str, target: str, tables: Sequence[str], to_keyspace: str) -> Rules:
    """`rules` with the writes on `tables` served by `to_keyspace`.

    The plain rule of the keyspace that serves is deleted, the others point to it (Vitess changeWriteRoute). Writes at
    the source are the rules of a new move, nine per table; at the target, eight.
    """
    mapping = as_mapping(rules)
    for table in tables:
        for key in _keys(source, target, table, TabletType.PRIMARY):
            mapping[key] = f"{to_keyspace}.{table}"
        if to_keyspace == target:
            del mapping[f"{target}.{table}"]
    return _rules(mapping)


def without_move(rules: Rules, source: str, target: str, tables: Sequence[str]) -> Rules:
    """`rules` without any rule of this move."""
    gone = {key for table in tables for tablet_type in TabletType for key in _keys(source, target, table, tablet_type)}
    return tuple(rule for rule in rules if rule.from_table not in gone)


def reads_switched(rules: Rules, source: str, target: str, tables: Sequence[str], tablet_type: TabletType) -> bool:
    """True when `tablet_type` reads of every table are served by `target` (read from ``source.t@type``)."""
    mapping = as_mapping(rules)
    return all(mapping.get(f"{source}.{table}{suffix(tablet_type)}") == f"{target}.{table}" for table in tables)


def writes_switched(rules: Rules, source: str, target: str, tables: Sequence[str]) -> bool:
    """True when writes of any table are served by `target` (read from ``source.t``, as Vitess getWorkflowState)."""
    mapping = as_mapping(rules)
    return any(mapping.get(f"{source}.{table}") == f"{target}.{table}" for table in tables)


def traffic_state(rules: Rules, source: str, target: str, tables: Sequence[str]) -> str:
    """The sentence that Vitess prints, such as ``All Reads Switched. Writes Not Switched``."""
    replica = reads_switched(rules, source, target, tables, TabletType.REPLICA)
    rdonly = reads_switched(rules, source, target, tables, TabletType.RDONLY)
    parts = []
    if replica and rdonly:
        parts.append("All Reads Switched")
    elif not replica and not rdonly:
        parts.append("Reads Not Switched")
    else:
        parts.append("Reads partially switched")
        parts.append("All Replica Reads Switched" if replica else "Replica not switched")
        parts.append("All Rdonly Reads Switched" if rdonly else "Rdonly not switched")
    parts.append("Writes Switched" if writes_switched(rules, source, target, tables) else "Writes Not Switched")
    return ". ".join(parts)


def resolve(
    rules: Mapping[str, str], keyspace: str | None, table: str, tablet_type: TabletType
) -> tuple[str, str] | None:
    """Where a table reference goes: ``(keyspace, table)`` by the first rule that hits, or None when no rule does.

    `keyspace` is the qualifier written in the statement, else the session's keyspace, else None. The key with the
    tablet type's suffix is looked up first, then the plain one; the result is not looked up again.
    """
    name = f"{keyspace}.{table}" if keyspace else table
    for key in dict.fromkeys((f"{name}{suffix(tablet_type)}", name)):
        to_table = rules.get(key)
        if to_table is not None:
            to_keyspace, _, to_name = to_table.partition(".")
            return to_keyspace, to_name
    return None


def with_mirror(
    rules: tuple[MirrorRule, ...],
    source: str,
    target: str,
    tables: Sequence[str],
    percent: float,
    types: Sequence[TabletType] = tuple(TabletType),
) -> tuple[MirrorRule, ...]:
    """`rules` with `percent` (0 to 100) of the SELECTs of `types` on `tables` mirrored to `target`; 0 removes them."""
    mapping = {rule.from_table: rule for rule in rules}
    for table in tables:
        for tablet_type in types:
            key = f"{source}.{table}{suffix(tablet_type)}"
            mapping.pop(key, None)
            if percent > 0:
                mapping[key] = MirrorRule(key, f"{target}.{table}", percent)
    return tuple(mapping[key] for key in sorted(mapping))
