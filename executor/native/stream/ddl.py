"""Which logged statements touch a moved table, and how: the stream must not pass over one that matters.

No parser: a statement is cut into words, and where they leave a doubt it counts as touching the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

ANSI_QUOTES = 1 << 2
NO_BACKSLASH_ESCAPES = 1 << 20
"""Bits of a logged sql_mode, the same on both servers."""

_BLANK = r"/\*(?!!|M!).*?(?:\*/|\Z) | (?:--(?=[\s]|\Z)|\#)[^\n]*"
_NAME = r"`(?:[^`]|``)*`|[\w$\u0080-\U0010ffff]+"
_BACKSLASHES = r"'(?:[^'\\]|\\.|'')*'", r'"(?:[^"\\]|\\.|"")*"'
_PLAIN = r"'(?:[^']|'')*'", r'"(?:[^"]|"")*"'
_MODES = {
    escapes: re.compile(
        rf"(?P<blank>{_BLANK}) | (?P<string>{single}) | (?P<double>{double}) | (?P<name>{_NAME}) | (?P<sign>[.,(;])",
        re.VERBOSE | re.DOTALL,
    )
    for escapes, (single, double) in ((True, _BACKSLASHES), (False, _PLAIN))
}

_HEADER_WORDS = 14
"""CREATE OR REPLACE ALGORITHM=x DEFINER=a@b SQL SECURITY INVOKER VIEW, which is how servers log a view, has twelve."""
_PARTITION_ROWS = re.compile(r"\b(?:TRUNCATE|DROP)\s+PARTITION\b")
_ROWS_FROM_ELSEWHERE = re.compile(
    r"\b(?:EXCHANGE\s+PARTITION|CONVERT\s+(?:TABLE|PARTITION)|(?:IMPORT|DISCARD)\s+(?:PARTITION|TABLESPACE))\b"
)
_RENAME = re.compile(r"\bRENAME\b(?!\s+(?:COLUMN|INDEX|KEY)\b)")


class Effect(Enum):
    """What a statement does to the moved tables."""

    NONE = "none"
    DEFINITION = "definition"
    """Changes how a moved table is defined; its rows stay."""
    ROWS = "rows"
    """Removes all rows, or a partition's, without row events; done to equal rows it leaves equal rows."""
    REPLACED = "replaced"
    """The table is gone, or holds rows that came without row events, or the statement is not understood."""


@dataclass(frozen=True)
class _Word:
    """A word or sign. `bare` tells that it is not quoted, so that it may be a keyword."""

    text: str
    bare: bool
    sign: bool


@dataclass(frozen=True)
class _Name:
    qualifier: str | None
    name: str


def effect_of(
    sql: str, default_database: str, database: str, tables: Iterable[str], sql_mode: int | None = None
) -> Effect:
    """The effect of the statement `sql`, run with `default_database` and `sql_mode`, on `tables` of `database`.

    Triggers, views, routines, privileges and maintenance statements have none. An unknown first word that mentions a
    moved table counts as REPLACED: it is for a human to look at.
    """
    words = _statement(list(_words(sql, sql_mode)))
    keywords = [word.text.upper() for word in words if word.bare][:_HEADER_WORDS]
    moved = set(tables)
    mentioned = [
        name for name in _names(words) if name.name in moved and (name.qualifier or default_database) == database
    ]
    if not keywords:
        return Effect.REPLACED if mentioned else Effect.NONE
    first, rest = keywords[0], [k for k in keywords[1:] if k not in ("OR", "REPLACE", "ONLINE", "IGNORE", "TEMPORARY")]
    kind = rest[0] if rest else ""
    if first in ("DROP", "CREATE") and kind in ("DATABASE", "SCHEMA"):
        dropped = any(word.text == database for word in words)
        return Effect.REPLACED if first == "DROP" and dropped else Effect.NONE
    if first in ("CREATE", "DROP", "ALTER") and _about_other_objects(kind, keywords):
        return Effect.NONE
    if first in _HARMLESS or (first == "ANALYZE" and kind in _ANALYZE_TABLE) or not mentioned:
        return Effect.NONE
    if first == "TRUNCATE":
        return Effect.ROWS
    if first == "CREATE" and kind == "TABLE":
        return Effect.REPLACED if _names_after(words, "TABLE")[:1] == mentioned[:1] else Effect.NONE
    if first in ("CREATE", "DROP") and "INDEX" in keywords:
        return Effect.DEFINITION
    if first == "ALTER" and kind == "TABLE":
        return _altered(words, mentioned)
    return Effect.REPLACED


def _altered(words: list[_Word], mentioned: list[_Name]) -> Effect:
    text = " ".join(word.text.upper() for word in words if word.bare)
    if _RENAME.search(text) or _ROWS_FROM_ELSEWHERE.search(text):
        return Effect.REPLACED
    if not set(_names_after(words, "TABLE")[:1]) & set(mentioned):
        return Effect.NONE  # a column or a foreign key of another table bears the name
    return Effect.ROWS if _PARTITION_ROWS.search(text) else Effect.DEFINITION


def names_in(sql: str, sql_mode: int | None = None) -> set[str]:
    """Every word of `sql` that may be the name of a table, view, trigger or routine."""
    return {word.text for word in _words(sql, sql_mode) if not word.sign}


def without_database(sql: str, database: str, sql_mode: int | None = None) -> str:
    """`sql` with every name that is qualified by `database` left without qualifier; comments and strings stay."""
    tokens = [match for match in _matches(sql, sql_mode) if match["name"] or match["sign"] or match["double"]]
    cuts = []
    for qualifier, dot, name in zip(tokens, tokens[1:], tokens[2:], strict=False):
        text = qualifier["name"] or (qualifier["double"] if _quotes_names(sql_mode) else None) or ""
        if _unquoted(text) == database and dot["sign"] == "." and not name["sign"]:
            cuts.append((qualifier.start(), name.start()))
    for start, end in reversed(cuts):
        sql = sql[:start] + sql[end:]
    return sql


_HARMLESS = frozenset(
    "OPTIMIZE REPAIR CHECK FLUSH GRANT REVOKE SET BEGIN COMMIT ROLLBACK SAVEPOINT RELEASE XA USE KILL "
    "INSTALL UNINSTALL LOCK UNLOCK".split()
)
_ANALYZE_TABLE = frozenset("TABLE TABLES LOCAL NO_WRITE_TO_BINLOG".split())
_OTHER_OBJECTS = frozenset(
    "TRIGGER VIEW PROCEDURE FUNCTION EVENT USER ROLE SEQUENCE SERVER PACKAGE LOGFILE TABLESPACE AGGREGATE".split()
)


def _about_other_objects(kind: str, keywords: list[str]) -> bool:
    if kind in ("TABLE", "INDEX", "UNIQUE", "FULLTEXT", "SPATIAL"):
        return False
    return any(keyword in _OTHER_OBJECTS for keyword in keywords)  # CREATE DEFINER=x SQL SECURITY y TRIGGER ...


def _quotes_names(sql_mode: int | None) -> bool:
    """True when double quotes are around names; also when the log does not say, so that no name is missed."""
    return sql_mode is None or bool(sql_mode & ANSI_QUOTES)


def _unquoted(text: str) -> str:
    quote = text[:1]
    return text[1:-1].replace(quote * 2, quote) if quote in ("`", '"') and len(text) > 1 else text


def _matches(sql: str, sql_mode: int | None) -> Iterator[re.Match[str]]:
    return _MODES[not (sql_mode or 0) & NO_BACKSLASH_ESCAPES].finditer(sql)


def _words(sql: str, sql_mode: int | None) -> Iterator[_Word]:
    text = re.sub(r"/\*M?!\d*", " ", sql)  # the inside of /*!40000 ... */ counts
    for match in _matches(text, sql_mode):
        if match["sign"]:
            yield _Word(match["sign"], False, True)
        elif match["name"]:
            yield _Word(_unquoted(match["name"]), match["name"][0] != "`", False)
        elif match["double"] and _quotes_names(sql_mode):
            yield _Word(_unquoted(match["double"]), False, False)


def _statement(words: list[_Word]) -> list[_Word]:
    """`words` without ``SET STATEMENT ... FOR`` before the statement proper."""
    keywords = [word.text.upper() if word.bare else "" for word in words]
    if keywords[:2] == ["SET", "STATEMENT"] and "FOR" in keywords:
        return words[keywords.index("FOR") + 1 :]
    return words


def _names(words: list[_Word]) -> list[_Name]:
    names = []
    for i, word in enumerate(words):
        if word.sign:
            continue
        qualified = i >= 2 and words[i - 1].text == "." and words[i - 1].sign and not words[i - 2].sign
        names.append(_Name(words[i - 2].text if qualified else None, word.text))
    return names


def _names_after(words: list[_Word], keyword: str) -> list[_Name]:
    start = next(i for i, word in enumerate(words) if word.bare and word.text.upper() == keyword) + 1
    while start < len(words) and words[start].bare and words[start].text.upper() in ("IF", "NOT", "EXISTS"):
        start += 1
    if start + 2 < len(words) and words[start + 1].sign and words[start + 1].text == ".":
        return [_Name(words[start].text, words[start + 2].text)]
    return [_Name(None, words[start].text)] if start < len(words) else []
