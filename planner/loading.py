"""Reads plan and inventory files: YAML, schema and meaning, with every mistake reported at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import schemas
from planner.diagnostic import DocumentErrors, Report
from planner.document import Document
from planner.inventory import Inventory
from planner.loading_inventory import build_inventory
from planner.loading_plan import build_document
from planner.nodes import MappingNode, Node
from planner.schema_check import check_schema, typed_keys
from planner.strict_yaml import parse
from planner.variables import check_given, read_vars, substitute

__all__ = ["DocumentErrors", "load_inventory", "load_plan"]


def load_plan(
    text: str,
    file: str,
    inventory: Inventory,
    variables: Mapping[str, str],
    read_file: Callable[[str], str],
) -> Document:
    """The desired state that a plan asks for.

    `text` is the whole plan and `file` its name in messages. `variables` are those of the command line: they win over
    the inventory's, and those over the plan's own. `read_file` is given the path of an SQL file as the plan writes it,
    relative to the plan's folder, and answers with its text or raises OSError or UnicodeDecodeError.

    Raises DocumentErrors with everything that is wrong.
    """
    report = Report(file, text)
    root = _mapping(parse(text, report), report)
    schema = schemas.load("plan")
    defaults = read_vars(root.child("vars"), report)
    values = {**defaults, **dict(inventory.vars), **variables}
    substituted, used = substitute(root, values, typed_keys(schema), report)
    check_given(variables, used | set(defaults) | {name for name, _ in inventory.vars}, report)
    check_schema(substituted, schema, report)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    document = build_document(_mapping(substituted, report), file, sha256, inventory, read_file, report)
    report.raise_if_failed()
    return document


def load_inventory(text: str, file: str, base_dir: Path) -> Inventory:
    """The environment that an inventory describes.

    `text` is the whole file and `file` its name in messages. Relative paths in it are taken from `base_dir`, the
    absolute path of its folder. Raises DocumentErrors with everything that is wrong.
    """
    report = Report(file, text)
    root = _mapping(parse(text, report), report)
    check_schema(root, schemas.load("inventory"), report)
    inventory = build_inventory(root, file, base_dir, report)
    report.raise_if_failed()
    return inventory


def _mapping(root: Node | None, report: Report) -> MappingNode:
    """`root` if it is a mapping. Otherwise there is nothing to look into: raises DocumentErrors."""
    if isinstance(root, MappingNode):
        return root
    if root is not None and not root.bad:
        found = "a list" if not hasattr(root, "value") else "a single value"
        report.add(root.mark, "wrong-type", f"the document is {found}; expected a mapping with 'version: 1'")
    report.raise_if_failed()
    raise AssertionError("a document without a mapping is always reported")
