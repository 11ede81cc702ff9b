r"""Splits a statement into its shape and its literals, and a shape into tokens; on bytes, whatever the charset.

The shape is the statement with every run of literals replaced by one NUL byte: ``1,'a'),(2,NULL`` is a single run, so
an INSERT of many rows has the shape of an INSERT of one. Statements of one shape mean the same to a gateway, which
makes the shape the key that analysis is cached by, and the literals go through untouched.

Our own scanner instead of a parsing library's: it works on bytes, sees into executable comments (``/*!40101 ... */``)
as the server does, and costs 2 microseconds for a point select. Charsets whose characters may contain a quote or
backslash byte (gbk, sjis, big5) are refused when a client signs in or sets them. Double quotes are strings: sql_mode
ANSI_QUOTES and NO_BACKSLASH_ESCAPES are refused too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

# A group that is repeated possessively is atomic itself, (?>...)*+ and not (?:...)*+: before 3.11.5, Python loses its
# place where something inside the group could be tried again. An atomic group around a plain repetition
# would do as well, but takes a hundred bytes of memory for each byte of a long INSERT.
_STRING = rb"(?:'[^'\\]*+(?>(?:\\.|'')[^'\\]*+)*+'|\"[^\"\\]*+(?>(?:\\.|\"\")[^\"\\]*+)*+\")"
_NUMBER = rb"(?:0[xX][0-9a-fA-F]++|[0-9]++(?>\.[0-9]*+)?+(?>[eE][+-]?[0-9]++)?+)(?![A-Za-z_$\x80-\xff0-9.])"
_LITERAL = rb"(?:" + _NUMBER + rb"|" + _STRING + rb")"
_NEXT = (
    rb"(?:[-+]?(?:[nNxXbB]|_[A-Za-z0-9]++\s*+)?" + _LITERAL + rb"|(?:NULL|DEFAULT|null|default)(?![\w$\x80-\xff(.]))"
)
_RUN = _LITERAL + rb"(?>\s*+(?:,|\)\s*+,\s*+\()\s*+" + _NEXT + rb")*+"
_COMMENT = rb"/\*(?!M?!).*?\*/|\#[^\n]*+|--(?=[\x01-\x20]|\Z)[^\n]*+"
_WORD = rb"(?!" + _NUMBER + rb")[0-9A-Za-z_$\x80-\xff]++"
_OTHER = rb"[^'\"`0-9A-Za-z_$\x80-\xff/\#-]++"

_PIECES = re.compile(
    rb"((?>" + _OTHER + rb"|" + _WORD + rb"|`[^`]*+`|" + _COMMENT + rb"|[/-])*+)(" + _RUN + rb")?", re.DOTALL
)


class UnclosedLiteral(ValueError):
    """A quote, backquote or comment is opened and not closed; the server is to report it."""


def split(text: bytes) -> tuple[bytes, list[bytes]]:
    """The shape of `text`, and its literal runs in order.

    Raises UnclosedLiteral when a quote is left open, or a NUL byte stands outside of literals.
    """
    shape, literals, covered = [], [], 0
    for prefix, run in _PIECES.findall(text):
        covered += len(prefix) + len(run)
        shape.append(prefix)
        if run:
            literals.append(run)
    if covered != len(text):
        raise UnclosedLiteral
    if len(shape) > len(literals) + 1:  # the empty match at the end
        shape = _merged(shape, len(literals))
    joined = b"\0".join(shape)
    if joined.count(b"\0") != len(literals):
        raise UnclosedLiteral
    return joined, literals


def _merged(shape: list[bytes], literals: int) -> list[bytes]:
    return [*shape[:literals], b"".join(shape[literals:])]


def join(shape: bytes, literals: list[bytes]) -> bytes:
    """The statement that `split` took apart; `shape` may have been rewritten between its NUL bytes."""
    parts = shape.split(b"\0")
    out = [parts[0]]
    for part, literal in zip(parts[1:], literals, strict=True):
        out += (literal, part)
    return b"".join(out)


class Kind(IntEnum):
    """What a token is. WORD is a bare word: a keyword or an unquoted name."""

    WORD = 0
    QUOTED = 1
    LITERAL = 2
    MARK = 3


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a shape. `text` is the name without its quotes; `upper` is for comparing keywords, "" if quoted."""

    kind: Kind
    text: str
    upper: str
    start: int
    end: int


_TOKENS = re.compile(
    rb"\s++|(?P<comment>" + _COMMENT + rb")|(?P<open>/\*M?!\x00?)|(?P<close>\*/)"
    rb"|(?P<literal>\x00)|(?P<word>[0-9A-Za-z_$\x80-\xff]++)|(?P<quoted>`(?>[^`]|``)*+`)|(?P<mark>:=|.)",
    re.DOTALL,
)


def tokens(shape: bytes) -> tuple[Token, ...]:
    """The tokens of a shape. Names are decoded as UTF-8, or as latin1 where that fails."""
    found = []
    for match in _TOKENS.finditer(shape):
        group = match.lastgroup
        if group in (None, "comment", "open", "close"):
            continue
        text = _decoded(match.group())
        start, end = match.span()
        if group == "word":
            found.append(Token(Kind.WORD, text, text.upper(), start, end))
        elif group == "quoted":
            found.append(Token(Kind.QUOTED, text[1:-1].replace("``", "`"), "", start, end))
        elif group == "literal":
            found.append(Token(Kind.LITERAL, "", "", start, end))
        else:
            found.append(Token(Kind.MARK, text, text, start, end))
    return tuple(found)


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin1")
