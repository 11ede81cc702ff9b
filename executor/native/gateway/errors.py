"""Errors that the gateway itself answers with, in MySQL's numbers and Vitess's words."""

from __future__ import annotations

from executor.native.gateway.packets import ErrorPacket

ER_DBACCESS_DENIED, ER_ACCESS_DENIED, ER_NO_DB, ER_BAD_DB, ER_PARSE = 1044, 1045, 1046, 1049, 1064
ER_UNKNOWN, ER_NO_SUCH_TABLE, ER_NET_PACKET_TOO_LARGE, ER_LOCK_WAIT, ER_DEADLOCK = 1105, 1146, 1153, 1205, 1213
ER_SPECIFIC_ACCESS_DENIED, ER_NOT_SUPPORTED, ER_UNKNOWN_STMT, ER_OPTION_PREVENTS = 1227, 1235, 1243, 1290
ER_UNSUPPORTED_PS, ER_NO_SUCH_THREAD, ER_RECORD_CHANGED, CR_SERVER_LOST, ER_SHUTDOWN = 1295, 1094, 1020, 2013, 1053

_STATES = {
    ER_DBACCESS_DENIED: "42000",
    ER_ACCESS_DENIED: "28000",
    ER_NO_DB: "3D000",
    ER_BAD_DB: "42000",
    ER_PARSE: "42000",
    ER_NO_SUCH_TABLE: "42S02",
    ER_NET_PACKET_TOO_LARGE: "08S01",
    ER_DEADLOCK: "40001",
    ER_SPECIFIC_ACCESS_DENIED: "42000",
    ER_NOT_SUPPORTED: "42000",
    ER_SHUTDOWN: "08S01",
}


class GatewayError(Exception):
    """A statement is answered with this error; the session goes on."""

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(message)
        self.errno = errno
        self.message = message

    def packet(self) -> ErrorPacket:
        """The ERR packet to send."""
        return ErrorPacket(self.errno, _STATES.get(self.errno, "HY000"), self.message.encode())


class BackendLost(Exception):
    """The connection to a tablet broke; whether the last statement ran is unknown."""


class BackendUnavailable(Exception):
    """No connection to a tablet could be made; nothing was sent."""


class ClientGone(Exception):
    """The client closed its connection, or broke the protocol."""


def not_supported(message: str) -> GatewayError:
    """ERROR 1235: the gateway cannot do this; the message says what to do instead."""
    return GatewayError(ER_NOT_SUPPORTED, message)


def unknown_database(name: str) -> GatewayError:
    """ERROR 1049, as MySQL words it."""
    return GatewayError(ER_BAD_DB, f"Unknown database '{name}'")


def with_target(error: ErrorPacket, target: str, user: str, sql: bytes) -> ErrorPacket:
    """A table-not-found error in Vitess's words: which target, which caller, which statement.

    `target` is ``keyspace.shard.type``, such as ``commerce.0.primary``.
    """
    text = (
        f"target: {target}: vttablet: rpc error: code = NotFound desc = ".encode()
        + error.message
        + f" (errno {error.errno}) (sqlstate {error.sqlstate}) (CallerID: {user}): Sql: ".encode()
        + b'"' + sql[:2000].replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'", BindVars: {}'
    )  # fmt: skip
    return ErrorPacket(error.errno, error.sqlstate, text)
