"""What is wrong with a server or a table is seen as a fact, and the planner refuses for it by its code."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from executor.errors import TimedOut
from executor.native.access import Access
from executor.native.cutover.fence import create_statements
from executor.native.observe.privileges import ON_DATABASE, SIDECAR
from executor.native.servers import Connection
from planner.cluster import Cluster, Server, Table
from planner.document import OnDdl
from planner.inventory import Credentials, Inventory, SecretRef, ServerAddress
from tests.cluster import moving
from tests.cluster.moving import ALIAS, DATABASE, NAME, SOURCE, TARGET, Moving

pair, move = moving.pair, moving.move

PASSWORD_VARIABLE = "MOVETABLES_TEST_RESTRICTED"


def observed(move: Moving) -> Cluster:
    return move.backend.observe()


def codes(move: Moving, cluster: Cluster, kind: str = "create_workflow") -> list[str]:
    return sorted({refusal.code for refusal in move.step(kind).ready(cluster)})


def server(cluster: Cluster, keyspace: str) -> Server:
    tablet = cluster.tablet(ALIAS[keyspace])
    assert tablet is not None
    assert tablet.server is not None
    return tablet.server


def table(cluster: Cluster, keyspace: str, name: str) -> Table:
    found = cluster.keyspace(keyspace)
    assert found is not None
    described = found.table(name)
    assert described is not None
    return described


@contextmanager
def setting(move: Moving, keyspace: str, name: str, value: str | int) -> Iterator[None]:
    with move.pair.connect(keyspace) as connection:
        before = connection.value(f"SELECT @@global.{name}")
        connection.execute(f"SET GLOBAL {name}=%s", [value])
        try:
            yield
        finally:
            connection.execute(f"SET GLOBAL {name}=%s", [before])


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("binlog_format", "STATEMENT", "MT302"),
        ("binlog_format", "MIXED", "MT302"),
        ("binlog_row_image", "MINIMAL", "MT303"),
        ("binlog_row_image", "NOBLOB", "MT303"),
        ("binlog_row_metadata", "NO_LOG", "MT304"),
        ("binlog_row_metadata", "MINIMAL", "MT304"),
        ("read_only", "ON", "MT308"),
    ],
)
@pytest.mark.parametrize("keyspace", [SOURCE, TARGET])
def test_settings(move: Moving, flavor: str, keyspace: str, name: str, value: str, code: str) -> None:
    if (flavor, value) == ("mysql", "NO_LOG"):
        pytest.skip("MySQL has no such value")
    move.tables("CREATE TABLE t (id INT PRIMARY KEY)")
    assert codes(move, observed(move)) == []
    with setting(move, keyspace, name, value):
        cluster = observed(move)
        assert codes(move, cluster) == [code]
        assert codes(move, cluster, "start_workflow") == ["MT411"]
        if keyspace == TARGET and name != "read_only":
            move.move = replace(move.move, reverse_replication=False)
            assert codes(move, cluster) == []


@pytest.mark.parametrize("keyspace", [SOURCE, TARGET])
def test_a_server_that_would_not_take_the_largest_rows_of_the_other(move: Moving, keyspace: str) -> None:
    move.tables("CREATE TABLE t (id INT PRIMARY KEY)")
    with setting(move, keyspace, "max_allowed_packet", 1 << 20):
        assert codes(move, observed(move)) == []
        with setting(move, keyspace, "local_infile", 0):
            assert codes(move, observed(move)) == ["MT311"]
            if keyspace == SOURCE:
                move.move = replace(move.move, reverse_replication=False)
                assert codes(move, observed(move)) == []


def test_a_server_that_does_not_answer(move: Moving) -> None:
    move.tables("CREATE TABLE t (id INT PRIMARY KEY)")
    move.pair.cluster.local.stop_tablet(ALIAS[TARGET])
    try:
        cluster = observed(move)
        assert "does not answer" in server(cluster, TARGET).error
        assert codes(move, cluster) == ["MT104"]
        assert server(cluster, SOURCE).error == ""
    finally:
        move.pair.start(TARGET)
    assert codes(move, observed(move)) == []


@pytest.mark.parametrize(
    ("definition", "code"),
    [
        ("id INT", ""),
        ("id INT UNIQUE", ""),
        ("id INT NOT NULL, a VARCHAR(20) NOT NULL, UNIQUE KEY (a(3)), KEY (id)", ""),
        ("id INT NOT NULL UNIQUE", ""),
        ("id INT PRIMARY KEY, p POINT", ""),
        ("id UUID PRIMARY KEY", ""),
        ("id INT PRIMARY KEY, a INET6", ""),
        ("id INT PRIMARY KEY) ENGINE=MyISAM", "MT204"),
        ("id INT PRIMARY KEY, a JSON, b BIT(3), c YEAR, d SET('a','b'), e LONGBLOB", ""),
    ],
)  # fmt: skip
def test_tables(move: Moving, flavor: str, definition: str, code: str) -> None:
    if flavor == "mysql" and ("UUID" in definition or "INET" in definition):
        pytest.skip("MySQL has no such type")
    move.tables(f"CREATE TABLE t ({definition}" + ("" if "ENGINE" in definition else ")"))
    assert codes(move, observed(move)) == ([code] if code else [])


def test_foreign_keys_in_both_directions(move: Moving) -> None:
    move.tables(
        "CREATE TABLE parent (id INT PRIMARY KEY, other INT, KEY (other))",
        "CREATE TABLE child (id INT PRIMARY KEY, p INT, q INT, CONSTRAINT pq FOREIGN KEY (p) REFERENCES parent (id))",
    )
    cluster = observed(move)
    (key,) = table(cluster, SOURCE, "child").foreign_keys
    assert (key.name, key.columns, key.referenced_table) == ("pq", ("p",), "parent")
    assert codes(move, cluster) == []
    for only in ("parent", "child"):
        move.move = replace(move.move, tables=(only,))
        assert codes(move, cluster) == ["MT206"]


def test_empty_fenced_and_present_tables(move: Moving) -> None:
    move.tables(
        "CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE u (id INT PRIMARY KEY)", "INSERT INTO u VALUES (1)"
    )
    move.on(TARGET, "CREATE TABLE t (id INT PRIMARY KEY)")
    cluster = observed(move)
    assert (table(cluster, SOURCE, "t").empty, table(cluster, SOURCE, "u").empty) == (True, False)
    assert not table(cluster, TARGET, "t").fenced
    assert codes(move, cluster) == ["MT207"]
    statements = create_statements(DATABASE[TARGET], "t")
    move.on(TARGET, *statements[:2])
    assert not table(observed(move), TARGET, "t").fenced
    move.on(TARGET, statements[2])
    cluster = observed(move)
    assert table(cluster, TARGET, "t").fenced
    assert codes(move, cluster) == ["MT209"]


def test_views_sequences_and_other_schemas_are_no_tables(move: Moving, flavor: str) -> None:
    move.tables("CREATE TABLE t (id INT PRIMARY KEY)", "CREATE VIEW v AS SELECT * FROM t")
    if flavor == "mariadb":
        move.on(SOURCE, "CREATE SEQUENCE s")
    found = observed(move).keyspace(SOURCE)
    assert found is not None
    assert [t.name for t in found.tables] == ["t"]


def test_a_workflow_is_seen_with_its_copy_and_its_trouble(move: Moving) -> None:
    move.tables("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t SELECT seq FROM seq_1_to_10", on_ddl=OnDdl.IGNORE)
    move.created()
    workflow = observed(move).workflow(TARGET, NAME)
    assert workflow is not None
    assert not workflow.copied
    move.run_streams()
    moving.until(
        lambda: (w := observed(move).workflow(TARGET, NAME)) is not None and w.copied and (w.lag or 9) < 2, "no lag"
    )
    workflow = observed(move).workflow(TARGET, NAME)
    assert workflow is not None
    assert [(copy.table, copy.rows_copied, copy.done) for copy in workflow.copies] == [("t", 10, True)]
    move.on(SOURCE, "TRUNCATE TABLE t")
    move.wait_for_error()
    assert codes(move, observed(move), "wait_running") == ["MT404"]


def restricted(inventory: Inventory) -> Inventory:
    """`inventory` with both tablets as servers of somebody else, where we sign in as `restricted`."""
    credentials = Credentials("restricted", SecretRef(env=PASSWORD_VARIABLE))
    return replace(
        inventory,
        tablets=tuple(
            replace(t, server=ServerAddress(t.server.host, t.server.port, credentials)) for t in inventory.tablets
        ),
    )


@pytest.fixture
def as_restricted(move: Moving) -> Iterator[Callable[[str], None]]:
    """Signs in on both sides as a user with exactly what a move needs; the function takes one privilege away."""
    os.environ[PASSWORD_VARIABLE] = "pa'ss\\word"
    state = move.topology()
    topology = move.pair.cluster.topology
    for keyspace in (SOURCE, TARGET):
        with move.pair.connect(keyspace) as connection:
            grant(connection, keyspace)
    topology.update(lambda s: replace(s, tablets=tuple(replace(t, managed=False) for t in s.tablets)))
    move.backend._access = Access(restricted(move.pair.inventory))

    def revoke(statement: str) -> None:
        with move.pair.connect(TARGET) as connection:
            connection.execute(statement)

    yield revoke
    move.stop_streams()
    topology.update(lambda s: replace(s, tablets=state.tablets))
    for keyspace in (SOURCE, TARGET):
        move.on(keyspace, "SET GLOBAL log_bin_trust_function_creators=0", "DROP USER restricted@'127.0.0.1'")
    del os.environ[PASSWORD_VARIABLE]


def grant(connection: Connection, keyspace: str) -> None:
    connection.execute("SET GLOBAL log_bin_trust_function_creators=1")
    connection.execute("DROP USER IF EXISTS restricted@'127.0.0.1'")
    connection.execute("CREATE USER restricted@'127.0.0.1' IDENTIFIED BY %s", [os.environ[PASSWORD_VARIABLE]])
    everywhere = connection.flavor.replication_privileges
    for names, where in ((everywhere, "*.*"), (ON_DATABASE, f"`{DATABASE[keyspace]}`.*"), (SIDECAR, "`_movetables`.*")):
        connection.execute(f"GRANT {', '.join(names)} ON {where} TO restricted@'127.0.0.1'")


def test_each_missing_privilege_is_named(move: Moving, as_restricted: Callable[[str], None]) -> None:
    move.tables("CREATE TABLE t (id INT PRIMARY KEY)")
    assert codes(move, observed(move)) == []
    with move.target() as target:
        everywhere = target.flavor.replication_privileges
    levels = ((everywhere, "*.*"), (ON_DATABASE, f"`{DATABASE[TARGET]}`.*"), (SIDECAR, "`_movetables`.*"))
    for names, where in levels:
        for name in names:
            as_restricted(f"REVOKE {name} ON {where} FROM restricted@'127.0.0.1'")
            cluster = observed(move)
            found = server(cluster, TARGET)
            if not found.error:  # without any privilege on the database, the server hides it
                assert found.missing_privileges == (f"{name} ON {where}",)
                assert codes(move, cluster) == ["MT307"]
            as_restricted(f"GRANT {name} ON {where} TO restricted@'127.0.0.1'")
    as_restricted("SET GLOBAL log_bin_trust_function_creators=0")
    assert "log_bin_trust_function_creators" in server(observed(move), TARGET).missing_privileges[0]


@pytest.mark.usefixtures("as_restricted")
def test_what_is_asked_for_is_enough_for_a_whole_move(move: Moving) -> None:
    move.tables(
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v INT, KEY (v))",
        "INSERT INTO t (v) SELECT seq FROM seq_1_to_10",
        defer_secondary_keys=True,
        timeout=2.0,
    )
    move.created()
    move.run_streams(restricted(move.pair.inventory))
    move.settled_equal()
    with move.source() as holder:
        moving.hold_table(holder, "t")
        with pytest.raises(TimedOut, match="could not be locked"):
            move.perform("switch_writes")
    for step, side in (("switch_writes", TARGET), ("reverse_writes", SOURCE), ("switch_writes", TARGET)):
        move.perform(step)
        move.on(side, "INSERT INTO t (v) VALUES (1)")
        move.assert_writes_at(side)
    move.perform("switch_reads")
    move.perform("complete")
    move.assert_nothing_left()
