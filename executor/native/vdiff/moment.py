"""One and the same moment of a table on both sides, to be read at leisure.

Writers of the table wait under a shared table lock while the stream applies what they wrote before; then both sides
are equal, or differ for good, and a snapshot is taken of each. The lock lasts for one marker's way through the stream,
and is only asked for while the stream is not late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from executor.errors import TimedOut
from executor.native.servers import Connection, ServerError
from executor.native.stream.layout import TableLayout
from executor.native.vdiff.confirm import Marking
from executor.native.vdiff.digest import Connect

LOCK_SECONDS = 1
"""How long the lock may wait for open transactions, and then for the stream; writers wait as long."""
ATTEMPTS = 20


Begin = Callable[[Connection], None]


def _snapshot(connection: Connection) -> None:
    connection.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")


@contextmanager
def same_moment(
    source: Connect, target: Connect, layout: TableLayout, marking: Marking, begin: Begin = _snapshot
) -> Iterator[tuple[Connection, Connection]]:
    """Connections to source and target that see the table `layout` of the source as of one moment.

    `begin` begins the target's transaction at that moment: a snapshot, or one that holds the stream there.

    Raises TimedOut when the table is never free, or the stream never near enough, within `ATTEMPTS` tries.
    """
    left, right, locking = source(), target(), source()
    try:
        for connection in (left, right):
            connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        locking.execute(f"SET SESSION lock_wait_timeout={LOCK_SECONDS}")
        for _ in range(ATTEMPTS):
            if _taken(left, right, locking, layout, marking, begin):
                break
        else:
            raise TimedOut(
                f"table {layout.name} has no moment at which nobody writes it and its stream is less than "
                f"{LOCK_SECONDS} s behind",
                "let the stream catch up, or end long transactions on the table; then resume the VDiff",
            )
        yield left, right
    finally:
        for connection in (left, right, locking):
            connection.close()


def _taken(
    left: Connection, right: Connection, locking: Connection, layout: TableLayout, marking: Marking, begin: Begin
) -> bool:
    marking.catch_up()
    try:
        locking.execute(f"LOCK TABLES {layout.qualified} READ")
        marking.wait_for_marker(LOCK_SECONDS)
        begin(right)
        _snapshot(left)
        return True
    except TimedOut:
        return False
    except ServerError as error:
        if not error.transient:
            raise
        return False
    finally:
        if locking.open:
            locking.execute("UNLOCK TABLES")
