"""movetables apply."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from executor.apply import Application, Applied, NoGuard
from executor.backend import Backend
from executor.cli.environment import beside, open_inventory, open_plan, opened
from executor.cli.options import PlanInventory, Variables, parse_variables
from executor.cli.planning import is_saved, open_saved, refusal_error
from executor.cli.prompt import ask, require_terminal
from executor.cli.terminal import Terminal
from executor.errors import Usage, exit_code_for
from executor.events import Event, EventFile, EventType, Sink, version_event
from executor.interrupts import Interrupts
from executor.journal import NoJournal, TopologyJournal, killed_runs, new_run_id
from executor.lock import Lock
from executor.progress import BarProgress, LineProgress, step_line
from executor.recording import RecordingBackend
from executor.resume import raise_if_unknowable, settle_killed_runs
from executor.staleness import check_approval, continues, raise_if_stale
from planner.duration import parse_duration
from planner.plan import Plan
from planner.plan import plan as make_plan
from planner.render.text import last_line, render

APPROVE_FLAGS = "--auto-approve, or --approve FINGERPRINT"


def apply(
    context: typer.Context,
    plan_file: Annotated[
        Path,
        typer.Argument(metavar="PLAN", help="A plan file, or a plan that `plan --out` kept.", show_default=False),
    ],
    inventory: PlanInventory = None,
    var: Variables = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, SQL included.")] = False,
    auto_approve: Annotated[bool, typer.Option("--auto-approve", help="Do not ask.")] = False,
    approve: Annotated[
        str | None,
        typer.Option("--approve", metavar="FINGERPRINT", help="Do not ask if this is the plan; 12 digits or more."),
    ] = None,
    events: Annotated[
        str | None, typer.Option("--events", metavar="FILE", help="Write what happens as JSON lines; - for stdout.")
    ] = None,
    lock_timeout: Annotated[
        str, typer.Option("--lock-timeout", metavar="TIME", help="How long to wait for another apply, such as 10m.")
    ] = "0s",
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="After a failure start nothing more, not even what is independent.")
    ] = False,
) -> int:
    """Carry out a plan: show it, ask, and run its steps. What is done already is skipped, so apply again to continue.

    Example: movetables apply plans/commerce/202_move_tables.yaml

    Example: movetables apply plans/commerce/204_switch_writes.yaml --dry-run

    Example: movetables plan plan.yaml --out kept.json && movetables apply kept.json --auto-approve
    """
    terminal: Terminal = context.obj
    wait = _seconds(lock_timeout)
    saved = open_saved(plan_file) if is_saved(plan_file) else None
    if saved is not None and var:
        raise Usage(f"--var has no effect on a saved plan, and {plan_file} is one", "give it to `movetables plan`")
    environment = open_inventory(inventory or beside(Path(saved.file) if saved else plan_file, None))
    document = None if saved else open_plan(plan_file, environment, parse_variables(var))
    command = _command(plan_file, inventory, var)
    with opened(environment) as backend:
        if document is not None:
            plan = make_plan(document, backend.observe())
        elif saved is not None:
            plan = saved
            if not continues(backend.coordination(), plan):
                raise_if_stale(plan, backend.observe())
        run = new_run_id()
        with _sinks(events, run, plan, dry_run) as sinks:
            if dry_run:
                return _dry_run(terminal, backend, plan, command, sinks, fail_fast)
            terminal.note(render(plan, paint=terminal.paint_err).rstrip("\n"))
            _refuse(backend, plan)
            if not plan.steps and not _killed(backend):
                return _finish(terminal, Applied(), events, last_line(plan), sinks)
            if approve is not None:
                check_approval(plan, approve)
            elif plan.steps and not auto_approve:
                _ask(terminal, plan)
            return _run(terminal, backend, plan, run, command, sinks, wait, fail_fast, events)


def _run(
    terminal: Terminal,
    backend: Backend,
    plan: Plan,
    run: str,
    command: str,
    sinks: list[Sink],
    wait: float,
    fail_fast: bool,
    events: str | None,
) -> int:
    topology = backend.coordination()
    keyspaces = {*plan.keyspaces, *(name for made in plan.moves for name in (made.move.source, made.move.target))}
    with ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts(terminal.notice, command))
        lock = stack.enter_context(
            Lock(
                topology.login,
                backend.cluster_identity(),
                tuple(keyspaces),
                run,
                command,
                timeout=wait,
                notice=terminal.note,
                check_interrupt=interrupts.check,
            )
        )
        topology.create()
        lock.record()
        settle_killed_runs(topology, backend.observe, plan.document, plan.steps, run, terminal.note)
        if not plan.steps:
            return _finish(terminal, Applied(), events, last_line(plan), sinks)
        console = terminal.bar_console()
        shown = BarProgress(console) if console else LineProgress(terminal.note)
        stack.enter_context(shown)
        journal = TopologyJournal(topology, run, plan.document, plan.fingerprint, command)
        application = Application(backend, journal, lock, interrupts, [shown, *sinks], fail_fast=fail_fast)
        applied = application.run(plan.steps)
    return _finish(terminal, applied, events, applied.summary())


def _dry_run(terminal: Terminal, backend: Backend, plan: Plan, command: str, sinks: list[Sink], fail_fast: bool) -> int:
    recording = RecordingBackend(backend, plan.document, datetime.now(UTC), terminal.result)
    with Interrupts(terminal.notice, command) as interrupts:
        everything = [_Failures(terminal), *sinks]
        applied = Application(recording, NoJournal(), NoGuard(), interrupts, everything, fail_fast=fail_fast).run(
            plan.steps
        )
    if plan.steps:
        terminal.result("")
    if applied.error is None and (error := refusal_error(plan)) is not None:
        raise error
    if applied.stopped is not None:
        raise applied.stopped
    count = len(applied.done)
    terminal.result(
        f"Dry run: {count} {'step' if count == 1 else 'steps'} would run, {len(applied.failures)} refused, "
        f"{len(applied.not_run)} not run. Nothing was changed."
    )
    return exit_code_for(applied.error) if applied.error else 0


class _Failures:
    """Shows the steps that a dry run refuses; all else it prints by itself."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def handle(self, event: Event) -> None:
        if event.type is EventType.STEP_FAILED:
            self._terminal.note(step_line(event))


def _finish(
    terminal: Terminal, applied: Applied, events: str | None, line: str, sinks: list[Sink] | None = None
) -> int:
    for sink in sinks or ():
        sink.handle(Event(EventType.SUMMARY, line, data={"exit_code": 0, **applied.counts()}))
    if events == "-":
        terminal.note(line)
    else:
        terminal.result(line)
    if applied.stopped is not None:
        raise applied.stopped
    return exit_code_for(applied.error) if applied.error else 0


def _refuse(backend: Backend, plan: Plan) -> None:
    error = refusal_error(plan)
    if error is None:
        return
    topology = backend.coordination()
    if topology.exists():
        raise_if_unknowable(topology, backend.observe())
    raise error


def _killed(backend: Backend) -> bool:
    return bool(killed_runs(backend.coordination().connection()))


def _ask(terminal: Terminal, plan: Plan) -> None:
    require_terminal(APPROVE_FLAGS)
    final = [step.id for step in plan.steps if step.irreversible]
    warning = f"\nThere is no way back from: {', '.join(final)}." if final else ""
    ask(
        f"Apply this to cluster {plan.cluster}? {plan.summary.line()}{warning}",
        "yes",
        lambda: terminal.note(render(plan, paint=terminal.paint_err, show_unchanged=True).rstrip("\n")),
    )


@contextmanager
def _sinks(events: str | None, run: str, plan: Plan, dry_run: bool) -> Iterator[list[Sink]]:
    if events is None:
        yield []
        return
    with ExitStack() as stack:
        if events == "-":
            stream = sys.stdout
        else:
            try:
                stream = stack.enter_context(open(events, "w", encoding="utf-8"))  # closed by the stack
            except OSError as error:
                raise Usage(f"--events {events} cannot be written: {error.strerror}") from error
        sink = EventFile(stream, run)
        sink.handle(version_event(plan.document, plan.cluster, plan.fingerprint, dry_run))
        yield [sink]


def _seconds(text: str) -> float:
    seconds = parse_duration(text)
    if seconds is None:
        raise Usage(f"--lock-timeout {text} is not a time", "for example: --lock-timeout 90s, or 10m")
    return seconds


def _command(plan_file: Path, inventory: Path | None, var: list[str] | None) -> str:
    """The command that continues this one. Values of variables are left out: they may be secret."""
    words = ["movetables apply", str(plan_file)]
    words += ["-i", str(inventory)] if inventory else []
    words += [f"--var {text.partition('=')[0]}=***" for text in var or ()]
    return " ".join(words)
