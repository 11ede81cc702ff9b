"""From the nodes of a plan to a `Document`, with the checks that a schema cannot make."""

from __future__ import annotations

from collections.abc import Callable

from planner.diagnostic import Mark, Report, did_you_mean, shown, unknown_keyspace
from planner.document import DesiredKeyspace, Document, InitialSchema
from planner.inventory import Inventory
from planner.loading_moves import build_moves
from planner.nodes import MappingNode


def build_document(
    root: MappingNode,
    file: str,
    sha256: str,
    inventory: Inventory,
    read_file: Callable[[str], str],
    report: Report,
) -> Document:
    """The document in `root`; what is wrong goes to `report`, and then the result is not to be used."""
    keyspaces = _Keyspaces(inventory, read_file, report).build(root.child("keyspaces"))
    known = {keyspace.name for keyspace in inventory.keyspaces} | {keyspace.name for keyspace in keyspaces}
    absent = {keyspace.name for keyspace in keyspaces if keyspace.absent}
    return Document(
        name=root.text("name"),
        file=file,
        source_bytes_sha256=sha256,
        keyspaces=tuple(sorted(keyspaces, key=lambda keyspace: keyspace.name)),
        moves=build_moves(root.child("moves"), known, absent, report),
    )


class _Keyspaces:
    def __init__(self, inventory: Inventory, read_file: Callable[[str], str], report: Report) -> None:
        self._inventory = inventory
        self._read_file = read_file
        self._report = report
        self._named: dict[str, Mark] = {}

    def build(self, keyspaces: MappingNode) -> list[DesiredKeyspace]:
        return [self._keyspace(name, mark, node) for name, mark, node in keyspaces.children()]

    def _keyspace(self, name: str, mark: Mark, node: MappingNode) -> DesiredKeyspace:
        if self._inventory.keyspace(name) is None:
            known = [keyspace.name for keyspace in self._inventory.keyspaces]
            unknown_keyspace(name, mark, known, self._report, f"the inventory {self._inventory.file}")
        tablets = self._aliases(name, node, "tablets")
        absent_tablets = self._aliases(name, node, "absent_tablets")
        absent = node.text("state", "present") == "absent"
        for key in ("tablets", "initial_schema"):
            if absent and key in node.entries:
                self._report.add(
                    node.keys[key],
                    "contradiction",
                    f"keyspace {shown(name)} should be absent, so it cannot have {key}",
                    f"remove {key}, or write state: present",
                )
        return DesiredKeyspace(name, tablets, absent_tablets, self._initial_schema(node), absent)

    def _aliases(self, keyspace: str, node: MappingNode, key: str) -> tuple[str, ...]:
        aliases = node.texts(key)
        for alias, mark in aliases:
            tablet = self._inventory.tablet(alias)
            if alias in self._named:
                first = self._named[alias]
                self._report.add(
                    mark,
                    "duplicate-tablet",
                    f"tablet {alias} is named twice; first at line {first.line}, column {first.col}",
                    "a tablet serves one keyspace, once: keep one of them",
                )
            elif tablet is None:
                known = [t.alias for t in self._inventory.tablets]
                hint = did_you_mean(alias, known, "tablets") or "add it under tablets there"
                message = f"tablet {shown(alias)} is not in the inventory {self._inventory.file}"
                self._report.add(mark, "unknown-tablet", message, hint)
            elif tablet.keyspace != keyspace:
                own = [t.alias for t in self._inventory.tablets if t.keyspace == keyspace]
                self._report.add(
                    mark,
                    "wrong-keyspace",
                    f"tablet {alias} belongs to keyspace {shown(tablet.keyspace)}, not {shown(keyspace)}",
                    f"tablets of {shown(keyspace)}: {', '.join(own)}" if own else "",
                )
            self._named.setdefault(alias, mark)
        return tuple(sorted(alias for alias, _ in aliases))

    def _initial_schema(self, node: MappingNode) -> InitialSchema | None:
        path = node.text("initial_schema")
        if not path:
            return None
        try:
            return InitialSchema(path, self._read_file(path))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            hint = "the path is taken from the folder of the plan"
        except UnicodeDecodeError:
            reason, hint = "it is not UTF-8", "save it as UTF-8"
        message = f"SQL file {shown(path)} cannot be read: {reason}"
        self._report.add(node.value_mark("initial_schema"), "unreadable-file", message, hint)
        return None
