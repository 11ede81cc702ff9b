"""Why steps refuse: the stable codes, and the checks of keyspaces and their servers.

Codes of MT7xx are verification failures: the command line exits 7 for them, and 4 for all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from planner.cluster import Cluster, Server, Tablet
from planner.step import Refusal

CODES: Mapping[str, str] = {
    "MT101": "a keyspace is unknown to the cluster",
    "MT102": "a tablet is unknown to the inventory",
    "MT103": "a keyspace has no PRIMARY",
    "MT104": "a server does not answer",
    "MT105": "a server is of a version that is not supported",
    "MT106": "a keyspace would get a second PRIMARY",
    "MT107": "a keyspace to be deleted is still in use",
    "MT108": "a tablet to be removed is a PRIMARY in use",
    "MT109": "an initial schema file cannot be read",
    "MT201": "a table to move does not exist in the source keyspace",
    "MT203": "a column is of a type that cannot be moved yet",
    "MT204": "a table is not kept by InnoDB",
    "MT205": "a table is already part of another workflow",
    "MT206": "a foreign key crosses the boundary of the move",
    "MT207": "a table of that name already exists in the target",
    "MT208": "no tables to move",
    "MT209": "an interrupted command left fences behind",
    "MT210": "a table to move has triggers",
    "MT211": "source and target are of two kinds, MariaDB and MySQL, and a column has no exact counterpart",
    "MT212": "a foreign key changes rows that a server does not log",
    "MT213": "a table's name would be taken for another one's in routing rules",
    "MT214": "the target demands a primary key that a table lacks",
    "MT215": "a table is of a kind that cannot be moved",
    "MT216": "a table's name is too long for being renamed in the end",
    "MT301": "the binary log is off",
    "MT302": "binlog_format is not ROW",
    "MT303": "binlog_row_image is not FULL",
    "MT304": "binlog_row_metadata is not FULL",
    "MT305": "binlog_order_commits is off",
    "MT306": "GTIDs are off",
    "MT307": "our user lacks privileges",
    "MT308": "a PRIMARY is read-only",
    "MT309": "the target has not enough free disk space",
    "MT310": "a server does not tell names of tables apart by upper and lower case",
    "MT311": "rows of one side may be larger than the other side takes",
    "MT401": "a workflow of that name moves something else",
    "MT402": "the replication lag is too high to switch",
    "MT403": "the copy is still in progress",
    "MT404": "the workflow has errors",
    "MT405": "the workflow is frozen",
    "MT406": "the workflow is not running",
    "MT407": "writes are switched, so the workflow cannot be cancelled",
    "MT408": "not all traffic is switched, so the workflow cannot be completed",
    "MT409": "the move has been completed and cannot go back",
    "MT410": "there is no reverse workflow, so writes cannot be reversed",
    "MT411": "the workflow does not exist",
    "MT412": "a cutover of the workflow is unfinished",
    "MT701": "VDiff found differences",
    "MT702": "there is no fresh, clean VDiff",
}
"""Every refusal code and what it stands for; documentation lists this table."""

MINIMUM = {"mariadb": (10, 6), "mysql": (8, 4)}
"""The oldest version of each server. MySQL 8.0 gets no more fixes; 8.4 is the oldest that its makers keep up."""


def refuse(code: str, found: str, expected: str, hint: str) -> Refusal:
    """A `Refusal` of a known code. Raises KeyError for a code that is not in `CODES`."""
    if code not in CODES:
        raise KeyError(code)
    return Refusal(code, found, expected, hint)


def is_verification(refusal: Refusal) -> bool:
    """True for a refusal that is a failed verification, which has an exit code of its own."""
    return refusal.code.startswith("MT7")


def where(tablet: Tablet) -> str:
    """``zone1-0000000100 (127.0.0.1:17100)``."""
    return f"{tablet.alias} ({tablet.host}:{tablet.port})"


def answers(tablet: Tablet) -> bool:
    """True when the server of `tablet` could be asked."""
    return tablet.running and not (tablet.server is not None and tablet.server.error)


def tablet_answers(tablet: Tablet) -> tuple[Refusal, ...]:
    """Refuses a tablet whose server does not answer, or is not one that we can work with."""
    if not answers(tablet):
        error = tablet.server.error if tablet.server is not None else ""
        hint = "start it with: movetables local up" if tablet.managed else "start it, or correct it in the inventory"
        return (
            refuse("MT104", f"{where(tablet)} does not answer" + (f": {error}" if error else ""), "a server", hint),
        )
    return flavor(tablet)


def flavor(tablet: Tablet) -> tuple[Refusal, ...]:
    """Refuses what is older than `MINIMUM`. A flavor that is not known (empty) is not judged."""
    server = tablet.server
    if server is None or not server.flavor:
        return ()
    minimum = MINIMUM[server.flavor.lower()]
    if version(server.version) and version(server.version) < minimum:
        found = f"{where(tablet)} is {server.flavor} {server.version}"
        expected = f"{server.flavor} {'.'.join(map(str, minimum))} or later"
        return (refuse("MT105", found, expected, "upgrade the server"),)
    return ()


def version(text: str) -> tuple[int, ...]:
    """``(10, 11)`` of ``10.11.6-MariaDB-log``; empty when the text does not start with two numbers."""
    parts = text.split("-")[0].split(".")[:2]
    return tuple(int(part) for part in parts) if len(parts) == 2 and all(part.isdigit() for part in parts) else ()


def primary_answers(cluster: Cluster, keyspaces: Iterable[str]) -> tuple[Refusal, ...]:
    """Refuses keyspaces that are unknown, have no PRIMARY, or have one that does not answer."""
    found: list[Refusal] = []
    for name in keyspaces:
        keyspace = cluster.keyspace(name)
        primary = cluster.primary(name)
        hint = f"list it with its tablets under keyspaces: in the plan file, as in  {name}: {{tablets: [...]}}"
        if keyspace is None:
            hint = f"define {name} and its tablets in the inventory"
            found.append(refuse("MT101", f"keyspace {name} is not in the cluster", "a known keyspace", hint))
        elif primary is None:
            found.append(refuse("MT103", f"keyspace {name}/0 doesn't have a primary set", "a PRIMARY tablet", hint))
        else:
            found.extend(tablet_answers(primary))
    return tuple(found)


def _setting(tablet: Tablet, code: str, name: str, found: str, expected: str) -> Refusal:
    return refuse(
        code,
        f"{name} is {found or 'empty'} on {where(tablet)}",
        expected,
        f"on that server: SET GLOBAL {name} = '{expected}'; and the same in its configuration file; "
        "then reconnect the applications, because open sessions keep the old value",
    )


def binlog(tablet: Tablet) -> tuple[Refusal, ...]:
    """Refuses a server whose binary log cannot feed a stream."""
    server = tablet.server
    if server is None or server.error:
        return ()
    if not server.log_bin:
        hint = "add log_bin to its configuration file and restart the server; it cannot be set while running"
        return (refuse("MT301", f"the binary log is off on {where(tablet)}", "log_bin = ON", hint),)
    found = []
    if server.binlog_format.upper() != "ROW":
        found.append(_setting(tablet, "MT302", "binlog_format", server.binlog_format, "ROW"))
    if server.binlog_row_image.upper() != "FULL":
        found.append(_setting(tablet, "MT303", "binlog_row_image", server.binlog_row_image, "FULL"))
    if server.binlog_row_metadata.upper() != "FULL":
        found.append(_setting(tablet, "MT304", "binlog_row_metadata", server.binlog_row_metadata, "FULL"))
    if not server.binlog_order_commits:
        found.append(_setting(tablet, "MT305", "binlog_order_commits", "OFF", "ON"))
    if not server.gtid:
        found.append(_setting(tablet, "MT306", "gtid_mode", "OFF", "ON"))
    return tuple(found)


def writable(tablet: Tablet) -> tuple[Refusal, ...]:
    """Refuses a PRIMARY that is read-only, or on which our user lacks privileges."""
    server = tablet.server
    if server is None or server.error:
        return ()
    found = []
    if server.read_only:
        hint = "on that server: SET GLOBAL read_only = 0; unless another server is the real primary"
        found.append(refuse("MT308", f"PRIMARY {where(tablet)} is read-only", "read_only = 0", hint))
    found.extend(_privileges(tablet, server))
    return tuple(found)


def names(tablet: Tablet) -> tuple[Refusal, ...]:
    """Refuses a server whose names of tables are not what clients write: rules would not be found by them."""
    server = tablet.server
    if server is None or server.error or not server.lower_case_table_names:
        return ()
    found = f"lower_case_table_names is {server.lower_case_table_names} on {where(tablet)}"
    hint = "it is chosen when a server's data folder is made: use a server that was made with 0"
    return (refuse("MT310", found, "0: a client's `Orders` would pass by the routing rules of `orders`", hint),)


def packets(reader: Tablet, writer: Tablet) -> tuple[Refusal, ...]:
    """Refuses a server `writer` that cannot take the largest rows that clients may have written to `reader`."""
    here, there = reader.server, writer.server
    if here is None or there is None or here.error or there.error or there.local_infile:
        return ()  # with local_infile, large values are handed over in pieces
    if not 0 < there.max_allowed_packet < here.max_allowed_packet:
        return ()
    return (
        refuse(
            "MT311",
            f"max_allowed_packet is {there.max_allowed_packet} on {where(writer)} and {here.max_allowed_packet} on "
            f"{where(reader)}, whose rows it is to take; and its local_infile is off",
            f"max_allowed_packet = {here.max_allowed_packet}, or local_infile = ON: large values then come in pieces",
            f"on {where(writer)}: SET GLOBAL local_infile = 1, or SET GLOBAL max_allowed_packet = "
            f"{here.max_allowed_packet}; and the same in its configuration file",
        ),
    )


def _privileges(tablet: Tablet, server: Server) -> Iterable[Refusal]:
    if server.missing_privileges:
        names = ", ".join(server.missing_privileges)
        user = f"'<user of {tablet.alias} in the inventory>'@'%'"
        grants = " ".join(f"GRANT {what} ON {level} TO {user};" for level, what in _by_level(server.missing_privileges))
        yield refuse(
            "MT307",
            f"our user lacks {names} on {where(tablet)}",
            "a user that may do it",
            f"as an administrator of that server: {grants}",
        )


def _by_level(missing: Iterable[str]) -> Iterable[tuple[str, str]]:
    """``(level, privileges)`` of texts like ``ALTER ON `vt_customer`.*``; what is said after the level is left out."""
    levels: dict[str, list[str]] = {}
    for text in missing:
        privilege, _, where = text.partition(" ON ")
        levels.setdefault(where.partition(" (")[0] or "*.*", []).append(privilege)
    return ((level, ", ".join(names)) for level, names in levels.items())
