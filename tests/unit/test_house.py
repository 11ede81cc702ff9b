"""The rules of the house that no linter checks: who imports whom, how large a module is, what is never written."""

from __future__ import annotations

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("planner", "executor", "schemas")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LINES_CAP = 600

MAY_IMPORT = {
    "schemas": {"schemas"},
    "planner": {"planner", "schemas"},
    "executor": {"executor", "planner", "schemas"},
}

IMPURE = frozenset(
    """asyncio concurrent ctypes datetime glob http io logging multiprocessing os pymysql random secrets select shutil
    signal socket ssl subprocess sys tempfile threading time urllib uuid uvloop""".split()
)
"""What would let the planner look at the world. `os.path` is allowed: what it computes from texts is pure."""

IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "breakpoint"}
IMPURE_METHODS = {"read_text", "read_bytes", "write_text", "write_bytes", "exists", "is_file", "iterdir", "resolve"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), name(path))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def top(module: str) -> str:
    return module.partition(".")[0]


def test_imports_follow_the_arrow_from_executor_to_planner_to_schemas() -> None:
    found = [
        f"{name(path)} imports {module}"
        for path in MODULES
        for module in imported(path)
        if top(module) in {*PACKAGES, "tests", "script"} - MAY_IMPORT[path.relative_to(ROOT).parts[0]]
    ]
    assert found == []


def test_imports_name_the_whole_module() -> None:
    assert [name(path) for path in MODULES if any(module.startswith(".") for module in imported(path))] == []


def test_the_planner_sees_nothing_but_its_arguments() -> None:
    found = []
    for path in (module for module in MODULES if module.is_relative_to(ROOT / "planner")):
        found += [f"{name(path)} imports {m}" for m in imported(path) if top(m) in IMPURE and m != "os.path"]
        for call in (node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)):
            function = call.func
            if (isinstance(function, ast.Name) and function.id in IMPURE_CALLS) or (
                isinstance(function, ast.Attribute) and function.attr in IMPURE_METHODS
            ):
                found.append(f"{name(path)}:{call.lineno} calls {ast.unparse(function)}")
    assert found == []


def test_only_the_native_backend_speaks_to_servers() -> None:
    native = ROOT / "executor" / "native"
    speakers = [path for path in MODULES if "pymysql" in {top(module) for module in imported(path)}]
    assert [name(path) for path in speakers if not path.is_relative_to(native)] == []


def test_no_module_grows_past_the_cap() -> None:
    lines = {name(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {module: count for module, count in lines.items() if count > LINES_CAP} == {}, "split it by phase"


def test_module_names_say_what_is_inside() -> None:
    empty = {"utils", "util", "helper", "helpers", "manager", "common", "misc"}
    assert [name(path) for path in MODULES if path.stem in empty or path.parent.name in empty] == []


def test_every_public_name_has_a_docstring() -> None:
    found = [f"{name(path)}: {public}" for path in MODULES for public in undocumented(parsed(path), path.stem)]
    assert found == []


def undocumented(node: ast.Module | ast.ClassDef, of: str) -> Iterator[str]:
    if ast.get_docstring(node) is None and node.body:
        yield of
    for child in node.body:
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from undocumented(child, f"{of}.{child.name}")
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            # ``...`` as the whole body is a member of a Protocol, whose docstring says what its members are.
            stub = len(child.body) == 1 and ast.unparse(child.body[0]) == "..."
            if ast.get_docstring(child) is None and not stub:
                yield f"{of}.{child.name}"


TEXT_SUFFIXES = {".py", ".md", ".toml", ".yaml", ".yml", ".sql", ".json", ".expect", ".txt", ".sh", ""}
TEXT_FOLDERS = (*PACKAGES, "plans", "tests", "script", "docs", ".ci")

NEVER_WRITTEN = {
    "a path of one machine": r"/work/(?:main|shared)|/tmp/v/|/root/|/home/[a-z]",
    "the number of an issue": r"(?i)\bissues? #?\d+|\bGH-\d+",
    "a package registry": r"(?i)pypi\.org|pythonhosted|registry\.npmjs|crates\.io|deb\.debian\.org",
    "work that was put off": r"\b(?:TODO|FIXME|XXX|HACK)\b",
}


def texts() -> list[Path]:
    files = [path for path in ROOT.iterdir() if path.is_file() and path.name != "LICENSE"]
    for folder in TEXT_FOLDERS:
        files.extend(path for path in (ROOT / folder).rglob("*") if path.is_file())
    return sorted(
        p for p in files if p.suffix in TEXT_SUFFIXES and "__pycache__" not in p.parts and p != Path(__file__)
    )


@pytest.mark.parametrize("what", NEVER_WRITTEN)
def test_some_things_are_never_written(what: str) -> None:
    pattern = re.compile(NEVER_WRITTEN[what])
    found = [
        f"{name(path)}:{number}: {line.strip()}"
        for path in texts()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, f"{what}:\n" + "\n".join(found)


SCRIPTS = [path for path in (*(ROOT / "script").iterdir(), ROOT / ".ci" / "run") if path.is_file() and not path.suffix]


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_scripts_are_short_plain_sh_that_stops_at_the_first_error(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/bin/sh"
    assert "set -eu" in lines
    assert len(lines) < 80
    assert os.access(path, os.X_OK)


def test_the_newest_version_of_the_changelog_is_that_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert version in headings[:2], f"CHANGELOG.md begins with {headings[:2]}; the package is {version}"
