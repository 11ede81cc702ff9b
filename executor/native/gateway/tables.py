"""Finds the tables of a statement in its tokens.

A table name can stand only in a few places: after FROM, JOIN, REFERENCES, after a comma of a FROM clause, and at the
head of the statements that name tables. Walking the tokens with a stack of parentheses finds those places in any
statement the server accepts, also in ones that no parsing library knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from executor.native.gateway.scan import Kind, Token

_ENDS_FROM = frozenset(
    "WHERE GROUP HAVING ORDER LIMIT UNION EXCEPT INTERSECT PROCEDURE INTO SET RETURNING WINDOW SELECT".split()
)
_FROM_INSIDE = frozenset("EXTRACT TRIM SUBSTRING SUBSTR MID POSITION TRIM_ORACLE".split())
_SESSION_FUNCTIONS = frozenset("DATABASE SCHEMA".split())
_LAST_FUNCTIONS = frozenset("LAST_INSERT_ID FOUND_ROWS ROW_COUNT".split())


@dataclass(frozen=True, slots=True)
class Name:
    """A name that may have to be rewritten: ``qualifier.table`` with the byte ranges of both in the shape.

    `qualifier_span` is empty where no qualifier is written; `table_span` is empty where only the qualifier matters.
    """

    qualifier: str
    table: str
    qualifier_span: tuple[int, int] = (0, 0)
    table_span: tuple[int, int] = (0, 0)


@dataclass
class TableFinder:
    """Walks `tokens` and collects what it finds.

    `refs` are table references; `columns` are qualifiers of columns, functions and DELETE targets, which follow the
    tables they name; `calls` are ``(function, start, end)`` of functions whose answer only the gateway knows.
    """

    tokens: tuple[Token, ...]
    refs: list[Name] = field(default_factory=list)
    columns: list[Name] = field(default_factory=list)
    calls: list[tuple[str, int, int]] = field(default_factory=list)
    locking: bool = False
    uses_last: bool = False

    def upper(self, i: int) -> str:
        """The keyword or mark at `i`, "" for anything else."""
        return self.tokens[i].upper if 0 <= i < len(self.tokens) else ""

    def is_name(self, i: int) -> bool:
        """True when a name may start at `i`."""
        return i < len(self.tokens) and self.tokens[i].kind in (Kind.WORD, Kind.QUOTED)

    def table(self, i: int, scope: frozenset[str] = frozenset()) -> int:
        """Takes the table name at `i`; returns the position after it. Names of `scope` are common table expressions."""
        tokens = self.tokens
        first = tokens[i]
        if self.upper(i + 1) == "." and self.is_name(i + 2):
            second = tokens[i + 2]
            name = Name(first.text, second.text, (first.start, first.end), (second.start, second.end))
            self.refs.append(name)
            return i + 3
        plain = first.kind == Kind.WORD
        if self.upper(i + 1) == "(" and plain and first.upper == "JSON_TABLE":
            return i + 1
        if not (plain and first.upper == "DUAL") and first.text.lower() not in scope:
            self.refs.append(Name("", first.text, table_span=(first.start, first.end)))
        return i + 1

    def table_list(self, i: int) -> int:
        """Takes ``a, b.c, d`` at `i`; returns the position after it."""
        while self.is_name(i):
            i = self.table(i)
            if self.upper(i) != ",":
                break
            i += 1
        return i

    def block(
        self,
        i: int,
        scope: frozenset[str] = frozenset(),
        *,
        tables: bool = False,
        function: str = "",
        delete: bool = False,
    ) -> int:
        """Walks until the parenthesis that encloses `i` closes, or the statement ends; returns that position.

        `tables` says that a list of tables begins at `i`; `function` is the function whose arguments begin there;
        `delete` marks the top of a DELETE, whose USING begins the list of tables.
        """
        tokens, count = self.tokens, len(self.tokens)
        expecting = in_from = tables
        joined = False
        first_ref = len(self.refs)
        start = i
        while i < count:
            token = tokens[i]
            upper = token.upper
            if upper == "(":
                if expecting:
                    nested = self.upper(i + 1) not in ("SELECT", "WITH", "VALUES")
                    i = self.block(i + 1, scope, tables=nested) + 1
                    expecting = False
                else:
                    i = self.block(i + 1, scope, function=self.upper(i - 1)) + 1
                continue
            if upper in (")", ";"):
                return i
            if upper == ",":
                expecting = in_from
                i += 1
                continue
            if token.kind not in (Kind.WORD, Kind.QUOTED):
                i += 1
                continue
            if self.upper(i - 1) == "@":
                i = self._name(i)
                continue
            if upper == "WITH" and (after := self._ctes(i, scope)) is not None:
                i, scope = after
                continue
            if upper == "FROM":
                if function not in _FROM_INSIDE and not (
                    self.upper(i - 1) == "DISTINCT" and self.upper(i - 2) in ("IS", "NOT")
                ):
                    expecting = in_from = True
                i += 1
            elif upper == "JOIN" or (upper == "STRAIGHT_JOIN" and in_from):
                expecting = joined = True
                i += 1
            elif upper in ("INDEX", "KEY") and self.upper(i + 1) == "FOR":
                i += 2 if self.upper(i + 2) == "JOIN" else 3
                i += self.upper(i) in ("JOIN", "BY")
            elif upper == "REFERENCES" and not in_from and self.is_name(i + 1):
                i = self.table(i + 1)
            elif delete and upper == "USING" and in_from and not joined:
                self.columns += (ref for ref in self.refs[first_ref:] if ref.qualifier)
                del self.refs[first_ref:]
                expecting = True
                delete = False
                i += 1
            elif expecting:
                if upper == "LATERAL":
                    i += 1
                    continue
                i = self.table(i, scope)
                expecting = False
            elif upper in _ENDS_FROM and i >= start:
                in_from = expecting = False
                i += 1
            elif upper == "AS" and in_from:
                i += 2
            elif upper == "FOR" and self.upper(i + 1) in ("UPDATE", "SHARE"):
                self.locking = True
                i += 2
            elif upper == "LOCK" and self.upper(i + 1) == "IN":
                self.locking = True
                i += 3
            else:
                i = self._name(i)
        return i

    def _name(self, i: int) -> int:
        tokens = self.tokens
        token = tokens[i]
        if self.upper(i - 1) == "@":
            while self.upper(i + 1) == ".":
                i += 2
            return i + 1
        if self.upper(i + 1) == "." and i + 2 < len(tokens):
            second = tokens[i + 2]
            span = (token.start, token.end)
            if self.upper(i + 3) == ".":
                self.columns.append(Name(token.text, second.text, span))
                return i + 5
            if self.upper(i + 3) == "(":
                self.columns.append(Name(token.text, "", span))
            return i + 3
        if self.upper(i + 1) == "(":
            if token.upper in _SESSION_FUNCTIONS and self.upper(i + 2) == ")":
                self.calls.append((token.upper, token.start, tokens[i + 2].end))
                return i + 3
            if token.upper in _LAST_FUNCTIONS:
                self.uses_last = True
        return i + 1

    def _ctes(self, i: int, scope: frozenset[str]) -> tuple[int, frozenset[str]] | None:
        """Takes ``WITH [RECURSIVE] a [(..)] AS (..), b ..`` at `i`; None when WITH means something else here."""
        i += 1
        recursive = self.upper(i) == "RECURSIVE"
        i += recursive
        while True:
            if not self.is_name(i):
                return None
            name = self.tokens[i].text.lower()
            i += 1
            if self.upper(i) == "(":
                i = self.block(i + 1) + 1
            if self.upper(i) != "AS" or self.upper(i + 1) != "(":
                return None
            i = self.block(i + 2, scope | {name} if recursive else scope) + 1
            scope = scope | {name}
            if self.upper(i) == "CYCLE":
                while i < len(self.tokens) and self.upper(i) not in ("SELECT", ",", ")"):
                    i += 1
            if self.upper(i) != ",":
                return i, scope
            i += 1

    def delete_targets(self, i: int) -> int:
        """Takes ``t1, ks.t2.*`` between DELETE and FROM at `i`; returns the position of FROM."""
        tokens = self.tokens
        while i < len(tokens) and tokens[i].upper not in ("FROM", ";"):
            if self.is_name(i) and self.upper(i + 1) == "." and self.is_name(i + 2):
                token = tokens[i]
                self.columns.append(Name(token.text, tokens[i + 2].text, (token.start, token.end)))
                i += 3
            else:
                i += 1
        return i
