"""What plan prints, case by case: each folder of tests/plans/cases is a test. UPDATE=1 writes the expected output."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planner.cluster import Cluster, StreamState
from planner.document import Document, MoveState
from planner.loading import load_inventory, load_plan
from planner.plan import plan
from planner.render import markdown, text
from planner.step import Refusal
from tests.unit import worlds

TESTS = Path(__file__).parents[1]
CASES = sorted(path.parent for path in (TESTS / "plans" / "cases").glob("*/plan.yaml"))
INVENTORY = TESTS.parent / "plans" / "commerce" / "inventory.yaml"


def load(case: Path) -> Document:
    inventory = load_inventory(INVENTORY.read_text(), INVENTORY.name, INVENTORY.parent)
    document = load_plan(
        (case / "plan.yaml").read_text(), "plan.yaml", inventory, {}, lambda name: (case / name).read_text()
    )
    return replace(document, source_bytes_sha256="0" * 64)


def live(case: Path, document: Document) -> Cluster:
    found: dict[str, Any] = json.loads((case / "live.json").read_text())
    cluster: Cluster = getattr(worlds, found.pop("world"))()
    for name, state in found.pop("standing", {}).items():
        move = next(move for move in document.moves if move.name == name)
        cluster = worlds.applied(cluster, replace(move, state=MoveState[state.upper()]))
    for alias, changes in found.pop("servers", {}).items():
        tablet = cluster.tablet(alias)
        assert tablet is not None
        assert tablet.server is not None
        cluster = cluster.with_tablet(replace(tablet, server=replace(tablet.server, **_tuples(changes))))
    for name, changes in found.pop("tables", {}).items():
        keyspace = cluster.keyspace(name.partition(".")[0])
        assert keyspace is not None
        table = worlds.table(name.partition(".")[2], **_tuples(changes))
        others = tuple(other for other in keyspace.tables if other.name != table.name)
        cluster = cluster.with_keyspace(replace(keyspace, tables=tuple(sorted((*others, table)))))
    for name, changes in found.pop("workflows", {}).items():
        workflow = cluster.workflow(*name.split("."))
        assert workflow is not None
        changes["state"] = StreamState(changes.get("state", workflow.state))
        cluster = cluster.with_workflow(replace(workflow, **changes))
    assert not found, f"live.json of {case.name} has unknown keys: {', '.join(found)}"
    return cluster


def _tuples(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}


def check(path: Path, output: str) -> None:
    if os.environ.get("UPDATE"):
        path.write_text(output)
    assert output == path.read_text(), f"{path} differs; if that is right, run with UPDATE=1"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_is_drawn_as_expected(case: Path) -> None:
    document = load(case)
    made = plan(document, live(case, document))
    check(case / "expected.txt", text.render(made))
    check(case / "expected.md", markdown.render(made))
    assert all(isinstance(refusal, Refusal) for refusal in made.refusals)


def test_there_are_cases() -> None:
    assert len(CASES) >= 10
