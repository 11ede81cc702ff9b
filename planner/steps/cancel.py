"""cancel: gives a move up before its writes were switched."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.checks import primary_answers, refuse
from planner.checks_workflow import completed, exists
from planner.cluster import Cluster
from planner.moves import forward, is_completed, leftovers, tables_in, unfinished_cutover, writes_left_source
from planner.routing import with_mirror, without_move
from planner.step import Action, Refusal
from planner.steps.base import MoveStep, with_fences, without_tables


@dataclass(frozen=True)
class Cancel(MoveStep):
    """Drop the target tables, the workflow, the fences and the rules; the source tables are not touched.

    Without a workflow it only clears what an interruption left behind: fenced tables in the target are copies of ours.
    """

    kind = "cancel"
    action = Action.DROP
    summary = "gives a move up: target tables, workflow and rules are removed, the source is not touched"

    def done(self, cluster: Cluster) -> bool:
        """True when there is neither a workflow nor anything left of one."""
        return forward(cluster, self.move) is None and not leftovers(cluster, self.move)

    def ready(self, cluster: Cluster) -> tuple[Refusal, ...]:
        """Refuses once writes were switched: the target then has the only current rows."""
        move = self.move
        if is_completed(cluster, move):
            return (completed(move),)
        found: list[Refusal] = [*primary_answers(cluster, (move.source, move.target))]
        if forward(cluster, move) is None:
            return tuple(found)
        found.extend(exists(cluster, move))
        if writes_left_source(cluster, move):
            text = "cannot delete workflow because you have already switched write traffic"
            hint = f"set state: running for {move.name} and apply first, which brings the writes back"
            found.append(refuse("MT407", text, "writes at the source", hint))
        elif phase := unfinished_cutover(cluster, move):
            text = f"the cutover of {self.subject} is unfinished (phase {phase})"
            found.append(refuse("MT412", text, "a finished cutover", "set state: running and apply first"))
        return tuple(found)

    def effect(self, cluster: Cluster) -> Cluster:
        """As before the move was created."""
        move = self.move
        ours = forward(cluster, move) is not None
        copies = tuple(t.name for t in tables_in(cluster, move.target, move.tables) if ours or t.fenced)
        cluster = with_fences(cluster, move.target, move.tables, fenced=False)
        cluster = with_fences(cluster, move.source, move.tables, fenced=False)
        target = cluster.keyspace(move.target)
        if target is not None:
            cluster = cluster.with_keyspace(without_tables(target, copies))
        cluster = cluster.without_workflow(move.target, move.name).without_workflow(move.source, move.reverse_name)
        return replace(
            cluster,
            routing_rules=without_move(cluster.routing_rules, move.source, move.target, move.tables),
            mirror_rules=with_mirror(cluster.mirror_rules, move.source, move.target, move.tables, 0.0),
        )

    def describe(self) -> tuple[str, ...]:
        """In the manner of Vitess's Complete."""
        move, tables = self.move, self.tables_text
        return self.locked(
            f"Delete vreplication streams on targets: [{self.target_parts()};workflow:{move.name}]",
            f"Dropping tables {tables} from keyspace {move.target}; those in keyspace {move.source} are not touched",
            f"Denied tables records on {tables} will be removed from: [{self.target_parts()}]",
            "Routing rules for participating tables will be deleted",
        )
