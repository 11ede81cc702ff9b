"""Changes that are in the binlog before anybody can see them: a copy that begins then must not miss them.

A server with semi-synchronous replication that waits AFTER_SYNC holds each commit there for as long as no replica
answers. Tools that read rows after a position of the binlog lose what is held.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from executor.native.servers import Connection, ServerError
from tests.cluster import moving
from tests.cluster.moving import SOURCE, Moving, until

pair, move = moving.pair, moving.move

HELD_MILLISECONDS = 1500
ER_FUNCTION_EXISTS = 1125


@pytest.fixture
def held(move: Moving) -> Iterator[Connection]:
    """The source holds the next commit. Gives a connection to it."""
    with move.source() as source:
        prefix = "rpl_semi_sync_master" if source.flavor.mariadb else "rpl_semi_sync_source"
        if not source.flavor.mariadb:
            try:
                source.execute("INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'")
            except ServerError as error:
                if error.errno != ER_FUNCTION_EXISTS:
                    raise
        source.execute(f"SET GLOBAL {prefix}_timeout={HELD_MILLISECONDS}")
        source.execute(f"SET GLOBAL {prefix}_wait_point='AFTER_SYNC'")
        source.execute(f"SET GLOBAL {prefix}_wait_no_{'slave' if source.flavor.mariadb else 'replica'}=1")
        move.tables("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3), (4, 4)")
        move.created()
        source.execute(f"SET GLOBAL {prefix}_enabled=1")
        yield source
        source.execute(f"SET GLOBAL {prefix}_enabled=0")


@pytest.mark.parametrize(
    "change",
    ["INSERT INTO t VALUES (5, 5)", "UPDATE t SET v=22 WHERE id=2", "DELETE FROM t WHERE id=3",
     "UPDATE t SET id=40 WHERE id=4"],
)  # fmt: skip
def test_a_change_that_is_logged_and_not_yet_visible_when_the_copy_begins(
    move: Moving, held: Connection, change: str
) -> None:
    before = logged(held)
    writer = threading.Thread(target=move.on, args=(SOURCE, change))
    writer.start()
    until(lambda: logged(held) != before, "the change to be logged")
    assert writer.is_alive(), "it is still held"
    move.run_streams()
    writer.join(30)
    move.settled_equal()


def logged(source: Connection) -> int:
    """Bytes of binlog; MySQL's position counts visible changes only."""
    return sum(int(row["File_size"]) for row in source.query("SHOW BINARY LOGS"))
