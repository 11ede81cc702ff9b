"""`apply`, and each process of serve, killed with -9 again and again while the workload runs: applying again converges.

Nothing acknowledged may be lost or doubled, and nothing may be left behind: no fence, lock, rule, mark or marker.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from executor.native.access import Access
from executor.native.cutover.fence import standing
from executor.native.topology import SCHEMA
from planner.inventory import Inventory
from tests.cluster.commands import Commands
from tests.cluster.conftest import MakeInventory
from tests.cluster.killing import ROLES, TABLETS, Killer, plan_text
from tests.workload import MOVED_TABLES, Workload, prepare

KILLED = -signal.SIGKILL
JOURNAL = ("before_intent", "after_intent", "before_perform", "after_perform", "after_result")
BEFORE_JOURNAL_ROW = ("intent", "fenced", "caught_up", "stopped", "reverse_created")
AFTER_JOURNAL_ROW = ("journaled", "unfenced", "routed", "reverse_started", "frozen", "finished", "journal_deleted")


@dataclass
class Kills(Commands):
    """The command line, counting the applies that were killed."""

    kills: int = 0

    def bring(self, state: str, kill_at: str = "") -> None:
        """Applies the move's plan with that state; it must succeed, or be killed where `kill_at` says."""
        path = str(self.plan_file(state or "keyspaces", plan_text(state, MOVED_TABLES)))
        # serve may be settling what the last kill left behind; it holds the lock for as long as that takes.
        wanted = KILLED if kill_at else 0
        self.run("apply", path, "--auto-approve", "--lock-timeout", "60s", kill_at=kill_at, expected=wanted)
        self.kills += wanted == KILLED


@pytest.fixture
def commands(make_inventory: MakeInventory, tmp_path: Path) -> Iterator[Kills]:
    found = Kills(make_inventory("kills", TABLETS), tmp_path)
    found.run("local", "up")
    yield found
    found.run("local", "down")


@pytest.fixture
def workload(commands: Kills, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Workload]:
    commands.bring("")
    with commands.gateway() as connection:
        prepare(connection, "commerce")
    tolerant = getattr(request, "param", False)
    made = Workload(
        lambda: commands.gateway(autocommit=False),
        "commerce",
        clients=3,
        rate=60,
        path=tmp_path / "ledger.jsonl",
        tolerate_disconnects=tolerant,
    )
    made.start()
    yield made
    made.stop()


def assert_nothing_is_left(inventory: Inventory) -> None:
    """After completion: no fence, denied table, rule, mark, cutover, lock, stream, marker or journal row anywhere."""
    access = Access(inventory)
    state = access.topology.read()
    assert (state.routing_rules, state.mirror_rules, state.switching, state.cutovers) == ((), (), (), ())
    locks = access.topology.connection().query(
        f"SELECT name FROM {SCHEMA}.lock_holder WHERE IS_USED_LOCK(name) IS NOT NULL"
    )
    assert locks == []
    for keyspace in ("commerce", "customer"):
        record = state.keyspace(keyspace)
        assert record is not None
        assert record.denied_tables == ()
        with access.connect_primary(keyspace) as primary:
            assert standing(primary, record.database) == {}
            for table in ("vreplication", "copy_state", "marker", "journal", "post_copy_action"):
                assert primary.query(f"SELECT * FROM _movetables.{table}") == [], table
    access.close()


def finish(commands: Kills, workload: Workload) -> None:
    workload.keyspace = "customer"
    workload.wait_for_writes(30, timeout=60)
    commands.bring("completed")
    workload.wait_for_writes(30, timeout=60)
    workload.stop()
    with commands.gateway() as connection:
        verdict = workload.verify(connection, "customer")
    print(f"{commands.kills} applies killed; {verdict.text()}")
    assert verdict.ok, verdict.text()
    assert_nothing_is_left(commands.inventory)


def test_apply_killed_at_every_point_of_the_journal_and_of_each_step_converges(
    commands: Kills, workload: Workload
) -> None:
    for point in ("create:stream", "create:rules", "create:tables", *JOURNAL):
        commands.bring("running", kill_at=point)
    commands.bring("running")
    workload.wait_for_writes(30)
    for point in ("vdiff.table", *JOURNAL[:4]):
        commands.bring("reads_switched", kill_at=point)
    commands.bring("reads_switched")
    states = ["running", "switched"]
    for point in BEFORE_JOURNAL_ROW:
        commands.bring("switched", kill_at=f"cutover:{point}")
    for point in AFTER_JOURNAL_ROW:
        commands.bring("switched" if states[-1] == "switched" else "reads_switched", kill_at=f"cutover:{point}")
        commands.bring("switched" if states[-1] == "switched" else "reads_switched")
        workload.wait_for_writes(10)
        states.reverse()
    if states[-1] != "switched":
        for point in BEFORE_JOURNAL_ROW:
            commands.bring("reads_switched", kill_at=f"cutover:{point}")
    commands.bring("switched")
    for point in ("complete:reverse_stopped", "complete:tables", "complete:recorded", "complete:streams"):
        workload.keyspace = "customer"
        commands.bring("completed", kill_at=point)
    finish(commands, workload)
    assert commands.kills >= 30


@pytest.mark.parametrize("workload", [True], indirect=True)
def test_each_process_of_serve_killed_at_random_times_loses_nothing(commands: Kills, workload: Workload) -> None:
    killer = Killer(commands, 7, ROLES, (0.3, 1.5))
    killer.start()
    try:
        for state in ("running", "switched", "running", "switched", "reads_switched", "switched"):
            commands.bring(state)
            workload.wait_for_writes(20, timeout=90)
        deadline = time.monotonic() + 120
        while killer.kills.total() < 16 and time.monotonic() < deadline:
            workload.wait_for_writes(5, timeout=90)
    finally:
        killer.finish()
    print(f"killed: {killer.kills}")
    assert killer.kills.total() >= 16
    finish(commands, workload)
