"""Signing in the clients of the gateway.

The greeting offers mysql_native_password, which every client has or replaces by its own method; a client that answers
with caching_sha2_password is verified with it, since the gateway knows the passwords. Anything else is asked to switch
to mysql_native_password. Without configured users anybody may sign in (the gateway then listens on loopback only).

The server version is that of the servers behind it, MariaDB's or MySQL's: clients choose SQL features by it.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from executor.native.gateway import auth, packets
from executor.native.gateway.errors import ER_ACCESS_DENIED, ER_PARSE, ClientGone, GatewayError
from executor.native.gateway.packets import read_lenenc_bytes, read_nul
from executor.native.gateway.stream import PacketStream

VERSION_SUFFIX = "-movetables"
UTF8MB4 = 45

OFFERED = (
    packets.CLIENT_LONG_PASSWORD
    | packets.CLIENT_FOUND_ROWS
    | packets.CLIENT_LONG_FLAG
    | packets.CLIENT_CONNECT_WITH_DB
    | packets.CLIENT_LOCAL_FILES
    | packets.CLIENT_IGNORE_SPACE
    | packets.CLIENT_PROTOCOL_41
    | packets.CLIENT_INTERACTIVE
    | packets.CLIENT_TRANSACTIONS
    | packets.CLIENT_SECURE_CONNECTION
    | packets.CLIENT_MULTI_STATEMENTS
    | packets.CLIENT_MULTI_RESULTS
    | packets.CLIENT_PS_MULTI_RESULTS
    | packets.CLIENT_PLUGIN_AUTH
    | packets.CLIENT_CONNECT_ATTRS
    | packets.CLIENT_PLUGIN_AUTH_LENENC
    | packets.CLIENT_DEPRECATE_EOF
)

UNSAFE_CHARSETS = frozenset({1, 13, 24, 28, 84, 85, 86, 87, 88, 95, 96, 98, 248, 249, 250})
"""Collations of big5, sjis, gb2312, gbk, cp932, eucjpms, gb18030: a byte of a character may look like a quote."""


@dataclass(frozen=True)
class ClientHello:
    """What a client said about itself. `capabilities` are those that both sides have."""

    user: str
    capabilities: int
    charset: int
    database: str

    @property
    def deprecate_eof(self) -> bool:
        """True when results end with an OK packet instead of EOF."""
        return bool(self.capabilities & packets.CLIENT_DEPRECATE_EOF)


def greeting(connection_id: int, nonce: bytes, version: str) -> bytes:
    """The payload of the first packet. `version` is that of a server behind the gateway."""
    return (
        b"\x0a"
        + version.encode()
        + VERSION_SUFFIX.encode()
        + b"\0"
        + connection_id.to_bytes(4, "little")
        + nonce[:8]
        + b"\0"
        + (OFFERED & 0xFFFF).to_bytes(2, "little")
        + bytes((UTF8MB4,))
        + packets.STATUS_AUTOCOMMIT.to_bytes(2, "little")
        + (OFFERED >> 16).to_bytes(2, "little")
        + bytes((len(nonce) + 1,))
        + bytes(10)
        + nonce[8:]
        + b"\0"
        + auth.NATIVE.encode()
        + b"\0"
    )


async def sign_in(client: PacketStream, connection_id: int, users: Mapping[str, str], version: str) -> ClientHello:
    """Greets a client as a server of `version` and verifies it; its OK packet is still to be sent.

    Raises GatewayError (access denied, protocol too old) and ClientGone.
    """
    nonce = bytes(secrets.choice(range(33, 127)) for _ in range(20))
    client.seq = -1
    client.send(greeting(connection_id, nonce, version))
    payload = await client.read()
    try:
        hello, plugin, answer = _parse(payload)
    except (IndexError, UnicodeDecodeError) as error:
        raise ClientGone from error
    if not users:
        return hello
    password = users.get(hello.user)
    if plugin not in (auth.NATIVE, auth.CACHING_SHA2):
        plugin = auth.NATIVE
        client.send(b"\xfe" + plugin.encode() + b"\0" + nonce + b"\0")
        answer = await client.read()
    expected = auth.proof(plugin, password or "", nonce) or b""
    if password is None or not hmac.compare_digest(expected, answer.rstrip(b"\0") if not expected else answer):
        using = "YES" if answer else "NO"
        peer = client.transport.get_extra_info("peername")[0]
        raise GatewayError(
            ER_ACCESS_DENIED, f"Access denied for user '{hello.user}'@'{peer}' (using password: {using})"
        )
    if plugin == auth.CACHING_SHA2 and answer:
        client.send(auth.FAST_AUTH_OK)
    return hello


def _parse(payload: bytes) -> tuple[ClientHello, str, bytes]:
    flags = int.from_bytes(payload[:4], "little")
    if not flags & packets.CLIENT_PROTOCOL_41 or not flags & packets.CLIENT_SECURE_CONNECTION:
        raise GatewayError(ER_PARSE, "the gateway speaks the protocol of MySQL 4.1 and later only")
    charset = payload[8]
    if charset in UNSAFE_CHARSETS:
        raise GatewayError(ER_PARSE, f"collation {charset} is not supported by the gateway; connect with utf8mb4")
    user, pos = read_nul(payload, 32)
    if flags & packets.CLIENT_PLUGIN_AUTH_LENENC:
        value, pos = read_lenenc_bytes(payload, pos)
        answer = value or b""
    else:
        size = payload[pos]
        answer, pos = payload[pos + 1 : pos + 1 + size], pos + 1 + size
    database = b""
    if flags & packets.CLIENT_CONNECT_WITH_DB:
        database, pos = read_nul(payload, pos)
    plugin = auth.NATIVE
    if flags & packets.CLIENT_PLUGIN_AUTH:
        plugin = read_nul(payload, pos)[0].decode() or plugin
    return ClientHello(user.decode(), flags & OFFERED, charset, database.decode()), plugin, answer
