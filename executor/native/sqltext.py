"""SQL text, cut into its statements."""

from __future__ import annotations

import re

_PIECE = re.compile(
    r"""'(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" | `(?:[^`]|``)*` | /\*.*?\*/ | (?:--[ \t\n]|\#)[^\n]* | ; | . """,
    re.VERBOSE | re.DOTALL,
)


def split_statements(sql: str) -> list[str]:
    """The statements of `sql`, without their semicolons; pieces of nothing but blanks and comments are left out.

    Semicolons in strings, quoted names and comments do not count. DELIMITER is a command of the mysql client, not SQL.
    """
    statements: list[str] = []
    current: list[str] = []
    substance = False
    for match in _PIECE.finditer(sql):
        piece = match[0]
        if piece == ";":
            if substance:
                statements.append("".join(current).strip())
            current, substance = [], False
            continue
        current.append(piece)
        comment = piece.startswith(("/*", "--", "#")) and len(piece) > 1 and not piece.startswith(("/*!", "/*M!"))
        substance = substance or not (comment or piece.isspace())
    if substance:
        statements.append("".join(current).strip())
    return statements
