"""Which logged statements touch a moved table, and how: the stream must not pass over one that matters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

_SKIPPED = re.compile(
    r"""/\*(?!!|M!).*?\*/ | (?:--[ \t]|\#)[^\n]* | '(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" """,
    re.VERBOSE | re.DOTALL,
)
_TOKEN = re.compile(r"`((?:[^`]|``)*)`|([\w$\u0080-\U0010ffff]+)|([.,(])")
_SKIPPED_OR_TOKEN = re.compile(
    rf"{_SKIPPED.pattern} | (?P<name>`(?:[^`]|``)*`|[\w$\u0080-\U0010ffff]+) | (?P<sign>[.,(])",
    re.VERBOSE | re.DOTALL,
)
_PARTITION_ROWS = re.compile(r"\b(TRUNCATE|DROP|EXCHANGE)\s+PARTITION\b", re.IGNORECASE)

_HEADER_WORDS = 14
"""CREATE OR REPLACE ALGORITHM=x DEFINER=a@b SQL SECURITY INVOKER VIEW, which is how servers log a view, has twelve."""
_EXCHANGE = re.compile(r"\bEXCHANGE\s+PARTITION\b", re.IGNORECASE)


class Effect(Enum):
    """What a statement does to the moved tables."""

    NONE = "none"
    DEFINITION = "definition"
    """Changes how a moved table is defined; its rows stay."""
    ROWS = "rows"
    """Changes, removes or renames the rows of a moved table in a way that row events do not tell."""


@dataclass(frozen=True)
class _Name:
    qualifier: str | None
    name: str


def effect_of(sql: str, default_database: str, database: str, tables: Iterable[str]) -> Effect:
    """The effect of the DDL statement `sql`, run with `default_database`, on `tables` of `database`.

    Triggers, views, routines, privileges and maintenance statements have none. An unknown first word that mentions a
    moved table counts as ROWS: it is for a human to look at.
    """
    text = _plain(sql)
    words = _words(text)
    keywords = [word.upper() for word, bare, _ in words if bare][:_HEADER_WORDS]
    moved = set(tables)
    mentioned = [
        name for name in _names(words) if name.name in moved and (name.qualifier or default_database) == database
    ]
    if not keywords:
        return Effect.NONE
    first, rest = keywords[0], [k for k in keywords[1:] if k not in ("OR", "REPLACE", "ONLINE", "IGNORE", "TEMPORARY")]
    kind = rest[0] if rest else ""
    if first in ("DROP", "CREATE") and kind in ("DATABASE", "SCHEMA"):
        dropped = any(word == database for word, _, _ in words)
        return Effect.ROWS if first == "DROP" and dropped else Effect.NONE
    if first in ("CREATE", "DROP", "ALTER") and _about_other_objects(kind, keywords):
        return Effect.NONE
    if first in _HARMLESS or not mentioned:
        return Effect.NONE
    if first == "CREATE" and kind == "TABLE":
        return Effect.ROWS if _names_after(words, "TABLE")[:1] == mentioned[:1] else Effect.NONE
    if first in ("CREATE", "DROP") and "INDEX" in keywords:
        return Effect.DEFINITION
    if first == "ALTER" and kind == "TABLE":
        renames = re.search(r"\bRENAME\s+(?!COLUMN\b|INDEX\b|KEY\b)", text, re.IGNORECASE)
        altered = _names_after(words, "TABLE")[:1]
        if not renames and not _EXCHANGE.search(text) and not set(altered) & set(mentioned):
            return Effect.NONE  # a column or a foreign key of another table bears the name
        return Effect.ROWS if renames or _PARTITION_ROWS.search(text) else Effect.DEFINITION
    return Effect.ROWS


def without_database(sql: str, database: str) -> str:
    """`sql` with every name that is qualified by `database` left without qualifier; comments and strings stay."""
    tokens = [match for match in _SKIPPED_OR_TOKEN.finditer(sql) if match["name"] or match["sign"]]
    cuts = []
    for qualifier, dot, name in zip(tokens, tokens[1:], tokens[2:], strict=False):
        text = qualifier["name"] or ""
        unquoted = text[1:-1].replace("``", "`") if text.startswith("`") else text
        if unquoted == database and dot["sign"] == "." and name["name"]:
            cuts.append((qualifier.start(), name.start()))
    for start, end in reversed(cuts):
        sql = sql[:start] + sql[end:]
    return sql


_HARMLESS = frozenset(
    "ANALYZE OPTIMIZE REPAIR CHECK FLUSH GRANT REVOKE SET BEGIN COMMIT ROLLBACK SAVEPOINT RELEASE XA USE KILL "
    "INSTALL UNINSTALL CALL LOCK UNLOCK".split()
)
_OTHER_OBJECTS = frozenset(
    "TRIGGER VIEW PROCEDURE FUNCTION EVENT USER ROLE SEQUENCE SERVER PACKAGE LOGFILE TABLESPACE AGGREGATE".split()
)


def _about_other_objects(kind: str, keywords: list[str]) -> bool:
    if kind in ("TABLE", "INDEX", "UNIQUE", "FULLTEXT", "SPATIAL"):
        return False
    return any(keyword in _OTHER_OBJECTS for keyword in keywords)  # CREATE DEFINER=x SQL SECURITY y TRIGGER ...


def _plain(sql: str) -> str:
    return _SKIPPED.sub(" ", sql).replace("/*!", " ").replace("/*M!", " ")


def _words(text: str) -> list[tuple[str, bool, str]]:
    return [
        (quoted.replace("``", "`") if bare == "" and sign == "" else bare, bare != "", sign)
        for quoted, bare, sign in _TOKEN.findall(text)
    ]


def _names(words: list[tuple[str, bool, str]]) -> list[_Name]:
    names = []
    for i, (word, _, sign) in enumerate(words):
        if sign:
            continue
        qualified = i >= 2 and words[i - 1][2] == "." and not words[i - 2][2]
        names.append(_Name(words[i - 2][0] if qualified else None, word))
    return names


def _names_after(words: list[tuple[str, bool, str]], keyword: str) -> list[_Name]:
    start = next(i for i, (word, bare, _) in enumerate(words) if bare and word.upper() == keyword) + 1
    while start < len(words) and words[start][1] and words[start][0].upper() in ("IF", "NOT", "EXISTS"):
        start += 1
    if start + 2 < len(words) and words[start + 1][2] == ".":
        return [_Name(words[start][0], words[start + 2][0])]
    return [_Name(None, words[start][0])] if start < len(words) else []
