"""Two applies at once: the second stops and names the first, which can be seen, waited for and broken."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from executor.native.access import Access
from executor.native.servers import Connection
from executor.native.waiting import wait_until
from tests.cluster.commands import EXAMPLE, KEYSPACES, SHOP, Commands, embedded, shop_plan
from tests.cluster.conftest import Pairing, Ports, Templates


@dataclass
class Blocked:
    """A cluster on which creating the move waits, for as long as somebody has locked the target's server."""

    commands: Commands
    lock: Connection

    def start(self, plan: Path) -> subprocess.Popen[str]:
        """Starts an apply that soon waits, and holds its locks."""
        process = self.commands.start("apply", str(plan), "--auto-approve")
        wait_until(
            lambda: len(self.commands.json("lock", "list")) == 2 or process.poll() is not None, 60, "the first apply"
        )
        return process

    def unblock(self) -> None:
        self.lock.execute("UNLOCK TABLES")


@pytest.fixture
def blocked(tmp_path: Path, templates: Templates, pairing: Pairing, ports: Ports) -> Iterator[Blocked]:
    with embedded(tmp_path, templates, pairing, ports, "two", SHOP) as commands:
        shutil.copy(EXAMPLE / "create_commerce_schema.sql", tmp_path)
        commands.apply(commands.plan_file("keyspaces", KEYSPACES))
        access = Access(commands.inventory)
        with access.connect_primary("customer") as lock:
            lock.execute("FLUSH TABLES WITH READ LOCK")
            yield Blocked(commands, lock)
        access.close()


def test_the_second_apply_names_the_first_which_can_be_broken(blocked: Blocked) -> None:
    commands, plan = blocked.commands, shop_plan(blocked.commands, "running")
    assert commands.out("lock", "list") == "No locks are held.\n"
    first = blocked.start(plan)
    held = commands.json("lock", "list")
    (run,) = {lock["run"] for lock in held}
    who = f"{getpass.getuser()}@{socket.gethostname()}"
    assert {(lock["holder"], lock["pid"]) for lock in held} == {(who, first.pid)}
    assert all(str(plan) in lock["command"] for lock in held)

    second = commands.apply(plan, expected=5)
    for text in (who, f"pid {first.pid}", f"run {run}", f"movetables lock break --run {run}"):
        assert text in second.stderr
    assert run in commands.out("lock", "list")
    commands.run("plan", str(plan))  # looking is always allowed

    commands.run("lock", "break", "--run", run, expected=64)  # it would ask, and nobody is there to answer
    commands.run("lock", "break", "--run", "0815", "--yes", expected=1)
    assert first.poll() is None
    assert commands.out("lock", "break", "--run", run, "--yes").startswith("Broken: ")
    assert commands.out("lock", "list") == "No locks are held.\n"
    blocked.unblock()
    _, said = first.communicate(timeout=60)
    assert first.returncode == 5, said
    assert "the lock was lost" in said
    assert commands.json("history", run)["state"] == "failed"
    commands.apply(plan)
    assert commands.apply(plan).stdout.startswith("No changes.")


def test_the_second_apply_waits_if_it_is_told_to(blocked: Blocked) -> None:
    commands, plan = blocked.commands, shop_plan(blocked.commands, "running")
    first = blocked.start(plan)
    second = commands.start("apply", str(plan), "--auto-approve", "--lock-timeout", "2m")
    assert second.stderr is not None
    said = ""
    while "Waiting up to 120 s for the lock held by" not in said:
        line = second.stderr.readline()
        assert line, said
        said += line
    assert f"pid {first.pid}" in said
    blocked.unblock()
    for process in (first, second):
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, f"{out}\n{err}"
    assert out.startswith("Applied: 0 created, 0 changed, 0 moved, 0 dropped, 0 verified, 0 failed, 3 skipped"), out
