"""Where a move stands on a cluster: the facts that steps and the planner decide by, each as one pure function.

State is read from the routing rules first, as Vitess does (`server.go getWorkflowState`), and then from the workflow:
a frozen forward workflow means that writes were switched even if somebody emptied the rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from planner.cluster import Cluster, CompletedMove, StreamState, Table, TabletType, VDiffSummary, Workflow
from planner.document import Move, MoveState
from planner.routing import READ_TYPES, as_mapping, suffix


def forward(cluster: Cluster, move: Move) -> Workflow | None:
    """The workflow of `move`, which lives in its target keyspace, or None."""
    return cluster.workflow(move.target, move.name)


def reverse(cluster: Cluster, move: Move) -> Workflow | None:
    """The reverse workflow of `move`, which lives in its source keyspace while writes are switched, or None."""
    return cluster.workflow(move.source, move.reverse_name)


def same_move(workflow: Workflow, move: Move) -> bool:
    """True when `workflow`, found under the name of `move`, moves the same tables from the same source."""
    return workflow.source == move.source and set(workflow.tables) == set(move.tables)


def tables_in(cluster: Cluster, keyspace: str, tables: tuple[str, ...]) -> tuple[Table, ...]:
    """Those of `tables` that exist in `keyspace`."""
    found = cluster.keyspace(keyspace)
    return tuple(table for table in found.tables if table.name in tables) if found else ()


def completed_record(cluster: Cluster, move: Move) -> CompletedMove | None:
    """The record of `move` having been completed, or None.

    A record whose tables are no longer all in the target is void: they have been moved on since.
    """
    for record in cluster.completed:
        if (record.name, record.source, record.target) != (move.name, move.source, move.target):
            continue
        if not set(move.tables) <= set(record.tables) and move.tables != ("*",):
            continue
        if len(tables_in(cluster, move.target, record.tables)) == len(record.tables):
            return record
    return None


def is_completed(cluster: Cluster, move: Move) -> bool:
    """True when no workflow is left and a record, or the tables living in the target alone, tell of completion."""
    if forward(cluster, move) is not None or not move.tables:
        return False
    if completed_record(cluster, move) is not None:
        return True
    everywhere = len(tables_in(cluster, move.target, move.tables)) == len(move.tables)
    return everywhere and not tables_in(cluster, move.source, move.tables)


def unfinished_cutover(cluster: Cluster, move: Move) -> str:
    """The phase that an unfinished cutover of `move` reached, or ``""`` when there is none.

    `Cluster.switching` may name the workflow (``customer.commerce2customer``) or single tables of it.
    """
    for workflow in (forward(cluster, move), reverse(cluster, move)):
        if workflow is not None and workflow.cutover:
            return workflow.cutover
    keyspaces = (move.source, move.target)
    names = {move.name, *move.tables, *(f"{k}.{n}" for k in keyspaces for n in (move.name, *move.tables))}
    return "switching" if forward(cluster, move) and names & set(cluster.switching) else ""


def read_types_switched(cluster: Cluster, move: Move) -> tuple[TabletType, ...]:
    """The tablet types of which the reads of at least one table are served by the target."""
    rules = as_mapping(cluster.routing_rules)
    return tuple(
        tablet_type
        for tablet_type in READ_TYPES
        if any(rules.get(f"{move.source}.{t}{suffix(tablet_type)}") == f"{move.target}.{t}" for t in move.tables)
    )


def all_reads_switched(cluster: Cluster, move: Move) -> bool:
    """True when the reads of every table and tablet type are served by the target."""
    rules = as_mapping(cluster.routing_rules)
    return all(
        rules.get(f"{move.source}.{t}{suffix(tablet_type)}") == f"{move.target}.{t}"
        for t in move.tables
        for tablet_type in READ_TYPES
    )


def rules_send_writes_to_target(cluster: Cluster, move: Move) -> bool:
    """True when the rules send the writes of every table to the target."""
    rules = as_mapping(cluster.routing_rules)
    return all(rules.get(f"{move.source}.{table}") == f"{move.target}.{table}" for table in move.tables)


def writes_left_source(cluster: Cluster, move: Move) -> bool:
    """True when writes of any table are served by the target, by the rules or because the workflow is frozen."""
    rules = as_mapping(cluster.routing_rules)
    workflow = forward(cluster, move)
    if workflow is None:
        return False
    return workflow.frozen or any(rules.get(f"{move.source}.{t}") == f"{move.target}.{t}" for t in move.tables)


def writes_switched(cluster: Cluster, move: Move) -> bool:
    """True when writes were switched and nothing of the cutover is left to do."""
    workflow = forward(cluster, move)
    return (
        workflow is not None
        and workflow.frozen
        and rules_send_writes_to_target(cluster, move)
        and not unfinished_cutover(cluster, move)
    )


def is_created(cluster: Cluster, move: Move) -> bool:
    """True when the workflow, its fenced target tables and its routing rules all exist.

    A create that died on the way is not one, so that it is planned again and puts up what is missing.
    """
    workflow = forward(cluster, move)
    if workflow is None:
        return False
    if workflow.frozen or unfinished_cutover(cluster, move):
        return True
    rules = as_mapping(cluster.routing_rules)
    routed = all(f"{move.source}.{table}{suffix(t)}" in rules for table in move.tables for t in TabletType)
    target = cluster.keyspace(move.target)
    denied = target is not None and set(move.tables) <= set(target.denied_tables)
    made = tables_in(cluster, move.target, move.tables)
    return routed and denied and len(made) == len(move.tables) and all(table.fenced for table in made)


def is_streaming(cluster: Cluster, move: Move) -> bool:
    """True when the forward stream copies or follows the binlog."""
    workflow = forward(cluster, move)
    return workflow is not None and workflow.state in (StreamState.COPYING, StreamState.RUNNING)


def is_clean(vdiff: VDiffSummary | None, max_age: float) -> bool:
    """True for a VDiff that completed within the last `max_age` seconds and found no difference."""
    return vdiff is not None and vdiff.state == "completed" and not vdiff.has_mismatch and vdiff.age <= max_age


def live_state(cluster: Cluster, move: Move) -> MoveState:
    """Where `move`, with resolved tables, stands; a cutover that did not finish counts as not done."""
    workflow = forward(cluster, move)
    if workflow is None:
        return MoveState.COMPLETED if is_completed(cluster, move) else MoveState.ABSENT
    if not unfinished_cutover(cluster, move) and writes_left_source(cluster, move):
        return MoveState.SWITCHED
    if not is_created(cluster, move):
        return MoveState.ABSENT
    if all_reads_switched(cluster, move):
        return MoveState.READS_SWITCHED
    return MoveState.RUNNING if workflow.copied else MoveState.CREATED


def leftovers(cluster: Cluster, move: Move) -> tuple[str, ...]:
    """What an interrupted cancel or complete left behind although no workflow holds these tables any more.

    Each is a short phrase: fenced tables, denied tables, routing rules. Nothing while any workflow holds a table.
    """
    if any(set(workflow.tables) & set(move.tables) for workflow in cluster.workflows):
        return ()
    found = []
    for name in (move.source, move.target):
        keyspace = cluster.keyspace(name)
        if keyspace is None:
            continue
        fenced = sorted(table.name for table in tables_in(cluster, name, move.tables) if table.fenced)
        denied = sorted(set(keyspace.denied_tables) & set(move.tables))
        found += [f"fenced tables in {name}: {', '.join(fenced)}"] if fenced else []
        found += [f"denied tables in {name}: {', '.join(denied)}"] if denied else []
    return tuple(found)


def leftover_rules(cluster: Cluster, move: Move) -> bool:
    """True when routing rules between source and target stand although no workflow holds these tables any more."""
    if any(set(workflow.tables) & set(move.tables) for workflow in cluster.workflows):
        return False
    rules = as_mapping(cluster.routing_rules)
    ends = {f"{keyspace}.{table}" for keyspace in (move.source, move.target) for table in move.tables}
    names = (f"{k}.{t}{suffix(x)}" for k in (move.source, move.target) for t in move.tables for x in TabletType)
    return any(rules.get(name) in ends for name in names)


def resolve(cluster: Cluster, move: Move) -> Move:
    """`move` with its table names spelled out and sorted.

    ``*`` means the tables of the existing workflow, else those of the record of its completion, else what the source
    holds now; `exclude` is taken off the last, and off an explicit list. Tables that a completed move set aside by
    renaming are never part of ``*``.
    """
    if move.tables != ("*",):
        return replace(move, tables=tuple(sorted(set(move.tables) - set(move.exclude))))
    workflow = forward(cluster, move)
    record = completed_record(cluster, move)
    if workflow is not None and workflow.source == move.source:
        return replace(move, tables=tuple(sorted(workflow.tables)))
    if record is not None:
        return replace(move, tables=tuple(sorted(record.tables)))
    keyspace = cluster.keyspace(move.source)
    renamed = {f"_{table}_old" for r in cluster.completed if r.source_tables == "rename" for table in r.tables}
    names = {table.name for table in keyspace.tables} if keyspace else set()
    # Not silently left behind, as views are: a plan that does not exclude them is refused.
    names |= {name for name, kind in keyspace.others if kind != "VIEW"} if keyspace else set()
    return replace(move, tables=tuple(sorted(names - set(move.exclude) - renamed)))


def with_completed(records: Iterable[CompletedMove], move: Move) -> tuple[CompletedMove, ...]:
    """`records` with one of `move`, tables resolved; those that its tables' new home makes void are dropped."""
    record = CompletedMove(move.name, move.source, move.target, tuple(move.tables), move.source_tables.value)
    others = (
        other
        for other in records
        if (other.name, other.source, other.target) != (move.name, move.source, move.target)
        and not (other.target == move.source and set(other.tables) & set(move.tables))
    )
    return tuple(sorted((*others, record)))
