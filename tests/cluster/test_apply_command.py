"""`movetables apply` as a process, locks and journal on a real server: approval, kills and resume, exit codes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import schemas
from executor.lock import holders
from executor.native.local import server as servers
from executor.native.local.local_server import LocalServer
from executor.native.servers import Connection, connect
from executor.native.waiting import wait_until
from planner.cluster import Server
from planner.plan import plan
from tests.cluster.apply_program import read, write
from tests.cluster.conftest import Ports, dispose
from tests.unit.worlds import MOVE, both, document, fresh

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-9f3b7d21"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, template: Path, flavor: str, ports: Ports
) -> Iterator[LocalServer]:
    made = LocalServer("topology", tmp_path_factory.mktemp("topology") / "topology", ports.take(), 1, "secret", flavor)
    servers.start(made, template)
    yield made
    dispose(made)


PLAN = """
version: 1
name: customer-out-of-commerce
vars: {percent: 0}
keyspaces:
  commerce: {tablets: [zone1-0000000100, zone1-0000000101, zone1-0000000102]}
  customer: {tablets: [zone1-0000000200, zone1-0000000201, zone1-0000000202]}
moves:
  commerce2customer:
    source: commerce
    target: customer
    tables: [customer, corder]
    state: STATE
    mirror: {percent: "${percent}"}
"""

INVENTORY = """
version: 1
name: local
topology: {host: 127.0.0.1, port: PORT, user: movetables, password: {env: CANARY_PASSWORD}}
gateway: {port: 1}
keyspaces: {commerce: {}, customer: {}}
tablets:
"""


@dataclass
class Bench:
    """A folder with a plan, an inventory and the state of a cluster; runs the command on them."""

    folder: Path
    server: LocalServer
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def plan(self) -> Path:
        return self.folder / "plan.yaml"

    def want(self, state: str) -> None:
        self.plan.write_text(PLAN.replace("STATE", state).replace('"${percent}"', "0"))

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "tests.cluster.apply_program", str(self.state), str(self.server.port), *words]

    def environment(self, **more: str) -> dict[str, str]:
        return os.environ | {"CANARY_PASSWORD": CANARY, "PYTHONPATH": str(ROOT)} | more

    def run(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            cwd=ROOT,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def start(self, *words: str, **more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self.command(*words),
            cwd=ROOT,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def hold(self, *words: str, **more: str) -> subprocess.Popen[str]:
        """Starts the command and waits until the step that holds is running."""
        self.state.with_suffix(".hold").touch()
        self.state.with_suffix(".holding").unlink(missing_ok=True)
        process = self.start(*words, **more)
        wait_until(
            lambda: self.state.with_suffix(".holding").exists() or process.poll() is not None, 60, "the step to run"
        )
        return process

    def release(self) -> None:
        self.state.with_suffix(".hold").unlink(missing_ok=True)

    def performed(self) -> list[str]:
        path = self.state.with_suffix(".performed")
        return path.read_text().splitlines() if path.exists() else []

    def connect(self) -> Connection:
        return connect(self.server.login)

    def locks(self) -> list[str]:
        with self.connect() as connection:
            return sorted({holder.run for holder in holders(connection) if holder.alive})


@pytest.fixture
def bench(tmp_path: Path, server: LocalServer) -> Iterator[Bench]:
    made = Bench(tmp_path, server)
    with made.connect() as connection:
        connection.execute("DROP DATABASE IF EXISTS movetables_topo")
    lines = [
        f"  {tablet.alias}: {{keyspace: {tablet.keyspace}, type: {'rdonly' if tablet.uid % 10 == 2 else 'replica'}, "
        f"port: {tablet.port}, managed: local}}\n"
        for tablet in fresh().tablets
    ]
    (tmp_path / "inventory.yaml").write_text(INVENTORY.replace("PORT", str(server.port)) + "".join(lines))
    write(made.state, both())
    made.want("switched")
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


def apply(bench: Bench, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return bench.run("apply", str(bench.plan), "--auto-approve", *words, **more)


def test_a_plan_is_applied_and_then_nothing_is_left_to_do(bench: Bench) -> None:
    done = apply(bench)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Applied: 1 created, ")
    assert bench.locks() == []
    assert bench.run("plan", str(bench.plan), "--detailed-exitcode").returncode == 0
    again = apply(bench)
    assert (again.returncode, again.stdout[:11]) == (0, "No changes.")


def test_plan_exits_2_for_changes_only_when_asked_to(bench: Bench) -> None:
    assert bench.run("plan", str(bench.plan)).returncode == 0
    assert bench.run("plan", str(bench.plan), "--detailed-exitcode").returncode == 2


def test_plan_and_dry_run_write_nothing_anywhere(bench: Bench) -> None:
    before = bench.state.read_bytes()
    with bench.connect() as connection:
        position = connection.position()
        for words in (["plan"], ["apply", "--dry-run"], ["graph"], ["validate"]):
            ran = bench.run(words[0], str(bench.plan), *words[1:])
            assert ran.returncode == 0, ran.stderr
        assert connection.position() == position
    assert bench.state.read_bytes() == before
    assert bench.performed() == []


def test_a_dry_run_prints_every_step_with_its_sql_on_stdout(bench: Bench) -> None:
    ran = bench.run("apply", str(bench.plan), "--dry-run")
    assert ran.stdout.startswith("Apply dry run results for plan customer-out-of-commerce at ")
    for step in plan(document(MOVE), both()).steps:
        assert f"\n{step.id}\n" in ran.stdout
        assert f"    topology> DO '{step.kind}';\n" in ran.stdout
    assert ran.stdout.splitlines()[-1].endswith("Nothing was changed.")


def test_without_a_terminal_and_an_approval_nothing_happens(bench: Bench) -> None:
    ran = bench.run("apply", str(bench.plan))
    assert ran.returncode == 64
    assert "--auto-approve" in ran.stderr
    assert bench.performed() == []


@pytest.mark.parametrize(
    ("typed", "code", "prompts"),
    [("yes\n", 0, 1), ("y\n", 8, 1), ("\n", 8, 1), ("\x04", 8, 1), ("\x03", 8, 1), ("details\nyes\n", 0, 2)],
    ids=["yes", "y", "enter", "end-of-input", "ctrl-c", "details"],
)
def test_only_the_typed_word_approves(bench: Bench, typed: str, code: int, prompts: int) -> None:
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        bench.command("apply", str(bench.plan)),
        cwd=ROOT,
        env=bench.environment(),
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=controlling_terminal,
    )
    os.close(terminal)
    assert process.stderr is not None
    said = ""
    while "Only 'yes' goes on" not in said:
        said += process.stderr.read(1)
    os.write(main, typed.encode())
    out, rest = process.communicate(timeout=60)
    os.close(main)
    said += rest
    assert process.returncode == code, said
    assert said.count("Only 'yes' goes on") == prompts
    assert (bench.performed() == []) == (code == 8)
    assert "cluster local" in said
    if code == 8:
        assert out == ""
        assert "nothing was changed" in said


def controlling_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def fingerprint(bench: Bench) -> str:
    found: str = json.loads(bench.run("plan", str(bench.plan), "--format", "json").stdout)["fingerprint"]
    return found


def test_a_fingerprint_approves_the_plan_it_belongs_to(bench: Bench) -> None:
    approved = fingerprint(bench)[:12]
    for wrong, code in ((approved[:11], 64), ("0" * 12, 3)):
        ran = bench.run("apply", str(bench.plan), "--approve", wrong)
        assert ran.returncode == code
    # A gate flag must never widen permission: a wrong fingerprint refuses whatever else is given.
    assert apply(bench, "--approve", "0" * 12).returncode == 3
    assert bench.performed() == []
    assert bench.run("apply", str(bench.plan), "--approve", approved).returncode == 0


def test_a_saved_plan_is_applied_as_it_is_and_only_to_the_cluster_it_was_made_for(bench: Bench) -> None:
    kept = bench.folder / "kept.json"
    assert bench.run("plan", str(bench.plan), "--out", str(kept)).returncode == 0
    assert kept.stat().st_mode & 0o777 == 0o600
    before = both()
    commerce = before.keyspace("commerce")
    assert commerce is not None
    tables = tuple(replace(t, engine="Aria") if t.name == "customer" else t for t in commerce.tables)
    write(bench.state, before.with_keyspace(replace(commerce, tables=tables)))
    stale = bench.run("apply", str(kept), "--auto-approve")
    assert stale.returncode == 3
    assert "table commerce.customer, engine: then InnoDB, now Aria" in stale.stderr
    assert bench.run("show", str(kept)).returncode == 0, "showing always works"
    write(bench.state, before)
    done = bench.run("apply", str(kept), "--auto-approve")
    assert done.returncode == 0, done.stderr


def test_a_saved_plan_that_was_interrupted_is_continued(bench: Bench) -> None:
    kept = bench.folder / "kept.json"
    bench.run("plan", str(bench.plan), "--out", str(kept))
    killed = bench.run("apply", str(kept), "--auto-approve", MOVETABLES_KILL_AT="after_perform#2")
    assert killed.returncode == -signal.SIGKILL
    done = bench.run("apply", str(kept), "--auto-approve")
    assert done.returncode == 0, done.stderr
    assert "skipped (already done)" in done.stdout
    assert plan(document(MOVE), read(bench.state)).steps == ()


def test_an_edited_saved_plan_is_an_invalid_document(bench: Bench) -> None:
    kept = bench.folder / "kept.json"
    bench.run("plan", str(bench.plan), "--out", str(kept))
    kept.write_text(kept.read_text().replace('"customer"', '"commerce"'))
    assert bench.run("apply", str(kept), "--auto-approve").returncode == 65


POINTS = ("before_intent", "after_intent", "before_perform", "after_perform", "after_result")


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("hit", [1, 3, 5])
def test_killed_at_any_point_applying_again_converges_and_nothing_is_done_twice(
    bench: Bench, point: str, hit: int
) -> None:
    steps = [step.id for step in plan(document(MOVE), both()).steps]
    killed = apply(bench, MOVETABLES_KILL_AT=f"{point}#{hit}")
    assert killed.returncode == -signal.SIGKILL
    with bench.connect() as connection:
        left = connection.query("SELECT step FROM movetables_topo.run_step WHERE state='running'")
    assert bool(left) == (point in ("after_intent", "before_perform", "after_perform"))
    done = apply(bench)
    assert done.returncode == 0, done.stderr
    assert sorted(bench.performed()) == sorted(steps)
    with bench.connect() as connection:
        assert connection.query("SELECT * FROM movetables_topo.run_step WHERE state IN ('running', 'ambiguous')") == []
        states = connection.query("SELECT state FROM movetables_topo.run ORDER BY started_at")
    assert [row["state"] for row in states] == ["resumed", "done"]
    assert bench.locks() == []
    if left:
        assert left[0]["step"] in done.stderr


def test_killed_after_the_last_act_the_journal_is_settled_although_nothing_is_left_to_do(bench: Bench) -> None:
    count = len(plan(document(MOVE), both()).steps)
    assert apply(bench, MOVETABLES_KILL_AT=f"after_perform#{count}").returncode == -signal.SIGKILL
    again = apply(bench)
    assert (again.returncode, again.stdout[:11]) == (0, "No changes.")
    with bench.connect() as connection:
        assert connection.query("SELECT * FROM movetables_topo.run_step WHERE state='running'") == []


def test_an_outcome_that_cannot_be_seen_is_ambiguous_and_nothing_is_guessed(bench: Bench) -> None:
    assert apply(bench, MOVETABLES_KILL_AT="after_intent#2").returncode == -signal.SIGKILL
    reachable = read(bench.state)
    primary = reachable.primary("customer")
    assert primary is not None
    silent = replace(primary, running=False, server=Server(f"127.0.0.1:{primary.port}", error="connection refused"))
    write(bench.state, reachable.with_tablet(silent))
    performed = bench.performed()
    ran = apply(bench)
    assert ran.returncode == 10, ran.stderr
    assert primary.alias in ran.stderr
    assert "movetables history" in ran.stderr
    assert bench.performed() == performed
    write(bench.state, reachable)
    assert apply(bench).returncode == 0


def test_two_at_once_the_second_stops_with_5_and_names_the_first(bench: Bench) -> None:
    first = bench.hold("apply", str(bench.plan), "--auto-approve", MOVETABLES_TEST_HOLD="start_workflow")
    [run] = bench.locks()
    second = apply(bench)
    assert second.returncode == 5
    for part in (run, f"pid {first.pid}", f"movetables apply {bench.plan}"):
        assert part in second.stderr
    listed = bench.run("lock", "list", "-i", str(bench.folder / "inventory.yaml"))
    assert run in listed.stdout
    bench.release()
    out, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    assert out.startswith("Applied:")


def test_waiting_for_the_lock(bench: Bench) -> None:
    first = bench.hold("apply", str(bench.plan), "--auto-approve", MOVETABLES_TEST_HOLD="start_workflow")
    second = bench.start("apply", str(bench.plan), "--auto-approve", "--lock-timeout", "60s")
    assert second.stderr is not None
    said = ""
    while "Waiting up to 60 s for the lock" not in said:
        said += second.stderr.read(1)
    bench.release()
    first.communicate(timeout=60)
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert "skipped (already done)" in out


def test_breaking_the_lock_stops_its_holder_before_the_next_change(bench: Bench) -> None:
    first = bench.hold("apply", str(bench.plan), "--auto-approve", MOVETABLES_TEST_HOLD="start_workflow")
    [run] = bench.locks()
    inventory = str(bench.folder / "inventory.yaml")
    refused = bench.run("lock", "break", "--run", run, "-i", inventory)
    assert (refused.returncode, bench.locks()) == (64, [run])
    broken = bench.run("lock", "break", "--run", run, "-i", inventory, "--yes")
    assert broken.returncode == 0, broken.stderr
    bench.release()
    _, err = first.communicate(timeout=60)
    assert first.returncode == 5
    assert "the lock was lost" in err
    assert "wait_running:customer.commerce2customer" not in bench.performed()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_at_a_safe_point_with_6_and_the_command_that_resumes(
    bench: Bench, number: signal.Signals
) -> None:
    process = bench.hold("apply", str(bench.plan), "--auto-approve", MOVETABLES_TEST_HOLD="start_workflow")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 6, err
    assert f"movetables apply {bench.plan}" in err
    assert " not run." in out
    assert bench.locks() == []
    bench.release()
    assert apply(bench).returncode == 0


def test_the_second_signal_exits_at_once_and_names_the_running_step(bench: Bench) -> None:
    process = bench.hold("apply", str(bench.plan), "--auto-approve", MOVETABLES_TEST_SHIELD="switch_writes")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    said = ""
    while "the cutover is under way" not in said:
        said += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    assert "switch_writes:customer.commerce2customer" not in bench.performed(), "it is shielded"
    bench.release()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 6
    assert "switch_writes:customer.commerce2customer was running" in said + err
    assert apply(bench).returncode == 0


def test_events_are_written_for_programs(bench: Bench) -> None:
    ran = apply(bench, "--events", "-")
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    validator = jsonschema.Draft202012Validator(schemas.load("event"))
    for event in events:
        validator.validate(event)
    assert (events[0]["type"], events[-1]["type"], events[-1]["exit_code"]) == ("version", "summary", 0)
    assert "Applied: " in ran.stderr
    file = bench.folder / "events.jsonl"
    assert apply(bench, "--events", str(file)).returncode == 0
    assert [json.loads(line)["type"] for line in file.read_text().splitlines()] == ["version", "summary"]


def history(bench: Bench, *words: str) -> Any:
    ran = bench.run("history", *words, "-i", str(bench.folder / "inventory.yaml"), "--format", "json")
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_history_tells_what_was_applied(bench: Bench) -> None:
    assert history(bench) == []
    apply(bench, MOVETABLES_KILL_AT="after_intent#3")
    [killed] = history(bench)
    assert killed["killed"]
    apply(bench)
    newest, oldest = history(bench)
    assert (newest["state"], oldest["state"]) == ("done", "resumed")
    one = history(bench, newest["id"][:8])
    assert one["fingerprint"] == newest["fingerprint"]
    assert {step["state"] for step in one["steps"]} == {"done"}
    text = bench.run("history", newest["id"], "-i", str(bench.folder / "inventory.yaml")).stdout
    assert "switch_writes:customer.commerce2customer" in text
    assert bench.run("history", "zzz", "-i", str(bench.folder / "inventory.yaml")).returncode == 1


def test_no_secret_is_printed_or_kept(bench: Bench) -> None:
    bench.plan.write_text(PLAN.replace("STATE", "running"))
    kept, events = bench.folder / "kept.json", bench.folder / "events.jsonl"
    secret = f"percent={CANARY}"
    outputs = []
    for words in (
        ["plan", str(bench.plan), "--out", str(kept), "--format", "json"],
        ["apply", str(bench.plan), "--dry-run"],
        ["apply", str(bench.plan), "--auto-approve", "--events", str(events)],
        ["history", "-i", str(bench.folder / "inventory.yaml"), "--format", "json"],
        ["show", "-i", str(bench.folder / "inventory.yaml")],
        ["apply", str(bench.plan), "--auto-approve", "--var", secret],
    ):
        ran = bench.run(*words)
        outputs += [ran.stdout, ran.stderr]
    with bench.connect() as connection:
        outputs += [str(connection.query(f"SELECT * FROM movetables_topo.{name}")) for name in ("run", "run_step")]
    outputs += [kept.read_text(), events.read_text()]
    assert [text for text in outputs if CANARY in text] == []
