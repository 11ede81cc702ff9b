"""Records that an older version made are brought up to date, or refused with what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from executor.native import sidecar, sidecar_schema
from executor.native.servers import connect
from executor.native.sidecar_schema import ADDED, SCHEMA, WrongSidecar
from planner.cluster import StreamState
from tests.cluster import moving
from tests.cluster.moving import ALIAS, NAME, SOURCE, TARGET, Moving, until

pair, move = moving.pair, moving.move


def columns(move: Moving, keyspace: str) -> set[tuple[str, str]]:
    with move.pair.connect(keyspace) as connection:
        rows = connection.query(
            "SELECT table_name AS tbl, column_name AS col FROM information_schema.columns WHERE table_schema=%s",
            [SCHEMA],
        )
    return {(row["tbl"], row["col"]) for row in rows}


def test_every_declared_column_is_made(move: Moving) -> None:
    expected = {(table, column) for table, found in sidecar_schema.declared().items() for column in found}
    assert columns(move, TARGET) == expected
    assert expected >= ADDED


def test_a_move_that_an_older_version_began_is_shown_and_goes_on(move: Moving) -> None:
    move.tables("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    move.created()
    whole = columns(move, TARGET)
    for keyspace in (SOURCE, TARGET):
        move.on(keyspace, *(f"ALTER TABLE {SCHEMA}.{table} DROP COLUMN {column}" for table, column in sorted(ADDED)))
    (workflow,) = move.backend.observe().workflows
    assert (workflow.name, workflow.state) == (NAME, StreamState.COPYING)
    move.run_streams()
    move.settled_equal()
    assert columns(move, TARGET) == columns(move, SOURCE) == whole


def test_tables_that_are_missing_are_made_by_serve(move: Moving) -> None:
    move.on(TARGET, f"DROP TABLE {SCHEMA}.vdiff", f"DROP TABLE {SCHEMA}.vdiff_table")
    tablet = move.backend.observe().tablet(ALIAS[TARGET])
    assert tablet is not None
    assert tablet.server is not None
    assert "lacks the tables vdiff, vdiff_table" in tablet.server.error
    move.run_streams()
    until(lambda: ("vdiff", "id") in columns(move, TARGET), "the table")


def test_a_table_of_another_shape_is_refused_by_its_name(move: Moving) -> None:
    move.tables("CREATE TABLE t (id INT PRIMARY KEY)")
    move.created()
    move.on(TARGET, f"ALTER TABLE {SCHEMA}.vreplication DROP COLUMN pos")
    tablet = move.backend.observe().tablet(ALIAS[TARGET])
    assert tablet is not None
    assert tablet.server is not None
    assert "vreplication.pos is missing" in tablet.server.error
    with pytest.raises(WrongSidecar, match="was not made by a version") as caught:
        move.perform("create_workflow")
    assert f"DROP DATABASE {SCHEMA}" in caught.value.hint


def test_a_user_who_may_not_add_a_column_is_told_how(move: Moving) -> None:
    with move.target() as admin:
        admin.execute(f"ALTER TABLE {SCHEMA}.copy_state DROP COLUMN bytes_copied")
        admin.execute("CREATE USER IF NOT EXISTS limited@'127.0.0.1' IDENTIFIED BY 'limited'")
        admin.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP ON {SCHEMA}.* TO limited@'127.0.0.1'")
        login = replace(admin.login, user="limited", password="limited")
        with connect(login) as limited, pytest.raises(WrongSidecar) as caught:
            sidecar.ensure(limited)
        admin.execute("DROP USER limited@'127.0.0.1'")
    assert "copy_state" in caught.value.message
    assert "ALTER TABLE _movetables.copy_state ADD COLUMN bytes_copied BIGINT NOT NULL DEFAULT 0" in caught.value.hint
