"""What our user may do on a server, against what a move needs."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable

from executor.native.servers import Connection

ON_DATABASE = ("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "INDEX", "TRIGGER", "LOCK TABLES")
SIDECAR = ("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP")
ALL_GLOBAL = ("REPLICATION SLAVE", "REPLICATION CLIENT", "XA_RECOVER_ADMIN", "BINLOG MONITOR", "SLAVE MONITOR")
OLD_NAMES = {
    "REPLICATION CLIENT": "BINLOG MONITOR",
    "REPLICATION REPLICA": "REPLICATION SLAVE",
    "REPLICA MONITOR": "SLAVE MONITOR",
}

_GRANT = re.compile(
    r"(?P<verb>GRANT|REVOKE) (?P<what>.+?) ON (?P<where>(?:`(?:[^`]|``)*`|\*)\.(?:`(?:[^`]|``)*`|\*)) (?:TO|FROM) ",
    re.IGNORECASE,
)


def missing_privileges(connection: Connection, database: str) -> tuple[str, ...]:
    """What our user lacks on this server to move tables from or to `database`, as ``PRIVILEGE ON level``."""
    texts = [str(next(iter(row.values()))) for row in connection.query("SHOW GRANTS")]
    missing = missing_from_grants(texts, database, connection.flavor.replication_privileges)
    if "SUPER" not in held_globally(texts) and connection.value("SELECT @@global.log_bin_trust_function_creators") != 1:
        # MariaDB and MySQL ask for it when a trigger is created on a server with a binary log.
        missing += ("SUPER ON *.* (or SET GLOBAL log_bin_trust_function_creators=1)",)
    return missing


def missing_from_grants(grants: list[str], database: str, replication: tuple[str, ...]) -> tuple[str, ...]:
    """What `grants`, the lines of SHOW GRANTS, lack for moving tables of `database`.

    `replication` are the privileges that must be held on everything.
    """
    everywhere = held_globally(grants)
    missing = [f"{name} ON *.*" for name in replication if name not in everywhere]
    for schema, needed in ((database, ON_DATABASE), ("_movetables", SIDECAR)):
        held = (everywhere - _revoked_on(grants, schema)) | _held_on(grants, schema)
        missing += [f"{name} ON `{schema}`.*" for name in needed if name not in held]
    return tuple(missing)


def held_globally(grants: list[str]) -> set[str]:
    """The privileges held on everything; ALL PRIVILEGES is spelled out, SUPER included."""
    return _held(grants, lambda where: where == "*.*")


def _revoked_on(grants: list[str], database: str) -> set[str]:
    """MySQL's partial revokes: what is held everywhere but there."""
    return _held(grants, _of_database(database), "REVOKE")


def _held_on(grants: list[str], database: str) -> set[str]:
    return _held(grants, _of_database(database))


def _of_database(database: str) -> Callable[[str], bool]:
    def matches(where: str) -> bool:
        schema, _, table = where.rpartition(".")
        if table != "*" or schema == "*":
            return False
        pattern = schema.strip("`").replace("``", "`")
        # In a GRANT, _ and % are wildcards unless escaped.
        glob = re.sub(r"\\([_%])|([_%])|([*?\[])", _as_glob, pattern)
        return fnmatch.fnmatchcase(database, glob)

    return matches


def _as_glob(match: re.Match[str]) -> str:
    escaped, wildcard, special = match.groups()
    if escaped:
        return str(escaped)
    if wildcard:
        return "?" if wildcard == "_" else "*"
    return f"[{special}]"


def _held(grants: list[str], applies: Callable[[str], bool], verb: str = "GRANT") -> set[str]:
    held: set[str] = set()
    for text in grants:
        match = _GRANT.match(text)
        if match and match["verb"].upper() == verb and applies(match["where"]):
            names = {part.strip().upper() for part in re.sub(r"\([^)]*\)", "", match["what"]).split(",")}
            if names & {"ALL PRIVILEGES", "ALL"}:
                names |= {*ALL_GLOBAL, *ON_DATABASE, *SIDECAR, "SUPER"}
            held |= names | {OLD_NAMES[name] for name in names if name in OLD_NAMES}
    return held
