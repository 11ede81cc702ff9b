"""A row that the stream's decoder wrote, ``(1,X'6162',NULL,JSON_SET(_utf8mb4 X'7b7d',...))``, taken apart again."""

from __future__ import annotations

import re

_TOKEN = re.compile(rb"'[^'\\]*(?:\\.[^'\\]*)*'|[(),]", re.DOTALL)


def split_row(row: bytes) -> list[bytes]:
    """The literals of `row`, in its order."""
    literals: list[bytes] = []
    depth, start = 0, 1
    for token in _TOKEN.finditer(row):
        found = row[token.start() : token.start() + 1]
        if found == b"(":
            depth += 1
        elif found == b",":
            if depth == 1:
                literals.append(row[start : token.start()])
                start = token.end()
        elif found == b")":
            depth -= 1
    literals.append(row[start:-1])
    return literals
