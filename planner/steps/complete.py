"""complete: the end of a move. Source tables go, the workflows and rules go, a record stays."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.checks import refuse
from planner.checks_workflow import exists, keyspaces_answer, verified_for_completion
from planner.cluster import Cluster
from planner.document import SourceTables
from planner.moves import (
    all_reads_switched,
    forward,
    is_completed,
    leftover_rules,
    leftovers,
    unfinished_cutover,
    with_completed,
    writes_switched,
)
from planner.routing import with_mirror, without_move
from planner.step import Action, Refusal
from planner.steps.base import MoveStep, database_part, with_fences, without_tables


@dataclass(frozen=True)
class Complete(MoveStep):
    """Drop, rename or keep the source tables, and remove both workflows, the fences and the rules.

    For a move that was completed already it only clears what an interruption left behind.
    """

    kind = "complete"
    action = Action.DROP
    irreversible = True
    summary = "ends a move: source tables are dropped, renamed or kept; workflows and rules are removed"

    def done(self, cluster: Cluster) -> bool:
        """True when the move is completed and nothing is left behind."""
        if not is_completed(cluster, self.move) or leftovers(cluster, self.move):
            return False
        return self.move.keep_routing_rules or not leftover_rules(cluster, self.move)

    def ready(self, cluster: Cluster) -> tuple[Refusal, ...]:
        """Refuses unless all traffic is switched and the copies were compared."""
        if is_completed(cluster, self.move):
            return keyspaces_answer(cluster, self.move)
        if missing := exists(cluster, self.move) or keyspaces_answer(cluster, self.move):
            return missing
        if phase := unfinished_cutover(cluster, self.move):
            found = f"the cutover of {self.subject} is unfinished (phase {phase})"
            return (refuse("MT412", found, "a finished cutover", "apply with state: switched first"),)
        found_refusals: list[Refusal] = []
        if not writes_switched(cluster, self.move) or not all_reads_switched(cluster, self.move):
            found = "cannot complete workflow because you have not yet switched all read and write traffic"
            found_refusals.append(
                refuse("MT408", found, "all traffic at the target", "apply again: the plan switches it first")
            )
        return (*found_refusals, *verified_for_completion(cluster, self.move))

    def effect(self, cluster: Cluster) -> Cluster:
        """The tables live in the target alone, or also, out of use, in the source."""
        move = self.move
        first = forward(cluster, move) is not None or not is_completed(cluster, move)
        cluster = with_fences(cluster, move.target, move.tables, fenced=False)
        cluster = with_fences(cluster, move.source, move.tables, fenced=False)
        source = cluster.keyspace(move.source)
        if first and source is not None and move.source_tables is SourceTables.DROP:
            cluster = cluster.with_keyspace(without_tables(source, move.tables))
        elif first and source is not None and move.source_tables is SourceTables.RENAME:
            renamed = (replace(t, name=f"_{t.name}_old") if t.name in move.tables else t for t in source.tables)
            cluster = cluster.with_keyspace(replace(source, tables=tuple(sorted(renamed, key=lambda t: t.name))))
        cluster = cluster.without_workflow(move.target, move.name).without_workflow(move.source, move.reverse_name)
        rules = cluster.routing_rules
        if not move.keep_routing_rules:
            rules = without_move(rules, move.source, move.target, move.tables)
        return replace(
            cluster,
            routing_rules=rules,
            mirror_rules=with_mirror(cluster.mirror_rules, move.source, move.target, move.tables, 0.0),
            completed=with_completed(cluster.completed, move) if first else cluster.completed,
        )

    def describe(self) -> tuple[str, ...]:
        """Vitess's dry run of Complete."""
        move, tables = self.move, self.tables_text
        places = ",".join(
            f"keyspace:{move.source};shard:0{database_part(self.source_database)}"
            f"{f';tablet:{self.source_uid}' if self.source_uid else ''};table:{table}"
            for table in move.tables
        )
        verb = {SourceTables.DROP: "Dropping", SourceTables.RENAME: "Renaming"}.get(move.source_tables)
        lines = []
        if verb is not None:
            what = "these tables from the database and removing them from the vschema for keyspace"
            lines.append(f"{verb} {what} {move.source}: [{places}]")
        tablet = f";tablet:{self.source_uid}" if self.source_uid else ""
        reverse = f"workflow:{move.reverse_name}{database_part(self.source_database)}{tablet}"
        tablet = f";tablet:{self.target_uid}" if self.target_uid else ""
        forward_streams = f"workflow:{move.name}{database_part(self.target_database)}{tablet}"
        lines += [
            f"Denied tables records on {tables} will be removed from: [{self.source_parts()}]",
            f"Denied tables records on {tables} will be removed from: [{self.target_parts()}]",
            f"Delete reverse vreplication streams on sources: [keyspace:{move.source};shard:0;{reverse}]",
            f"Delete vreplication streams on targets: [keyspace:{move.target};shard:0;{forward_streams}]",
        ]
        if not move.keep_routing_rules:
            lines.append("Routing rules for participating tables will be deleted")
        return self.locked(*lines)
