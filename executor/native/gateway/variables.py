"""Session variables: every SET that worked is remembered, and run again on connections that are made later.

Limits: an expression is evaluated anew on each connection; a variable set inside SELECT (``@x := ...``, ``INTO @x``) is
known only to the connection it ran on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from executor.native.gateway.errors import not_supported

_AUTOCOMMIT = re.compile(rb"(?:^|[\s,.]|@@)`?autocommit`?\s*:?=\s*(?:'|\")?(\w+)", re.IGNORECASE)
_MODE = re.compile(
    rb"sql_mode`?\s*:?=[^;]*(ANSI|NO_BACKSLASH_ESCAPES|DB2|MAXDB|MSSQL|ORACLE|POSTGRESQL)", re.IGNORECASE
)
_UNSAFE = re.compile(
    rb"(?:names|character\s+set|charset|character_set_client`?\s*:?=)\s*['\"]?(gbk|sjis|big5|cp932|gb2312|gb18030|eucjpms)",
    re.IGNORECASE,
)
_SCOPE = re.compile(rb"^(?:@@)?(?:session|local)(?:\s*\.\s*|\s+)|^@@", re.IGNORECASE)


@dataclass(frozen=True)
class _Setting:
    version: int
    name: bytes
    sql: bytes
    constant: bool


class Variables:
    """The SET statements of one session, in order. `version` rises with each; 0 means none."""

    def __init__(self) -> None:
        self.version = 0
        self._settings: list[_Setting] = []

    def record(self, sql: bytes) -> None:
        """Remembers a SET statement that a server accepted."""
        self.version += 1
        body = sql.strip().rstrip(b";").strip()
        body = body[3:].strip() if body[:3].lower() == b"set" else body
        name, _, value = body.partition(b"=")
        name = _SCOPE.sub(b"", name.rstrip(b": \t\n")).strip(b"` \t\n").lower()
        if name.startswith((b"names", b"character set", b"charset")):
            name, value = b"names", b""
        setting = _Setting(self.version, name, sql, not re.search(rb"[@(]", value) and b"," not in body)
        kept = self._settings
        if setting.constant:
            for at in range(len(kept) - 1, -1, -1):
                if not kept[at].constant:
                    break  # what follows may have used the old value
                if kept[at].name == name:
                    del kept[at]
                    break
        kept.append(setting)

    def since(self, version: int) -> list[bytes]:
        """The statements that a connection which has replayed up to `version` still needs."""
        return [setting.sql for setting in self._settings if setting.version > version]

    def clear(self) -> None:
        """Forgets everything, as COM_RESET_CONNECTION does; connections must be made anew."""
        self.version = 0
        self._settings = []


def autocommit_in(sql: bytes) -> bool | None:
    """What a SET statement sets autocommit to, None when it does not."""
    match = _AUTOCOMMIT.search(sql)
    if match is None:
        return None
    return match.group(1).lower() in (b"1", b"on", b"true", b"default")


def refuse_unsafe(sql: bytes) -> None:
    """Raises GatewayError for settings under which quotes could not be told from text."""
    match = _MODE.search(sql)
    if match is not None:
        raise not_supported(
            f"sql_mode {match.group(1).decode()} is not supported by the gateway: "
            "it changes what quotes and backslashes mean"
        )
    match = _UNSAFE.search(sql)
    if match is not None:
        raise not_supported(f"character set {match.group(1).decode()} is not supported by the gateway; use utf8mb4")
