"""`movetables local`: the embedded cluster as a whole, up, looked at, down and away."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from executor.errors import MovetablesError, TimedOut
from executor.native.local.cluster import LocalCluster
from executor.native.local.local_server import LocalServer
from executor.native.local.processes import file_lock, process, read_pid_file
from executor.native.local.serve import PROGRAM, ROLES, STOP_SECONDS, open_log, pid_file, ready_file, state_file
from executor.native.logins import Logins
from executor.native.servers import Unreachable, connect
from executor.native.topology import Topology
from executor.native.waiting import wait_until
from planner.cluster import TabletType
from planner.inventory import Inventory

GIVE_UP_RESTARTS = 3
Progress = Callable[[str], None]
_STARTED: list[subprocess.Popen[bytes]] = []  # supervisors that this process started, to be reaped when they end


@dataclass(frozen=True)
class StatusRow:
    """One process of the cluster. `kind` is server, serve or role; `port` 0 where it has none.

    `state` of a server: not created, stopped, starting (also: does not answer), running; of serve: stopped, running;
    of a role: stopped, starting, running.
    """

    name: str
    kind: str
    state: str
    pid: int | None
    port: int = 0
    restarts: int = 0


def up(
    inventory: Inventory,
    progress: Progress,
    *,
    flavor: str = "",
    program: Sequence[str] = PROGRAM,
    timeout: float = 60.0,
) -> None:
    """Starts the topology, the managed tablets that it knows, and serve; whatever runs already is left alone.

    `flavor` is mariadb or mysql and is kept as that of all servers that the inventory says nothing about.

    Returns when the gateway listens and every role reports that it does its work. Raises MovetablesError when
    something does not start within `timeout` seconds, and Refused when the data folder is not this cluster's. What
    this call started is stopped again then.
    """
    cluster = LocalCluster(inventory)
    cluster.claim()
    with file_lock(cluster.data_dir / "lock" / "up"):  # one up or down at a time
        if flavor:
            cluster.choose_flavor(flavor)
        served = read_pid_file(pid_file(cluster)) is not None
        ran_before = {server.name for server in cluster.servers() if server.pid() is not None}
        try:
            if not served:
                Logins(inventory).gateway_users()  # a missing secret is told here, not in a log
                _require_free_gateway_port(inventory)
            _start_servers(cluster, progress)
            if not served:
                progress("starting serve")
                _start_serve(cluster, program)
            _wait_until_ready(cluster, timeout)
        except BaseException:
            if not served:
                _stop_serve(cluster)
            cluster.stop_all(only=lambda name: name not in ran_before)
            raise
    progress(f"gateway listens on {inventory.gateway.host}:{inventory.gateway.port}")


def status(inventory: Inventory) -> list[StatusRow]:
    """Every process that the cluster has or should have: servers, serve, roles. Starts and changes nothing."""
    cluster = LocalCluster(inventory)
    cluster.owned()
    servers = [cluster.topology_server()] if inventory.topology.managed else []
    servers += [cluster.server_for(tablet.alias) for tablet in inventory.tablets if tablet.server.managed]
    serve = read_pid_file(pid_file(cluster))
    rows = [_server_row(server) for server in servers]
    rows.append(StatusRow("serve", "serve", "running" if serve else "stopped", serve.pid if serve else None))
    return [*rows, *_role_rows(cluster)]


def down(inventory: Inventory, progress: Progress = lambda _: None) -> None:
    """Stops serve, then the tablets, then the topology; what does not run is no error. The data stays."""
    cluster = LocalCluster(inventory)
    if not cluster.owned():
        return
    cluster.claim()
    with file_lock(cluster.data_dir / "lock" / "up"):
        if read_pid_file(pid_file(cluster)) is not None:
            progress("stopping serve")
        _stop_serve(cluster)
        cluster.stop_all(progress)


def reset(inventory: Inventory, progress: Progress = lambda _: None) -> None:
    """Stops everything and deletes the data folder. Raises Refused when that folder is not this cluster's."""
    down(inventory, progress)
    cluster = LocalCluster(inventory)
    if cluster.owned():
        progress(f"deleting {cluster.data_dir}")
        cluster.reset()


def _start_servers(cluster: LocalCluster, progress: Progress) -> None:
    inventory = cluster.inventory
    if inventory.topology.managed and cluster.topology_server().pid() is None:
        progress("starting the topology server")
    if inventory.topology.managed:
        # Tablets without the topology that knew them: an empty one would hide that something is lost.
        cluster.start_topology(known=any(server.initialised for server in cluster.servers()))
    topology = Topology(Logins(inventory).topology())
    try:
        topology.create()
        managed = [record for record in topology.read().tablets if record.managed]
    finally:
        topology.close()
    missing = [record for record in managed if cluster.server_for(record.alias).pid() is None]
    for record in missing:
        progress(f"starting {record.alias}")
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(
            pool.map(
                lambda record: cluster.start_tablet(
                    record.alias, writable=record.type is TabletType.PRIMARY, known=True
                ),
                managed,
            )
        )


def _require_free_gateway_port(inventory: Inventory) -> None:
    listener = inventory.gateway
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listener.host, listener.port))
        except OSError as error:
            raise MovetablesError(
                f"the gateway cannot listen on {listener.host}:{listener.port}: {error.strerror}",
                f"give it another port in {inventory.file}, or stop what listens there: "
                f"ss -ltnp sport = :{listener.port}",
            ) from error


def _start_serve(cluster: LocalCluster, program: Sequence[str]) -> None:
    with open_log(cluster.log_dir / "serve.log").open("ab") as log:
        daemon = subprocess.Popen(
            [*program, "serve", "-i", os.path.abspath(cluster.inventory.file)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # outlives the terminal
        )
    _STARTED.append(daemon)
    try:
        wait_until(lambda: read_pid_file(pid_file(cluster)) or daemon.poll() is not None, 60, "serve to start")
    except BaseException:
        daemon.kill()  # no file names it, so nobody else could stop it
        daemon.wait()
        raise


def _wait_until_ready(cluster: LocalCluster, timeout: float) -> None:
    ended_before = {row.name: row.restarts for row in _role_rows(cluster)}

    def ready() -> bool:
        if read_pid_file(pid_file(cluster)) is None:
            raise MovetablesError(
                f"serve ended: {_last_line(cluster.log_dir / 'serve.log')}", f"see {cluster.log_dir / 'serve.log'}"
            )
        found = _role_rows(cluster)
        for row in found:
            if row.state != "running" and row.restarts - ended_before[row.name] >= GIVE_UP_RESTARTS:
                log = cluster.log_dir / f"{row.name}.log"
                raise MovetablesError(f"{row.name} keeps ending: {_last_line(log)}", f"see {log}")
        return all(row.state == "running" for row in found)

    def missing() -> str:
        late = [row for row in _role_rows(cluster) if row.state != "running"]
        said = "; ".join(f"{row.name}: {_last_line(cluster.log_dir / f'{row.name}.log')}" for row in late)
        return f"{', '.join(row.name for row in late)} to be ready ({said})"

    try:
        wait_until(ready, timeout, missing)
    except TimedOut as error:
        raise TimedOut(error.message, f"see the logs in {cluster.log_dir}") from error


def _stop_serve(cluster: LocalCluster) -> None:
    serve = read_pid_file(pid_file(cluster))
    if serve is not None:
        serve.stop(timeout=STOP_SECONDS * len(ROLES))
    _STARTED[:] = [daemon for daemon in _STARTED if daemon.poll() is None]
    with file_lock(cluster.run_dir / "serve.lock", wait=False) as free:
        if not free:
            raise MovetablesError(
                f"serve runs, but {pid_file(cluster)} does not name it",
                f"find it: fuser {cluster.run_dir / 'serve.lock'}",
            )


def _server_row(server: LocalServer) -> StatusRow:
    pid = server.pid()
    if pid is None:
        state = "stopped" if server.initialised else "not created"
        return StatusRow(server.name, "server", state, None, server.port)
    try:
        connect(server.login, connect_timeout=1.0).close()
    except Unreachable:
        return StatusRow(server.name, "server", "starting", pid, server.port)
    return StatusRow(server.name, "server", "running", pid, server.port)


def _role_rows(cluster: LocalCluster) -> list[StatusRow]:
    serve = read_pid_file(pid_file(cluster))
    said = _read_state(cluster) if serve is not None else {}
    rows = []
    for role in ROLES:
        pid, restarts = said.get(role, {}).get("pid"), said.get(role, {}).get("restarts", 0)
        alive = pid is not None and process(pid) is not None
        ready = read_pid_file(ready_file(cluster, role))
        port = cluster.inventory.gateway.port if role == "gateway" else 0
        if not alive:
            rows.append(StatusRow(role, "role", "starting" if serve else "stopped", None, port, restarts))
        else:
            state = "running" if ready is not None and ready.pid == pid else "starting"
            rows.append(StatusRow(role, "role", state, pid, port, restarts))
    return rows


def _read_state(cluster: LocalCluster) -> dict[str, dict[str, int]]:
    try:
        state: dict[str, dict[str, int]] = json.loads(state_file(cluster).read_text())
    except FileNotFoundError:
        return {}  # it has just started
    return state


def _last_line(path: Path) -> str:
    try:
        lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    except OSError as error:
        return str(error)
    return lines[-1].strip() if lines else "its log is empty"
