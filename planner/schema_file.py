"""Reads the CREATE TABLE statements of a SQL file, well enough to plan a move of the tables it will make."""

from __future__ import annotations

import re
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from planner.cluster import Column, ForeignKey, Key, Table

_SYNONYMS = {"integer": "int", "boolean": "tinyint", "bool": "tinyint", "numeric": "decimal", "dec": "decimal"}


class SchemaFileError(ValueError):
    """A statement that could not be read; the message says where."""


@lru_cache(maxsize=16)  # `ready` and `effect` of one step ask for the same text
def parse_schema(sql: str, database: str) -> tuple[Table, ...]:
    """The tables that `sql` creates in `database`, sorted by name. Statements of other kinds are passed over.

    Raises `SchemaFileError` when the text is not SQL that can be told apart into statements.
    """
    try:
        statements = sqlglot.parse(sql, dialect="mysql")
    except SqlglotError as error:
        raise SchemaFileError(str(error).splitlines()[0]) from error
    tables: dict[str, Table] = {}
    for statement in statements:
        if isinstance(statement, exp.Create) and statement.kind == "TABLE" and isinstance(statement.this, exp.Schema):
            table = _table(statement, statement.this, database)
            tables[table.name] = table
        elif isinstance(statement, exp.Drop) and statement.args.get("kind") == "TABLE":
            tables.pop(statement.this.name, None)
    return tuple(tables[name] for name in sorted(tables))


def _table(create: exp.Create, schema: exp.Schema, database: str) -> Table:
    columns: list[Column] = []
    keys: list[Key] = []
    foreign: list[ForeignKey] = []
    for item in schema.expressions:
        if isinstance(item, exp.ColumnDef):
            column, key, reference = _column(item, database)
            columns.append(column)
            keys += [key] if key is not None else []
            foreign += [reference] if reference is not None else []
    for item in schema.expressions:
        keys += _keys(item)
        foreign += _foreign(item, database)
    primary = {name for key in keys if key.name == "PRIMARY" for name in key.columns}
    columns = [
        Column(c.name, c.column_type, c.data_type, c.nullable and c.name not in primary, generated=c.generated)
        for c in columns
    ]
    nullable = {column.name for column in columns if column.nullable}
    keys = [Key(k.name, k.columns, k.unique, bool(nullable & set(k.columns)), k.prefix) for k in keys]
    engine = create.find(exp.EngineProperty)
    return Table(
        schema.this.name,
        tuple(columns),
        tuple(sorted(keys)),
        tuple(sorted(foreign)),
        engine=engine.this.name if engine is not None else "InnoDB",
    )


def _column(item: exp.ColumnDef, database: str) -> tuple[Column, Key | None, ForeignKey | None]:
    kind = item.args.get("kind")
    column_type = kind.sql(dialect="mysql").lower() if kind is not None else ""
    match = re.match(r"[a-z]+", column_type)
    data_type = match.group() if match else column_type
    data_type = _SYNONYMS.get(data_type, data_type)
    nullable, generated = True, False
    key: Key | None = None
    reference: ForeignKey | None = None
    for constraint in item.args.get("constraints") or ():
        rule = constraint.kind
        if isinstance(rule, exp.NotNullColumnConstraint):
            nullable = bool(rule.args.get("allow_null"))
        elif isinstance(rule, exp.PrimaryKeyColumnConstraint):
            key = Key("PRIMARY", (item.name,), unique=True)
        elif isinstance(rule, exp.UniqueColumnConstraint):
            key = key or Key(item.name, (item.name,), unique=True)
        elif isinstance(rule, exp.ComputedColumnConstraint | exp.GeneratedAsIdentityColumnConstraint):
            generated = True
        elif isinstance(rule, exp.Reference):
            reference = _reference(f"{item.name}_ibfk", (item.name,), rule, database)
    return Column(item.name, column_type, data_type, nullable, generated=generated), key, reference


def _names(expressions: list[exp.Expression]) -> tuple[tuple[str, ...], bool]:
    """The column names of an index, and whether any is indexed by prefix (``name(10)``)."""
    names: list[str] = []
    prefix = False
    for expression in expressions:
        inner = expression.this if isinstance(expression, exp.Ordered) else expression
        prefix = prefix or isinstance(inner, exp.ColumnPrefix | exp.Anonymous)
        names.append(inner.this.name if isinstance(inner, exp.ColumnPrefix) else inner.name)
    return tuple(names), prefix


def _keys(item: exp.Expression) -> list[Key]:
    name = ""
    if isinstance(item, exp.Constraint):
        name = item.this.name
        return [key if key.name == "PRIMARY" else Key(name, *_rest(key)) for e in item.expressions for key in _keys(e)]
    if isinstance(item, exp.PrimaryKey):
        columns, prefix = _names(item.expressions)
        return [Key("PRIMARY", columns, unique=True, prefix=prefix)]
    if isinstance(item, exp.UniqueColumnConstraint):
        schema = item.this
        if isinstance(schema, exp.Schema):
            columns, prefix = _names(schema.expressions)
            return [Key(schema.name or columns[0], columns, unique=True, prefix=prefix)]
    if isinstance(item, exp.IndexColumnConstraint):
        columns, prefix = _names(item.expressions)
        return [Key(item.name or columns[0], columns, prefix=prefix)]
    return []


def _rest(key: Key) -> tuple[tuple[str, ...], bool, bool, bool]:
    return key.columns, key.unique, key.nullable, key.prefix


def _foreign(item: exp.Expression, database: str) -> list[ForeignKey]:
    if isinstance(item, exp.Constraint):
        return [
            ForeignKey(item.this.name, key.columns, key.referenced_database, key.referenced_table)
            for expression in item.expressions
            for key in _foreign(expression, database)
        ]
    if isinstance(item, exp.ForeignKey):
        columns, _ = _names(item.expressions)
        reference = item.args.get("reference")
        return [_reference(f"{columns[0]}_ibfk", columns, reference, database)] if reference is not None else []
    return []


def _reference(name: str, columns: tuple[str, ...], reference: exp.Reference, database: str) -> ForeignKey:
    table = reference.find(exp.Table)
    if table is None:
        raise SchemaFileError(f"foreign key over {', '.join(columns)} names no table")
    return ForeignKey(name, columns, table.db or database, table.name)
