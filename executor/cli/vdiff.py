"""movetables vdiff: compare the tables of a workflow, and read, stop, resume or forget its comparisons."""

from __future__ import annotations

import json
import time
import uuid as uuids
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from executor.apply import NoGuard
from executor.cli.environment import open_inventory
from executor.cli.options import DEFAULT_INVENTORY, Format, Inventory, TextOrJson
from executor.cli.terminal import Terminal
from executor.errors import MovetablesError, Usage, VerificationMismatch
from executor.events import Event, EventType
from executor.interrupts import Interrupts
from executor.native.access import Access
from executor.native.servers import Connection, Login
from executor.native.vdiff import records
from executor.native.vdiff import show as kept
from executor.native.vdiff.options import VDiffOptions
from executor.native.vdiff.report import COMPLETED, VDiffReport
from executor.native.vdiff.run import require_fit, run_vdiff
from executor.progress import BarProgress, LineProgress, StepProgress
from planner.cluster import TabletType
from planner.duration import parse_duration

app = typer.Typer(
    help="Compare source and target of a move while both are in use, and look at what was found.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Workflow = Annotated[
    str, typer.Argument(metavar="KEYSPACE.WORKFLOW", help="A workflow, in its target keyspace.", show_default=False)
]
WAIT_TEXT = "30s"


@app.command("create")
def create(
    context: typer.Context,
    workflow: Workflow,
    uuid: Annotated[
        str | None, typer.Argument(metavar="[UUID]", help="Its UUID; one is made unless given.", show_default=False)
    ] = None,
    inventory: Inventory = DEFAULT_INVENTORY,
    tables: Annotated[
        str | None, typer.Option("--tables", metavar="T1,T2", help="Only these tables. All of the workflow otherwise.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="ROWS", help="End each table after so many rows. All otherwise.")
    ] = None,
    max_extra_rows_to_compare: Annotated[
        int,
        typer.Option(
            "--max-extra-rows-to-compare",
            metavar="ROWS",
            help="Look again at so many rows that one side alone has, to pair those with the same key, in tables that "
            "are compared as a whole: without a key, or with one that both servers do not order alike.",
        ),
    ] = 1000,
    max_report_sample_rows: Annotated[
        int, typer.Option("--max-report-sample-rows", help="Samples to keep of each kind of difference; 0 keeps all.")
    ] = 10,
    row_diff_column_truncate_at: Annotated[
        int,
        typer.Option("--row-diff-column-truncate-at", help="Shorten values in samples to so many characters; 0 never."),
    ] = 128,
    only_pks: Annotated[bool, typer.Option("--only-pks", help="Show only key columns in samples.")] = False,
    update_table_stats: Annotated[
        bool, typer.Option("--update-table-stats", help="Run ANALYZE TABLE on the target first, for a better ETA.")
    ] = False,
    filtered_replication_wait_time: Annotated[
        str,
        typer.Option(
            "--filtered-replication-wait-time",
            metavar="TIME",
            help="How long the stream may stand still while a difference waits for it.",
        ),
    ] = WAIT_TEXT,
    auto_retry: Annotated[
        bool,
        typer.Option(
            "--auto-retry/--no-auto-retry",
            help="Go on by itself after a server failed or a connection broke, for up to 10 minutes at a time.",
        ),
    ] = True,
    max_diff_duration: Annotated[
        str,
        typer.Option(
            "--max-diff-duration",
            metavar="TIME",
            help="How long a snapshot may be held; 0s for no limit. Only tables that are compared as a whole need one.",
        ),
    ] = "0s",
    tablet_types: Annotated[
        str,
        typer.Option(
            "--tablet-types",
            metavar="T1,T2",
            help="Which tablets to read, in order of preference: RDONLY, REPLICA, PRIMARY. A replica is read once it "
            "has what its primary had at the start; what differs there is looked at again on the primaries.",
        ),
    ] = "PRIMARY",
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Rewrite rows of the target that differ from the source's, in order with the stream, and look at them "
            "again. Refused once writes have switched. Ours, not Vitess's.",
        ),
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="As in Vitess. Create always waits: the comparison runs in this command.")
    ] = False,
    output: Format = TextOrJson.TEXT,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show every table, also without differences.")] = False,
) -> int:
    """Compare source and target tables to the end and show what was found. Exit code 7 means that they differ.

    Ctrl-C stops it at a safe point; `vdiff resume` goes on from there.

    Example: movetables vdiff create customer.commerce2customer -i plans/commerce/inventory.yaml

    Example: movetables vdiff create customer.commerce2customer --tables corder --tablet-types RDONLY,REPLICA,PRIMARY

    Example: movetables vdiff create customer.commerce2customer --repair
    """
    del wait
    options = VDiffOptions(
        limit=limit,
        max_extra_rows_to_compare=max_extra_rows_to_compare,
        max_report_sample_rows=max_report_sample_rows,
        row_diff_column_truncate_at=row_diff_column_truncate_at,
        only_pks=only_pks,
        update_table_stats=update_table_stats,
        filtered_replication_wait_time=_seconds("--filtered-replication-wait-time", filtered_replication_wait_time),
        auto_retry=auto_retry,
        max_diff_duration=_seconds("--max-diff-duration", max_diff_duration),
        tablet_types=tuple(name.strip().upper() for name in tablet_types.split(",") if name.strip()),
        repair=repair,
    )
    identity = kept.checked_uuid(uuid, ()) if uuid else str(uuids.uuid4())
    names = [name.strip() for name in tables.split(",") if name.strip()] if tables else None
    context.obj.note(f"VDiff {identity} started; another terminal may use show to view progress")
    return _run(context.obj, workflow, inventory, identity, options, names, output, verbose)


@app.command("resume")
def resume(
    context: typer.Context,
    workflow: Workflow,
    uuid: Annotated[str, typer.Argument(metavar="UUID", help="The VDiff to go on with.", show_default=False)],
    inventory: Inventory = DEFAULT_INVENTORY,
    output: Format = TextOrJson.TEXT,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show every table, also without differences.")] = False,
) -> int:
    """Go on with a VDiff that was stopped, failed or killed, with its tables and options, to the end.

    Example: movetables vdiff resume customer.commerce2customer 4b3f9b7e-... -i plans/commerce/inventory.yaml
    """
    identity = kept.checked_uuid(uuid, ())
    keyspace, name = _split(workflow)
    with _target(inventory, keyspace) as connection:
        kept.one(connection, keyspace, name, identity)
    return _run(context.obj, workflow, inventory, identity, None, None, output, verbose)


@app.command("show")
def show(
    context: typer.Context,
    workflow: Workflow,
    which: Annotated[str, typer.Argument(metavar="[last|all|UUID]", help="Which VDiff.")] = "last",
    inventory: Inventory = DEFAULT_INVENTORY,
    output: Format = TextOrJson.TEXT,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show every table, also without differences.")] = False,
) -> None:
    """Show how far a VDiff is and what it found, or list all of them.

    Example: movetables vdiff show customer.commerce2customer last --format json -i plans/commerce/inventory.yaml
    """
    which = kept.checked_uuid(which, ("all", "last"))
    keyspace, name = _split(workflow)
    terminal: Terminal = context.obj
    as_json = output is TextOrJson.JSON
    with _target(inventory, keyspace) as connection:
        if which == "all":
            reports = kept.every(connection, keyspace, name)
            if as_json:
                terminal.result(kept.list_json(reports))
            else:
                terminal.result(kept.list_text(reports) if reports else f"No vdiffs found for {keyspace}.{name}")
            return
        report = (
            kept.last(connection, keyspace, name) if which == "last" else kept.one(connection, keyspace, name, which)
        )
    if report is None:
        terminal.result("{}" if as_json else f"No previous vdiff found for {keyspace}.{name}")
        return
    _show(terminal, report, output, verbose)


@app.command("stop")
def stop(
    context: typer.Context,
    workflow: Workflow,
    uuid: Annotated[str, typer.Argument(metavar="UUID", help="The VDiff to stop.", show_default=False)],
    inventory: Inventory = DEFAULT_INVENTORY,
    output: Format = TextOrJson.TEXT,
) -> None:
    """Stop a VDiff that runs in another terminal; `vdiff resume` goes on with it.

    Example: movetables vdiff stop customer.commerce2customer 4b3f9b7e-... -i plans/commerce/inventory.yaml
    """
    identity = kept.checked_uuid(uuid, ())
    keyspace, name = _split(workflow)
    with _target(inventory, keyspace) as connection:
        kept.stop(connection, keyspace, name, identity)
    _done(context.obj, output, "stop", "VDiff stop completed")


@app.command("delete")
def delete(
    context: typer.Context,
    workflow: Workflow,
    which: Annotated[str, typer.Argument(metavar="all|UUID", help="Which VDiff to forget.", show_default=False)],
    inventory: Inventory = DEFAULT_INVENTORY,
    output: Format = TextOrJson.TEXT,
) -> None:
    """Forget a VDiff and what it found, or all of them.

    Example: movetables vdiff delete customer.commerce2customer all -i plans/commerce/inventory.yaml
    """
    which = kept.checked_uuid(which, ("all",))
    keyspace, name = _split(workflow)
    with _target(inventory, keyspace) as connection:
        kept.delete(connection, keyspace, name, which)
    _done(context.obj, output, "delete", "VDiff delete completed")


def _run(
    terminal: Terminal,
    workflow: str,
    inventory: Path,
    uuid: str,
    options: VDiffOptions | None,
    tables: list[str] | None,
    output: TextOrJson,
    verbose: bool,
) -> int:
    keyspace, name = _split(workflow)
    access = Access(open_inventory(inventory))
    again = f"movetables vdiff resume {workflow} {uuid} -i {inventory}"
    try:
        with access.connect_primary(keyspace) as connection:
            stream = require_fit(connection, keyspace, name)
            kept_record = records.find(connection, keyspace, name, uuid)
        types = (options or (kept_record.options if kept_record else VDiffOptions())).tablet_types
        source = access.primary(stream.source_keyspace)
        console = terminal.bar_console()
        with (
            Interrupts(terminal.notice, again) as interrupts,
            BarProgress(console) if console else LineProgress(terminal.note) as shown,
        ):
            step = f"vdiff {workflow}"
            shown.handle(Event(EventType.STEP_START, "", step))
            progress = StepProgress(step, interrupts, NoGuard(), [shown])
            report = run_vdiff(
                source,
                access.primary(keyspace),
                keyspace,
                name,
                tables=tables,
                progress=progress,
                options=options,
                uuid=uuid,
                read_source=_reader(access, stream.source_keyspace, types),
                read_target=_reader(access, keyspace, types),
            )
    finally:
        access.close()
    _show(terminal, report, output, verbose)
    if report.state != COMPLETED:
        raise MovetablesError(f"VDiff {uuid} is {report.state}", again)
    if report.has_mismatch:
        raise VerificationMismatch(
            f"VDiff {uuid} found differences between source and target of {workflow}",
            f"movetables vdiff show {workflow} {uuid} --verbose shows samples; movetables vdiff create {workflow} "
            "--repair makes the target's rows those of the source",
        )
    return 0


def _reader(access: Access, keyspace: str, types: Sequence[str]) -> Login:
    """The first tablet of the first of `types` that `keyspace` has. Raises MovetablesError when it has none."""
    state = access.topology.read()
    for kind in types:
        if kind == TabletType.PRIMARY:
            return access.primary(keyspace, state)
        for tablet in sorted(state.tablets, key=lambda tablet: tablet.alias):
            if tablet.keyspace == keyspace and tablet.type == kind:
                return access.logins.server(tablet)
    raise MovetablesError(
        f"keyspace {keyspace} has no tablet of type {' or '.join(types)}",
        "add PRIMARY to the end of --tablet-types to read the primary then",
    )


def _show(terminal: Terminal, report: VDiffReport, output: TextOrJson, verbose: bool) -> None:
    now = time.time()
    terminal.result(report.to_json(now, verbose) if output is TextOrJson.JSON else report.to_text(now, verbose))


def _done(terminal: Terminal, output: TextOrJson, action: str, text: str) -> None:
    if output is TextOrJson.JSON:
        terminal.result(json.dumps({"Action": action, "Status": "completed"}, indent="\t"))
    else:
        terminal.result(text)


def _split(workflow: str) -> tuple[str, str]:
    keyspace, dot, name = workflow.partition(".")
    if not (dot and keyspace and name):
        raise Usage(f"{workflow} is no workflow of a keyspace", "for example: customer.commerce2customer")
    return keyspace, name


def _seconds(option: str, text: str) -> float:
    seconds = parse_duration(text)
    if seconds is None:
        raise Usage(f"{option} {text} is not a time", f"for example: {option} 90s, or 10m")
    return seconds


@contextmanager
def _target(inventory: Path, keyspace: str) -> Iterator[Connection]:
    access = Access(open_inventory(inventory))
    try:
        with access.connect_primary(keyspace) as connection:
            yield connection
    finally:
        access.close()
