"""The command line: exit codes as a contract, what goes to which stream, colour, usage errors, bugs, secrets."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

import executor.errors
import schemas
from executor import redaction
from executor.cli import environment, main
from executor.cli.bug import masked
from executor.cli.options import parse_variables
from executor.cli.plan import changes
from executor.cli.routing_rules import as_vitess
from executor.cli.show import to_document, to_text
from executor.cli.terminal import ColorChoice, color_wanted, table
from executor.errors import MovetablesError, Usage, exit_code_for
from planner.cluster import RoutingRule
from planner.document import MoveState
from planner.plan import plan
from planner.steps.registry import STEP_KINDS
from tests.unit.apply_doubles import MemoryBackend
from tests.unit.worlds import MOVE, at, both, commerce_only, document, fresh

ROOT = Path(__file__).resolve().parents[2]
PLAN = ROOT / "plans" / "commerce" / "204_switch_writes.yaml"
INVENTORY = ROOT / "plans" / "commerce" / "inventory.yaml"
CANARY = "canary-51d0a7e3"


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> MemoryBackend:
    made = MemoryBackend(both())
    monkeypatch.setattr(environment, "backend_of", lambda inventory: made)
    return made


def tree(kind: type[MovetablesError]) -> set[type[MovetablesError]]:
    return {kind}.union(*(tree(child) for child in kind.__subclasses__() if child.__module__ == kind.__module__))


def test_the_table_of_exit_codes_is_the_contract() -> None:
    rows = re.findall(r"(\w+) +(\d+)  ", (executor.errors.__doc__ or "").replace("├──", "").replace("└──", ""))
    documented = {name: int(code) for name, code in rows}
    assert {kind.__name__: exit_code_for(kind("x")) for kind in tree(MovetablesError)} == documented
    assert documented == {
        "MovetablesError": 1,
        "Stale": 3,
        "Refused": 4,
        "LockHeld": 5,
        "Interrupted": 6,
        "VerificationMismatch": 7,
        "Declined": 8,
        "TimedOut": 9,
        "Ambiguous": 10,
        "Usage": 64,
        "BadDocument": 65,
    }
    assert (executor.errors.CHANGES_PRESENT, executor.errors.BUG, exit_code_for(ValueError())) == (2, 70, 70)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 0, ""),
        (["--help"], 0, ""),
        (["plan", "-h"], 0, ""),
        (["version"], 0, ""),
        (["--version"], 0, ""),
        (["steps"], 0, ""),
        (["validate", str(PLAN)], 0, ""),
        (["bogus"], 64, "bogus"),
        (["plan"], 64, "PLAN"),
        (["plan", str(PLAN), "--format", "xml"], 64, "xml"),
        (["plan", "nowhere/plan.yaml"], 64, "nowhere/plan.yaml"),
        (["validate", str(PLAN), "-i", "nowhere.yaml"], 64, "nowhere.yaml"),
        (["validate", str(PLAN), "--var", "percent"], 64, "NAME=VALUE"),
        (["apply", str(PLAN), "--lock-timeout", "soon"], 64, "soon"),
        (["apply", str(PLAN), "--approve", "abc"], 64, "12"),
        (["apply", str(PLAN)], 64, "--auto-approve"),
        (["lock", "break"], 64, "--run"),
        (["local"], 64, ""),
        (["validate", str(INVENTORY)], 65, "inventory.yaml:"),
        (["validate", str(PLAN), "--var", "no_such=1"], 65, "no_such"),
        (["plan", str(PLAN), "--detailed-exitcode"], 2, ""),
    ],
)
def test_exit_codes(
    backend: MemoryBackend,
    words: list[str],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main.main(words) == code
    captured = capsys.readouterr()
    assert said in captured.err
    if code >= 64:
        assert captured.out == ""
        assert re.search("^Error: ", captured.err, re.MULTILINE)
    assert "Traceback" not in captured.err


def test_a_plan_in_sync_has_no_changes(backend: MemoryBackend, capsys: pytest.CaptureFixture[str]) -> None:
    backend.cluster = at(MoveState.SWITCHED)
    assert main.main(["plan", str(PLAN), "--detailed-exitcode"]) == 0
    assert capsys.readouterr().out.startswith("No changes.")


def test_verifying_alone_is_not_a_change() -> None:
    assert not changes(plan(document(), both()))
    made = plan(document(MOVE), at(MoveState.RUNNING))
    assert changes(made)


def test_a_refused_plan_is_shown_and_exits_4(backend: MemoryBackend, capsys: pytest.CaptureFixture[str]) -> None:
    commerce = both().keyspace("commerce")
    assert commerce is not None
    backend.cluster = both().with_keyspace(replace(commerce, tables=commerce.tables[:1]))
    assert main.main(["plan", str(PLAN)]) == 4
    assert "MT201" in capsys.readouterr().out
    assert main.main(["apply", str(PLAN), "--dry-run"]) == 4
    assert backend.performed == []


@pytest.mark.parametrize("output", ["text", "json", "markdown", "dot", "mermaid"])
def test_stdout_has_the_result_alone(
    backend: MemoryBackend, output: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kept = tmp_path / "kept.json"
    assert main.main(["plan", str(PLAN), "--format", output, "--out", str(kept)]) == 0
    captured = capsys.readouterr()
    assert "movetables apply" in captured.err
    assert kept.stat().st_mode & 0o777 == 0o600
    if output == "json":
        assert json.loads(captured.out) == json.loads(kept.read_text())
    if output == "text":
        assert captured.out.splitlines()[-1].startswith("Plan: ")
    assert main.main(["show", str(kept)]) == 0
    assert main.main(["graph", str(kept), "--format", "mermaid"]) == 0


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("choice", "tty", "environ", "wanted"),
    [
        ("auto", True, {"TERM": "xterm"}, True),
        ("auto", True, {"TERM": "dumb"}, False),
        ("auto", True, {}, False),
        ("auto", False, {"TERM": "xterm"}, False),
        ("auto", False, {"TERM": "xterm", "GITHUB_ACTIONS": "true"}, False),
        ("auto", False, {"FORCE_COLOR": "1"}, True),
        ("auto", True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        ("auto", True, {"TERM": "xterm", "NO_COLOR": ""}, True),
        ("auto", False, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ("always", False, {"NO_COLOR": "1"}, True),
        ("never", True, {"TERM": "xterm", "FORCE_COLOR": "1"}, False),
    ],
)
def test_the_rule_of_colour(choice: str, tty: bool, environ: dict[str, str], wanted: bool) -> None:
    assert color_wanted(ColorChoice(choice), Tty() if tty else io.StringIO(), environ) is wanted


@pytest.mark.parametrize("words", [["--help"], ["plan", "--help"], ["steps"], ["bogus"], ["validate", str(INVENTORY)]])
@pytest.mark.parametrize(
    "environ", [{"GITHUB_ACTIONS": "1"}, {"GITHUB_ACTIONS": "true", "PY_COLORS": "1"}, {"NO_COLOR": "1"}]
)
def test_no_escape_byte_leaves_into_a_pipe(words: list[str], environ: dict[str, str]) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "executor.cli.main", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environ,
        capture_output=True,
        check=False,
    )
    assert ran.returncode in (0, 64, 65)
    assert b"\x1b" not in ran.stdout + ran.stderr
    if environ.get("GITHUB_ACTIONS") == "true" and ran.returncode == 65:
        assert b"\n::error file=" in ran.stderr


def test_colour_is_there_when_it_is_asked_for(backend: MemoryBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--color", "always", "plan", str(PLAN)]) == 0
    assert "\x1b[" in capsys.readouterr().out
    assert main.main(["--color=never", "plan", str(PLAN)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_bug_exits_70_with_a_report_and_without_a_traceback(
    backend: MemoryBackend,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def broken() -> None:
        raise ZeroDivisionError(f"password {CANARY} divided by zero")

    redaction.remember(CANARY)
    monkeypatch.setattr(backend, "observe", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main.main(["plan", str(PLAN), "--var", f"percent={CANARY}"]) in (65, 70)
    assert main.main(["plan", str(PLAN)]) == 70
    captured = capsys.readouterr()
    [report] = tmp_path.glob("movetables-bug-*.txt")
    assert str(report) in captured.err
    assert "Traceback" not in captured.err
    assert "ZeroDivisionError" in report.read_text()
    assert "pymysql: " in report.read_text()
    assert CANARY not in captured.err + report.read_text()
    assert main.main(["--debug", "plan", str(PLAN)]) == 70
    captured = capsys.readouterr()
    assert "Traceback" in captured.err
    assert CANARY not in captured.err


def test_values_of_variables_are_masked() -> None:
    assert masked(["apply", "p", "--var", "a=secret", "--var=b=secret"]) == "movetables apply p --var a=*** --var=b=***"


@pytest.mark.parametrize("given", [["a"], ["=1"], ["a=1", "a=2"]])
def test_wrong_variables(given: list[str]) -> None:
    with pytest.raises(Usage):
        parse_variables(given)
    assert parse_variables(["a=1=2", "b="]) == {"a": "1=2", "b": ""}


def test_routing_rules_are_printed_as_vitess_does() -> None:
    rules = (RoutingRule("b", "ks.b"), RoutingRule("a@replica", "ks.a"))
    assert as_vitess(rules) == {
        "rules": [
            {"from_table": "a@replica", "to_tables": ["ks.a"]},
            {"from_table": "b", "to_tables": ["ks.b"]},
        ]
    }


@pytest.mark.parametrize("state", list(MoveState))
def test_show_tells_every_state_in_its_schema(state: MoveState) -> None:
    shown = to_document(at(state))
    jsonschema.Draft202012Validator(schemas.load("show")).validate(shown)
    assert json.loads(json.dumps(shown)) == shown
    if state is MoveState.SWITCHED:
        traffic = {move["workflow"]: (move["state"], move["traffic_state"]) for move in shown["moves"]}
        assert traffic["customer.commerce2customer"] == ("Frozen", "All Reads Switched. Writes Switched")
        assert traffic["commerce.commerce2customer_reverse"][1] == "All Reads Switched. Writes Switched"
        assert "traffic: All Reads Switched. Writes Switched" in to_text(at(state))


@pytest.mark.parametrize("cluster", [fresh(), commerce_only(), both()], ids=["fresh", "commerce", "both"])
def test_show_tells_clusters_without_moves(cluster: object) -> None:
    jsonschema.Draft202012Validator(schemas.load("show")).validate(to_document(cluster))  # type: ignore[arg-type]
    assert "No moves." in to_text(cluster)  # type: ignore[arg-type]


def test_every_step_kind_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["steps", "--format", "json"]) == 0
    assert [row["kind"] for row in json.loads(capsys.readouterr().out)] == list(STEP_KINDS)


def test_tables_are_aligned_and_never_cut() -> None:
    assert table(("A", "LONG"), [("x" * 200, "y"), ("z", "")]).splitlines()[1] == f"{'x' * 200}  y"


def test_every_command_has_an_example() -> None:
    import typer.main

    group = typer.main.get_command(main.app)
    missing = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", {name: command})
        missing += [
            f"{name} {n}" for n, c in inner.items() if not c.hidden and "Example: movetables" not in (c.help or "")
        ]
    assert missing == []
