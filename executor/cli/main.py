"""The command `movetables`: its commands, its exit codes, and the one place where errors are shown."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import Abort, Exit, TyperException

from executor.cli.apply import apply
from executor.cli.bug import write_report
from executor.cli.graph import graph
from executor.cli.history import history
from executor.cli.local import app as local
from executor.cli.lock import app as lock
from executor.cli.plan import plan
from executor.cli.routing_rules import routing_rules
from executor.cli.serve import serve, serve_child
from executor.cli.show import show
from executor.cli.steps import steps
from executor.cli.terminal import ColorChoice, Terminal
from executor.cli.validate import validate
from executor.cli.vdiff import app as vdiff
from executor.cli.version import version
from executor.errors import BUG, Declined, Interrupted, MovetablesError, Usage, exit_code_for
from executor.redaction import redact

app = typer.Typer(
    name="movetables",
    help="Move tables between MySQL and MariaDB databases while they are in use, from a reviewed plan file.",
    epilog=(
        "Exit codes: 0 ok, 1 failure, 2 changes present (plan --detailed-exitcode), 3 plan is stale, 4 refused, "
        "5 locked, 6 interrupted, 7 verification mismatch, 8 declined, 9 timed out, 10 ambiguous, 64 usage, "
        "65 invalid document, 70 bug."
    ),
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    color: Annotated[ColorChoice, typer.Option("--color", help="When to use colour.")] = ColorChoice.AUTO,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a bug.")] = False,
    show_version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Move tables between MySQL and MariaDB databases while they are in use, from a reviewed plan file."""
    context.obj = Terminal(color, debug)
    if show_version:
        version(context)
        raise Exit
    if context.invoked_subcommand is None:
        context.obj.result(context.get_help())


for _command in (validate, plan, apply, graph, show, routing_rules, history, steps, serve, version):
    app.command(_command.__name__.replace("_", "-"))(_command)
app.command("serve-child", hidden=True)(serve_child)
app.add_typer(lock, name="lock")
app.add_typer(local, name="local")
app.add_typer(vdiff, name="vdiff")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. `argv` is without the program's name; None takes it from sys."""
    words = list(sys.argv[1:] if argv is None else argv)
    terminal = Terminal(_color_of(words), "--debug" in words)
    try:
        result = app(args=words, prog_name="movetables", standalone_mode=False)
        sys.stdout.flush()
    except Exit as done:
        if isinstance(done.__cause__, KeyboardInterrupt):  # typer's 130 is not one of our codes
            terminal.note("Interrupted.")
            return exit_code_for(Interrupted(""))
        return done.exit_code
    except MovetablesError as error:
        terminal.error(error.message, error.hint)
        return exit_code_for(error)
    except TyperException as error:
        terminal.error(error.format_message(), "movetables --help lists the commands; COMMAND --help their options")
        return exit_code_for(Usage(""))
    except Abort:
        terminal.error("declined; nothing was changed")
        return exit_code_for(Declined(""))
    except BrokenPipeError:
        # Whoever read our output has left; the interpreter must not try to flush into the pipe once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_code_for(MovetablesError(""))
    except Exception as error:  # noqa: BLE001  # the last resort of the whole program
        return _bug(terminal, error, words)
    return result if isinstance(result, int) else 0


def _bug(terminal: Terminal, error: Exception, words: Sequence[str]) -> int:
    if terminal.debug:
        terminal.note(redact("".join(traceback.format_exception(error))))
    report = write_report(error, words)
    terminal.error(
        f"this is a bug in movetables: {type(error).__name__}: {error}",
        f"a report without secrets was written to {report}; --debug shows where it happened",
    )
    return BUG


def _color_of(words: Sequence[str]) -> ColorChoice:
    """The --color of a command line that may be wrong in other ways."""
    for word, following in zip(words, [*words[1:], ""], strict=False):
        value = following if word == "--color" else word.removeprefix("--color=")
        if value in tuple(ColorChoice) and word.startswith("--color"):
            return ColorChoice(value)
    return ColorChoice.AUTO


def entry() -> None:
    """What the installed command calls."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
