"""switch_writes: the cutover. Writes pause, the stream catches up, the target takes over."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.checks_tables import trigger_refusals
from planner.checks_workflow import can_switch, exists, keyspaces_answer, primaries_fit, verified
from planner.cluster import Cluster, StreamState, TableCopy, TabletType, Workflow
from planner.moves import forward, is_completed, tables_in, unfinished_cutover, writes_switched
from planner.routing import with_mirror, with_writes_at
from planner.step import Action, Refusal
from planner.steps.base import MoveStep, database_part, with_fences


@dataclass(frozen=True)
class SwitchWrites(MoveStep):
    """Move the writes to the target, or finish a cutover that was interrupted."""

    kind = "switch_writes"
    action = Action.MOVE
    summary = "the cutover: sends writes to the target and starts the reverse workflow"

    def done(self, cluster: Cluster) -> bool:
        """True when writes are at the target, the workflow is frozen and no cutover is unfinished."""
        return writes_switched(cluster, self.move) or is_completed(cluster, self.move)

    def ready(self, cluster: Cluster) -> tuple[Refusal, ...]:
        """The gate of SwitchTraffic and a clean VDiff; an unfinished cutover has passed both already."""
        if missing := exists(cluster, self.move) or keyspaces_answer(cluster, self.move):
            return missing
        workflow = forward(cluster, self.move)
        if workflow is None or unfinished_cutover(cluster, self.move):
            return ()
        found = [*primaries_fit(cluster, self.move)]
        for keyspace in (self.move.source, self.move.target):
            for table in tables_in(cluster, keyspace, self.move.tables):
                found.extend(trigger_refusals(keyspace, table))
        found.extend(can_switch(self.move, workflow, self.move.max_replication_lag))
        if self.move.verify_before_switch and not workflow.frozen:
            found.extend(verified(self.move, workflow))
        return tuple(found)

    def effect(self, cluster: Cluster) -> Cluster:
        """Target open, source fenced, forward workflow frozen, reverse workflow running."""
        move = self.move
        workflow = forward(cluster, move)
        if workflow is None:
            return cluster
        cluster = with_fences(cluster, move.target, move.tables, fenced=False)
        cluster = with_fences(cluster, move.source, move.tables, fenced=True)
        cluster = cluster.with_workflow(
            replace(workflow, state=StreamState.STOPPED, message="FROZEN", frozen=True, cutover="", lag=None)
        )
        if move.reverse_replication:
            primary = cluster.primary(move.source)
            cluster = cluster.with_workflow(
                Workflow(
                    move.reverse_name,
                    source=move.target,
                    target=move.source,
                    tables=move.tables,
                    state=StreamState.RUNNING,
                    lag=0.0,
                    copies=tuple(
                        TableCopy(t.name, t.rows, t.rows, done=True)
                        for t in tables_in(cluster, move.target, move.tables)
                    ),
                    tablet=primary.alias if primary is not None else "",
                )
            )
        ends = (move.source, move.target, move.tables)
        return replace(
            without_switching(cluster, self),
            routing_rules=with_writes_at(cluster.routing_rules, *ends, move.target),
            mirror_rules=with_mirror(cluster.mirror_rules, *ends, 0.0, (TabletType.PRIMARY,)),
        )

    def describe(self) -> tuple[str, ...]:
        """Vitess's dry run of SwitchTraffic for writes."""
        move, tables = self.move, self.tables_text
        back = move.reverse_replication
        source = f"tablet:{self.source_uid}" if self.source_uid else self.source_parts()
        target = f"tablet:{self.target_uid}" if self.target_uid else self.target_parts()
        frozen = f"{self.target_parts()};workflow:{move.name}{database_part(self.target_database)}"
        return self.locked(
            f"Stop writes on keyspace {move.source} for tables {tables}: [keyspace:{move.source};shard:0]",
            f"Wait for vreplication on stopped streams to catchup for up to {move.timeout:g}s",
            *((f"Create reverse vreplication workflow {move.reverse_name}",) if back else ()),
            "Create journal entries on source databases",
            f"Enable writes on keyspace {move.target} for tables {tables}",
            f"Switch routing from keyspace {move.source} to keyspace {move.target}",
            f"Routing rules for tables {tables} will be updated",
            f"Switch writes completed, freeze and delete vreplication streams on: [{target}]",
            *((f"Start reverse vreplication streams on: [{source}]",) if back else ()),
            f"Mark vreplication streams frozen on: [{frozen}]",
        )


def without_switching(cluster: Cluster, step: MoveStep) -> Cluster:
    """`cluster` with nothing of the move of `step` being switched."""
    move = step.move
    keyspaces = (move.source, move.target)
    names = {move.name, *move.tables, *(f"{k}.{n}" for k in keyspaces for n in (move.name, *move.tables))}
    return replace(cluster, switching=tuple(name for name in cluster.switching if name not in names))
