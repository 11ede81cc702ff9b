"""Rows in the form that LOAD DATA reads: the target takes them for about half the work of an INSERT's text.

The source renders a row as fields such as ``1,'alice','raw bytes',NULL``. Text and binary columns travel as the bytes
they are stored as, whatever their character set; QUOTE escapes what would end a field, and an unquoted NULL is NULL.
The statement declares the file to be binary, so nothing is converted on the way.
"""

from __future__ import annotations

from dataclasses import dataclass

from executor.native.flavor import Flavor
from executor.native.servers import quote
from executor.native.stream.layout import TableLayout
from planner.cluster import Column
from planner.column_types import AS_NUMBER, BINARY, FLOATS, NUMBERS, TEMPORAL, TEXT, UTF8

_PLAIN = NUMBERS | TEMPORAL


@dataclass(frozen=True)
class LoadForm:
    """How the rows of one table are loaded: `expression` is SQL for one row's text, `statement` reads such rows.

    `fields` are the expressions of the columns, in the order of the layout; rows are separated by newlines.
    """

    expression: str
    statement: str
    fields: tuple[str, ...]


def load_form(layout: TableLayout, database: str, source: Flavor) -> LoadForm | None:
    """The form for a table that is the same on both sides, loaded into `database`; None when a column's type needs
    an SQL expression, as JSON of MySQL and geometry do."""
    fields, names, sets = [], [], []
    for number, column in enumerate(layout.columns):
        field = _field(column, source)
        if field is None:
            return None
        fields.append(field)
        if column.data_type in AS_NUMBER:  # a text "2" would be looked up among an ENUM's names
            names.append(f"@c{number}")
            sets.append(f"{quote(column.name)}=CAST(@c{number} AS UNSIGNED)")
        else:
            names.append(quote(column.name))
    joined = ",',',".join(fields)
    statement = (
        f"LOAD DATA LOCAL INFILE 'rows' REPLACE INTO TABLE {quote(database)}.{quote(layout.name)} "
        r"CHARACTER SET binary FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\'' ESCAPED BY '\\' "
        rf"LINES TERMINATED BY '\n' ({','.join(names)})" + (f" SET {','.join(sets)}" if sets else "")
    )
    return LoadForm(f"CONCAT({joined})", statement, tuple(fields))


def _field(column: Column, source: Flavor) -> str | None:
    name = quote(column.name)
    utf8 = column.data_type in TEXT and (column.charset or "utf8mb4") in UTF8
    # MySQL's QUOTE takes bytes for utf8mb4, and refuses what is not. MariaDB's REPLACE moves the rest of a value with
    # each quote that it finds, which takes minutes for a megabyte of them.
    if utf8 or (column.data_type in TEXT | BINARY and source.mariadb):
        return f"QUOTE(CAST({name} AS BINARY))"  # writes NULL for NULL by itself
    if column.data_type in TEXT | BINARY:
        text = rf"CONCAT('\'',REPLACE(REPLACE(CAST({name} AS BINARY),'\\','\\\\'),'\'','\\\''),'\'')"
    elif column.data_type in _PLAIN:
        text = name
    elif column.data_type in FLOATS:
        # A FLOAT's own text has six digits, and what MySQL computes is cut at 22 characters.
        text = f"{name}*1e0" if column.data_type == "float" else name
    elif column.data_type in AS_NUMBER:
        text = f"CAST({name} AS UNSIGNED)"
    else:
        return None
    return f"IFNULL(CONCAT({text}),'NULL')" if column.nullable else text
