"""Desired against live: the steps that are missing, found by folding each over the simulated cluster."""

from __future__ import annotations

from dataclasses import replace

from planner.checks import answers, refuse
from planner.checks_workflow import collision, completed
from planner.cluster import Cluster, TabletType, Workflow
from planner.document import DesiredKeyspace, Move, MoveState, SourceTables
from planner.moves import (
    all_reads_switched,
    completed_record,
    forward,
    is_clean,
    is_completed,
    live_state,
    read_types_switched,
    reverse,
    same_move,
    tables_in,
    unfinished_cutover,
    writes_left_source,
)
from planner.simulation import Simulation
from planner.steps.add_keyspace import AddKeyspace
from planner.steps.add_tablet import AddTablet
from planner.steps.apply_schema import ApplySchema
from planner.steps.base import MoveStep
from planner.steps.cancel import Cancel
from planner.steps.complete import Complete
from planner.steps.create_workflow import CreateWorkflow
from planner.steps.delete_keyspace import DeleteKeyspace
from planner.steps.mirror_traffic import MirrorTraffic
from planner.steps.promote_primary import PromotePrimary
from planner.steps.remove_tablet import RemoveTablet
from planner.steps.reverse_reads import ReverseReads
from planner.steps.reverse_writes import ReverseWrites
from planner.steps.start_tablet import StartTablet
from planner.steps.start_workflow import StartWorkflow
from planner.steps.stop_workflow import StopWorkflow
from planner.steps.switch_reads import SwitchReads
from planner.steps.switch_writes import SwitchWrites
from planner.steps.vdiff import VDiff
from planner.steps.wait_running import WaitRunning

_FATE = {
    SourceTables.DROP: "dropped",
    SourceTables.RENAME: "renamed to _<table>_old",
    SourceTables.KEEP: "kept, out of use",
}


def keyspace_steps(sim: Simulation, desired: DesiredKeyspace) -> tuple[str, ...]:
    """Add what `desired` lacks: servers, keyspace, tablets, PRIMARY, schema. Returns the ids that others wait for."""
    keyspace = sim.cluster.keyspace(desired.name)
    if keyspace is None:
        hint = f"define {desired.name} under keyspaces: in the inventory"
        found = f"keyspace {desired.name} is not in the inventory"
        sim.refuse(refuse("MT101", found, "a keyspace of the inventory", hint), f"keyspace {desired.name}")
        return ()
    last: tuple[str, ...] = ()
    add = AddKeyspace(desired.name, keyspace.database)
    if add.done(sim.cluster):
        sim.unchanged.append(f"keyspace {desired.name}")
    else:
        last = (sim.add(add, (), "live: not in the topology"),)
    tablets: list[str] = []
    for alias in sorted(desired.tablets):
        tablets.extend(_tablet_steps(sim, desired.name, alias, last))
    last = tuple(tablets) or last
    last = _promote(sim, desired, last)
    if desired.initial_schema is not None:
        schema = desired.initial_schema
        step = ApplySchema(desired.name, keyspace.database, schema.file, schema.sql)
        if not step.done(sim.cluster):
            last = (sim.add(step, last, f"live: database {keyspace.database} has no tables"),)
    return last


def _tablet_steps(sim: Simulation, keyspace: str, alias: str, last: tuple[str, ...]) -> tuple[str, ...]:
    tablet = sim.cluster.tablet(alias)
    if tablet is None:
        hint = "define it under tablets: in the inventory"
        found = f"tablet {alias} is not in the inventory"
        sim.refuse(refuse("MT102", found, "a tablet of the inventory", hint), f"keyspace {keyspace}")
        return ()
    ids: tuple[str, ...] = ()
    start = StartTablet(alias, keyspace, tablet.host, tablet.port)
    if tablet.managed and not start.done(sim.cluster):
        ids = (sim.add(start, (), "live: the server does not run"),)
    add = AddTablet(alias, keyspace, tablet.type, tablet.host, tablet.port)
    if not add.done(sim.cluster):
        return (sim.add(add, (*last, *ids), "live: not in the topology"),)
    if not ids:
        sim.unchanged.append(f"tablet {alias}")
    return ids


def _promote(sim: Simulation, desired: DesiredKeyspace, last: tuple[str, ...]) -> tuple[str, ...]:
    if not desired.tablets or PromotePrimary(desired.name, "").done(sim.cluster):
        return last
    candidates = [
        tablet
        for tablet in sim.cluster.tablets_of(desired.name)
        if tablet.registered and tablet.type is not TabletType.RDONLY
    ]
    if not candidates:
        hint = f"list a REPLICA tablet under keyspaces: {desired.name}: {{tablets: [...]}}"
        found = f"none of the tablets of keyspace {desired.name} can become its PRIMARY"
        sim.refuse(refuse("MT103", found, "at least one REPLICA tablet", hint), f"keyspace {desired.name}")
        return last
    chosen = min(candidates, key=lambda t: (t.type is not TabletType.PRIMARY, not answers(t), t.alias))
    return (sim.add(PromotePrimary(desired.name, chosen.alias), last, "live: no PRIMARY"),)


def removal_steps(sim: Simulation, desired: DesiredKeyspace, last: tuple[str, ...]) -> tuple[str, ...]:
    """Add what `desired` wants gone: its absent tablets, or the whole keyspace, the PRIMARY last."""
    registered = [tablet for tablet in sim.cluster.tablets_of(desired.name) if tablet.registered]
    if not desired.absent:
        gone = [tablet for tablet in registered if tablet.alias in desired.absent_tablets]
        return tuple(sim.add(RemoveTablet(tablet.alias, desired.name), last, "desired: absent") for tablet in gone)
    delete = DeleteKeyspace(desired.name)
    if delete.done(sim.cluster) and not registered:
        sim.unchanged.append(f"keyspace {desired.name} is absent")
        return ()
    primaries = [tablet for tablet in registered if tablet.type is TabletType.PRIMARY]
    others = [tablet for tablet in registered if tablet.type is not TabletType.PRIMARY]
    for group in (others, primaries):
        ids = tuple(sim.add(RemoveTablet(t.alias, desired.name), last, "desired: absent") for t in group)
        last = ids or last
    return (sim.add(delete, last, "desired: absent"),)


class _Chain:
    """The steps of one move, each after the one before."""

    def __init__(self, sim: Simulation, move: Move, after: tuple[str, ...]) -> None:
        self.sim, self.move, self.last = sim, move, after
        source, target = sim.cluster.keyspace(move.source), sim.cluster.keyspace(move.target)
        primaries = (sim.cluster.primary(move.source), sim.cluster.primary(move.target))
        self.source_database = source.database if source else ""
        self.target_database = target.database if target else ""
        self.source_uid, self.target_uid = (primary.uid if primary else 0 for primary in primaries)

    def add(self, step: MoveStep, reason: str) -> None:
        """Append `step` unless the simulated cluster is already as it would leave it."""
        if not step.done(self.sim.cluster):
            made = replace(
                step,
                source_database=self.source_database,
                target_database=self.target_database,
                source_uid=self.source_uid,
                target_uid=self.target_uid,
            )
            self.last = (self.sim.add(made, self.last, reason),)


def move_steps(sim: Simulation, move: Move, after: tuple[str, ...]) -> tuple[str, ...]:
    """Add the steps that take `move`, with resolved tables, from where it stands to its state. Returns the last id."""
    live = live_state(sim.cluster, move)
    workflow = forward(sim.cluster, move)
    if workflow is not None and not same_move(workflow, move):
        sim.refuse(collision(workflow, move), f"move {move.name}")
        return ()
    if live is MoveState.COMPLETED and move.state is MoveState.ABSENT and completed_record(sim.cluster, move) is None:
        sim.unchanged.append(f"move {move.name} is absent")  # its tables came to the target by other means
        return ()
    if live is MoveState.COMPLETED and move.state is not MoveState.COMPLETED:
        sim.refuse(completed(move), f"move {move.name}")
        return ()
    chain = _Chain(sim, move, after)
    if live is MoveState.COMPLETED:
        chain.add(Complete(chain.move), "live: completed, but an interruption left fences or rules behind")
    else:
        _down(chain, f"live: {_standing(sim.cluster, move)}; desired: {move.state.text}")
        _up(chain, f"live: {_standing(sim.cluster, move)}; desired: {move.state.text}")
    if chain.last == after:
        sim.unchanged.append(f"move {move.name} is {live.text}")
        return ()
    return chain.last


def _standing(cluster: Cluster, move: Move) -> str:
    """Where the move stands, in words for the reason of a step."""
    if phase := unfinished_cutover(cluster, move):
        return f"a cutover that stopped at {phase}"
    workflow = forward(cluster, move)
    if workflow is not None and workflow.message and not workflow.frozen:
        return f"{live_state(cluster, move).text} ({workflow.state}: {workflow.message})"
    return live_state(cluster, move).text


def _down(chain: _Chain, reason: str) -> None:
    """Steps back, as far as the desired state asks for."""
    sim, move, want = chain.sim, chain.move, chain.move.state
    refused = want is MoveState.ABSENT and writes_left_source(sim.cluster, move)
    if refused:
        chain.add(Cancel(chain.move), reason)
        return
    _start_reverse(chain)
    if want < MoveState.SWITCHED and forward(sim.cluster, move) is not None:
        chain.add(ReverseWrites(chain.move), reason)
    if want < MoveState.READS_SWITCHED and read_types_switched(sim.cluster, move) and forward(sim.cluster, move):
        chain.add(ReverseReads(chain.move), reason)
    if want is MoveState.CREATED:
        chain.add(StopWorkflow(chain.move), reason)
    if want is MoveState.ABSENT:
        chain.add(Cancel(chain.move), reason)


def _start_reverse(chain: _Chain) -> None:
    """Start the reverse stream if it stands still, unless there is nothing left for it to write to."""
    cluster, move = chain.sim.cluster, chain.move
    back = reverse(cluster, move)
    here = len(tables_in(cluster, move.source, move.tables)) == len(move.tables)
    if back is not None and here and not unfinished_cutover(cluster, move):
        message = f": {back.message}" if back.message else ""
        chain.add(StartWorkflow(move, reverse=True), f"live: {back.state}{message}")


def _up(chain: _Chain, reason: str) -> None:
    """Steps forward, as far as the desired state asks for."""
    sim, move, want = chain.sim, chain.move, chain.move.state
    if want is MoveState.ABSENT:
        return
    chain.add(CreateWorkflow(chain.move), reason)
    cutting_over = bool(unfinished_cutover(sim.cluster, move))
    if want >= MoveState.RUNNING and not cutting_over and not writes_left_source(sim.cluster, move):
        chain.add(StartWorkflow(chain.move), reason)
        chain.add(WaitRunning(chain.move), "a move is running once everything is copied")
    if want >= MoveState.READS_SWITCHED and not all_reads_switched(sim.cluster, move):
        _verify(chain)
        chain.add(SwitchReads(chain.move), reason)
    if want >= MoveState.SWITCHED:
        if not SwitchWrites(move).done(sim.cluster):
            _verify(chain)
        one_way = "" if move.reverse_replication else "; no way back, because reverse_replication is off"
        chain.add(SwitchWrites(chain.move), reason + one_way)
    if want is MoveState.COMPLETED:
        _verify_reverse(chain)
        tables = ", ".join(move.tables)
        chain.add(Complete(move), f"{reason}; {tables} of {move.source} will be {_FATE[move.source_tables]}")
    elif forward(sim.cluster, move) is not None:
        chain.add(MirrorTraffic(chain.move), f"desired: mirror {MirrorTraffic(move).percent:g} percent")


def _verify(chain: _Chain) -> None:
    cluster, move = chain.sim.cluster, chain.move
    if move.verify_before_switch and not writes_left_source(cluster, move) and not unfinished_cutover(cluster, move):
        reason = _why_vdiff(forward(cluster, move), move)
        chain.add(VDiff(move, move.name, move.target), reason)


def _verify_reverse(chain: _Chain) -> None:
    cluster, move = chain.sim.cluster, chain.move
    workflow = reverse(cluster, move)
    if not move.verify_before_switch or workflow is None or not tables_in(cluster, move.source, move.tables):
        return
    if not is_completed(cluster, move):
        chain.add(VDiff(move, move.reverse_name, move.source), _why_vdiff(workflow, move))


def _why_vdiff(workflow: Workflow | None, move: Move) -> str:
    vdiff = workflow.vdiff if workflow is not None else None
    if vdiff is None:
        return "verify: before_switch; live: not verified yet"
    if vdiff.has_mismatch:
        return f"verify: before_switch; live: VDiff {vdiff.uuid} found differences"
    if not is_clean(vdiff, float("inf")):
        return f"verify: before_switch; live: VDiff {vdiff.uuid} is {vdiff.state}"
    return f"verify: before_switch; live: the last clean VDiff is older than {int(move.verify_max_age)}s"
