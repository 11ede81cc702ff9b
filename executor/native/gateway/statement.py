"""What a statement is and what it needs, found once per shape.

Source of the statement list: MariaDB Server documentation, "SQL Statements". What an administrator does to one server
(users, replication, shutdown, global variables) is refused here: the gateway signs in to tablets with an account of
its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from executor.native.gateway.scan import Kind, Token, tokens
from executor.native.gateway.tables import Name, TableFinder


class Verb(Enum):
    """How the gateway treats a statement."""

    DATA = "data"
    DDL = "ddl"
    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"
    SET = "set"
    SET_TRANSACTION = "set transaction"
    USE = "use"
    KILL = "kill"
    LAST = "last"
    ADMIN = "admin"
    DATABASE = "database"
    NOTHING = "nothing"
    EMPTY = "empty"
    REFUSED = "refused"


@dataclass(frozen=True)
class Statement:
    """A statement's shape, taken apart. Spans are byte ranges of `shape`.

    `word` is its first keyword in lower case; `schemas` are database names of SHOW; `words` are the texts of its
    tokens, for the statements that the gateway answers itself. `parts` are the shapes of several statements in one.
    `reads` is true for statements that may run again after a lost connection. `refusal` is the reason for REFUSED.
    """

    verb: Verb
    word: str
    shape: bytes
    words: tuple[str, ...] = ()
    refs: tuple[Name, ...] = ()
    columns: tuple[Name, ...] = ()
    schemas: tuple[Name, ...] = ()
    calls: tuple[tuple[str, int, int], ...] = ()
    writes: bool = False
    locking: bool = False
    reads: bool = False
    uses_last: bool = False
    refusal: str = ""
    parts: tuple[bytes, ...] = ()


_COMPOUND = frozenset("PROCEDURE FUNCTION TRIGGER EVENT PACKAGE".split())
_INSERT_MODIFIERS = frozenset("LOW_PRIORITY DELAYED HIGH_PRIORITY IGNORE INTO QUICK HISTORY".split())
_ADMIN_SHOWS = frozenset(
    "VITESS_TABLETS VITESS_SHARDS VITESS_KEYSPACES VITESS_TARGETS KEYSPACES DATABASES SCHEMAS".split()
)
_SERVER_ADMIN = frozenset("GRANT REVOKE SHUTDOWN CHANGE RESET PURGE INSTALL UNINSTALL STOP FLUSH BINLOG BACKUP".split())
_DIRECT = "connect to the tablet itself for that"


@lru_cache(maxsize=4096)
def analyse(shape: bytes) -> Statement:
    """The statement of `shape`. Never raises: what the gateway does not know goes to the server, which reports it."""
    found = tokens(shape)
    finder = TableFinder(found)
    words = [token.upper for token in found]
    if ";" in words and not _compound(words):
        parts = _parts(shape, found)
        if len(parts) != 1 or words[-1] == ";":
            if len(parts) == 1:
                return analyse(parts[0])
            return Statement(Verb.EMPTY, "", shape, parts=parts if len(parts) > 1 else ())
    start = 0
    while start < len(found) and words[start] == "(":
        start += 1
    if start == len(found):
        return Statement(Verb.EMPTY, "", shape)
    if _sets_apply(found):
        return Statement(Verb.REFUSED, "set", shape, refusal="@movetables_apply is reserved for movetables itself")
    return _HEADS.get(words[start], _other)(_Head(shape, found, finder, words, start))


@dataclass
class _Head:
    shape: bytes
    tokens: tuple[Token, ...]
    finder: TableFinder
    words: list[str]
    i: int

    def word(self, offset: int = 0) -> str:
        """The keyword `offset` tokens after the current one."""
        i = self.i + offset
        return self.words[i] if i < len(self.words) else ""

    def skip(self, words: frozenset[str] | tuple[str, ...]) -> None:
        """Moves past any of `words`."""
        while self.word() in words and self.word():
            self.i += 1

    def statement(
        self, verb: Verb, *, writes: bool = False, reads: bool = False, schemas: tuple[Name, ...] = (), word: str = ""
    ) -> Statement:
        """What has been found so far."""
        finder = self.finder
        return Statement(
            verb,
            word or next((w for w in self.words if w not in ("(", "")), "").lower(),
            self.shape,
            tuple(token.text for token in self.tokens),
            tuple(finder.refs),
            tuple(finder.columns),
            schemas,
            tuple(finder.calls),
            writes=writes,
            locking=finder.locking,
            reads=reads and not finder.locking,
            uses_last=finder.uses_last,
        )

    def refused(self, reason: str) -> Statement:
        """The statement is not supported, because of `reason`."""
        return Statement(Verb.REFUSED, self.words[0].lower(), self.shape, refusal=reason)


def _compound(words: list[str]) -> bool:
    if words[0] == "CREATE":
        return bool(_COMPOUND.intersection(words[:16]))
    return words[:3] == ["BEGIN", "NOT", "ATOMIC"]


def _parts(shape: bytes, found: tuple[Token, ...]) -> tuple[bytes, ...]:
    parts, start, empty = [], 0, True
    for token in found:
        if token.upper == ";":
            if not empty:
                parts.append(shape[start : token.start])
            start, empty = token.end, True
        else:
            empty = False
    if not empty:
        parts.append(shape[start:])
    return tuple(parts)


def _sets_apply(found: tuple[Token, ...]) -> bool:
    for i, token in enumerate(found):
        if token.text.lower() == "movetables_apply" and i and found[i - 1].upper == "@":
            return True
        # a quoted user variable: its name is a literal, which we do not look into; 'user'@'host' is none
        if (
            token.kind is Kind.LITERAL
            and i
            and found[i - 1].upper == "@"
            and (i < 2 or found[i - 2].kind is Kind.MARK or found[i - 2].upper in ("SET", "SELECT", "INTO"))
        ):
            return True
    return False


def _select(head: _Head) -> Statement:
    head.finder.block(0)
    words = head.words
    if words[head.i] == "WITH":
        verb = next((w for w in words if w in ("UPDATE", "DELETE")), "")
        if verb and not head.finder.locking:
            return head.statement(Verb.DATA, writes=True)
    into = "INTO" in words
    simple = [w for w in words if w != ";"]
    if simple in (["SELECT", "DATABASE", "(", ")"], ["SELECT", "SCHEMA", "(", ")"]):
        return head.statement(Verb.DATABASE)
    reads = not into and ":=" not in words and not head.finder.uses_last
    return head.statement(Verb.DATA, reads=reads)


def _insert(head: _Head) -> Statement:
    head.i += 1
    head.skip(_INSERT_MODIFIERS)
    i = head.finder.table(head.i) if head.finder.is_name(head.i) else head.i
    if head.word(i - head.i) == "(" and head.word(i - head.i + 1) not in ("SELECT", "WITH", "("):
        i = head.finder.block(i + 1) + 1
    head.finder.block(i)
    return head.statement(Verb.DATA, writes=True)


def _update(head: _Head) -> Statement:
    head.i += 1
    head.skip(_INSERT_MODIFIERS)
    head.finder.block(head.i, tables=True)
    return head.statement(Verb.DATA, writes=True)


def _delete(head: _Head) -> Statement:
    head.i += 1
    head.skip(_INSERT_MODIFIERS)
    i = head.finder.delete_targets(head.i)
    head.finder.block(i, delete=True)
    return head.statement(Verb.DATA, writes=True)


def _truncate(head: _Head) -> Statement:
    head.i += 1
    head.skip(("TABLE",))
    head.finder.table_list(head.i)
    return head.statement(Verb.DDL, writes=True)


def _create(head: _Head) -> Statement:
    finder, words = head.finder, head.words
    kinds = ("TABLE", "INDEX", "VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "SEQUENCE", "DATABASE", "SCHEMA")
    administrative = ("USER", "ROLE", "SERVER", "TABLESPACE", "LOGFILE")
    kind = ""
    while head.i < len(words) and not kind:
        if head.word() in administrative:
            return head.refused(f"{words[0]} {head.word()} is not supported by the gateway; {_DIRECT}")
        kind = head.word() if head.word() in kinds else ""
        head.i += 1
    if kind in ("DATABASE", "SCHEMA"):
        return head.refused(
            f"{words[0]} {kind} is not supported by the gateway; keyspaces are defined in the inventory"
        )
    if words[0] == "DROP" and kind in ("TABLE", "VIEW"):
        head.skip(("IF", "EXISTS"))
        finder.table_list(head.i)
    elif kind in ("INDEX", "TRIGGER") and "ON" in words[head.i :]:
        on = words.index("ON", head.i)
        i = finder.table(on + 1) if finder.is_name(on + 1) else on + 1
        if kind == "INDEX":
            finder.block(i)
        elif finder.is_name(head.i) and head.word(1) == ".":
            token = head.tokens[head.i]
            finder.columns.append(Name(token.text, "", (token.start, token.end)))
    elif kind in ("TABLE", "VIEW", "SEQUENCE"):
        head.skip(("IF", "NOT", "EXISTS"))
        i = finder.table(head.i) if finder.is_name(head.i) else head.i
        after = i + 1 if head.words[i : i + 1] == ["("] else i
        if words[after : after + 1] == ["LIKE"] and finder.is_name(after + 1):
            finder.table(after + 1)
        elif words[0] == "ALTER":
            _alterations(finder, words, i)
        else:
            finder.block(i)
    else:  # routines and events: they live in the session's keyspace; what is inside them is not routed
        head.skip(("IF", "NOT", "EXISTS"))
        if finder.is_name(head.i) and head.word(1) == ".":
            token = head.tokens[head.i]
            finder.columns.append(Name(token.text, "", (token.start, token.end)))
    return head.statement(Verb.DDL, writes=True)


def _alterations(finder: TableFinder, words: list[str], i: int) -> None:
    finder.block(i)
    for at in range(i, len(words) - 1):
        target = 0
        if words[at] == "RENAME" and words[at + 1] not in ("COLUMN", "INDEX", "KEY"):
            target = at + 2 if words[at + 1] in ("TO", "AS") else at + 1
        elif words[at : at + 2] == ["WITH", "TABLE"]:
            target = at + 2
        if target and finder.is_name(target):
            finder.table(target)


def _rename(head: _Head) -> Statement:
    if head.word(1) not in ("TABLE", "TABLES"):
        return head.refused(f"RENAME {head.word(1)} is not supported by the gateway; {_DIRECT}")
    i = head.i + 2
    if head.words[i : i + 2] == ["IF", "EXISTS"]:
        i += 2
    while head.finder.is_name(i):
        i = head.finder.table(i)
        if head.words[i : i + 1] not in (["TO"], [","]):
            break
        i += 1
    return head.statement(Verb.DDL, writes=True)


def _maintain(head: _Head) -> Statement:
    if head.word() == "ANALYZE" and head.word(1) not in ("TABLE", "NO_WRITE_TO_BINLOG", "LOCAL", "PERSISTENT"):
        return _explain(head)
    head.i += 1
    head.skip(("NO_WRITE_TO_BINLOG", "LOCAL", "TABLE", "TABLES"))
    head.finder.table_list(head.i)
    return head.statement(Verb.DDL, writes=head.words[0] in ("OPTIMIZE", "REPAIR"))


def _explain(head: _Head) -> Statement:
    i = head.i + 1
    while i < len(head.words) and head.words[i] in ("EXTENDED", "PARTITIONS", "FORMAT", "=", "JSON", "TRADITIONAL"):
        i += 1
    inner = _HEADS.get(head.words[i]) if i < len(head.words) else None
    if inner in (_select, _insert, _update, _delete):
        begin, head.i = head.words[head.i], i
        statement = inner(head)
        writes = statement.writes and begin == "ANALYZE"
        return head.statement(Verb.DATA, reads=not writes, writes=writes)
    if head.finder.is_name(i):
        head.finder.table(i)
    return head.statement(Verb.DATA, reads=True)


def _load(head: _Head) -> Statement:
    words = head.words
    for at in range(len(words) - 1):
        if words[at : at + 2] == ["INTO", "TABLE"] and head.finder.is_name(at + 2):
            head.finder.block(head.finder.table(at + 2))
            return head.statement(Verb.DATA, writes=True)
    return head.refused("LOAD is supported with INTO TABLE only")


def _show(head: _Head) -> Statement:
    words, finder, found = head.words, head.finder, head.tokens
    i = head.i + 1
    while words[i : i + 1] and words[i] in ("FULL", "EXTENDED", "GLOBAL", "SESSION", "LOCAL"):
        i += 1
    what = words[i] if i < len(words) else ""
    if what in _ADMIN_SHOWS:
        return head.statement(Verb.ADMIN, word=what.lower())
    if what in ("WARNINGS", "ERRORS") or words[i : i + 4] == ["COUNT", "(", "*", ")"]:
        return head.statement(Verb.LAST, reads=True)
    if what == "CREATE":
        if words[i + 1 : i + 2] and words[i + 1] in ("TABLE", "VIEW", "SEQUENCE") and finder.is_name(i + 2):
            finder.table(i + 2)
            return head.statement(Verb.DATA, reads=True)
        i += 1 + (words[i + 2 : i + 4] == ["IF", "NOT"]) * 3
        return head.statement(Verb.DATA, reads=True, schemas=_schema(head, i + 1))
    froms = [at for at in range(i, len(words)) if words[at] in ("FROM", "IN") and finder.is_name(at + 1)]
    if what in ("COLUMNS", "FIELDS", "INDEX", "INDEXES", "KEYS") and froms:
        at = froms[0] + 1
        finder.table(at)
        if len(froms) > 1 and words[at + 1 : at + 2] != ["."]:
            schema, table = found[froms[1] + 1], finder.refs.pop()
            finder.refs.append(Name(schema.text, table.table, (schema.start, schema.end), table.table_span))
        return head.statement(Verb.DATA, reads=True)
    schemas = _schema(head, froms[0] + 1) if froms and what in ("TABLES", "TABLE", "TRIGGERS", "OPEN", "EVENTS") else ()
    if what == "BINLOG":
        schemas = ()
    return head.statement(Verb.DATA, reads=True, schemas=schemas)


def _schema(head: _Head, i: int) -> tuple[Name, ...]:
    if not head.finder.is_name(i):
        return ()
    token = head.tokens[i]
    return (Name(token.text, "", (token.start, token.end)),)


def _set(head: _Head) -> Statement:
    words = head.words
    first = head.word(1)
    if first in ("PASSWORD", "ROLE", "DEFAULT") and head.word(2) != "=":
        return head.refused(f"SET {first} is not supported by the gateway; {_DIRECT}")
    if "GLOBAL" in words or "PERSIST" in words:
        return head.refused(f"SET GLOBAL is not supported by the gateway; {_DIRECT}")
    if first == "STATEMENT" and "FOR" in words:
        head.i = words.index("FOR") + 1
        if head.i < len(words) and words[head.i] in _HEADS:
            return _HEADS[words[head.i]](head)
    if first == "TRANSACTION":
        return head.statement(Verb.SET_TRANSACTION)
    head.finder.block(head.i + 1)
    return head.statement(Verb.SET)


def _begin(head: _Head) -> Statement:
    if head.words[:3] == ["BEGIN", "NOT", "ATOMIC"]:
        return head.statement(Verb.DATA, writes=True)
    if head.word() == "START" and head.word(1) != "TRANSACTION":
        return head.refused(f"START {head.word(1)} is not supported by the gateway; {_DIRECT}")
    return head.statement(Verb.BEGIN)


def _simple(verb: Verb) -> Callable[[_Head], Statement]:
    return lambda head: head.statement(verb)


def _rollback(head: _Head) -> Statement:
    return head.statement(Verb.SAVEPOINT if "TO" in head.words else Verb.ROLLBACK)


def _refuse(reason: str) -> Callable[[_Head], Statement]:
    return lambda head: head.refused(f"{head.word()} is not supported by the gateway; {reason}")


def _unlock(head: _Head) -> Statement:
    return head.statement(Verb.NOTHING)


def _other(head: _Head) -> Statement:
    if head.words[0] in _SERVER_ADMIN:
        return _refuse(_DIRECT)(head)
    head.finder.block(head.i)
    return head.statement(Verb.DATA, writes=head.words[0] not in ("DO", "HELP", "VALUES"))


_HEADS: dict[str, Callable[[_Head], Statement]] = {
    "SELECT": _select,
    "WITH": _select,
    "VALUES": _select,
    "INSERT": _insert,
    "REPLACE": _insert,
    "UPDATE": _update,
    "DELETE": _delete,
    "TRUNCATE": _truncate,
    "CREATE": _create,
    "ALTER": _create,
    "DROP": _create,
    "RENAME": _rename,
    "ANALYZE": _maintain,
    "OPTIMIZE": _maintain,
    "CHECK": _maintain,
    "REPAIR": _maintain,
    "CHECKSUM": _maintain,
    "EXPLAIN": _explain,
    "DESCRIBE": _explain,
    "DESC": _explain,
    "LOAD": _load,
    "SHOW": _show,
    "SET": _set,
    "BEGIN": _begin,
    "START": _begin,
    "COMMIT": _simple(Verb.COMMIT),
    "ROLLBACK": _rollback,
    "SAVEPOINT": _simple(Verb.SAVEPOINT),
    "RELEASE": _simple(Verb.SAVEPOINT),
    "USE": _simple(Verb.USE),
    "KILL": _simple(Verb.KILL),
    "UNLOCK": _unlock,
    "LOCK": _refuse("use transactions, or mysqldump --skip-add-locks"),
    "HANDLER": _refuse("use SELECT"),
    "PREPARE": _refuse("use prepared statements of the protocol"),
    "EXECUTE": _refuse("use prepared statements of the protocol"),
    "DEALLOCATE": _refuse("use prepared statements of the protocol"),
    "XA": _refuse("use transactions"),
}
