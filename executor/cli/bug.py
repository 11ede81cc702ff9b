"""A bug of ours: a report file with all that is needed to look into it, and nothing secret."""

from __future__ import annotations

import platform
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from executor.redaction import redact

PACKAGES = ("movetables", "pymysql", "pyyaml", "jsonschema", "networkx", "typer", "rich", "sqlglot", "uvloop")


def versions() -> dict[str, str]:
    """The version of movetables, of Python and of every package we use; "not installed" where it is not."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found | {"python": platform.python_version()}


def masked(argv: Sequence[str]) -> str:
    """A command line with the values of --var replaced by ``***``: they may be secret."""
    shown: list[str] = []
    for previous, word in zip(("", *argv), argv, strict=False):
        prefix = "--var=" if word.startswith("--var=") else ""
        if prefix or previous == "--var":
            name = word.removeprefix(prefix).partition("=")[0]
            word = f"{prefix}{name}=***"
        shown.append(word)
    return redact(" ".join(("movetables", *shown)))


def write_report(error: BaseException, argv: Sequence[str]) -> str:
    """Writes the report of `error` into the folder for temporary files and returns its path."""
    lines = [f"command: {masked(argv)}", f"platform: {platform.platform()}", f"executable: {sys.executable}"]
    lines += [f"{package}: {found}" for package, found in versions().items()]
    trace = "".join(traceback.format_exception(error))
    with tempfile.NamedTemporaryFile(
        "w", prefix="movetables-bug-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write("\n".join(lines) + "\n\n" + redact(trace))
        return file.name
