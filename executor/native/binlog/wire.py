"""A connection that receives a server's binlog as raw events."""

from __future__ import annotations

from executor.native.binlog.events import Event
from executor.native.servers import Login, ServerError


class PositionLost(ServerError):
    """The source no longer has the log after the position that was asked for."""


class BinlogClient:
    """Receives every event after `position`. One thread reads; `close` may be called from any."""

    def __init__(self, login: Login, position: str, server_id: int, heartbeat: float = 0.5) -> None:
        raise NotImplementedError

    def read(self) -> Event:
        """The next event; blocks."""
        raise NotImplementedError

    def pending(self) -> bool:
        """True when (a part of) a next event has already arrived."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends the stream; a `read` that waits in another thread raises ServerError (`lost`)."""
        raise NotImplementedError
