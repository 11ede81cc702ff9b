"""From the files that a command names to documents and an open backend."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from executor.backend import Backend
from executor.errors import BadDocument, MovetablesError, Usage
from executor.native.logins import SECRET_FILE
from executor.native.servers import Unreachable
from executor.redaction import remember
from planner.diagnostic import DocumentErrors
from planner.document import Document
from planner.inventory import Credentials, Inventory
from planner.loading import load_inventory, load_plan


def read_text(path: Path, what: str) -> str:
    """The text of a file that the command line names. Raises Usage when it cannot be read, BadDocument if not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise Usage(
            f"the {what} {path} cannot be read: {error.strerror}", f"is this the right path? ls {path}"
        ) from error
    except UnicodeDecodeError as error:
        raise BadDocument(f"{path}: not UTF-8 at byte {error.start}", f"iconv -t UTF-8 {path}") from error


def open_inventory(path: Path) -> Inventory:
    """The inventory in `path`. Raises Usage or BadDocument."""
    if not path.exists():
        raise Usage(f"there is no inventory {path}", "name one with -i FILE, or set MOVETABLES_INVENTORY")
    text = read_text(path, "inventory")
    try:
        inventory = load_inventory(text, str(path), Path(os.path.abspath(path)).parent)
    except DocumentErrors as error:
        raise _bad(error) from error
    _remember_secrets(inventory)
    return inventory


def beside(plan: Path, inventory: Path | None) -> Path:
    """The inventory to use: the one given, else inventory.yaml in the folder of `plan`. Raises Usage without a plan."""
    if not plan.exists():
        raise Usage(f"there is no plan file {plan}", f"ls {plan.parent}")
    return inventory if inventory is not None else plan.parent / "inventory.yaml"


def open_plan(path: Path, inventory: Inventory, variables: Mapping[str, str]) -> Document:
    """The plan file `path`. Raises Usage or BadDocument."""
    text = read_text(path, "plan file")

    def read_file(name: str) -> str:
        return (path.parent / name).read_text(encoding="utf-8")

    try:
        return load_plan(text, str(path), inventory, variables, read_file)
    except DocumentErrors as error:
        raise _bad(error) from error


def backend_of(inventory: Inventory) -> Backend:
    """The backend that an inventory asks for. Connects to nothing yet."""
    # Commands that talk to no cluster (validate, steps, --help) do not wait for the whole engine to load.
    from executor.native.native import NativeBackend

    return NativeBackend(inventory)


@contextmanager
def opened(inventory: Inventory) -> Iterator[Backend]:
    """The backend of an inventory, closed afterwards. What cannot be reached is explained."""
    backend = backend_of(inventory)
    try:
        yield backend
    except Unreachable as error:
        if inventory.topology.managed:
            raise MovetablesError(error.message, f"start it with: movetables local up -i {inventory.file}") from error
        raise
    finally:
        backend.close()


def _bad(error: DocumentErrors) -> BadDocument:
    annotations = ""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        # GitHub shows no more than ten of a kind per step.
        annotations = "".join(
            f"\n::error file={found.file},line={found.line},col={found.col},title={found.code}::{found.message}"
            for found in error.diagnostics[:10]
        )
    count = len(error.diagnostics) + error.more
    return BadDocument(f"{count} mistake{'s' if count != 1 else ''} found\n{error.render()}{annotations}")


def _remember_secrets(inventory: Inventory) -> None:
    given: list[Credentials | None] = [inventory.topology.credentials, *inventory.gateway.users]
    given += [tablet.server.credentials for tablet in inventory.tablets]
    files = [inventory.data_dir / SECRET_FILE]
    for reference in (credentials.password for credentials in given if credentials is not None):
        if reference is not None and reference.env:
            remember(os.environ.get(reference.env, ""))
        elif reference is not None:
            files.append(Path(inventory.file).parent / reference.file)
    for file in files:
        with suppress(OSError, UnicodeDecodeError):  # whoever needs the secret says that it cannot be read
            remember(file.read_text().rstrip("\r\n"))
