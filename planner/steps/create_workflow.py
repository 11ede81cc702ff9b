"""create_workflow: MoveTables create, without starting the stream."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.checks_tables import movable
from planner.checks_workflow import collision, completed, keyspaces_answer, primaries_fit, rows_fit
from planner.cluster import Cluster, ForeignKey, StreamState, Table, TableCopy, Workflow
from planner.moves import forward, is_completed, is_created, same_move, tables_in
from planner.routing import with_move_created
from planner.step import Action, Refusal
from planner.steps.base import MoveStep, with_fences


@dataclass(frozen=True)
class CreateWorkflow(MoveStep):
    """Create the workflow stopped, the fenced target tables, and the routing rules that keep traffic at the source."""

    kind = "create_workflow"
    action = Action.CREATE
    summary = "creates a MoveTables workflow: target tables, stopped stream, routing rules to the source"

    def done(self, cluster: Cluster) -> bool:
        """True when the workflow stands with all its tables and rules, or was completed."""
        return is_created(cluster, self.move) or is_completed(cluster, self.move)

    def ready(self, cluster: Cluster) -> tuple[Refusal, ...]:
        """Every reason why these tables cannot be moved."""
        if is_completed(cluster, self.move):
            return (completed(self.move),)
        workflow = forward(cluster, self.move)
        if workflow is not None and not same_move(workflow, self.move):
            return (collision(workflow, self.move),)
        return keyspaces_answer(cluster, self.move) or (
            *primaries_fit(cluster, self.move),
            *rows_fit(cluster, self.move),
            *movable(cluster, self.move),
        )

    def effect(self, cluster: Cluster) -> Cluster:
        """Target tables empty and fenced, nine rules per table, a stopped workflow."""
        move = self.move
        source, target = cluster.keyspace(move.source), cluster.keyspace(move.target)
        if source is None or target is None:
            return cluster
        wanted = tables_in(cluster, move.source, move.tables)
        there = {table.name for table in target.tables}
        copies = tuple(_empty_copy(t, source.database, target.database) for t in wanted if t.name not in there)
        cluster = cluster.with_keyspace(
            replace(target, tables=tuple(sorted((*target.tables, *copies), key=lambda table: table.name)))
        )
        cluster = with_fences(cluster, move.target, move.tables, fenced=True)
        primary = cluster.primary(move.target)
        if forward(cluster, move) is None:
            cluster = cluster.with_workflow(
                Workflow(
                    move.name,
                    move.source,
                    move.target,
                    move.tables,
                    state=StreamState.STOPPED,
                    copies=tuple(TableCopy(table.name, 0, table.rows, done=False) for table in wanted),
                    tablet=primary.alias if primary is not None else "",
                )
            )
        return replace(
            cluster,
            routing_rules=with_move_created(cluster.routing_rules, move.source, move.target, move.tables),
        )

    def describe(self) -> tuple[str, ...]:
        """In the manner of Vitess, which has no dry run of create."""
        move = self.move
        return self.locked(
            f"Create tables {self.tables_text} in keyspace {move.target}, denied to writes until they are switched",
            f"Create vreplication workflow {move.name} on: [{self.target_parts()}]",
            f"Routing rules for tables {self.tables_text} will be created, all to keyspace {move.source}",
        )


def _empty_copy(table: Table, source_database: str, target_database: str) -> Table:
    keys = tuple(
        ForeignKey(
            key.name,
            key.columns,
            target_database if key.referenced_database == source_database else key.referenced_database,
            key.referenced_table,
        )
        for key in table.foreign_keys
    )
    return replace(table, foreign_keys=keys, rows=0, data_length=0, empty=True, fenced=True, triggers=())
