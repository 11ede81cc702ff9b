"""Makes the plan: desired state and live cluster in, all that a reviewer needs out. Same inputs, same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner import fingerprint as prints
from planner import translation
from planner.checks import answers, where
from planner.cluster import Cluster
from planner.diff import keyspace_steps, move_steps, removal_steps
from planner.document import Document, Move, MoveState
from planner.graph import ordered, waves
from planner.moves import forward, live_state, resolve
from planner.routing import as_mapping, traffic_state
from planner.simulation import Simulation
from planner.step import Action, Refusal, Step
from planner.steps.create_workflow import CreateWorkflow
from planner.translation import Note


@dataclass(frozen=True)
class MovePlan:
    """One move of the plan: `move` with resolved tables, where it stands, its traffic before and after, its steps."""

    move: Move
    live: MoveState
    traffic_before: str
    traffic_after: str
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, order=True)
class RoutingChange:
    """A routing rule that the plan changes; "" stands for no rule."""

    from_table: str
    before: str
    after: str


@dataclass(frozen=True)
class Summary:
    """How many steps there are of each action, and how many cannot be undone."""

    create: int = 0
    change: int = 0
    move: int = 0
    verify: int = 0
    drop: int = 0
    irreversible: int = 0

    def line(self) -> str:
        """``Plan: 3 to create, 1 to change, 2 to move, 1 to verify, 0 to drop. 1 irreversible.``"""
        counts = ", ".join(f"{getattr(self, action)} to {action}" for action in Action)
        return f"Plan: {counts}. {self.irreversible} irreversible."


@dataclass(frozen=True)
class Plan:
    """All that was decided. `steps` are in topological order, by wave and then by id.

    `unchanged` names what is already as desired, `drift` what differs from its records but is left alone, `notes` what
    the moves that it begins translate for another kind of server. `keyspaces` and the moves are the scope of `facts`.
    """

    document: str
    file: str
    cluster: str
    document_sha256: str
    steps: tuple[Step, ...]
    refusals: tuple[Refusal, ...]
    unchanged: tuple[str, ...]
    drift: tuple[str, ...]
    keyspaces: tuple[str, ...]
    moves: tuple[MovePlan, ...]
    routing: tuple[RoutingChange, ...]
    facts: Mapping[str, Any]
    fingerprint: str
    notes: tuple[Note, ...] = ()

    @property
    def waves(self) -> tuple[tuple[str, ...], ...]:
        """Step ids by wave."""
        return waves(self.steps)

    @property
    def summary(self) -> Summary:
        """The counts of the summary line."""
        counts = {action.value: sum(step.action is action for step in self.steps) for action in Action}
        return Summary(**counts, irreversible=sum(step.irreversible for step in self.steps))

    @property
    def applyable(self) -> bool:
        """True when there is something to do and nothing speaks against it."""
        return bool(self.steps) and not self.refusals

    def stale(self, cluster: Cluster) -> tuple[tuple[str, Any, Any], ...]:
        """``(fact, then, now)`` for every fact of this plan that differs on `cluster`; empty when it still holds."""
        return prints.differences(self.facts, prints.facts(cluster, self.keyspaces, [m.move for m in self.moves]))


def plan(document: Document, cluster: Cluster) -> Plan:
    """The steps that take `cluster` to what `document` asks for, with every refusal found on the way.

    Pure: equal inputs give equal plans. Raises `planner.graph.CycleError` if steps wait for each other.
    """
    sim = Simulation(cluster)
    waiting: dict[str, tuple[str, ...]] = {}
    for desired in document.keyspaces:
        if not desired.absent:
            waiting[desired.name] = keyspace_steps(sim, desired)
    moves: list[MovePlan] = []
    notes: list[Note] = []
    holders: dict[tuple[str, str], tuple[str, ...]] = {}
    for asked in document.moves:
        move = resolve(sim.cluster, asked)
        before = sim.cluster
        live = live_state(before, move)
        first = len(sim.steps)
        shared = [(keyspace, table) for keyspace in (move.source, move.target) for table in move.tables]
        after = (*waiting.get(move.source, ()), *waiting.get(move.target, ()))
        after += tuple(step for place in shared for step in holders.get(place, ()))
        last = move_steps(sim, move, tuple(sorted(set(after))))
        if last:
            holders.update(dict.fromkeys(shared, last))
        if any(isinstance(step, CreateWorkflow) for step in sim.steps[first:]):
            notes.extend(translation.notes(before, move))
        ids = tuple(step.id for step in sim.steps[first:])
        moves.append(MovePlan(move, live, _traffic(before, move), _traffic(sim.cluster, move), ids))
    _remove(sim, document, waiting, moves)
    steps = ordered(sim.steps)
    keyspaces = tuple(sorted(keyspace.name for keyspace in document.keyspaces))
    found = prints.facts(cluster, keyspaces, [m.move for m in moves])
    return Plan(
        document=document.name,
        file=document.file,
        cluster=cluster.name,
        document_sha256=document.source_bytes_sha256,
        steps=steps,
        refusals=tuple(sim.refusals),
        unchanged=tuple(sim.unchanged),
        drift=_drift(document, cluster, moves),
        keyspaces=keyspaces,
        moves=tuple(moves),
        routing=_routing(cluster, sim.cluster),
        facts=found,
        fingerprint=prints.fingerprint(document.source_bytes_sha256, found, steps),
        notes=tuple(notes),
    )


def _remove(sim: Simulation, document: Document, waiting: dict[str, tuple[str, ...]], moves: list[MovePlan]) -> None:
    for desired in document.keyspaces:
        after = list(waiting.get(desired.name, ()))
        for made in moves:
            if made.steps and desired.name in (made.move.source, made.move.target):
                after.append(made.steps[-1])
        removal_steps(sim, desired, tuple(after))


def _traffic(cluster: Cluster, move: Move) -> str:
    """Vitess's sentence while there is a workflow; before and after it, who serves the tables."""
    live = live_state(cluster, move)
    if live is MoveState.ABSENT:
        return f"Not moved, served by {move.source}"
    if live is MoveState.COMPLETED:
        return f"Moved, served by {move.target}"
    return traffic_state(cluster.routing_rules, move.source, move.target, move.tables)


def _routing(before: Cluster, after: Cluster) -> tuple[RoutingChange, ...]:
    old, new = as_mapping(before.routing_rules), as_mapping(after.routing_rules)
    return tuple(
        RoutingChange(name, old.get(name, ""), new.get(name, ""))
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    )


def _drift(document: Document, cluster: Cluster, moves: list[MovePlan]) -> tuple[str, ...]:
    found: list[str] = []
    for desired in document.keyspaces:
        for tablet in cluster.tablets_of(desired.name):
            if tablet.registered and not tablet.managed and not answers(tablet):
                found.append(f"tablet {where(tablet)} is registered but does not answer")
    for made in moves:
        move = made.move
        workflow = forward(cluster, move)
        places = {f"{keyspace}.{table}" for keyspace in (move.source, move.target) for table in move.tables}
        for rule in cluster.routing_rules if workflow is not None else ():
            name = rule.from_table.partition("@")[0]
            if (name in places or name in move.tables) and rule.to_table not in places:
                found.append(f"routing rule {rule.from_table} points to {rule.to_table}, outside of move {move.name}")
    return tuple(sorted(set(found)))
