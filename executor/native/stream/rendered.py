"""Values as SQL literals, rendered by the source server: the twin of `binlog/literals.py` for rows that are read.

The expressions are exact for every supported type: text is quoted as utf8mb4, other character sets and bytes are
hexadecimal, floats keep all their bits (a FLOAT is widened first, its own text has six digits), -0.0 keeps its sign
because it travels in quotes, ENUM, SET and BIT travel as numbers. The session must run in utf8mb4 and UTC.
"""

from __future__ import annotations

from executor.errors import MovetablesError
from executor.native.servers import quote
from planner.cluster import Column
from planner.column_types import ADDRESSES, AS_NUMBER, BYTES, FLOATS, NUMBERS, TEMPORAL, TEXT, UTF8
from planner.column_types import SUPPORTED_TYPES as SUPPORTED_TYPES


def literal_expression(column: Column) -> str:
    """An SQL expression whose text is `column`'s value as a literal, the four letters NULL for NULL.

    Raises MovetablesError for a type that is not supported.
    """
    name = quote(column.name)
    if column.data_type in TEXT and (column.charset or "utf8mb4") in UTF8:
        return f"QUOTE({name})"  # writes NULL for NULL by itself
    if column.data_type == "json":
        text = _json(name)
    elif column.data_type in TEXT or column.data_type in BYTES:
        text = f"CONCAT('X''',HEX({name}),'''')"
    elif column.data_type in NUMBERS:
        text = f"CONCAT({name})"
    elif column.data_type in AS_NUMBER:
        text = f"CONCAT(CAST({name} AS UNSIGNED))"
    elif column.data_type in FLOATS:
        # MySQL cuts what it computes at 22 characters: enough for a FLOAT, not for -2.2250738585072014e-308.
        value = f"{name}*1e0" if column.data_type == "float" else name
        text = f"CONCAT('''',{value},'''')"
    elif column.data_type in TEMPORAL | ADDRESSES:
        text = f"CONCAT('''',{name},'''')"
    else:
        raise MovetablesError(f"column {column.name} has type {column.column_type}, which cannot be moved")
    return f"IFNULL({text},'NULL')" if column.nullable else text


# Whether the text of a JSON leaf `n` is read back as another value: a decimal, a date, bytes; an integer that gets the
# other sign, because the parser takes those from 2^32 on for unsigned and all others for signed.
_NOT_ITS_TEXT = (
    "JSON_TYPE(n) NOT IN ('OBJECT','ARRAY','STRING','BOOLEAN','NULL','DOUBLE','INTEGER','UNSIGNED INTEGER') "
    "OR JSON_TYPE(n)='INTEGER' AND n>=4294967296 OR JSON_TYPE(n)='UNSIGNED INTEGER' AND n<4294967296"
)

# Children of a node: the path and value of each. Of an object JSON_KEYS lists them, an array lists itself.
_CHILD = (
    "SELECT IF(JSON_TYPE(n)='OBJECT',CONCAT(p,'.',JSON_QUOTE(k.k)),CONCAT(p,'[',k.i-1,']')),"
    "JSON_EXTRACT(n,IF(JSON_TYPE(n)='OBJECT',CONCAT('$.',JSON_QUOTE(k.k)),CONCAT('$[',k.i-1,']'))) "
    "FROM w JOIN JSON_TABLE(CASE JSON_TYPE(n) WHEN 'OBJECT' THEN JSON_KEYS(n) WHEN 'ARRAY' THEN n ELSE '[]' END,"
    "'$[*]' COLUMNS(i FOR ORDINALITY,k LONGTEXT PATH '$' NULL ON ERROR)) AS k"
)


def _json(name: str) -> str:
    """A JSON document: its text; or if that would be read as something else, JSON_SET with what has no text.

    As `binlog/json_binary.py` does it. Only MySQL has this type; the CTE is run for the few rows that need it.
    """
    text = f"QUOTE(CAST({name} AS CHAR))"
    leaves = (
        f"WITH RECURSIVE w(p,n) AS (SELECT CAST('$' AS CHAR(16000)),{name} UNION ALL {_CHILD}) "
        f"SELECT GROUP_CONCAT(',',QUOTE(p),',',{_leaf()} SEPARATOR '') FROM w WHERE {_NOT_ITS_TEXT}"
    )
    needed = f"EXISTS(SELECT 1 FROM JSON_TABLE({name},'$**[0]' COLUMNS(n JSON PATH '$')) AS j WHERE {_NOT_ITS_TEXT})"
    return f"IF({needed},CONCAT('JSON_SET(',{text},({leaves}),')'),{text})"


def _leaf() -> str:
    """An SQL expression for the literal of a leaf `n` that is not its text."""
    shown = "CAST(n AS CHAR)"
    unquoted = "JSON_UNQUOTE(n)"
    data = f"FROM_BASE64(SUBSTRING_INDEX({unquoted},':',-1))"
    hexed = f"CONCAT('X''',HEX({data}),'''')"
    kinds = {
        "INTEGER": shown,
        "UNSIGNED INTEGER": f"CONCAT('CAST(',{shown},' AS UNSIGNED)')",
        "DECIMAL": f"IF(LOCATE('.',{shown}),{shown},CONCAT({shown},'.'))",
        "DATE": f"CONCAT('DATE''',{unquoted},'''')",
        "TIME": f"CONCAT('TIME''',{unquoted},'''')",
        "DATETIME": f"CONCAT('TIMESTAMP''',{unquoted},'''')",
        "TIMESTAMP": _of_column(f"CONCAT('TIMESTAMP''',{unquoted},'''')", "'TIMESTAMP(6)'"),
        "BIT": _of_column(f"CONV(HEX({data}),16,10)", f"CONCAT('BIT(',8*LENGTH({data}),')')"),
    }
    blobs = {
        "15": hexed,
        "249": _of_column(hexed, "'TINYBLOB'"),
        "250": _of_column(hexed, "'MEDIUMBLOB'"),
        "251": _of_column(hexed, "'LONGBLOB'"),
        "252": _of_column(hexed, "'BLOB'"),
        "254": _of_column(hexed, f"CONCAT('BINARY(',LENGTH({data}),')')"),
    }
    # An unknown column: the target's refusal then names what was found.
    unknown = f"CONCAT('`a JSON value of type ',LEFT({unquoted},16),' cannot be copied`')"
    blob = " ".join(f"WHEN 'type{kind}' THEN {sql}" for kind, sql in blobs.items())
    kinds["BLOB"] = f"CASE SUBSTRING_INDEX(SUBSTRING_INDEX({unquoted},':',2),':',-1) {blob} ELSE {unknown} END"
    cases = " ".join(f"WHEN '{kind}' THEN {sql}" for kind, sql in kinds.items())
    return f"CASE JSON_TYPE(n) {cases} ELSE {unknown} END"


def _of_column(value: str, column_type: str) -> str:
    """A JSON value made from a column of a type, see `binlog/json_binary.py`; both arguments are SQL."""
    return (
        "CONCAT('(SELECT JSON_EXTRACT(JSON_ARRAY(v),''$[0]'') FROM JSON_TABLE(JSON_ARRAY('"
        f",{value},'),''$[*]'' COLUMNS(v ',{column_type},' PATH ''$'')) AS j)')"
    )
