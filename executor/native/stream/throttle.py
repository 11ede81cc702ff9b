"""Holds a copy back while the target's replicas lag, or the source keeps too many old row versions.

Lag is measured by what has arrived: every batch writes its time into the copy's state on the target's primary, and a
replica that does not show it has been behind for as long as it is old. Clocks of servers play no part. What cannot
be read holds the copy back as well, because it may be bad.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from executor.native import sidecar
from executor.native.flavor import ER_BAD_DB, ER_NO_SUCH_TABLE
from executor.native.servers import Connection, Login, ServerError, connect

CHECK_SECONDS = 0.5
ACCESS_DENIED = frozenset({1142, 1227})
"""MySQL shows the history list to users with the privilege PROCESS only, which nothing else needs."""
ANSWER_SECONDS = 5.0


class Throttle:
    """Decides whether the copy of one stream may go on. `replicas` gives those of the target to look at."""

    def __init__(
        self,
        stream_id: int,
        limits: sidecar.ThrottleLimits,
        source: Login,
        replicas: Callable[[], Sequence[Login]],
    ) -> None:
        self._stream_id = stream_id
        self._limits = limits
        self._source = source
        self._replicas = replicas
        self._connections: dict[Login, Connection] = {}
        self._written: list[float] = []
        self._checked = 0.0
        self._reason = ""

    def wrote(self, at: float) -> None:
        """A batch wrote the time `at` (seconds since the epoch) into the copy's state on the target's primary."""
        if not self._written or at > self._written[-1]:
            self._written.append(at)

    def reason(self) -> str:
        """Why nothing may be copied now, ``""`` when it may. Asks the servers at most twice a second."""
        if time.monotonic() - self._checked >= CHECK_SECONDS:
            self._reason = self._history() or self._lag()
            self._checked = time.monotonic()
        return self._reason

    def close(self) -> None:
        """Closes every connection."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def _history(self) -> str:
        limit = self._limits.max_history_list
        if not limit:
            return ""
        try:
            length = self._ask(self._source, _history_list)
        except ServerError as error:
            if error.errno in ACCESS_DENIED:
                return ""
            return f"the history list of {self._source.name} cannot be read: {error.message}"
        return f"the history list of {self._source.name} is {length:,.0f} long" if length > limit else ""

    def _lag(self) -> str:
        limit = self._limits.max_replica_lag
        if not limit:
            return ""
        worst, seen = "", []
        for replica in self._replicas():
            try:
                shown = self._ask(replica, self._shown)
            except ServerError as error:
                return f"the lag of {replica.name} cannot be read: {error.message}"
            seen.append(shown)
            missing = next((at for at in self._written if at > shown), None)
            lag = 0.0 if missing is None else time.time() - missing
            if lag > limit:
                worst = worst or f"{replica.name} lags {lag:.1f}s"
        if seen:  # what every replica shows will not be asked for again
            self._written = [at for at in self._written if at > min(seen)]
        else:
            self._written.clear()
        return worst

    def _shown(self, connection: Connection) -> float:
        try:
            sql = f"SELECT IFNULL(MAX(updated_at),0) AS at FROM {sidecar.SCHEMA}.copy_state WHERE vrepl_id=%s"
            return float(connection.value(sql, [self._stream_id]))
        except ServerError as error:
            if error.errno in (ER_BAD_DB, ER_NO_SUCH_TABLE):
                return 0.0  # not even that has arrived
            raise

    def _ask(self, login: Login, question: Callable[[Connection], float]) -> float:
        connection = self._connections.get(login)
        if connection is None or not connection.open:
            connection = connect(login, connect_timeout=ANSWER_SECONDS, read_timeout=ANSWER_SECONDS)
            self._connections[login] = connection
        try:
            return question(connection)
        except ServerError:
            connection.close()
            raise


def _history_list(connection: Connection) -> float:
    if connection.flavor.mariadb:
        row = connection.one("SHOW GLOBAL STATUS LIKE 'Innodb_history_list_length'")
    else:
        row = connection.one(
            "SELECT name AS Variable_name, count AS Value FROM information_schema.innodb_metrics "
            "WHERE name='trx_rseg_history_len'"
        )
    if row is None:
        raise ServerError("the server shows no length", 0, "set throttle.max_history_list to 0")
    return float(row["Value"])
