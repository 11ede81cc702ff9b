"""What kind of statement a logged text is, told by its first words. Anything not known counts as a change of rows."""

from __future__ import annotations

import enum
import re

_TOKEN = re.compile(
    r"(?P<space>\s+|--[ \t][^\n]*(?:\n|$)|\#[^\n]*(?:\n|$)|/\*(?!!|M!).*?(?:\*/|$)|/\*M?!\d*|\*/|\()"
    r"|(?P<word>\w+)|(?P<other>.)",
    re.DOTALL,
)
_WORDS = 4

_DDL = frozenset({"CREATE", "ALTER", "DROP", "RENAME", "TRUNCATE"})
_ACCOUNTS = frozenset({"USER", "ROLE"})
_OTHER = frozenset(
    {"GRANT", "REVOKE", "FLUSH", "OPTIMIZE", "REPAIR", "CHECK", "INSTALL", "UNINSTALL", "RESET", "CHANGE"}
)
_ANALYZE_TABLE = frozenset({"TABLE", "TABLES", "LOCAL", "NO_WRITE_TO_BINLOG"})


class StatementKind(enum.Enum):
    """What a logged statement does."""

    DDL = "ddl"
    """CREATE, ALTER, DROP, RENAME, TRUNCATE of anything but accounts and temporary tables."""
    DML = "dml"
    """A change of rows that was logged as a statement, or a statement that is not known to be anything else."""
    OTHER = "other"
    """Changes neither rows nor tables: GRANT, FLUSH, ANALYZE TABLE, CREATE USER, DROP TEMPORARY TABLE and the like."""


def first_words(sql: str) -> list[str]:
    """Up to four words at the start of a statement, in capitals. Comments are left out, except ``/*! ... */``."""
    words: list[str] = []
    for match in _TOKEN.finditer(sql):
        if match["space"]:
            continue
        if not match["word"]:
            break
        words.append(match["word"].upper())
        if len(words) == _WORDS:
            break
    return words


def kind_of(sql: str) -> StatementKind:
    """The kind of a statement. A statement behind ``SET STATEMENT ... FOR`` counts as a change of rows."""
    first, second, third, fourth = (first_words(sql) + [""] * _WORDS)[:_WORDS]
    if first in _DDL:
        after_replace = fourth if (second, third) == ("OR", "REPLACE") else second
        if after_replace in _ACCOUNTS or after_replace == "TEMPORARY":
            return StatementKind.OTHER
        return StatementKind.DDL
    if first in _OTHER or (first == "ANALYZE" and second in _ANALYZE_TABLE):
        return StatementKind.OTHER
    if first == "SET" and second != "STATEMENT":
        return StatementKind.OTHER
    return StatementKind.DML
