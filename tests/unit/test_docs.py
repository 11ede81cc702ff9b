"""The documentation is held to the code: what exists is described, and what is described exists."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from executor.cli.main import app
from executor.errors import _CODES, BUG, CHANGES_PRESENT
from planner.checks import CODES
from planner.document import MoveState
from planner.loading import load_inventory
from planner.steps.registry import STEP_KINDS

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*DOCS, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "plans/commerce/README.md"))]


def text(name: str) -> str:
    return (ROOT / name).read_text()


def commands() -> dict[str, Any]:
    """``{"lock list": its click command}`` of every command that is not hidden."""

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for name, child in command.commands.items():
                yield from walk(child, (*words, name))
        elif not command.hidden:
            yield " ".join(words), command

    return dict(walk(get_command(app), ()))


def section(page: str, heading: str) -> str:
    """The text below a heading that begins so, up to the next heading."""
    parts = re.split(r"^(#+ .*)$", page, flags=re.MULTILINE)
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        if re.match(rf"#+ {re.escape(heading)}( |$)", title):
            return title + body
    raise AssertionError(f"no heading {heading!r}")


@pytest.mark.parametrize("name", commands())
def test_every_command_and_option_is_described(name: str) -> None:
    described = section(text("docs/commands.md"), f"movetables {name}")
    options = [o for p in commands()[name].params for o in p.opts if o.startswith("--") and o != "--help"]
    common = ("--inventory", "--format") if name.startswith("vdiff ") else ()
    assert [option for option in options if f"`{option}`" not in described and option not in common] == []


def test_no_command_is_described_that_does_not_exist() -> None:
    found = re.findall(r"^### movetables ([a-z-]+(?: [a-z]+)?)", text("docs/commands.md"), re.MULTILINE)
    assert sorted(found) == sorted(commands())


def test_every_exit_code_is_described() -> None:
    table = section(text("docs/commands.md"), "Exit codes")
    described = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert described == {0, CHANGES_PRESENT, BUG, *(code for _, code in _CODES)}


def test_every_refusal_is_described_in_its_words() -> None:
    rows = dict(re.findall(r"^\| (MT\d+) \| ([^|]+) \|", text("docs/refusals.md"), re.MULTILINE))
    assert {code: meaning.strip() for code, meaning in rows.items()} == dict(CODES)


def test_every_step_kind_is_described() -> None:
    table = section(text("docs/life-of-a-plan.md"), "The step kinds")
    assert re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE) == list(STEP_KINDS)


def test_every_hard_case_names_a_test_or_a_refusal_that_exists() -> None:
    page = text("docs/hard-cases.md")
    for name in set(re.findall(r"`((?:tests/unit/)?test_\w+\.py)`", page)):
        assert (ROOT / (name if "/" in name else f"tests/cluster/{name}")).exists(), name
    assert set(re.findall(r"MT\d+", page)) <= set(CODES)
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| Case |")]
    unproven = [row for row in rows if not re.search(r"test_\w+\.py|MT\d+|\w+\.md\)", row)]
    assert unproven == []


def keys_of(schema: dict[str, Any]) -> Iterator[str]:
    """Every key that a schema names, wherever it does."""
    for name, value in schema.items():
        if name == "properties":
            yield from value
        if isinstance(value, dict):
            yield from keys_of(value)


@pytest.mark.parametrize("schema", ["plan", "inventory"])
def test_every_key_is_described(schema: str) -> None:
    keys = set(keys_of(json.loads(text(f"schemas/{schema}.schema.json"))))
    page = re.sub(r"^```.*?^```", "", text("docs/plan-reference.md"), flags=re.MULTILINE | re.DOTALL)
    described = {part for name in re.findall(r"`([^`]+)`", page) for part in re.split(r"\W", name)}
    assert sorted(keys - described) == []


def test_every_state_of_a_move_is_described() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", text("docs/plan-reference.md"), re.MULTILINE)
    assert [row for row in rows if row in {state.text for state in MoveState}] == [state.text for state in MoveState]


def test_the_defaults_of_a_plan_are_those_of_the_schema() -> None:
    found: dict[str, str] = {}

    def walk(schema: dict[str, Any], prefix: str) -> None:
        for name, value in schema.get("properties", {}).items():
            if "default" in value:
                default = value["default"]
                found[prefix + name] = default if isinstance(default, str) else json.dumps(default)
            walk(value, f"{prefix}{name}.")

    walk(json.loads(text("schemas/plan.schema.json"))["$defs"]["move"], "")
    rows = dict(re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \|", text("docs/plan-reference.md"), re.MULTILINE))
    assert {name: rows.get(name) for name in found} == found


def shell_lines() -> list[tuple[str, str]]:
    """``(page, command line)`` of every movetables command in a shell block of a page, or after a ``$``."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```(?:sh|text)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                command = line.removeprefix("$ ").partition("   #")[0].strip()
                if command.startswith("movetables "):
                    found.append((page.name, command))
    return found


@pytest.mark.parametrize(("page", "line"), shell_lines())
def test_every_command_line_in_a_page_can_be_parsed(page: str, line: str) -> None:
    words = [word for word in shlex.split(line.replace("...", ""))[1:] if word not in ("PLAN", "WORKFLOW")]
    words = words[: next((i for i, word in enumerate(words) if word in ("|", ">", "&&")), len(words))]
    name = next(n for n in sorted(commands(), key=len, reverse=True) if " ".join(words).startswith(n))
    command = commands()[name]
    rest = ["ID" if word == "ID" else word for word in words[len(name.split()) :]]
    if not rest or rest[0].startswith("-"):
        rest = [*(["PLAN"] if name in ("plan", "apply", "validate", "graph") else []), *rest]
    with command.make_context(name, rest, parent=typer.Context(get_command(app))):
        for word in rest:
            if word.endswith((".yaml", ".sql")):
                assert (ROOT / word).is_file(), f"{page}: {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []


def test_the_readme_leads_to_every_page() -> None:
    readme = text("README.md")
    assert [page.name for page in DOCS if f"(docs/{page.name})" not in readme] == []


def test_the_inventory_of_the_production_page_is_valid(tmp_path: Path) -> None:
    block = next(b for b in re.findall(r"^```yaml\n(.*?)^```", text("docs/production.md"), re.MULTILINE | re.DOTALL))
    assert load_inventory(block, "inventory.yaml", tmp_path).name == "production"


def test_the_plan_of_the_readme_is_that_of_the_example() -> None:
    block = re.search(r"^```yaml\n# (\S+)\n(.*?)^```", text("README.md"), re.MULTILINE | re.DOTALL)
    assert block is not None

    def bare(plan: str) -> list[str]:
        lines = [line.partition("#")[0].rstrip() for line in plan.splitlines()]
        return [line for line in lines if line]

    assert bare(block.group(2)) == bare(text(block.group(1)))
