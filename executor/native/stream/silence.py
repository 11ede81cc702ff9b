"""Asks a source that sends nothing new whether it has indeed nothing new.

A server whose history was begun anew (RESET MASTER, RESET BINARY LOGS AND GTIDS) while it was sending goes on with
heartbeats from the file that it deleted, for ever. To whoever trusts them the stream is up to date, and each change is
lost; so said MariaDB 10.11 and MySQL 9.7.
"""

from __future__ import annotations

import time

from executor.native import sidecar
from executor.native.binlog import positions
from executor.native.servers import Login, connect

CHECK_SECONDS = 5.0
"""Three such times pass at most before a source is found out."""
TIMEOUT = 10.0
PURPOSE = "silence"


class Silence:
    """Looks after the source of the stream `keyspace`.`workflow`.

    What a source has and does not send need not be lost: GTIDs may be added to a server's history by hand, and that of
    a prepared XA transaction is left out of our position. A marker tells: when it arrives, everything before it did.
    """

    def __init__(self, source: Login, keyspace: str, workflow: str) -> None:
        self._source = source
        self._workflow = keyspace, workflow
        self._next = time.monotonic() + CHECK_SECONDS
        self._ours = positions.parse("")
        self._theirs = positions.parse("")
        self._without_events = positions.parse("")
        self._token = ""

    def heard(self, token: str) -> None:
        """The marker with `token` has arrived."""
        if self._token and token == self._token:
            self._token = ""
            self._without_events = self._theirs

    def wrong(self, position: positions.Position) -> str:
        """Why the source is not to be believed that there is nothing after `position`; '' while there is no reason.

        Asks the source now and then, otherwise the answer is ''. Raises ServerError.
        """
        if time.monotonic() < self._next:
            return ""
        self._next = time.monotonic() + CHECK_SECONDS
        with connect(self._source, read_timeout=TIMEOUT) as connection:
            theirs = positions.parse(connection.position())
            # As it was a while ago: a server sends a transaction before it counts it as done.
            if not theirs.contains(self._ours):
                return f"lacks transactions that were applied already: it has {theirs.text}, applied is {position.text}"
            if self._token:
                return f"has transactions that it does not send: it has {theirs.text}, sent is {position.text}"
            if not position.merge(self._without_events).contains(self._theirs):
                self._token = sidecar.write_marker(connection, *self._workflow, PURPOSE)  # behind all of `theirs`
        self._ours, self._theirs = position, theirs
        return ""
