"""The soak's short form: `script/bench soak` does the same for as long as it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.commands import Commands
from tests.cluster.conftest import MakeInventory
from tests.cluster.killing import TABLETS
from tests.cluster.soak import soak


@pytest.fixture
def commands(make_inventory: MakeInventory, tmp_path: Path) -> Iterator[Commands]:
    found = Commands(make_inventory("soak", TABLETS), tmp_path)
    found.run("local", "up")
    yield found
    found.run("local", "down")


def test_nothing_is_lost_while_processes_and_servers_are_killed(commands: Commands, tmp_path: Path) -> None:
    found = soak(commands, tmp_path, 45.0, seed=11, ballast_rows=60_000, say=print)
    print(found.text())
    assert found.verdict is not None
    assert found.verdict.ok, found.text()
    assert sum(found.kills.values()) >= 4
