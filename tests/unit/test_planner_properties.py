"""What holds for every document and every cluster that documents can lead to. EXAMPLES=600 looks harder."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.cluster import Cluster, Keyspace
from planner.document import DesiredKeyspace, Document, Move, MoveState, SourceTables
from planner.graph import ancestors
from planner.moves import forward, is_clean, live_state, resolve, reverse, tables_in
from planner.plan import Plan, plan
from planner.render import json as as_json
from planner.render import markdown, text
from planner.saved import load
from planner.steps.registry import from_json, to_json
from tests.unit.worlds import COMMERCE_TABLETS, CUSTOMER_TABLETS, SCHEMA, fresh, tablets

MORE_TABLETS = ("zone1-0000000300", "zone1-0000000301", "zone1-0000000302")
KEYSPACES = {"commerce": COMMERCE_TABLETS, "customer": CUSTOMER_TABLETS, "more": MORE_TABLETS}
FAST = settings(
    max_examples=int(os.environ.get("EXAMPLES", "20")), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def empty() -> Cluster:
    cluster = fresh().with_keyspace(Keyspace("more", "vt_more"))
    for made in tablets("more", MORE_TABLETS, up=False):
        cluster = cluster.with_tablet(made)
    return cluster


ENDS = (("commerce", "customer"), ("commerce", "more"), ("customer", "more"), ("customer", "commerce"))
WHICH = (("corder", "customer"), ("product",), ("*",), ("customer", "product"))


@st.composite
def moves(draw: st.DrawFn, number: int) -> Move:
    """A move that, most of the time, is the one that other documents have under this name."""
    usual = draw(st.integers(min_value=0, max_value=3)) > 0
    source, target = ENDS[0] if usual else draw(st.sampled_from(ENDS))
    tables = WHICH[number] if usual else draw(st.sampled_from(WHICH))
    return Move(
        f"{source}2{target}{number}",
        source,
        target,
        tables,
        exclude=draw(st.sampled_from(((), ("product",)))) if tables == ("*",) else (),
        state=draw(st.sampled_from(MoveState)),
        verify_before_switch=draw(st.booleans()),
        reverse_replication=draw(st.integers(min_value=0, max_value=3)) > 0,
        mirror_percent=draw(st.sampled_from((0.0, 10.0))),
        source_tables=draw(st.sampled_from(SourceTables)),
        keep_routing_rules=draw(st.booleans()),
    )


MOVES = [moves(number) for number in range(3)]


@st.composite
def documents(draw: st.DrawFn) -> Document:
    keyspaces = []
    for name, aliases in KEYSPACES.items():
        if draw(st.integers(min_value=0, max_value=9)) > 0:
            count = draw(st.integers(min_value=1, max_value=3))
            schema = SCHEMA if name == "commerce" else None
            keyspaces.append(DesiredKeyspace(name, aliases[:count], initial_schema=schema))
    numbers = draw(st.lists(st.integers(min_value=0, max_value=2), unique=True, max_size=2))
    return Document("doc", "doc.yaml", "1" * 64, tuple(keyspaces), tuple(draw(MOVES[number]) for number in numbers))


DOCUMENTS = documents()
HISTORIES = st.lists(DOCUMENTS, max_size=4)


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """A cluster that some documents led to, the last of them perhaps applied in part."""
    cluster = empty()
    for document in draw(HISTORIES):
        made = plan(document, cluster)
        if made.refusals:
            continue
        length = len(made.steps) if draw(st.booleans()) else draw(st.integers(min_value=0, max_value=len(made.steps)))
        cluster = folded(cluster, made, length)
    return cluster


def folded(cluster: Cluster, made: Plan, length: int | None = None) -> Cluster:
    for step in made.steps[:length]:
        assert not step.done(cluster), step.id
        assert step.ready(cluster) == (), f"{step.id} would be refused after the steps before it"
        cluster = step.effect(cluster)
        assert step.done(cluster), step.id
    return cluster


@FAST
@given(DOCUMENTS, clusters())
def test_applying_a_plan_satisfies_its_document(document: Document, cluster: Cluster) -> None:
    made = plan(document, cluster)
    if made.refusals:
        return
    end = folded(cluster, made)
    again = plan(document, end)
    assert (again.steps, again.refusals) == ((), ())
    for move in document.moves:
        reached = live_state(end, resolve(end, move))
        by_other_means = move.state is MoveState.ABSENT and reached is MoveState.COMPLETED
        assert reached is move.state or by_other_means
    for keyspace in document.keyspaces:
        primary = end.primary(keyspace.name)
        assert primary is not None
        assert primary.running
        assert all((found := end.tablet(alias)) is not None and found.registered for alias in keyspace.tablets)


@FAST
@given(DOCUMENTS, clusters(), st.data())
def test_an_interrupted_plan_converges_to_the_same_end(
    document: Document, cluster: Cluster, data: st.DataObject
) -> None:
    made = plan(document, cluster)
    if made.refusals:
        return
    length = data.draw(st.integers(min_value=0, max_value=len(made.steps)))
    stopped = folded(cluster, made, length)
    again = plan(document, stopped)
    assert not again.refusals
    assert folded(stopped, again) == folded(cluster, made)


@FAST
@given(DOCUMENTS, clusters())
def test_source_tables_are_dropped_only_after_a_comparison(document: Document, cluster: Cluster) -> None:
    made = plan(document, cluster)
    if made.refusals:
        return
    for of_move in made.moves:
        move = of_move.move
        ends = [name for name in of_move.steps if name.startswith("complete:")]
        exempt = not move.verify_before_switch or move.source_tables is not SourceTables.DROP
        live = (forward(cluster, move), reverse(cluster, move))
        fresh_vdiff = any(w is not None and is_clean(w.vdiff, move.verify_max_age) for w in live)
        if not ends or exempt or fresh_vdiff or live_state(cluster, move) is MoveState.COMPLETED:
            continue
        if live[0] is not None and not tables_in(cluster, move.source, move.tables):
            continue
        assert any(name.startswith("vdiff:") for name in ancestors(made.steps, ends[0]))


@FAST
@given(DOCUMENTS, clusters())
def test_planning_is_deterministic_and_survives_being_saved(document: Document, cluster: Cluster) -> None:
    made = plan(document, cluster)
    assert plan(document, cluster) == made
    assert load(as_json.render(made)) == made
    assert all(from_json(to_json(step)) == step for step in made.steps)
    assert made.stale(cluster) == ()
    last = text.last_line(made)
    assert text.render(made).splitlines()[-1] == last
    assert markdown.render(made).splitlines()[-1] == last
    assert len(markdown.render(made, max_bytes=8000).encode()) <= 8000 or made.refusals


@FAST
@given(DOCUMENTS, clusters())
def test_refused_plans_still_show_their_path(document: Document, cluster: Cluster) -> None:
    made = plan(document, cluster)
    ids = {step.id for step in made.steps}
    assert len(ids) == len(made.steps)
    for refusal in made.refusals:
        assert refusal.found
        assert refusal.expected
        assert refusal.hint
        assert refusal.step in ids or refusal.step.split()[0] in ("move", "keyspace")


@FAST
@given(clusters(), st.sampled_from(sorted(KEYSPACES)))
def test_removing_a_keyspace_in_use_is_refused(cluster: Cluster, name: str) -> None:
    document = Document("doc", "doc.yaml", "1" * 64, (DesiredKeyspace(name, absent=True),))
    made = plan(document, cluster)
    keyspace = cluster.keyspace(name)
    assert keyspace is not None
    if keyspace.tables or any(name in (w.source, w.target) for w in cluster.workflows):
        assert "MT107" in {refusal.code for refusal in made.refusals} or not made.steps
    elif not made.refusals:
        end = folded(cluster, made)
        assert not any(tablet.registered for tablet in end.tablets_of(name))
        assert plan(document, end).steps == ()
