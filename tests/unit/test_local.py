"""Logins, processes, waiting and the small rules of the embedded cluster, without a server."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from executor.errors import MovetablesError, Refused, TimedOut
from executor.native.local import mariadbd, mysqld
from executor.native.local.cluster import LocalCluster
from executor.native.local.local_server import COMPLETE, LocalServer
from executor.native.local.processes import Process, file_lock, process, read_pid_file, write_pid_file
from executor.native.local.serve import Child
from executor.native.local.server import start
from executor.native.logins import Logins, make_secret
from executor.native.promotion import lacks
from executor.native.topology import TabletRecord
from executor.native.waiting import wait_until
from planner.cluster import TabletType
from planner.inventory import Credentials, GatewayListener, Inventory, InventoryTablet, SecretRef, ServerAddress

MANAGED, EXTERNAL = "zone1-0000000100", "zone1-0000000200"


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    """A managed tablet, and one of somebody else's whose password is in the environment."""
    password = SecretRef(env="TEST_TABLET_PASSWORD")
    return Inventory(
        name="test",
        file=str(tmp_path / "inventory.yaml"),
        cell="zone1",
        data_dir=tmp_path / "data",
        topology=ServerAddress("localhost", 23001, managed=True),
        gateway=GatewayListener("127.0.0.1", 23002, (Credentials("app", SecretRef(file="app.password")),)),
        tablets=(
            InventoryTablet(MANAGED, "commerce", TabletType.REPLICA, ServerAddress("127.0.0.1", 23003, managed=True)),
            InventoryTablet(
                EXTERNAL, "customer", TabletType.PRIMARY, ServerAddress("db", 3306, Credentials("mover", password))
            ),
        ),
    )


def test_the_secret_is_made_once_and_only_its_owner_reads_it(inventory: Inventory) -> None:
    assert Logins(inventory).tablet(MANAGED).password == ""  # asking changes nothing
    assert not inventory.data_dir.exists()
    inventory.data_dir.mkdir()
    make_secret(inventory.data_dir)
    secret = (inventory.data_dir / "secret").read_text()
    make_secret(inventory.data_dir)
    assert [path.name for path in inventory.data_dir.iterdir()] == ["secret"]
    assert (inventory.data_dir / "secret").stat().st_mode & 0o777 == 0o600
    login = Logins(inventory).tablet(MANAGED)
    assert (login.user, login.password) == ("movetables", secret)
    assert Logins(inventory).topology().host == "127.0.0.1"
    assert secret not in repr(login)


def test_secrets_come_from_the_environment_or_a_file(inventory: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_TABLET_PASSWORD", "from env")
    (Path(inventory.file).parent / "app.password").write_text("from file\n")
    logins = Logins(inventory)
    assert logins.tablet(EXTERNAL).password == "from env"
    assert logins.gateway_users() == {"app": "from file"}
    moved = logins.server(TabletRecord(EXTERNAL, "customer", TabletType.PRIMARY, "other", 3307, False))
    assert (moved.address, moved.user, moved.password) == ("other:3307", "mover", "from env")


def test_a_missing_secret_is_named(inventory: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_TABLET_PASSWORD", raising=False)
    with pytest.raises(MovetablesError, match="TEST_TABLET_PASSWORD is not set"):
        Logins(inventory).tablet(EXTERNAL)
    with pytest.raises(MovetablesError, match=r"app\.password cannot be read"):
        Logins(inventory).gateway_users()
    with pytest.raises(MovetablesError, match="tablet zone1-9 is not in the inventory"):
        Logins(inventory).tablet("zone1-9")


def test_a_data_folder_is_claimed_once_and_by_one_cluster(inventory: Inventory) -> None:
    cluster = LocalCluster(inventory)
    assert not cluster.owned()
    cluster.claim()
    cluster.claim()
    assert cluster.owned()
    with pytest.raises(Refused, match="belongs to the cluster test, not to other"):
        LocalCluster(replace(inventory, name="other")).claim()
    cluster.reset()
    assert not inventory.data_dir.exists()
    cluster.reset()


def test_a_data_folder_that_cannot_be_made_is_named(inventory: Inventory, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="is not a folder"):
        LocalCluster(replace(inventory, data_dir=tmp_path / "file")).claim()
    with pytest.raises(MovetablesError, match="cannot be made"):
        LocalCluster(replace(inventory, data_dir=Path("/proc/nowhere"))).claim()


def test_the_server_that_was_chosen_is_kept_until_the_cluster_is_gone(inventory: Inventory) -> None:
    cluster = LocalCluster(inventory)
    assert cluster.server_for(MANAGED).flavor == "mariadb"
    cluster.choose_flavor("mysql")
    assert LocalCluster(inventory).server_for(MANAGED).flavor == "mysql"
    cluster.choose_flavor("mariadb")  # nothing was made yet
    (inventory.data_dir / MANAGED / "data").mkdir(parents=True)
    with pytest.raises(Refused, match="is made of MariaDB servers; asked for MySQL"):
        cluster.choose_flavor("mysql")
    cluster.choose_flavor("mariadb")


def test_what_the_inventory_says_goes_before_what_was_chosen(inventory: Inventory) -> None:
    tablets = tuple(replace(t, server=replace(t.server, flavor="mysql")) for t in inventory.tablets)
    said = replace(inventory, tablets=tablets, topology=replace(inventory.topology, flavor="mysql"))
    cluster = LocalCluster(said)
    assert cluster.server_for(MANAGED).flavor == "mysql"
    cluster.choose_flavor("mysql")
    with pytest.raises(Refused, match="says server: mysql; asked for mariadb"):
        cluster.choose_flavor("mariadb")


def test_a_data_folder_of_the_other_server_is_refused(inventory: Inventory) -> None:
    server = LocalCluster(inventory).server_for(MANAGED)
    server.data.mkdir(parents=True)
    (server.data / COMPLETE).write_text("mysql\n")
    with pytest.raises(Refused, match=f"the data folder of {MANAGED} was made by MySQL; expected MariaDB"):
        start(server, inventory.data_dir / "unused")


def test_without_mysql_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mysqld, "found", lambda _: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not mysqld.installed()
    with pytest.raises(MovetablesError, match="mysqld of MySQL was not found") as caught:
        mysqld.program()
    assert "script/mysql" in caught.value.hint


def test_only_managed_tablets_have_a_local_server(inventory: Inventory) -> None:
    cluster = LocalCluster(inventory)
    server = cluster.server_for(MANAGED)
    assert (server.server_id, server.port, server.directory) == (100, 23003, inventory.data_dir / MANAGED)
    with pytest.raises(MovetablesError, match=f"{EXTERNAL} is not a tablet that we start"):
        cluster.server_for(EXTERNAL)


def test_without_mariadbd_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mariadbd, "found", lambda _: None)
    with pytest.raises(MovetablesError, match="mariadbd was not found") as caught:
        mariadbd._program("mariadbd")
    assert "apt-get install mariadb-server" in caught.value.hint


def test_a_process_is_known_by_its_start_time_too(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    file = tmp_path / "pid"
    try:
        found = process(child.pid)
        assert found is not None
        write_pid_file(file, child.pid)
        assert read_pid_file(file) == found
        assert not Process(found.pid, found.started + 1).alive
    finally:
        child.kill()
    wait_until(lambda: not found.alive, 5, "the child to end")  # as a zombie: nobody has waited for it
    assert read_pid_file(file) is None
    child.communicate()
    for text in ("", "12", "twelve 13", "12 13 14"):
        file.write_text(text)
        assert read_pid_file(file) is None


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = process(child.pid)
        assert found is not None
        found.stop(0.2)
        assert child.wait(5) == -9


def test_a_file_lock_is_exclusive(tmp_path: Path) -> None:
    with file_lock(tmp_path / "lock") as first, file_lock(tmp_path / "lock", wait=False) as second:
        assert first
        assert not second
    with file_lock(tmp_path / "lock", wait=False) as third:
        assert third


def test_waiting_returns_what_was_found_or_says_what_was_missing() -> None:
    answers = iter([None, 0, "there"])
    assert wait_until(lambda: next(answers), 5, "an answer", interval=0) == "there"
    with pytest.raises(TimedOut, match=r"waited 0\.01 s for Godot, last seen never"):
        wait_until(lambda: None, 0.01, lambda: "Godot, last seen never", interval=0.001)


def test_a_role_that_keeps_ending_is_started_ever_later() -> None:
    child = Child("gateway")
    pauses = []
    for _ in range(8):
        child.started = 100.0
        child.ended(100.5)
        pauses.append(round(child.due - 100.5, 3))
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    child.ended(110.0)  # ten seconds after its start
    assert round(child.due - 110.0, 3) == 0.1
    assert child.restarts == 9


@pytest.mark.parametrize(
    ("position", "other", "expected"),
    [
        ("", "", False),
        ("0-100-5", "", False),
        ("", "0-100-1", True),
        ("0-100-5", "0-100-5", False),
        ("0-100-5", "0-101-6", True),
        ("0-100-5,1-7-2", "0-100-4,1-7-2", False),
        ("0-100-5,1-7-2", "0-100-4,1-7-3", True),
        ("0-100-10", "0-100-9", False),
    ],
)
def test_a_position_lacks_what_is_beyond_it_in_any_domain(position: str, other: str, expected: bool) -> None:
    assert lacks(position, other) is expected


def test_pid_of_a_server_ignores_a_stale_file(tmp_path: Path) -> None:
    server = LocalServer("server", tmp_path / "server", 23004, 7, "secret")
    server.directory.mkdir()
    assert server.pid() is None
    server.pid_file.write_text(f"{os.getpid()}\n")
    assert server.pid() is None
