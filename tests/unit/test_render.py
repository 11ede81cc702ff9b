"""The renderers: what each promises of its format."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace

import jsonschema
import pytest

import schemas
from planner.cluster import Column
from planner.document import Move, MoveState
from planner.plan import Plan, plan
from planner.render import graph, markdown, text
from planner.render import json as as_json
from planner.saved import SavedPlanError, load
from tests.unit.worlds import MOVE, at, both, commerce_only, document, fresh, table

COMPLETED = replace(MOVE, state=MoveState.COMPLETED)
MADE = plan(document(COMPLETED), fresh())
REFUSED = plan(document(replace(MOVE, tables=("ghost",))), both())


def test_the_json_is_as_its_schema_says() -> None:
    validator = jsonschema.Draft202012Validator(schemas.load("plan_output"))
    validator.check_schema(validator.schema)
    for made in (MADE, REFUSED, plan(document(MOVE), at(MoveState.SWITCHED))):
        data = json.loads(as_json.render(made))
        assert [error.message for error in validator.iter_errors(data)] == []
        assert data["applyable"] is (bool(made.steps) and not made.refusals)
        assert data["errored"] is bool(made.refusals)


def test_the_json_tells_waves_dependencies_and_the_dry_run() -> None:
    data = as_json.to_document(MADE)
    waves = {step["id"]: step["wave"] for step in data["steps"]}
    for step in data["steps"]:
        assert step["describe"]
        assert all(waves[dependency] < step["wave"] for dependency in step["depends_on"])


def test_a_saved_plan_is_read_back_equal() -> None:
    assert load(as_json.render(MADE)) == MADE
    assert load(as_json.render(REFUSED)) == REFUSED


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda t: "nonsense", "not a saved plan"),
        (lambda t: "[]", "found format_version None"),
        (lambda t: t.replace('"format_version": "1.0"', '"format_version": "2.0"'), "found format_version '2.0'"),
        (lambda t: t.replace('"source_tables": "drop"', '"source_tables": "keep"'), "does not match its fingerprint"),
        (lambda t: t.replace('"kind": "complete"', '"kind": "fly"'), "unknown step kind 'fly'"),
        (lambda t: t.replace('"complete": true', '"complete": 3'), "complete"),
    ],
)
def test_a_saved_plan_that_was_changed_is_refused(edit: object, said: str) -> None:
    assert callable(edit)
    with pytest.raises(SavedPlanError, match=re.escape(said)):
        load(edit(as_json.render(MADE)))


def test_a_newer_minor_version_with_more_keys_is_read() -> None:
    data = json.loads(as_json.render(MADE)) | {"format_version": "1.7", "new": [1]}
    assert load(json.dumps(data)) == MADE


def test_text_is_plain_ascii_and_its_legend_has_only_used_symbols() -> None:
    drawn = text.render(MADE)
    assert drawn.isascii()
    assert "! no way back" in drawn
    running = text.render(plan(document(replace(MOVE, state=MoveState.RUNNING)), at(MoveState.SWITCHED)))
    assert running.splitlines()[2] == "  > move"
    assert "No way back" not in running


def test_every_step_of_the_text_has_its_reason_below_it() -> None:
    lines = text.render(MADE).splitlines()
    for step in MADE.steps:
        index = next(i for i, line in enumerate(lines) if f" {step.id} " in line)
        assert lines[index + 1].strip() == step.reason


def test_paint_gets_every_style_and_changes_nothing_else() -> None:
    styles: set[str] = set()

    def paint(style: str, part: str) -> str:
        styles.add(style)
        return f"\x1b[1m{part}\x1b[0m"

    drawn = text.render(MADE, paint=paint)
    assert re.sub(r"\x1b\[\dm", "", drawn) == text.render(MADE)
    assert {"create", "move", "verify", "irreversible", "heading", "dim"} <= styles
    text.render(REFUSED, paint=paint)
    assert "refusal" in styles


def mixed() -> Plan:
    """A plan to move 20 columns of text and one of numbers from MySQL to MariaDB."""
    texts = [Column(f"c{n:02}", "varchar(9)", "varchar", True, "utf8mb4", "utf8mb4_0900_ai_ci") for n in range(20)]
    columns = (
        *texts,
        Column("b", "text", "text", True, "utf8mb4", "utf8mb4_0900_bin"),
        Column("d", "double", "double"),
    )
    wide = table("wide")
    cluster = both()
    cluster = cluster.with_keyspace(
        replace(cluster.keyspaces[0], tables=(replace(wide, columns=wide.columns + columns),))
    )
    for tablet in cluster.tablets_of("commerce"):
        assert tablet.server is not None
        cluster = cluster.with_tablet(replace(tablet, server=replace(tablet.server, flavor="MySQL", version="9.7.0")))
    return plan(document(replace(MOVE, tables=("wide",))), cluster)


def test_what_the_other_kind_of_server_makes_of_a_column_is_shown_before_it_happens() -> None:
    made = mixed()
    assert made.refusals == ()
    data = json.loads(as_json.render(made))
    assert len(data["notes"]) == 22
    assert data["notes"][0] == {
        "move": MOVE.name,
        "table": "wide",
        "column": "c00",
        "found": "collation utf8mb4_0900_ai_ci",
        "becomes": "utf8mb4_uca1400_nopad_ai_ci",
        "effect": "the closest one; how text is sorted and compared differs in detail",
    }
    closest = "collation utf8mb4_0900_ai_ci becomes utf8mb4_uca1400_nopad_ai_ci (the closest one; how text is"
    exact = "collation utf8mb4_0900_bin becomes utf8mb4_nopad_bin (both compare alike): wide.b\n"
    for drawn in (text.render(made), markdown.render(made)):
        assert closest in drawn
        assert "wide.c00, wide.c01" in drawn
        assert "wide.c11 and 8 more columns\n" in drawn
        assert exact in drawn
        assert "-0.0 becomes 0.0 (MariaDB keeps no negative zero): wide.d\n" in drawn
    assert load(as_json.render(made)) == made
    assert [e.message for e in jsonschema.Draft202012Validator(schemas.load("plan_output")).iter_errors(data)] == []
    one_kind = plan(document(MOVE), both())
    assert one_kind.notes == ()
    assert "Not quite the same" not in text.render(one_kind) + markdown.render(one_kind)


def test_unchanged_things_are_counted_or_shown() -> None:
    made = plan(document(MOVE), both())
    assert f"{len(made.unchanged)} unchanged, not shown." in text.render(made)
    assert "tablet zone1-0000000100" in text.render(made, show_unchanged=True)


def test_nothing_to_do_is_one_line() -> None:
    drawn = text.render(plan(document(MOVE), at(MoveState.SWITCHED)))
    assert drawn == "No changes. local is as customer-out-of-commerce asks (9 checked).\n"


def test_markdown_keeps_its_budget_and_counts_what_it_cut() -> None:
    tables = tuple(f"t{number:03}" for number in range(300))
    cluster = both()
    source = cluster.keyspaces[0]
    cluster = cluster.with_keyspace(replace(source, tables=tuple(table(name) for name in tables)))
    moves = [Move(f"m{n}", "commerce", "customer", tables[n * 30 : n * 30 + 30]) for n in range(10)]
    moves = [replace(move, state=MoveState.COMPLETED) for move in moves]
    made = plan(document(*moves), cluster)
    assert made.refusals == ()
    for budget in (60_000, 20_000, 8_000):
        drawn = markdown.render(made, max_bytes=budget)
        assert len(drawn.encode()) <= budget
        assert drawn.count("<details>") == drawn.count("</details>")
        assert drawn.count("```") % 2 == 0
        assert drawn.splitlines()[-1] == made.summary.line()
        shown = drawn.count("```text")
        cut = re.search(r"^(\d+) more steps?, see", drawn, re.MULTILINE)
        assert shown + (int(cut.group(1)) if cut else 0) == len(made.steps)
    assert len(made.steps) > 40
    assert "mermaid" not in drawn


def test_markdown_has_marker_verdict_fingerprint_and_apply_command() -> None:
    drawn = markdown.render(MADE, apply_command="movetables apply plan.yaml -i inventory.yaml")
    assert drawn.startswith("<!-- movetables plan: customer-out-of-commerce on local -->\n")
    assert f"### movetables: {len(MADE.steps)} steps ready to apply" in drawn
    assert MADE.fingerprint in drawn
    assert "`movetables apply plan.yaml -i inventory.yaml`" in drawn
    refused = markdown.render(REFUSED)
    assert "### movetables: refused: 1 reason" in refused
    assert "Apply with" not in refused
    assert "MT201" in refused


def test_dot_has_every_step_and_dependency() -> None:
    drawn = graph.dot(MADE)
    edges = sum(len(step.after) for step in MADE.steps)
    assert drawn.count(" -> ") == edges
    assert drawn.count("[label=") == len(MADE.steps)
    assert graph.mermaid(MADE).count(" --> ") == edges


def test_switch_writes_is_described_as_vitess_does() -> None:
    made = plan(document(MOVE), commerce_only())
    step = next(step for step in made.steps if step.kind == "switch_writes")
    assert "\n".join(step.describe()) == (
        "Lock keyspace commerce\n"
        "Lock keyspace customer\n"
        "Stop writes on keyspace commerce for tables [corder,customer]: [keyspace:commerce;shard:0]\n"
        "Wait for vreplication on stopped streams to catchup for up to 30s\n"
        "Create reverse vreplication workflow commerce2customer_reverse\n"
        "Create journal entries on source databases\n"
        "Enable writes on keyspace customer for tables [corder,customer]\n"
        "Switch routing from keyspace commerce to keyspace customer\n"
        "Routing rules for tables [corder,customer] will be updated\n"
        "Switch writes completed, freeze and delete vreplication streams on: [tablet:200]\n"
        "Start reverse vreplication streams on: [tablet:100]\n"
        "Mark vreplication streams frozen on: "
        "[keyspace:customer;shard:0;tablet:200;workflow:commerce2customer;dbname:vt_customer]\n"
        "Unlock keyspace customer\n"
        "Unlock keyspace commerce"
    )


def test_graphviz_reads_the_dot_where_it_is_installed() -> None:
    try:
        done = subprocess.run(["dot", "-Tsvg"], input=graph.dot(MADE), capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("graphviz is not installed")
    assert done.returncode == 0, done.stderr
