"""The long-running process: a supervisor, and one child process for each role.

It holds nothing that is not in the topology, the sidecars or the binlogs, so any of its processes may be killed at any
time. A child that ends is started again, at once the first time and then ever later while it keeps ending; children
never outlive the supervisor. One supervisor runs per data folder.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from executor.errors import LockHeld
from executor.native.local.cluster import LocalCluster
from executor.native.local.processes import file_lock, read_pid_file, write_pid_file, write_whole
from planner.inventory import Inventory

ROLES = ("health", "streams", "gateway")
"""In the order in which they start; they stop in the opposite one, so that nobody new comes in first."""
PROGRAM = (sys.executable, "-m", "executor.native.local.launch")
PIPE_VARIABLE = "MOVETABLES_SERVE_PIPE"
FIRST_DELAY, LAST_DELAY = 0.1, 5.0
HEALTHY_SECONDS = 10.0
STOP_SECONDS = 15.0  # the gateway gives transactions 10 s to end
MAX_LOG_BYTES = 10 << 20
PR_SET_PDEATHSIG = 1
SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})


def child_command(program: Sequence[str], role: str, inventory: Inventory) -> list[str]:
    """The command line of the process of one role."""
    return [*program, "serve-child", role, "-i", os.path.abspath(inventory.file)]


def pid_file(cluster: LocalCluster) -> Path:
    """Names the supervisor while it runs; may be stale."""
    return cluster.run_dir / "serve.pid"


def ready_file(cluster: LocalCluster, role: str) -> Path:
    """A pid file that the process of `role` writes once it does its work; may be stale."""
    return cluster.run_dir / f"{role}.ready"


def state_file(cluster: LocalCluster) -> Path:
    """What the supervisor says of its children, as JSON: role -> {pid, restarts}."""
    return cluster.run_dir / "serve.json"


@dataclass
class Child:
    """One role: its process, and when and after which pause it is started again. Times are of time.monotonic()."""

    role: str
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    restarts: int = 0
    delay: float = FIRST_DELAY
    due: float = 0.0

    def ended(self, now: float) -> None:
        """Plans the next start: 0.1 s from now, doubled each time up to 5 s, from 0.1 s again after 10 s of health."""
        if now - self.started >= HEALTHY_SECONDS:
            self.delay = FIRST_DELAY
        self.process = None
        self.restarts += 1
        self.due = now + self.delay
        self.delay = min(LAST_DELAY, self.delay * 2)


class Supervisor:
    """Starts the roles of `inventory` and keeps them running until SIGTERM, SIGINT or SIGHUP."""

    def __init__(self, inventory: Inventory, program: Sequence[str] = PROGRAM) -> None:
        self._inventory = inventory
        self._cluster = LocalCluster(inventory)
        self._program = program
        self._children = [Child(role) for role in ROLES]
        self._libc = ctypes.CDLL(None, use_errno=True)
        # Its writing end closes with this process, however that ends; the children wait for that.
        self._pipe, self._pipe_end = os.pipe()

    def run(self) -> None:
        """Blocks until it is told to stop; all children have ended then."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            while True:
                self._start_due()
                pause = min((c.due - time.monotonic() for c in self._children if c.process is None), default=60.0)
                received = signal.sigtimedwait(SIGNALS, max(0.0, pause))
                if received is not None and received.si_signo != signal.SIGCHLD:
                    _say(f"{signal.Signals(received.si_signo).name}: stopping")
                    return
                self._notice_ended()
        finally:
            self._stop_all()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(self._pipe)
            os.close(self._pipe_end)

    def _start_due(self) -> None:
        due = [c for c in self._children if c.process is None and c.due <= time.monotonic()]
        for child in due:
            child.process = self._spawn(child.role)
            child.started = time.monotonic()
        if due:
            self._report()

    def _spawn(self, role: str) -> subprocess.Popen[bytes]:
        ready_file(self._cluster, role).unlink(missing_ok=True)
        with open_log(self._cluster.log_dir / f"{role}.log").open("ab") as log:
            return subprocess.Popen(
                child_command(self._program, role, self._inventory),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(self._pipe,),
                env={**os.environ, PIPE_VARIABLE: str(self._pipe)},
                preexec_fn=self._prepare_child(os.getpid()),
            )

    def _prepare_child(self, supervisor: int) -> Callable[[], None]:
        libc = self._libc

        def prepare() -> None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            if os.getppid() != supervisor:  # it died before the kernel was asked to tell
                os._exit(1)

        return prepare

    def _notice_ended(self) -> None:
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                code = child.process.returncode
                child.ended(time.monotonic())
                _say(f"{child.role} ended with {code}; starting it again in {child.due - time.monotonic():.1f} s")
                self._report()

    def _report(self) -> None:
        state = {
            child.role: {"pid": child.process.pid if child.process else None, "restarts": child.restarts}
            for child in self._children
        }
        write_whole(state_file(self._cluster), json.dumps(state))

    def _stop_all(self) -> None:
        for child in reversed(self._children):
            if child.process is None:
                continue
            child.process.terminate()
            try:
                child.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                _say(f"{child.role} did not stop within {STOP_SECONDS:g} s: killed")
                child.process.kill()
                child.process.wait()
            ready_file(self._cluster, child.role).unlink(missing_ok=True)
        state_file(self._cluster).unlink(missing_ok=True)


def run(inventory: Inventory, program: Sequence[str] = PROGRAM) -> None:
    """Supervises the roles of `inventory` in the foreground until SIGTERM, SIGINT or SIGHUP.

    `program` is the command that the children are started with. Raises LockHeld when another supervisor runs on the
    same data folder, and Refused when that folder is not this cluster's. For the main thread of a process only.
    """
    cluster = LocalCluster(inventory)
    cluster.claim()
    with file_lock(cluster.run_dir / "serve.lock", wait=False) as held:
        if not held:
            found = read_pid_file(pid_file(cluster))
            raise LockHeld(
                f"serve runs already for {inventory.name}" + (f", with pid {found.pid}" if found else ""),
                f"movetables local status -i {inventory.file}",
            )
        write_pid_file(pid_file(cluster), os.getpid())
        _say(f"serving {inventory.name} with pid {os.getpid()}")
        try:
            Supervisor(inventory, program).run()
        finally:
            pid_file(cluster).unlink(missing_ok=True)


def open_log(path: Path) -> Path:
    """`path`, to be appended to; what is there moves aside when it has grown beyond 10 MiB."""
    if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
    return path


def _say(line: str) -> None:
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), line, file=sys.stderr, flush=True)
