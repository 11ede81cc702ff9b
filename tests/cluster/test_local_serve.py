"""The embedded cluster and `serve` on real processes: up, down, kills, what stands in the way."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from executor.errors import LockHeld, MovetablesError, Refused
from executor.native.local import serve, up
from executor.native.local.cluster import LocalCluster
from executor.native.local.processes import process, read_pid_file
from executor.native.logins import Logins
from executor.native.promotion import replication, running
from executor.native.servers import ServerError, connect
from executor.native.topology import KeyspaceRecord, TabletRecord, Topology
from executor.native.waiting import wait_until
from planner.inventory import Inventory
from tests.cluster.dialect import wait_until_applied

PROGRAM = (sys.executable, str(Path(__file__).with_name("serve_program.py")))
PRIMARY, REPLICA, RDONLY = "zone1-0000000100", "zone1-0000000101", "zone1-0000000102"


def quiet(line: str) -> None:
    """Progress that nobody looks at."""


@pytest.fixture
def inventory(make_inventory: Callable[..., Inventory]) -> Inventory:
    """An inventory of which nothing runs yet."""
    return make_inventory()


def start(inventory: Inventory) -> None:
    up.up(inventory, quiet, program=PROGRAM)


def rows(inventory: Inventory) -> dict[str, up.StatusRow]:
    return {row.name: row for row in up.status(inventory)}


def register_commerce(inventory: Inventory) -> None:
    """Starts and registers commerce's tablets; who is PRIMARY is left to health."""
    local, topology = LocalCluster(inventory), Topology(Logins(inventory).topology())
    tablets = [tablet for tablet in inventory.tablets if tablet.keyspace == "commerce"]
    for tablet in tablets:
        local.start_tablet(tablet.alias)
    state = topology.read().with_keyspace(KeyspaceRecord("commerce", "vt_commerce"))
    for t in tablets:
        state = state.with_tablet(TabletRecord(t.alias, "commerce", t.type, "127.0.0.1", t.server.port, True))
    topology.update(lambda _: state)
    topology.close()


def wait_for_commerce(inventory: Inventory) -> None:
    """Waits until health has promoted a PRIMARY and the others replicate from it."""
    topology = Topology(Logins(inventory).topology())
    try:
        wait_until(lambda: topology.read().primary("commerce"), 15, "a PRIMARY")
    finally:
        topology.close()
    for alias in (REPLICA, RDONLY):
        with connect(Logins(inventory).tablet(alias)) as connection:
            wait_until(lambda connection=connection: running(replication(connection)), 15, alias)  # type: ignore[misc]


def test_up_starts_topology_and_serve_and_down_stops_them(inventory: Inventory) -> None:
    before = time.monotonic()
    start(inventory)
    assert time.monotonic() - before < 10
    found = rows(inventory)
    assert {name: row.state for name, row in found.items() if row.state == "running"}.keys() == {
        "topology",
        "serve",
        *serve.ROLES,
    }
    assert found[PRIMARY].state == "not created"
    pids = [row.pid for row in found.values() if row.pid is not None]
    assert len(pids) == 5

    start(inventory)  # again: nothing changes
    assert rows(inventory) == found

    up.down(inventory)
    assert all(process(pid) is None for pid in pids)
    assert {row.state for row in up.status(inventory)} == {"stopped", "not created"}
    up.down(inventory)  # again: no error


def test_health_promotes_and_attaches_and_everything_is_there_after_down_and_up(inventory: Inventory) -> None:
    start(inventory)
    register_commerce(inventory)
    wait_for_commerce(inventory)
    with connect(Logins(inventory).tablet(PRIMARY)) as primary:
        primary.execute("CREATE TABLE vt_commerce.t (id INT PRIMARY KEY)")
        primary.execute("INSERT INTO vt_commerce.t VALUES (1)")
    up.down(inventory)
    start(inventory)
    wait_for_commerce(inventory)
    with connect(Logins(inventory).tablet(PRIMARY)) as primary:
        primary.execute("INSERT INTO vt_commerce.t VALUES (2)")
        position = primary.position()
        assert primary.value("SELECT @@global.read_only") == 0
    with connect(Logins(inventory).tablet(RDONLY)) as rdonly:
        wait_until_applied(rdonly, position)
        assert [row["id"] for row in rdonly.query("SELECT id FROM vt_commerce.t ORDER BY id")] == [1, 2]
        assert rdonly.value("SELECT @@global.read_only") == 1


def test_servers_that_are_killed_are_started_again(inventory: Inventory) -> None:
    start(inventory)
    register_commerce(inventory)
    wait_for_commerce(inventory)
    with connect(Logins(inventory).tablet(PRIMARY)) as primary:
        primary.execute("CREATE TABLE vt_commerce.t (id INT PRIMARY KEY)")
        primary.execute("INSERT INTO vt_commerce.t VALUES (1)")
    for name in (REPLICA, PRIMARY, "topology"):
        pid = rows(inventory)[name].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda name=name, pid=pid: rows(inventory)[name].state == "running" and rows(inventory)[name].pid != pid,  # type: ignore[misc]
            15,
            f"{name} to be started again",
        )
    wait_for_commerce(inventory)
    with connect(Logins(inventory).tablet(PRIMARY)) as primary:
        assert primary.value("SELECT @@global.read_only") == 0
        primary.execute("INSERT INTO vt_commerce.t VALUES (2)")
        position = primary.position()
    with connect(Logins(inventory).tablet(REPLICA)) as replica:
        wait_until_applied(replica, position)
        assert [row["id"] for row in replica.query("SELECT id FROM vt_commerce.t ORDER BY id")] == [1, 2]


def test_a_server_that_health_started_outlives_health(inventory: Inventory) -> None:
    start(inventory)
    topology = rows(inventory)["topology"].pid
    assert topology is not None
    os.kill(topology, signal.SIGKILL)
    wait_until(lambda: rows(inventory)["topology"].state == "running", 15, "the topology")
    started = rows(inventory)["topology"].pid
    health = rows(inventory)["health"]
    assert started not in (None, topology)
    assert health.pid is not None
    os.kill(health.pid, signal.SIGKILL)
    wait_until(lambda: rows(inventory)["health"].restarts == 1, 10, "health to be started again")
    wait_until(lambda: rows(inventory)["health"].state == "running", 10, "health to be ready")
    assert rows(inventory)["topology"].pid == started


def test_stopped_replication_is_started_again(inventory: Inventory) -> None:
    start(inventory)
    register_commerce(inventory)
    wait_for_commerce(inventory)
    with connect(Logins(inventory).tablet(REPLICA)) as replica:
        words = replica.flavor.replication
        replica.execute(words.stop)
        wait_until(lambda: running(replication(replica)), 15, "replication")
        replica.execute(words.stop)
        replica.execute(words.forget)
        wait_until(lambda: running(replication(replica)), 15, "replication")


def test_health_leaves_a_keyspace_alone_while_its_lock_is_held(inventory: Inventory) -> None:
    from executor.lock import Lock

    start(inventory)
    topology = Topology(Logins(inventory).topology())
    with Lock(Logins(inventory).topology(), inventory.name, ["commerce"], "run", "apply"):
        register_commerce(inventory)
        pid = rows(inventory)["health"].pid
        assert pid is not None
        # A server killed meanwhile comes back in the pass after: so health has looked, and did not promote.
        victim = rows(inventory)[RDONLY].pid
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: rows(inventory)[RDONLY].pid not in (None, victim), 15, "a pass of health")
        assert topology.read().primary("commerce") is None
    topology.close()
    wait_for_commerce(inventory)


@pytest.mark.parametrize("role", serve.ROLES)
def test_a_role_that_is_killed_is_started_again(inventory: Inventory, role: str) -> None:
    start(inventory)
    before = rows(inventory)[role]
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    wait_until(
        lambda: rows(inventory)[role].state == "running" and rows(inventory)[role].pid != before.pid, 10, f"{role}"
    )
    assert rows(inventory)[role].restarts == 1
    assert rows(inventory)["serve"].state == "running"


def test_the_roles_end_with_a_killed_supervisor_and_up_starts_it_again(inventory: Inventory) -> None:
    start(inventory)
    before = rows(inventory)
    pids = [before[name].pid for name in ("serve", *serve.ROLES)]
    serve_pid = before["serve"].pid
    assert serve_pid is not None
    os.kill(serve_pid, signal.SIGKILL)
    wait_until(lambda: all(process(pid) is None for pid in pids if pid is not None), 5, "the roles to end")
    after = rows(inventory)
    assert {after[name].state for name in ("serve", *serve.ROLES)} == {"stopped"}
    assert after["topology"] == before["topology"]
    start(inventory)
    assert rows(inventory)["serve"].state == "running"
    assert rows(inventory)["serve"].pid != serve_pid


def test_a_second_supervisor_is_refused(inventory: Inventory) -> None:
    start(inventory)
    with pytest.raises(LockHeld, match=f"serve runs already for test, with pid {rows(inventory)['serve'].pid}"):
        serve.run(inventory, PROGRAM)
    assert rows(inventory)["serve"].state == "running"


def test_stale_pid_files_even_of_pids_in_use_do_not_matter(inventory: Inventory) -> None:
    local = LocalCluster(inventory)
    start(inventory)
    up.down(inventory)
    own = process(os.getpid())
    assert own is not None
    local.topology_server().pid_file.write_text(f"{own.pid}\n")
    serve.pid_file(local).write_text(f"{own.pid} {own.started + 1}\n")
    serve.ready_file(local, "gateway").write_text(f"{own.pid} {own.started}\n")
    serve.state_file(local).write_text("{}")
    assert rows(inventory)["serve"].state == "stopped"
    assert rows(inventory)["topology"].state == "stopped"
    up.down(inventory)  # kills nobody: this process lives
    start(inventory)
    assert rows(inventory)["serve"].state == "running"


@pytest.fixture
def foreign_listener() -> Iterator[Callable[[int], None]]:
    """Takes a port, as some other program would."""
    sockets: list[socket.socket] = []

    def listen(port: int) -> None:
        listener = socket.create_server(("127.0.0.1", port))
        sockets.append(listener)

    yield listen
    for listener in sockets:
        listener.close()


def servers_running(inventory: Inventory) -> list[str]:
    return [row.name for row in up.status(inventory) if row.pid is not None]


def test_a_topology_port_in_use_is_named_and_leaves_nothing_behind(
    inventory: Inventory, foreign_listener: Callable[[int], None]
) -> None:
    foreign_listener(inventory.topology.port)
    before = time.monotonic()
    with pytest.raises(MovetablesError, match=f"topology cannot listen on 127.0.0.1:{inventory.topology.port}"):
        start(inventory)
    assert time.monotonic() - before < 3
    assert servers_running(inventory) == []
    assert not LocalCluster(inventory).topology_server().directory.exists()


def test_a_gateway_port_in_use_is_named_and_leaves_nothing_behind(
    inventory: Inventory, foreign_listener: Callable[[int], None]
) -> None:
    foreign_listener(inventory.gateway.port)
    with pytest.raises(MovetablesError, match=f"gateway cannot listen on 127.0.0.1:{inventory.gateway.port}"):
        start(inventory)
    assert servers_running(inventory) == []


def test_a_role_that_keeps_ending_is_named_and_everything_is_stopped(
    inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_ROLE_FAILS", "streams")
    with pytest.raises(MovetablesError, match="streams keeps ending: streams fails because"):
        start(inventory)
    assert servers_running(inventory) == []


def test_a_half_made_data_folder_is_made_again(inventory: Inventory) -> None:
    local = LocalCluster(inventory)
    data = local.topology_server().directory / "data"
    data.mkdir(parents=True)
    (data / "ibdata1").write_bytes(b"cut short")
    start(inventory)
    assert rows(inventory)["topology"].state == "running"


def test_the_lost_data_folder_of_a_known_tablet_is_not_replaced_by_an_empty_one(inventory: Inventory) -> None:
    start(inventory)
    register_commerce(inventory)
    wait_for_commerce(inventory)
    up.down(inventory)
    folder = LocalCluster(inventory).server_for(PRIMARY).directory
    away = folder.rename(folder.with_name("away"))
    with pytest.raises(MovetablesError, match=f"{PRIMARY} has no data folder"):
        start(inventory)
    assert servers_running(inventory) == []
    away.rename(folder)
    topology = LocalCluster(inventory).topology_server().directory
    away = topology.rename(topology.with_name("away"))
    with pytest.raises(MovetablesError, match="topology has no data folder"):
        start(inventory)
    shutil.rmtree(topology, ignore_errors=True)
    away.rename(topology)
    start(inventory)
    wait_for_commerce(inventory)


def test_the_data_folder_of_another_cluster_is_refused(make_inventory: Any) -> None:
    from dataclasses import replace

    first = make_inventory("first")
    second = replace(first, name="second")
    with pytest.raises(Refused, match="belongs to the cluster first, not to second"):
        up.up(second, quiet, program=PROGRAM)
    for call in (up.down, up.reset, up.status):
        with pytest.raises(Refused):
            call(second)
    assert first.data_dir.exists()


def test_a_folder_that_is_not_ours_is_refused_and_not_deleted(make_inventory: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cat.jpg").write_bytes(b"meow")
    inventory = replace(make_inventory(), data_dir=photos)
    for call in (lambda i: up.up(i, quiet, program=PROGRAM), up.reset):
        with pytest.raises(Refused, match="is not the data folder of a movetables cluster"):
            call(inventory)
    assert [path.name for path in photos.iterdir()] == ["cat.jpg"]


def test_reset_stops_everything_and_deletes_the_folder(inventory: Inventory, template: Path) -> None:
    start(inventory)
    pids = [row.pid for row in up.status(inventory) if row.pid is not None]
    up.reset(inventory)
    assert not inventory.data_dir.exists()
    assert all(process(pid) is None for pid in pids)
    assert template.exists()
    up.reset(inventory)  # again: no error


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """small_disk(mebibytes) mounts a file system of that size."""
    mounted: list[Path] = []

    def mount(mebibytes: int) -> Path:
        folder = tmp_path / f"disk{mebibytes}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            pytest.skip(f"a small file system cannot be mounted here: {result.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_too_small_is_named_and_nothing_is_left_on_it(
    make_inventory: Any, small_disk: Callable[[int], Path]
) -> None:
    from dataclasses import replace

    inventory = replace(make_inventory(), data_dir=small_disk(40) / "data")
    with pytest.raises(MovetablesError, match=r"topology needs about \d+ MiB"):
        up.up(inventory, quiet, program=PROGRAM)
    assert not (inventory.data_dir / "topology").exists()
    assert servers_running(inventory) == []


def test_a_disk_that_fills_up_while_a_server_is_made_leaves_nothing_of_it(
    make_inventory: Any, small_disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from executor.native.local import server

    monkeypatch.setattr(server, "NEEDED_BYTES", 0)  # as when somebody else fills it meanwhile
    for size in (1, 10, 70):
        inventory = replace(make_inventory(f"test{size}"), data_dir=small_disk(size) / "data")
        local = LocalCluster(inventory)
        with pytest.raises(MovetablesError, match=r"(?i)disk|space|error 28") as caught:
            local.start_tablet(PRIMARY)
        assert "df -h" in caught.value.hint
        assert local.server_for(PRIMARY).pid() is None
        assert not local.server_for(PRIMARY).directory.exists()
        assert list(local.data_dir.glob("template.*")) == []


def test_up_without_a_serve_command_says_what_serve_said(inventory: Inventory) -> None:
    with pytest.raises(MovetablesError, match="serve ended: no such thing"):
        up.up(inventory, quiet, program=(sys.executable, "-c", "import sys; sys.exit('no such thing')"))
    assert servers_running(inventory) == []


def test_pid_file_of_serve_goes_with_it(inventory: Inventory) -> None:
    start(inventory)
    local = LocalCluster(inventory)
    found = read_pid_file(serve.pid_file(local))
    assert found is not None
    found.stop(20)
    assert not serve.pid_file(local).exists()
    assert list(local.run_dir.glob("*.ready")) == []


def test_signing_in_without_the_secret_is_refused(cluster: Any) -> None:
    from dataclasses import replace

    login = replace(cluster.logins.tablet(PRIMARY), password="")
    with pytest.raises(ServerError):
        connect(login)
    with pytest.raises(ServerError):
        connect(replace(login, user="root"))
    assert oct((cluster.local.data_dir / "secret").stat().st_mode & 0o777) == "0o600"


def test_the_gateway_answers_after_up_and_again_after_it_was_killed(cluster: Any) -> None:
    cluster.serve()
    with cluster.primary("commerce") as primary:
        primary.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    with cluster.gateway("commerce") as client:
        client.execute("INSERT INTO t VALUES (1)")
    before = rows(cluster.inventory)["gateway"]
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: rows(cluster.inventory)["gateway"].pid not in (None, before.pid), 15, "another gateway")
    wait_until(lambda: rows(cluster.inventory)["gateway"].state == "running", 15, "the gateway to listen")
    with cluster.gateway("commerce") as client:
        assert client.query("SELECT id FROM t") == [{"id": 1}]
    pids = [row.pid for row in up.status(cluster.inventory) if row.kind != "server"]
    up.down(cluster.inventory)
    assert all(process(pid) is None for pid in pids if pid is not None)


def test_a_missing_password_of_a_gateway_user_is_named_before_anything_starts(make_inventory: Any) -> None:
    from dataclasses import replace

    from planner.inventory import Credentials, SecretRef

    inventory = make_inventory()
    users = (Credentials("app", SecretRef(env="TEST_NO_SUCH_VARIABLE")),)
    with pytest.raises(MovetablesError, match="TEST_NO_SUCH_VARIABLE is not set"):
        up.up(replace(inventory, gateway=replace(inventory.gateway, users=users)), quiet)
    assert servers_running(inventory) == []
