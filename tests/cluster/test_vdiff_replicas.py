"""A VDiff reads the tablets that it is told to, once they have what their primaries had."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from executor.errors import TimedOut
from executor.native.binlog.positions import parse
from executor.native.servers import Connection, connect
from executor.native.vdiff.options import VDiffOptions
from executor.native.vdiff.report import VDiffReport
from executor.native.vdiff.run import run_vdiff
from executor.native.vdiff.sides import replica_position
from executor.native.waiting import wait_until
from tests.cluster import vdiff_move
from tests.cluster.test_vdiff_command import command, environment
from tests.cluster.vdiff_move import KEYSPACE, MANY, WORKFLOW, Move, counters

servers, move = vdiff_move.servers, vdiff_move.move


@contextmanager
def replica_of_target(move: Move, delay: int = 0) -> Iterator[Connection]:
    """Makes the third server a replica of the target, for a time; it applies everything `delay` seconds late."""
    target = move.target.login
    with connect(move.topology.login) as connection:
        words = connection.flavor.replication
        connection.execute(words.change, [target.host, target.port, target.user, target.password])
        if delay:
            late = "MASTER TO MASTER_DELAY" if connection.flavor.mariadb else "REPLICATION SOURCE TO SOURCE_DELAY"
            connection.execute(f"CHANGE {late}={delay}")
        try:
            connection.execute(words.start)
            with move.connect_target() as primary:
                wanted = parse(primary.position())
            wait_until(lambda: parse(replica_position(connection)).contains(wanted), 60, "the replica to have it all")
            yield connection
        finally:
            connection.execute(words.stop)
            connection.execute(words.forget)


def test_a_replica_is_read_once_it_has_caught_up(move: Move) -> None:
    """The third server becomes a replica of the target."""
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    target, replica = move.target.login, move.topology.login

    def vdiff() -> VDiffReport:
        options = VDiffOptions(filtered_replication_wait_time=2, tablet_types=("REPLICA",))
        return run_vdiff(move.source.login, target, KEYSPACE, WORKFLOW, options=options, read_target=replica)

    with pytest.raises(TimedOut, match="replica topology did not get to"):
        vdiff()
    with replica_of_target(move) as connection:
        assert counters(vdiff()) == (3000, 0, 0, 0)
        # What is wrong on the replica alone is not what the target serves, and no difference of the target.
        connection.execute("SET SESSION sql_log_bin=0")
        connection.execute("UPDATE dst.t SET v=-9 WHERE id=7")
        assert counters(vdiff()) == (3000, 0, 0, 0)
        connection.execute("UPDATE dst.t SET v=7 WHERE id=7")
        move.on_target("UPDATE t SET v=0 WHERE id=100")
        assert counters(vdiff()) == (2999, 1, 0, 0)


def test_a_tablet_type_that_nobody_has_is_an_error_that_says_so(move: Move, tmp_path: Path) -> None:
    move.begin("id INT PRIMARY KEY, v INT", MANY)
    path, name = environment(move, tmp_path), f"{KEYSPACE}.{WORKFLOW}"
    missing = command(path, "create", name, "--tablet-types", "rdonly")
    assert missing.returncode == 1
    assert "keyspace commerce has no tablet of type RDONLY" in missing.stderr
    assert "add PRIMARY to the end of --tablet-types" in missing.stderr
    assert command(path, "create", name, "--tablet-types", "RDONLY,PRIMARY").returncode == 0
    wrong = command(path, "create", name, "--tablet-types", "MASTER")
    assert (wrong.returncode, "MASTER is no tablet type" in wrong.stderr) == (64, True)
