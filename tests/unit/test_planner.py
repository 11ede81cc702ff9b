"""Plans of single situations: the path, the refusals with what to type next, the facts that make a plan stale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from planner.checks import CODES, is_verification
from planner.checks_special import WITHOUT_OVERLAPS
from planner.cluster import (
    Cluster,
    Column,
    CompletedMove,
    ForeignKey,
    Key,
    Keyspace,
    StreamState,
    TableCopy,
    TabletType,
    VDiffSummary,
)
from planner.document import DesiredKeyspace, Move, MoveState, SourceTables
from planner.graph import CycleError, MissingStepError, waves
from planner.moves import forward, live_state, reverse
from planner.plan import plan
from planner.routing import traffic_state, with_reads_at
from planner.step import Step
from planner.steps.add_keyspace import AddKeyspace
from planner.steps.complete import Complete
from planner.steps.promote_primary import PromotePrimary
from planner.steps.registry import STEP_KINDS, UnknownStep, from_json, to_json
from planner.steps.switch_reads import SwitchReads
from planner.steps.switch_writes import SwitchWrites
from planner.steps.vdiff import VDiff
from tests.unit.worlds import (
    COMMERCE_TABLETS,
    CUSTOMER_TABLETS,
    MOVE,
    SCHEMA,
    applied,
    at,
    both,
    codes,
    commerce_only,
    document,
    fold,
    fresh,
    kinds,
    table,
    tablets,
)

NO_KEYSPACES: tuple[DesiredKeyspace, ...] = ()


def with_tables(cluster: Cluster, keyspace: str, *tables: Any) -> Cluster:
    found = cluster.keyspace(keyspace)
    assert found is not None
    kept = [t for t in found.tables if t.name not in {new.name for new in tables}]
    return cluster.with_keyspace(replace(found, tables=tuple(sorted((*kept, *tables)))))


def with_others(cluster: Cluster, keyspace: str, *others: tuple[str, str]) -> Cluster:
    """`cluster` with views and the like in the place of tables of those names."""
    found = cluster.keyspace(keyspace)
    assert found is not None
    kept = tuple(t for t in found.tables if t.name not in dict(others))
    return cluster.with_keyspace(replace(found, tables=kept, others=others))


def with_server(cluster: Cluster, alias: str, **changes: Any) -> Cluster:
    tablet = cluster.tablet(alias)
    assert tablet is not None
    assert tablet.server is not None
    return cluster.with_tablet(replace(tablet, server=replace(tablet.server, **changes)))


def with_workflow(cluster: Cluster, **changes: Any) -> Cluster:
    workflow = forward(cluster, MOVE)
    assert workflow is not None
    return cluster.with_workflow(replace(workflow, **changes))


SOURCE, TARGET = COMMERCE_TABLETS[0], CUSTOMER_TABLETS[0]


def test_the_whole_way_from_nothing_is_one_plan() -> None:
    made = plan(document(replace(MOVE, state=MoveState.COMPLETED)), fresh())
    assert made.refusals == ()
    assert kinds(made)[-9:] == [
        "apply_schema",
        "create_workflow",
        "start_workflow",
        "wait_running",
        "vdiff",
        "switch_reads",
        "switch_writes",
        "vdiff",
        "complete",
    ]
    end = fold(fresh(), made.steps)
    assert [t.name for t in end.keyspaces[0].tables] == ["product"]
    assert [t.name for t in end.keyspaces[1].tables] == ["corder", "customer"]
    assert (end.routing_rules, end.workflows) == ((), ())
    assert not any(keyspace.denied_tables for keyspace in end.keyspaces)
    assert made.summary.line() == "Plan: 16 to create, 3 to change, 2 to move, 3 to verify, 1 to drop. 1 irreversible."


def test_writes_go_back_with_a_reverse_traffic() -> None:
    made = plan(document(replace(MOVE, state=MoveState.RUNNING)), at(MoveState.SWITCHED))
    assert kinds(made) == ["reverse_writes", "reverse_reads"]
    end = fold(at(MoveState.SWITCHED), made.steps)
    assert end == at(MoveState.RUNNING).with_workflow(replace(end.workflows[0]))


def test_phases_set_the_rules_and_fences_that_vitess_sets() -> None:
    running, reads, switched = at(MoveState.RUNNING), at(MoveState.READS_SWITCHED), at(MoveState.SWITCHED)
    assert [len(cluster.routing_rules) for cluster in (running, reads, switched)] == [18, 18, 16]
    ends = (MOVE.source, MOVE.target, MOVE.tables)
    assert traffic_state(reads.routing_rules, *ends) == "All Reads Switched. Writes Not Switched"
    assert traffic_state(switched.routing_rules, *ends) == "All Reads Switched. Writes Switched"
    for cluster, denied in ((running, ("", "corder customer")), (switched, ("corder customer", ""))):
        assert tuple(" ".join(keyspace.denied_tables) for keyspace in cluster.keyspaces) == denied
        for keyspace, names in zip(cluster.keyspaces, denied, strict=True):
            assert [t.name for t in keyspace.tables if t.fenced] == names.split()


@pytest.mark.parametrize(
    ("fate", "left"),
    [
        (SourceTables.DROP, ["product"]),
        (SourceTables.RENAME, ["_corder_old", "_customer_old", "product"]),
        (SourceTables.KEEP, ["corder", "customer", "product"]),
    ],
)
def test_completing_drops_renames_or_keeps_the_source_tables(fate: SourceTables, left: list[str]) -> None:
    end = at(MoveState.COMPLETED, replace(MOVE, source_tables=fate))
    source = end.keyspace("commerce")
    assert source is not None
    assert [t.name for t in source.tables] == left
    assert end.completed == (CompletedMove(MOVE.name, "commerce", "customer", MOVE.tables, fate.value),)


def test_completing_removes_the_rules_unless_they_are_to_be_kept() -> None:
    assert at(MoveState.COMPLETED).routing_rules == ()
    kept = replace(MOVE, keep_routing_rules=True)
    end = at(MoveState.COMPLETED, kept)
    assert end.routing_rules == at(MoveState.SWITCHED).routing_rules
    assert plan(document(replace(kept, state=MoveState.COMPLETED)), end).steps == ()


def test_a_frozen_workflow_without_rules_counts_as_switched_and_can_be_brought_back() -> None:
    cluster = replace(at(MoveState.SWITCHED), routing_rules=())
    assert live_state(cluster, MOVE) is MoveState.SWITCHED
    assert "MT405" in codes(plan(document(MOVE), cluster))
    made = plan(document(replace(MOVE, state=MoveState.RUNNING)), cluster)
    assert (kinds(made), made.refusals) == (["reverse_writes", "create_workflow"], ())
    assert len(fold(cluster, made.steps).routing_rules) == 18


def test_absent_asks_nothing_of_tables_that_came_to_the_target_by_other_means() -> None:
    cluster = replace(at(MoveState.COMPLETED), completed=())
    made = plan(document(replace(MOVE, state=MoveState.ABSENT), keyspaces=NO_KEYSPACES), cluster)
    assert (made.steps, made.refusals) == ((), ())


def test_a_move_back_after_completion_is_an_ordinary_move() -> None:
    back = Move("customer2commerce", "customer", "commerce", MOVE.tables, state=MoveState.COMPLETED)
    end = applied(at(MoveState.COMPLETED), back)
    assert live_state(end, MOVE) is MoveState.ABSENT
    assert [record.name for record in end.completed] == ["customer2commerce"]
    assert live_state(applied(end, replace(MOVE, state=MoveState.COMPLETED)), MOVE) is MoveState.COMPLETED


def test_tables_that_live_in_the_target_alone_count_as_completed() -> None:
    cluster = replace(at(MoveState.COMPLETED), completed=())
    made = plan(document(replace(MOVE, state=MoveState.COMPLETED), keyspaces=NO_KEYSPACES), cluster)
    assert (made.steps, made.refusals) == ((), ())


@pytest.mark.parametrize("state", [MoveState.ABSENT, MoveState.CREATED, MoveState.RUNNING, MoveState.SWITCHED])
def test_going_back_from_completed_is_refused_with_the_way_back(state: MoveState) -> None:
    made = plan(document(replace(MOVE, state=state)), at(MoveState.COMPLETED))
    assert codes(made) == ["MT409"]
    assert "source: customer and target: commerce" in made.refusals[0].hint


def test_cancelling_after_the_switch_is_refused_in_vitess_words() -> None:
    made = plan(document(replace(MOVE, state=MoveState.ABSENT)), at(MoveState.SWITCHED))
    assert codes(made) == ["MT407"]
    assert made.refusals[0].found == "cannot delete workflow because you have already switched write traffic"
    assert "state: running" in made.refusals[0].hint
    assert kinds(made) == ["cancel"]


def test_reversing_without_reverse_replication_is_refused() -> None:
    one_way = replace(MOVE, reverse_replication=False)
    cluster = at(MoveState.SWITCHED, one_way)
    assert reverse(cluster, MOVE) is None
    made = plan(document(replace(one_way, state=MoveState.RUNNING)), cluster)
    assert codes(made) == ["MT410"]
    assert made.refusals[0].found == "no streams found in keyspace commerce for commerce2customer_reverse"


def test_a_primary_that_does_not_answer_is_not_taken_for_one_without_streams() -> None:
    cluster = at(MoveState.SWITCHED)
    primary = cluster.primary("commerce")
    assert primary is not None
    cluster = cluster.with_tablet(replace(primary, running=False, server=None))
    cluster = cluster.without_workflow("commerce", MOVE.reverse_name)
    made = plan(document(replace(MOVE, state=MoveState.RUNNING)), cluster)
    assert set(codes(made)) == {"MT104"}
    assert all("movetables local up" in refusal.hint for refusal in made.refusals)


def test_a_star_takes_all_tables_but_the_excluded_and_the_set_aside() -> None:
    star = replace(MOVE, tables=("*",), exclude=("product",))
    assert plan(document(star), both()).moves[0].move.tables == ("corder", "customer")
    cluster = at(MoveState.COMPLETED, replace(MOVE, source_tables=SourceTables.RENAME))
    rest = Move("rest", "commerce", "customer", ("*",))
    assert plan(document(rest), cluster).moves[0].move.tables == ("product",)


def test_a_star_keeps_meaning_the_tables_of_the_workflow() -> None:
    cluster = with_tables(at(MoveState.RUNNING), "commerce", table("added_later"))
    star = replace(MOVE, tables=("*",))
    assert plan(document(star), cluster).moves[0].move.tables == ("corder", "customer")
    star = replace(star, state=MoveState.COMPLETED)
    end = fold(cluster, plan(document(star), cluster).steps)
    assert plan(document(star), end).steps == ()


@pytest.mark.parametrize(
    ("code", "break_it", "said"),
    [
        ("MT201", lambda c: with_tables(c, "commerce", table("x")), "did you mean customer?"),
        (
            "MT203",
            lambda c: with_tables(c, "commerce", table("corder", columns=(Column("x", "xmltype", "xmltype"),))),
            "exclude: [corder]",
        ),
        ("MT204", lambda c: with_tables(c, "commerce", table("corder", engine="MyISAM")), "ENGINE=InnoDB"),
        (
            "MT206",
            lambda c: with_tables(
                c,
                "commerce",
                table("corder", foreign_keys=(ForeignKey("fk", ("id",), "vt_commerce", "product"),)),
            ),
            "DROP FOREIGN KEY `fk`",
        ),
        (
            "MT206",
            lambda c: with_tables(
                c,
                "commerce",
                table("product", foreign_keys=(ForeignKey("fk", ("id",), "vt_commerce", "corder"),)),
            ),
            "move product as well",
        ),
        ("MT207", lambda c: with_tables(c, "customer", table("corder", rows=3)), "DROP TABLE `corder`"),
        ("MT207", lambda c: with_tables(c, "customer", table("corder", rows=0)), "DROP TABLE `corder`"),
        ("MT209", lambda c: with_tables(c, "customer", table("corder", fenced=True)), "state: absent"),
        (
            "MT210",
            lambda c: with_tables(c, "commerce", table("corder", triggers=("audit_corder",))),
            "DROP TRIGGER `audit_corder`",
        ),
        (
            "MT211",
            lambda c: with_server(
                with_tables(c, "commerce", table("corder", columns=(Column("u", "uuid", "uuid"),))),
                TARGET,
                flavor="MySQL",
                version="9.7.0",
            ),
            "exclude: [corder]",
        ),
        (
            "MT212",
            lambda c: with_server(
                with_tables(
                    c,
                    "commerce",
                    table("corder", foreign_keys=(ForeignKey("fk", ("id",), "vt_commerce", "customer", True),)),
                ),
                TARGET,
                logs_cascades=False,
            ),
            "DROP FOREIGN KEY `fk`",
        ),
        ("MT207", lambda c: with_others(c, "customer", ("corder", "VIEW")), "drop it on the primary of customer"),
        (
            "MT214",
            lambda c: with_server(
                with_tables(c, "commerce", table("corder", keys=(Key("u", ("id",), unique=True),))),
                TARGET,
                requires_primary_key=True,
            ),
            "SET GLOBAL sql_require_primary_key = OFF",
        ),
        (
            "MT215",
            lambda c: with_tables(c, "commerce", table("corder", special=(WITHOUT_OVERLAPS,))),
            "without the period",
        ),
        ("MT215", lambda c: with_others(c, "commerce", ("corder", "SYSTEM VERSIONED")), "DROP SYSTEM VERSIONING"),
        ("MT310", lambda c: with_server(c, TARGET, lower_case_table_names=1), "made with 0"),
        (
            "MT311",
            lambda c: with_server(
                with_server(c, SOURCE, max_allowed_packet=64 << 20),
                TARGET,
                max_allowed_packet=16 << 20,
                local_infile=False,
            ),
            "SET GLOBAL local_infile = 1, or SET GLOBAL max_allowed_packet = 67108864",
        ),
        ("MT301", lambda c: with_server(c, SOURCE, log_bin=False), "restart"),
        ("MT302", lambda c: with_server(c, SOURCE, binlog_format="STATEMENT"), "SET GLOBAL binlog_format = 'ROW'"),
        ("MT303", lambda c: with_server(c, TARGET, binlog_row_image="MINIMAL"), "binlog_row_image = 'FULL'"),
        ("MT304", lambda c: with_server(c, SOURCE, binlog_row_metadata="NO_LOG"), "binlog_row_metadata = 'FULL'"),
        ("MT305", lambda c: with_server(c, SOURCE, binlog_order_commits=False), "binlog_order_commits = 'ON'"),
        ("MT306", lambda c: with_server(c, SOURCE, gtid=False), "gtid_mode"),
        (
            "MT307",
            lambda c: with_server(c, SOURCE, missing_privileges=("REPLICATION SLAVE",)),
            "GRANT REPLICATION SLAVE ON *.*",
        ),
        ("MT308", lambda c: with_server(c, TARGET, read_only=True), "SET GLOBAL read_only = 0"),
        ("MT309", lambda c: with_server(c, TARGET, free_bytes=49151), "free some space"),
        ("MT104", lambda c: with_server(c, SOURCE, error="connection refused"), "movetables local up"),
        ("MT105", lambda c: with_server(c, SOURCE, flavor="MySQL", version="8.0.36"), "upgrade"),
        ("MT105", lambda c: with_server(c, TARGET, version="10.5.1-MariaDB"), "upgrade"),
        ("MT103", lambda c: c.with_tablet(replace(c.tablets[0], type=TabletType.REPLICA)), "keyspaces:"),
    ],
)
def test_what_cannot_be_moved_is_refused_with_what_to_type(
    code: str, break_it: Callable[[Cluster], Cluster], said: str
) -> None:
    move = replace(MOVE, tables=("corder", "custmer" if code == "MT201" else "customer"))
    made = plan(document(move, keyspaces=NO_KEYSPACES), break_it(both()))
    assert codes(made) == [code]
    assert said in made.refusals[0].hint
    assert not made.applyable
    assert "switch_writes" in kinds(made)


@pytest.mark.parametrize("keyspace", ["commerce", "customer"])
def test_triggers_that_were_made_while_tables_move_refuse_the_switch(keyspace: str) -> None:
    move = replace(MOVE, state=MoveState.SWITCHED)
    cluster = at(MoveState.RUNNING)
    found = cluster.keyspace(keyspace)
    assert found is not None
    tables = [replace(t, triggers=("audit",)) if t.name == "corder" else t for t in found.tables]
    made = plan(document(move), cluster.with_keyspace(replace(found, tables=tuple(tables))))
    assert [(r.code, r.step) for r in made.refusals] == [("MT210", "switch_writes:customer.commerce2customer")]


@pytest.mark.parametrize(
    ("name", "code"),
    [("corder@replica", "MT213"), ("customer.corder", "MT213"), ("a" * 60, "MT216"), ("a.b", None), ("a" * 59, None)],
)
def test_names_that_rules_or_renaming_cannot_carry_are_refused(name: str, code: str | None) -> None:
    move = replace(MOVE, tables=(name,), source_tables=SourceTables.RENAME)
    made = plan(document(move, keyspaces=NO_KEYSPACES), with_tables(both(), "commerce", table(name)))
    assert codes(made) == ([code] if code else [])


def test_all_tables_means_sequences_too_and_not_views() -> None:
    cluster = with_others(both(), "commerce", ("made", "SEQUENCE"), ("seen", "VIEW"))
    move = replace(MOVE, tables=("*",))
    made = plan(document(move, keyspaces=NO_KEYSPACES), cluster)
    assert [(r.code, "commerce.made is of kind SEQUENCE" in r.found) for r in made.refusals] == [("MT215", True)]
    assert plan(document(replace(move, exclude=("made",)), keyspaces=NO_KEYSPACES), cluster).refusals == ()


def test_all_refusals_are_reported_at_once() -> None:
    cluster = with_tables(both(), "commerce", table("corder", engine="MyISAM", keys=()), table("product", keys=()))
    cluster = with_server(with_server(cluster, SOURCE, binlog_format="STATEMENT"), TARGET, binlog_row_image="MINIMAL")
    made = plan(document(replace(MOVE, tables=("corder", "product", "ghost"))), cluster)
    assert sorted(codes(made)) == ["MT201", "MT204", "MT302", "MT303"]


def test_the_targets_binlog_matters_only_for_the_reverse_stream() -> None:
    cluster = with_server(both(), TARGET, log_bin=False)
    assert plan(document(replace(MOVE, reverse_replication=False)), cluster).refusals == ()


def test_a_table_is_in_one_workflow_only() -> None:
    other = Move("other", "commerce", "customer", ("customer", "product"), state=MoveState.RUNNING)
    made = plan(document(MOVE, other), both())
    assert "MT205" in codes(made)
    assert codes(plan(document(other), at(MoveState.RUNNING)))[0] == "MT205"


def test_the_name_of_another_workflow_is_refused() -> None:
    made = plan(document(replace(MOVE, tables=("product",))), at(MoveState.RUNNING))
    assert codes(made) == ["MT401"]
    assert made.steps == ()


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"lag": 31.0}, "MT402", "replication lag 31s is higher than allowed lag 30s"),
        ({"state": StreamState.ERROR, "message": "boom"}, "MT404", "workflow has errors: boom"),
        ({"state": StreamState.STOPPED}, "MT406", "workflow customer.commerce2customer is stopped"),
        ({"copies": (TableCopy("corder", 1, 5, done=False),)}, "MT403", "copy is still in progress"),
        ({"vdiff": VDiffSummary("u", "completed", True, 1.0)}, "MT701", "VDiff u of"),
        ({"vdiff": VDiffSummary("u", "completed", False, 86401.0)}, "MT702", "86401s old"),
        ({"vdiff": VDiffSummary("u", "error", False, 1.0)}, "MT702", "VDiff u of customer.commerce2customer is error"),
        ({"vdiff": None}, "MT702", "has no VDiff"),
    ],
)
def test_the_gate_before_a_switch(changes: dict[str, Any], code: str, reason: str) -> None:
    cluster = with_workflow(at(MoveState.READS_SWITCHED), **changes)
    refusals = SwitchWrites(MOVE).ready(cluster)
    assert [refusal.code for refusal in refusals] == [code]
    assert reason in refusals[0].found
    assert is_verification(refusals[0]) == code.startswith("MT7")


def test_a_workflow_that_cannot_be_read_is_not_said_to_be_gone() -> None:
    gone = at(MoveState.READS_SWITCHED).without_workflow("customer", MOVE.name)
    assert [refusal.code for refusal in SwitchWrites(MOVE).ready(gone)] == ["MT411"]
    silent = with_server(gone, TARGET, error="connection refused")
    assert [refusal.code for refusal in SwitchWrites(MOVE).ready(silent)] == ["MT104"]


def test_a_gate_that_verification_is_not_asked_of_passes() -> None:
    cluster = with_workflow(at(MoveState.READS_SWITCHED), vdiff=VDiffSummary("u", "completed", True, 1.0))
    assert SwitchWrites(replace(MOVE, verify_before_switch=False)).ready(cluster) == ()


def test_reads_are_not_switched_to_tables_that_nothing_has_compared() -> None:
    assert [r.code for r in SwitchReads(MOVE).ready(at(MoveState.RUNNING))] == ["MT702"]


def test_lag_refuses_when_planning_already() -> None:
    made = plan(document(MOVE), with_workflow(at(MoveState.RUNNING), lag=99.9))
    assert codes(made) == ["MT402"]
    assert made.refusals[0].step == "switch_reads:customer.commerce2customer"


def test_a_stream_in_error_is_started_again() -> None:
    cluster = with_workflow(at(MoveState.RUNNING), state=StreamState.ERROR, message="boom")
    made = plan(document(replace(MOVE, state=MoveState.RUNNING)), cluster)
    assert kinds(made) == ["start_workflow"]
    assert "boom" in made.steps[0].reason


def test_completing_before_all_traffic_is_switched_is_refused() -> None:
    refusals = Complete(MOVE).ready(at(MoveState.READS_SWITCHED))
    assert [r.code for r in refusals] == ["MT408"]
    assert "you have not yet switched all read and write traffic" in refusals[0].found


def test_completing_needs_a_comparison_along_the_reverse_workflow() -> None:
    assert [r.code for r in Complete(MOVE).ready(at(MoveState.SWITCHED))] == ["MT702"]
    made = plan(document(replace(MOVE, state=MoveState.COMPLETED)), at(MoveState.SWITCHED))
    assert [step.id for step in made.steps] == [
        "vdiff:commerce.commerce2customer_reverse",
        "complete:customer.commerce2customer",
    ]


def test_half_switched_reads_are_finished_or_taken_back() -> None:
    running = at(MoveState.RUNNING)
    ends = (MOVE.source, MOVE.target, MOVE.tables)
    half = replace(running, routing_rules=with_reads_at(running.routing_rules, *ends, [TabletType.REPLICA], "customer"))
    assert kinds(plan(document(replace(MOVE, state=MoveState.RUNNING)), half)) == ["reverse_reads"]
    assert kinds(plan(document(replace(MOVE, state=MoveState.READS_SWITCHED)), half)) == ["vdiff", "switch_reads"]


def test_an_unfinished_cutover_is_planned_again_in_the_wanted_direction() -> None:
    cluster = with_workflow(at(MoveState.READS_SWITCHED), cutover="fenced", state=StreamState.STOPPED)
    assert live_state(cluster, MOVE) is MoveState.READS_SWITCHED
    assert kinds(plan(document(MOVE), cluster)) == ["switch_writes"]
    back = plan(document(replace(MOVE, state=MoveState.RUNNING)), cluster)
    assert kinds(back) == ["reverse_writes", "reverse_reads"]
    late = with_workflow(at(MoveState.SWITCHED), cutover="journal")
    assert live_state(late, MOVE) < MoveState.SWITCHED
    assert kinds(plan(document(MOVE), late)) == ["switch_writes"]


def test_leftovers_of_an_interrupted_cancel_are_cleared() -> None:
    cluster = at(MoveState.RUNNING).without_workflow("customer", MOVE.name)
    made = plan(document(replace(MOVE, state=MoveState.ABSENT)), cluster)
    assert kinds(made) == ["cancel"]
    assert fold(cluster, made.steps) == both()


def test_leftovers_of_an_interrupted_complete_are_cleared_without_dropping_kept_tables() -> None:
    keep = replace(MOVE, state=MoveState.COMPLETED, source_tables=SourceTables.KEEP)
    done = at(MoveState.COMPLETED, keep)
    cluster = replace(done, routing_rules=at(MoveState.SWITCHED).routing_rules)
    made = plan(document(replace(keep, source_tables=SourceTables.DROP)), cluster)
    assert kinds(made) == ["complete"]
    assert fold(cluster, made.steps) == done


def test_mirroring_follows_the_state() -> None:
    move = replace(MOVE, state=MoveState.RUNNING, mirror_percent=5.0)
    cluster = applied(both(), move)
    assert {rule.from_table for rule in cluster.mirror_rules} == {
        f"commerce.{name}{end}" for name in MOVE.tables for end in ("", "@replica", "@rdonly")
    }
    reads = applied(cluster, replace(move, state=MoveState.READS_SWITCHED))
    assert {rule.from_table for rule in reads.mirror_rules} == {"commerce.corder", "commerce.customer"}
    assert applied(reads, replace(move, state=MoveState.SWITCHED)).mirror_rules == ()


def test_independent_moves_do_not_wait_for_each_other() -> None:
    cluster = both().with_keyspace(Keyspace("more", "vt_more"))
    for made in tablets("more", ("zone1-0000000300", "zone1-0000000301", "zone1-0000000302"), up=False):
        cluster = cluster.with_tablet(made)
    other = Move("other", "commerce", "more", ("product",), state=MoveState.SWITCHED)
    more = DesiredKeyspace("more", ("zone1-0000000300",))
    made_plan = plan(document(MOVE, other, keyspaces=(more,)), cluster)
    assert made_plan.refusals == ()
    by_id = {step.id: step for step in made_plan.steps}
    assert by_id["create_workflow:customer.commerce2customer"].after == ()
    assert by_id["create_workflow:more.other"].after == ("promote_primary:more",)


def test_a_move_out_of_a_target_waits_for_the_move_into_it() -> None:
    cluster = both().with_keyspace(Keyspace("more", "vt_more", True))
    for made in tablets("more", ("zone1-0000000300", "zone1-0000000301", "zone1-0000000302"), up=True):
        cluster = cluster.with_tablet(made)
    onward = Move("onward", "customer", "more", ("corder",), state=MoveState.RUNNING)
    made_plan = plan(document(replace(MOVE, state=MoveState.COMPLETED), onward, keyspaces=NO_KEYSPACES), cluster)
    assert made_plan.refusals == ()
    by_id = {step.id: step for step in made_plan.steps}
    assert by_id["create_workflow:more.onward"].after == ("complete:customer.commerce2customer",)


def test_a_keyspace_gets_its_declared_primary_else_its_lowest_replica() -> None:
    made = plan(document(), fresh())
    assert [step.alias for step in made.steps if isinstance(step, PromotePrimary)] == [SOURCE, TARGET]
    declared = fresh().with_tablet(replace(fresh().tablets[1], type=TabletType.PRIMARY))
    made = plan(document(), declared)
    promotions = [step for step in made.steps if isinstance(step, PromotePrimary)]
    assert [step.alias for step in promotions] == [COMMERCE_TABLETS[1], TARGET]
    half = fold(declared, [step for step in made.steps if step.kind != "promote_primary" and not step.after])
    assert "promote_primary" in kinds(plan(document(), half))


def test_a_keyspace_of_rdonly_tablets_cannot_have_a_primary() -> None:
    made = plan(document(keyspaces=(DesiredKeyspace("customer", CUSTOMER_TABLETS[2:]),)), commerce_only())
    assert codes(made) == ["MT103"]


def test_unknown_keyspaces_and_tablets_are_refused() -> None:
    desired = (DesiredKeyspace("nowhere", ("zone1-0000000900",)), DesiredKeyspace("customer", ("zone1-0000000901",)))
    assert codes(plan(document(keyspaces=desired), both())) == ["MT101", "MT102"]


def test_an_unmanaged_server_that_is_down_is_refused() -> None:
    down = replace(fresh().tablets[3], managed=False)
    made = plan(document(keyspaces=(DesiredKeyspace("customer", (down.alias,)),)), fresh().with_tablet(down))
    assert codes(made) == ["MT104"]
    assert "inventory" in made.refusals[0].hint


def test_a_schema_is_applied_to_an_empty_database_only() -> None:
    assert "apply_schema" not in kinds(plan(document(), commerce_only()))
    moved_out = at(MoveState.COMPLETED, replace(MOVE, tables=("corder", "customer", "product")))
    assert plan(document(), moved_out).steps == ()


def test_a_schema_file_that_cannot_be_read_is_refused() -> None:
    broken = replace(SCHEMA, sql="create table (((")
    desired = (DesiredKeyspace("commerce", COMMERCE_TABLETS, initial_schema=broken),)
    made = plan(document(keyspaces=desired), fresh())
    assert codes(made) == ["MT109"]
    assert SCHEMA.file in made.refusals[0].found


def test_removal_takes_the_primary_last_and_refuses_what_is_in_use() -> None:
    gone = DesiredKeyspace("customer", absent=True)
    made = plan(document(keyspaces=(gone,)), both())
    assert [step.id for step in made.steps][-2:] == [f"remove_tablet:{TARGET}", "delete_keyspace:customer"]
    end = fold(both(), made.steps)
    assert plan(document(keyspaces=(gone,)), end).steps == ()
    assert "MT107" in codes(plan(document(keyspaces=(gone,)), at(MoveState.RUNNING)))
    primary = DesiredKeyspace("customer", CUSTOMER_TABLETS[1:], absent_tablets=CUSTOMER_TABLETS[:1])
    assert codes(plan(document(keyspaces=(primary,)), both())) == ["MT108"]
    replica = DesiredKeyspace("customer", CUSTOMER_TABLETS[:2], absent_tablets=CUSTOMER_TABLETS[2:])
    assert kinds(plan(document(keyspaces=(replica,)), both())) == ["remove_tablet"]


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        (lambda c: with_tables(c, "commerce", table("corder", rows=99, data_length=1)), False),
        (lambda c: with_server(c, SOURCE, free_bytes=1), False),
        (lambda c: with_workflow(c, lag=3.0, state=StreamState.COPYING, position="0-1-9"), False),
        (lambda c: with_tables(c, "commerce", table("corder", columns=(Column("x", "int", "int"),))), True),
        (lambda c: with_server(c, SOURCE, uuid="another"), True),
        (lambda c: with_server(c, SOURCE, binlog_format="MIXED"), True),
        (lambda c: replace(c, routing_rules=c.routing_rules[1:]), True),
        (lambda c: with_workflow(c, state=StreamState.STOPPED), True),
        (lambda c: with_workflow(c, frozen=True), True),
        (lambda c: c.without_workflow("customer", MOVE.name), True),
    ],
)
def test_a_plan_is_stale_when_a_fact_it_used_has_changed(change: Callable[[Cluster], Cluster], stale: bool) -> None:
    cluster = at(MoveState.RUNNING)
    made = plan(document(MOVE), cluster)
    assert made.stale(cluster) == ()
    assert bool(made.stale(change(cluster))) is stale
    assert (plan(document(MOVE), change(cluster)).fingerprint != made.fingerprint) or not stale


def test_the_fingerprint_covers_the_plan_files_bytes() -> None:
    other = replace(document(MOVE), source_bytes_sha256="f" * 64)
    assert plan(other, both()).fingerprint != plan(document(MOVE), both()).fingerprint


@pytest.mark.parametrize(
    ("state", "path"),
    [
        (MoveState.SWITCHED, ["start_workflow"]),
        (MoveState.RUNNING, ["start_workflow", "reverse_writes", "reverse_reads"]),
        (MoveState.COMPLETED, ["start_workflow", "vdiff", "complete"]),
    ],
)
def test_a_reverse_stream_that_stands_still_is_started_again(state: MoveState, path: list[str]) -> None:
    cluster = at(MoveState.SWITCHED)
    back = reverse(cluster, MOVE)
    assert back is not None
    cluster = cluster.with_workflow(replace(back, state=StreamState.ERROR, message="boom"))
    made = plan(document(replace(MOVE, state=state)), cluster)
    assert (kinds(made), made.refusals) == (path, ())
    assert made.steps[0].id == "start_workflow:commerce.commerce2customer_reverse"
    assert "boom" in made.steps[0].reason
    fold(cluster, made.steps)


def test_drift_names_rules_that_point_elsewhere_and_servers_that_are_down() -> None:
    cluster = at(MoveState.SWITCHED)
    rules = (*cluster.routing_rules[1:], replace(cluster.routing_rules[0], to_table="other.corder"))
    cluster = replace(cluster, routing_rules=tuple(sorted(rules)))
    rdonly = cluster.tablet(CUSTOMER_TABLETS[2])
    assert rdonly is not None
    made = plan(document(MOVE), cluster.with_tablet(replace(rdonly, managed=False, running=False)))
    assert made.drift == (
        "routing rule commerce.corder points to other.corder, outside of move commerce2customer",
        "tablet zone1-0000000202 (127.0.0.1:17202) is registered but does not answer",
    )


def test_steps_that_wait_for_each_other_are_named() -> None:
    one = AddKeyspace("a", "vt_a", after=("add_keyspace:b",))
    two = AddKeyspace("b", "vt_b", after=("add_keyspace:a",))
    with pytest.raises(CycleError, match="add_keyspace:a -> add_keyspace:b -> add_keyspace:a"):
        waves((one, two))
    with pytest.raises(MissingStepError, match="add_keyspace:a waits for add_keyspace:b"):
        waves((one,))


def test_every_kind_tells_what_it_is_for() -> None:
    assert all(step.summary and step.kind == kind for kind, step in STEP_KINDS.items())
    assert len({step.summary for step in STEP_KINDS.values()}) == len(STEP_KINDS)


def test_unknown_steps_of_a_saved_plan_are_named() -> None:
    data = to_json(VDiff(MOVE, MOVE.name, MOVE.target))
    for change, match in (
        ({"kind": "fly"}, "unknown step kind 'fly'"),
        ({"args": {**data["args"], "speed": 1}}, "unknown argument speed"),
        ({"args": {**data["args"], "workflow": 1}}, "1 is not a str"),
        ({"args": {}}, "missing"),
    ):
        with pytest.raises(UnknownStep, match=match):
            from_json({**data, **change})


def test_codes_are_stable_and_explained() -> None:
    assert all(code.startswith("MT") and len(code) == 5 and text for code, text in CODES.items())


def test_steps_are_values() -> None:
    step: Step = VDiff(MOVE, MOVE.name, MOVE.target)
    assert step == VDiff(MOVE, MOVE.name, MOVE.target)
    assert hash(step) == hash(VDiff(MOVE, MOVE.name, MOVE.target))
