"""The servers of one VDiff: both primaries, and the tablets that ranges are read from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from executor.errors import TimedOut
from executor.native.binlog.positions import parse
from executor.native.servers import Connection, Login, connect
from executor.native.vdiff.confirm import Marking


@dataclass(frozen=True)
class Sides:
    """Sign-ins to both primaries, and to the servers that ranges are read from: these, or replicas of theirs."""

    source: Login
    target: Login
    read_source: Login
    read_target: Login

    def check_replicas(self, marking: Marking, check: Callable[[], None]) -> None:
        """Waits until what the primaries hold now is on the servers that are read, so that nothing old is compared.

        Raises TimedOut, and what `check` raises, which is called all the time.
        """
        pairs = ((self.source, self.read_source), (self.target, self.read_target))
        replicas = [(primary, reader) for primary, reader in pairs if reader != primary]
        if replicas:
            marking.wait_for_marker()
        for primary, reader in replicas:
            with connect(primary) as connection:
                wanted = connection.position()
            with connect(reader) as replica:
                deadline = time.monotonic() + marking.wait
                while not parse(position := replica_position(replica)).contains(parse(wanted)):
                    check()
                    if time.monotonic() > deadline:
                        raise TimedOut(
                            f"replica {reader.name} did not get to {wanted} within {marking.wait:g} s; it is at "
                            f"{position}",
                            "compare on the primaries: --tablet-types PRIMARY",
                        )
                    time.sleep(0.05)


def replica_position(replica: Connection) -> str:
    """What a server has applied, as a position. On MariaDB that may be more than its binlog has."""
    if replica.flavor.mariadb:
        return str(replica.value("SELECT @@global.gtid_current_pos") or "")
    return replica.position()
