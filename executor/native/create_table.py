"""The text of SHOW CREATE TABLE, rewritten for the other kind of server, and run so that it means what it says.

What has no exact counterpart is refused by the plan (`planner/translation.py`); what is left here differs in how it is
written only. Each server skips comments with the other's version number, so none may pass unread: MariaDB would make
``/*!80023 INVISIBLE */`` visible, and no error would tell.
"""

from __future__ import annotations

import re

from executor.errors import MovetablesError
from executor.native.flavor import Flavor
from executor.native.servers import Connection, ServerError
from planner import translation

_TOKEN = re.compile(
    r"(?P<name>`(?:[^`]|``)*`)|(?P<text>'(?:[^'\\]|''|\\.)*')|(?P<comment>/\*M?!(?P<version>\d{5,6})(?P<inner>.*?)\*/)",
    re.DOTALL,
)
_COLLATE = re.compile(r"(?i)(\bCOLLATE[ =])(\w+)")
_INDEX_LINE = re.compile(r"^\s*(?:(?:UNIQUE|FULLTEXT|SPATIAL) )?(?:KEY|INDEX) ")
_CHECK_LINE = re.compile(r"^\s*CONSTRAINT .* CHECK ")
_LARGE = re.compile(r"^\s*`(?:[^`]|``)+` (?:tiny|medium|long)?(?:text|blob)\b")
_TEXT_DEFAULT = re.compile(r"\bDEFAULT ('(?:[^'\\]|''|\\.)*')")
_STRING = r"'(?:[^'\\]|''|\\.)*'"
_INSIDE = rf"(?:[^()']|{_STRING}|\((?:[^()']|{_STRING}|\((?:[^()']|{_STRING}|\((?:[^()']|{_STRING})*\))*\))*\))*"
_FUNCTION_DEFAULT = re.compile(
    rf"{_STRING}|`(?:[^`]|``)*`|\bDEFAULT (?!current_timestamp\b)(?P<function>\w+\({_INSIDE}\))", re.IGNORECASE
)
"""Also finds strings and names, so that it does not look into them."""
_OPTIONS_OF_MARIADB = re.compile(
    r" `?(?:PAGE_CHECKSUM|TRANSACTIONAL|PAGE_COMPRESSED|PAGE_COMPRESSION_LEVEL)`?='?\w+'?", re.IGNORECASE
)
_GIVEN_CHECK_NAME = re.compile(r"^(\s*)CONSTRAINT `CONSTRAINT_\d+` CHECK ")
_FIRST_MYSQL_ONLY = 50700
_BARE_TIMESTAMP = re.compile(r"(?m)^\s*`(?:[^`]|``)+` timestamp(?:\(\d\))? NOT NULL(?! DEFAULT\b)")
_PRIMARY_KEY = re.compile(r"(?m)^\s*PRIMARY KEY ")
_WITHOUT_MEANING = re.compile(r"(?:DEFAULT )?ENCRYPTION='N'|SRID 0|COLUMN_FORMAT \w+|STORAGE \w+|AUTOEXTEND_SIZE=\w+")


def translated(definition: str, source: Flavor, target: Flavor) -> str:
    """`definition`, as `source` shows it, for `target`. The same text between servers of one kind.

    Raises MovetablesError for something that is written for the source alone and is not known.
    """
    if source.mariadb == target.mariadb:
        return definition
    lines = [_line(line, target) for line in definition.split("\n")]
    return _without_hanging_comma("\n".join(line for line in lines if line is not None))


def create(target: Connection, definition: str) -> None:
    """Runs a CREATE TABLE that `translated` gave in a session where it means what it says.

    Raises MovetablesError when our user may not set what that takes, and ServerError.
    """
    for name, wanted in _needed(definition, target.flavor).items():
        if int(target.value(f"SELECT @@session.{name}")) == wanted:
            continue
        try:
            target.execute(f"SET SESSION {name}={wanted}")
        except ServerError as error:
            raise MovetablesError(
                f"{name} is {1 - wanted} on {target.login.name}, which would change the table, and our user may not "
                f"set it for its own session: {error}",
                f"on that server: SET GLOBAL {name}={wanted}; on MySQL a user with SESSION_VARIABLES_ADMIN will do too",
            ) from error
    target.execute(definition)


def _needed(definition: str, target: Flavor) -> dict[str, int]:
    """The variables that would change what `definition` says, and what they must be."""
    needed = {}
    if _BARE_TIMESTAMP.search(definition):  # it would get DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
        needed["explicit_defaults_for_timestamp"] = 1
    if not target.mariadb and not _PRIMARY_KEY.search(definition):
        needed["sql_generate_invisible_primary_key"] = 0
    return needed


def _line(line: str, target: Flavor) -> str | None:
    index = _INDEX_LINE.match(line) is not None
    if target.mariadb and _CHECK_LINE.match(line) and "NOT ENFORCED" in line:
        return None  # it is checked nowhere, and MariaDB would check it
    parts: list[str] = []
    at = 0
    for match in _TOKEN.finditer(line):
        parts.append(_code(line[at : match.start()], target, index=index))
        parts.append(_comment(match, target, index=index) if match["comment"] else match[0])
        at = match.end()
    parts.append(_code(line[at:], target, index=index))
    text = "".join(parts)
    if target.mariadb:
        return text
    if line.startswith(") "):
        return _OPTIONS_OF_MARIADB.sub("", text)
    text = _GIVEN_CHECK_NAME.sub(r"\1CHECK ", text)  # in MySQL such a name is taken for all tables of a database
    text = _FUNCTION_DEFAULT.sub(lambda m: f"DEFAULT ({m['function']})" if m["function"] else m[0], text)
    return _TEXT_DEFAULT.sub(r"DEFAULT (\1)", text) if _LARGE.match(line) else text


def _code(text: str, target: Flavor, *, index: bool) -> str:
    """What is neither a name, a string nor a comment."""
    text = _COLLATE.sub(lambda match: match[1] + _collation(match[2], target), text)
    return re.sub(r"\bIGNORED\b", "INVISIBLE", text) if index and not target.mariadb else text


def _collation(name: str, target: Flavor) -> str:
    found = translation.collation(name, target.name)
    if found is None:
        raise MovetablesError(
            f"{target.name} has no collation like {name}",
            "give the table and its columns a collation that both kinds have, such as utf8mb4_unicode_520_ci",
        )
    return found


def _comment(match: re.Match[str], target: Flavor, *, index: bool) -> str:
    """What an executable comment says, in the target's words."""
    inner = match["inner"].strip()
    if not target.mariadb:
        if inner == "COMPRESSED":  # how MariaDB stores a column; the values are the same
            return ""
        raise _unknown(match[0], target)
    if int(match["version"]) < _FIRST_MYSQL_ONLY:
        return match[0]  # MariaDB reads it too
    if inner == "INVISIBLE":
        return "IGNORED" if index else "INVISIBLE"
    if _WITHOUT_MEANING.fullmatch(inner):
        return ""
    raise _unknown(match[0], target)


def _unknown(what: str, target: Flavor) -> MovetablesError:
    return MovetablesError(
        f"the source's CREATE TABLE says {what}, which {target.name} would ignore",
        "change the table on the source, or leave it out of the move",
    )


def _without_hanging_comma(definition: str) -> str:
    """A line that was taken out may have been the last one."""
    return re.sub(r",\n\)", "\n)", definition)
