"""Every file in tests/plans/invalid is refused with exactly the mistakes of the .expect file beside it.

After a wanted change, write the .expect files anew with MOVETABLES_UPDATE_EXPECT=1 and read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from planner.diagnostic import DocumentErrors
from planner.inventory import Inventory
from planner.loading import load_inventory, load_plan

INVALID = Path(__file__).parents[1] / "plans" / "invalid"
BASE_DIR = Path("/environments")
PLANS = sorted((INVALID / "plan").glob("*.yaml"))
INVENTORIES = sorted((INVALID / "inventory").glob("*.yaml"))


def environment() -> Inventory:
    return load_inventory((INVALID / "environment.yaml").read_text(), "environment.yaml", BASE_DIR)


def read_nothing(path: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", path)


def errors_of(path: Path) -> DocumentErrors:
    with pytest.raises(DocumentErrors) as caught:
        load(path)
    return caught.value


def load(path: Path) -> None:
    if path.parent.name == "plan":
        load_plan(path.read_text(), path.name, environment(), {}, read_nothing)
    else:
        load_inventory(path.read_text(), path.name, BASE_DIR)


@pytest.mark.parametrize("path", [*PLANS, *INVENTORIES], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_invalid_document_is_refused_with_every_mistake_at_its_place(path: Path) -> None:
    errors = errors_of(path)
    expect = path.with_suffix(".expect")
    found = errors.render() + "\n"
    if os.environ.get("MOVETABLES_UPDATE_EXPECT"):
        expect.write_text(found)
    assert found == expect.read_text()
    assert [(d.line, d.col) for d in errors.diagnostics] == sorted((d.line, d.col) for d in errors.diagnostics)


@pytest.mark.parametrize("path", [*PLANS, *INVENTORIES], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_secret_of_an_invalid_document_is_shown(path: Path) -> None:
    errors = errors_of(path)
    shown = f"{errors} {errors!r} {errors.diagnostics!r}"
    assert "hunter2" not in shown
    assert "0x99" not in shown


def test_there_are_many_invalid_documents() -> None:
    assert len(PLANS) + len(INVENTORIES) >= 30


def test_every_expectation_has_its_document() -> None:
    assert {p.stem for p in INVALID.glob("*/*.expect")} == {p.stem for p in (*PLANS, *INVENTORIES)}
