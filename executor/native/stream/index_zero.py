"""Writes rows whose ENUM holds index 0, which servers without strict mode made of a value that is no member.

A strict session refuses to write it, and MariaDB has no literal for it that a strict session takes. Without strict
mode each index 0 that is written gives one warning (errno 1265) that names its column; and whatever value a server
changes gives a warning too. So such a statement is sent without strict mode, and the rows are kept only if there are
as many warnings as there are indexes 0 to write, all of that number, all naming ENUM columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from executor.errors import MovetablesError
from executor.native.flavor import STRICT_SQL_MODE
from executor.native.servers import Connection, ServerError, quote
from executor.native.stream.layout import TableLayout
from executor.native.stream.literals import split_row

DATA_TRUNCATED = 1265
MOST_WARNINGS = 10_000
"""As many indexes 0 are written by one statement at most: servers count no more than 65535 warnings."""
_LAX_SQL_MODE = STRICT_SQL_MODE.replace("STRICT_ALL_TABLES,", "")
_NAMED = re.compile(r"Data truncated for column '(.*)' at row \d+", re.DOTALL)


def refused_by_strict_mode(error: ServerError, layout: TableLayout) -> bool:
    """True when an index 0 may be what a strict session did not take."""
    return error.errno == DATA_TRUNCATED and bool(_enums(layout))


def rows_at_once(layout: TableLayout) -> int:
    """How many rows a statement for `write_index_zero` may have."""
    return MOST_WARNINGS // max(1, len(_enums(layout)))


def zeros_expression(layout: TableLayout) -> str:
    """An SQL expression: how many columns of a row hold index 0. The text ``0`` for a table without ENUM columns."""
    return "+".join(f"IFNULL({quote(name)}=0,0)" for name in _enums(layout).values()) or "0"


def zeros_in(layout: TableLayout, rows: Iterable[bytes]) -> int:
    """How many indexes 0 there are in `rows`, tuples of literals as the stream writes them."""
    enums = _enums(layout)
    return sum(sum(literals[i] == b"0" for i in enums) for literals in map(split_row, rows)) if enums else 0


def write_index_zero(connection: Connection, layout: TableLayout, sql: bytes, zeros: int) -> tuple[int, str]:
    """Runs `sql`, which writes rows with `zeros` indexes 0; returns (affected rows, the server's info text).

    `connection` must be in a transaction that its owner rolls back when this raises: MovetablesError when the server
    changed another value, ServerError.
    """
    connection.execute(f"SET SESSION sql_mode='{_LAX_SQL_MODE}', max_error_count=65535")
    try:
        affected, info, warnings = connection.info(sql)
        found = connection.query("SHOW WARNINGS") if warnings else []
    finally:
        if connection.open:
            connection.execute(f"SET SESSION sql_mode='{STRICT_SQL_MODE}', max_error_count=DEFAULT")
    names = set(_enums(layout).values())
    others = [row for row in found if row["Code"] != DATA_TRUNCATED or _column(row["Message"]) not in names]
    if others or warnings != zeros or len(found) != zeros:
        shown = (others or found or [{"Message": "no warning", "Code": 0}])[0]
        raise MovetablesError(
            f"the target does not take rows of {layout.name} as they are: {warnings} warnings after {zeros} ENUM "
            f"values of index 0: {shown['Message']} (errno {shown['Code']})",
            "compare the table definitions of both sides",
        )
    return affected, info


def _enums(layout: TableLayout) -> dict[int, str]:
    return {i: column.name for i, column in enumerate(layout.columns) if column.data_type == "enum"}


def _column(message: str) -> str | None:
    found = _NAMED.fullmatch(message)
    return found[1] if found else None
