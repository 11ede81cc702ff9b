"""From the nodes of an inventory to an `Inventory`, with the checks that a schema cannot make."""

from __future__ import annotations

import os.path
from ipaddress import ip_address
from pathlib import Path

from planner.cluster import TabletType
from planner.diagnostic import Mark, Report, did_you_mean, shown
from planner.inventory import (
    Credentials,
    GatewayListener,
    Inventory,
    InventoryKeyspace,
    InventoryTablet,
    SecretRef,
    ServerAddress,
)
from planner.nodes import MappingNode
from planner.variables import read_vars

LOOPBACK = "127.0.0.1"
MAX_UID = 2**32 - 1  # Vitess keeps it in a uint32, and so does server_id
RESERVED_DATABASES = frozenset({"information_schema", "mysql", "performance_schema", "sys", "_movetables", "_vt"})


def build_inventory(root: MappingNode, file: str, base_dir: Path, report: Report) -> Inventory:
    """The inventory in `root`; what is wrong goes to `report`, and then the result is not to be used."""
    return _Builder(root, base_dir, report).build(file)


class _Builder:
    def __init__(self, root: MappingNode, base_dir: Path, report: Report) -> None:
        self._root = root
        self._base_dir = base_dir
        self._report = report
        self._default = self._credentials(root.child("credentials"))
        self._flavor = root.text("server")
        self._ports: dict[tuple[str, int], tuple[str, Mark]] = {}

    def build(self, file: str) -> Inventory:
        name = self._root.text("name")
        data_dir = self._root.text("data_dir") or f"./data/{name}"
        gateway = self._gateway(self._root.child("gateway"))
        topology = self._topology(self._root.child("topology"))
        keyspaces = tuple(sorted(self._keyspaces()))
        return Inventory(
            name=name,
            file=file,
            cell=self._root.text("cell", "zone1"),
            data_dir=Path(os.path.normpath(self._base_dir / data_dir)),
            topology=topology,
            gateway=gateway,
            keyspaces=keyspaces,
            tablets=tuple(sorted(self._tablets([k.name for k in keyspaces]))),
            vars=tuple(sorted(read_vars(self._root.child("vars"), self._report).items())),
        )

    def _credentials(self, node: MappingNode) -> Credentials | None:
        password = node.child("password")
        if "password" in node.entries and "user" not in node.entries:
            self._report.add(node.keys["password"], "missing-key", "a password without a user", "add the key 'user'")
        if "user" not in node.entries:
            return None
        return Credentials(node.text("user"), self._secret(password) if "password" in node.entries else None)

    def _secret(self, node: MappingNode) -> SecretRef:
        path = node.text("file")
        return SecretRef(env=node.text("env"), file=os.path.normpath(self._base_dir / path) if path else "")

    def _gateway(self, node: MappingNode) -> GatewayListener:
        host, port = node.text("host", LOOPBACK), int(node.number("port", 0))
        users = tuple(
            Credentials(name, self._secret(user.child("password")))
            for name, _, user in sorted(node.child("users").children(), key=lambda entry: entry[0])
        )
        if not users and not _is_loopback(host):
            self._report.add(
                node.value_mark("host"),
                "open-gateway",
                f"the gateway would listen on {host} for anybody; without users it may listen on {LOOPBACK} only",
                "add users: {NAME: {password: {env: VARIABLE}}} to the gateway",
            )
        self._claim("the gateway", host, port, node.value_mark("port"))
        return GatewayListener(host, port, users)

    def _topology(self, node: MappingNode) -> ServerAddress:
        return self._server("topology", node, node.mark)

    def _server(self, what: str, node: MappingNode, mark: Mark) -> ServerAddress:
        managed = "managed" in node.entries
        host, port = node.text("host", LOOPBACK), int(node.number("port", 0))
        own = self._credentials(node)
        if managed and own:
            self._report.add(
                node.keys["user"],
                "managed-credentials",
                f"{what} is managed: local, so its credentials are made by us",
                "remove user and password, or remove managed",
            )
        if managed and not _is_loopback(host):
            self._report.add(
                node.value_mark("host"),
                "managed-not-local",
                f"{what} is managed: local, but {host} is not this machine",
                f"use host: {LOOPBACK}, or remove managed if the server already runs",
            )
        if not managed and node.entries:
            if "host" not in node.entries:
                self._report.add(mark, "missing-key", f"{what} lacks the key 'host'", "add host, or managed: local")
            if not own and not self._default:
                self._report.add(
                    mark,
                    "missing-credentials",
                    f"{what} is a server that already runs, and nothing says who to sign in as",
                    "add user and password here or under credentials, or managed: local",
                )
        self._claim(what, host, port, node.value_mark("port"))
        if "server" in node.entries and not managed:
            self._report.add(
                node.keys["server"],
                "server-of-others",
                f"{what} is not managed: local, so which server it is is not ours to choose",
                "remove server, or add managed: local",
            )
        flavor = (node.text("server") or self._flavor) if managed else ""
        return ServerAddress(host, port, None if managed else own or self._default, managed, flavor)

    def _claim(self, what: str, host: str, port: int, mark: Mark) -> None:
        if not port:
            return
        key = (LOOPBACK if _is_loopback(host) else host.lower(), port)
        other, place = self._ports.setdefault(key, (what, mark))
        if place != mark:
            self._report.add(
                max(mark, place),
                "address-taken",
                f"{what} and {other} both have the address {host}:{port}",
                f"the other is on line {min(mark, place).line}; give one of them another port",
            )

    def _keyspaces(self) -> list[InventoryKeyspace]:
        found = []
        for name, _, node in self._root.child("keyspaces").children():
            database = node.text("database") or f"vt_{name}"
            if database.lower() in RESERVED_DATABASES:
                self._report.add(
                    node.value_mark("database"),
                    "reserved-database",
                    f"database {shown(database)} is not for tables of users",
                )
            found.append(InventoryKeyspace(name, database))
        return found

    def _tablets(self, keyspaces: list[str]) -> list[InventoryTablet]:
        found = []
        primaries: dict[str, tuple[str, Mark]] = {}
        for alias, mark, node in self._root.child("tablets").children():
            keyspace = node.text("keyspace")
            self._check_uid(alias, mark)
            if keyspace and keyspace not in keyspaces:
                self._report.add(
                    node.value_mark("keyspace"),
                    "unknown-keyspace",
                    f"keyspace {shown(keyspace)} is not in this inventory",
                    did_you_mean(keyspace, keyspaces, "keyspaces") or "add it under keyspaces",
                )
            server = self._server(f"tablet {alias}", node, mark)
            word = node.text("type").upper()
            tablet_type = TabletType(word) if word in set(TabletType) else TabletType.REPLICA
            if node.text("type") == "primary":
                self._check_primary(alias, keyspace, node, primaries)
            found.append(InventoryTablet(alias, keyspace, tablet_type, server))
        return found

    def _check_uid(self, alias: str, mark: Mark) -> None:
        uid = alias.rpartition("-")[2]
        if len(uid) == 10 and uid.isascii() and uid.isdigit() and not 1 <= int(uid) <= MAX_UID:
            self._report.add(mark, "bad-name", f"{shown(alias)}: the number of an alias is 1 to {MAX_UID}")

    def _check_primary(
        self, alias: str, keyspace: str, node: MappingNode, primaries: dict[str, tuple[str, Mark]]
    ) -> None:
        mark = node.value_mark("type")
        if "managed" in node.entries:
            self._report.add(
                mark,
                "managed-primary",
                f"tablet {alias} is managed: local, and the primary of those is chosen by promotion",
                "write type: replica",
            )
            return
        other, place = primaries.setdefault(keyspace, (alias, mark))
        if other != alias:
            self._report.add(
                mark,
                "two-primaries",
                f"keyspace {shown(keyspace)} has two primaries, {other} on line {place.line} and {alias}",
                "write type: replica for one of them",
            )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name, not an address
        return host.lower() == "localhost"
