"""Tables that are not like others: each is moved as it is, or refused by the plan before anything is changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from executor.native.observe.server import observe_server
from executor.native.servers import ServerError, connect
from planner.document import SourceTables
from planner.steps.vdiff import VDiff
from tests.cluster import moving
from tests.cluster.conftest import MakeServer
from tests.cluster.moving import DATABASE, NAME, SOURCE, TARGET, Moving, Silence
from tests.cluster.test_observe import setting

pair, move = moving.pair, moving.move

COLUMNS, KEYS = 1000, 63
WIDE = ", ".join(f"c{n} TINYINT" for n in range(COLUMNS))
INDEXED = ", ".join(f"KEY k{n} (c{n}, c{n + 1})" for n in range(KEYS))
OF_BOTH = (
    f"CREATE TABLE wide (id INT PRIMARY KEY, {WIDE})",
    f"CREATE TABLE indexed (id INT PRIMARY KEY, {', '.join(f'c{n} INT' for n in range(KEYS + 1))}, {INDEXED})",
    "CREATE TABLE parted (id INT, at DATE, PRIMARY KEY (id, at)) PARTITION BY RANGE (YEAR(at)) "
    "(PARTITION p1 VALUES LESS THAN (2020), PARTITION p2 VALUES LESS THAN MAXVALUE)",
    "CREATE TABLE commented (id INT PRIMARY KEY COMMENT 'schlüssel ☃', v INT) COMMENT='VIEW'",
    "CREATE TABLE squeezed (id INT PRIMARY KEY, t TEXT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4 STATS_PERSISTENT=0",
    "CREATE TABLE latin (id INT PRIMARY KEY, t VARCHAR(20)) DEFAULT CHARSET=latin1",
    "CREATE TABLE checked (id INT PRIMARY KEY, v INT DEFAULT (1 + 1), CONSTRAINT positive CHECK (v > 0))",
    "CREATE TABLE hidden (id INT PRIMARY KEY, v INT DEFAULT 7 INVISIBLE, w INT)",
    "CREATE TABLE selfish (id INT PRIMARY KEY, parent INT, CONSTRAINT up FOREIGN KEY (parent) REFERENCES selfish (id))",
    "CREATE TABLE ring_a (id INT PRIMARY KEY, b INT)",
    "CREATE TABLE ring_b (id INT PRIMARY KEY, a INT, CONSTRAINT to_a FOREIGN KEY (a) REFERENCES ring_a (id))",
    "ALTER TABLE ring_a ADD CONSTRAINT to_b FOREIGN KEY (b) REFERENCES ring_b (id)",
)
ROWS = (
    "INSERT INTO wide (id, c0, c999) VALUES (1, 1, -1), (2, NULL, 3)",
    "INSERT INTO indexed (id, c1, c63) VALUES (1, 2, 3), (2, 3, 4)",
    "INSERT INTO parted VALUES (1, '2019-01-01'), (2, '2024-01-01')",
    "INSERT INTO commented VALUES (1, 1)",
    "INSERT INTO squeezed VALUES (1, REPEAT('x', 5000))",
    "INSERT INTO latin VALUES (1, 'é')",
    "INSERT INTO checked (id) VALUES (1)",
    "INSERT INTO hidden (id, w) VALUES (1, 2)",
    "INSERT INTO selfish VALUES (1, NULL), (2, 1)",
    "INSERT INTO ring_a VALUES (1, NULL)",
    "INSERT INTO ring_b VALUES (1, 1)",
    "UPDATE ring_a SET b=1",
)
OF_MARIADB = (
    "CREATE TABLE lasting (id INT, v INT, b DATE, e DATE, PERIOD FOR life (b, e), PRIMARY KEY (id, b))",
    "INSERT INTO lasting VALUES (1, 1, '2020-01-01', '2021-01-01')",
    "SET check_constraint_checks=0",
    "INSERT INTO checked VALUES (2, -5)",
)
CHANGES = (
    "UPDATE wide SET c500=1",
    "UPDATE indexed SET c1=c1+1",
    "UPDATE parted SET at='2018-01-01' WHERE id=2",
    "DELETE FROM selfish WHERE id=2",
    "INSERT INTO hidden (id, v) VALUES (2, 9)",
    "INSERT INTO latin VALUES (2, 'ü')",
)


def refusals(move: Moving) -> dict[str, list[str]]:
    """What the plan says against creating the workflow, by code."""
    found: dict[str, list[str]] = {}
    for refusal in move.step("create_workflow").ready(move.backend.observe()):
        found.setdefault(refusal.code, []).append(f"{refusal.found}; {refusal.hint}")
    return found


def test_what_both_servers_have_is_moved_as_it_is(move: Moving, flavor: str) -> None:
    move.tables(*OF_BOTH, *ROWS, *(OF_MARIADB if flavor == "mariadb" else ()))
    move.on(SOURCE, "CREATE VIEW seen AS SELECT * FROM commented")
    assert refusals(move) == {}
    move.running()
    move.on(SOURCE, *CHANGES)
    if flavor == "mariadb":
        move.on(SOURCE, "UPDATE lasting FOR PORTION OF life FROM '2020-03-01' TO '2020-05-01' SET v=2")
        move.on(SOURCE, "DELETE FROM lasting FOR PORTION OF life FROM '2020-04-01' TO '2020-04-11'")
    move.settled_equal()
    shown = []
    for keyspace in (SOURCE, TARGET):
        with move.pair.connect(keyspace) as connection:
            shown.append(
                [connection.one(f"SHOW CREATE TABLE {name}")["Create Table"] for name in move.move.tables]  # type: ignore[index]
            )
    assert shown[0] == shown[1]
    move.backend.perform(VDiff(move.move, NAME, TARGET), Silence())
    move.perform("switch_reads")
    move.perform("switch_writes")
    move.on(TARGET, "INSERT INTO ring_a VALUES (5, 1)", "UPDATE hidden SET v=v+1", "DELETE FROM ring_a WHERE id=5")
    move.assert_writes_at(TARGET)


def test_what_a_move_cannot_carry_is_named_before_anything_is_changed(move: Moving, flavor: str) -> None:
    names = ["at@replica", "customer.t", "l" * 60, "seen"]
    move.on(
        SOURCE,
        *(f"CREATE TABLE `{name}` (id INT PRIMARY KEY)" for name in names[:3]),
        "CREATE VIEW seen AS SELECT 1 AS one",
    )
    if flavor == "mariadb":
        move.on(
            SOURCE,
            "CREATE SEQUENCE counting",
            "CREATE TABLE counted (id INT PRIMARY KEY DEFAULT NEXTVAL(counting))",
            "CREATE TABLE remembering (id INT PRIMARY KEY) WITH SYSTEM VERSIONING",
            "CREATE TABLE booked (id INT, b DATE, e DATE, PERIOD FOR p (b, e), PRIMARY KEY (id, p WITHOUT OVERLAPS))",
            "CREATE TABLE ordered (b DATE, e DATE, id INT PRIMARY KEY, CHECK (b < e))",
        )
        names += ["counting", "counted", "remembering", "booked", "ordered"]
    move.move = replace(move.move, tables=tuple(names), source_tables=SourceTables.RENAME)
    found = refusals(move)
    assert {code: len(texts) for code, texts in found.items()} == {
        "MT213": 2,
        "MT215": 5 if flavor == "mariadb" else 1,
        "MT216": 1,
    }
    texts = " ".join(found["MT215"])
    words = ("counting is of kind SEQUENCE", "counted takes the default", "DROP SYSTEM VERSIONING", "WITHOUT OVERLAPS")
    for said in ("seen is of kind VIEW", *(words if flavor == "mariadb" else ())):
        assert said in texts


def test_a_table_that_the_target_refuses_leaves_nothing_behind(move: Moving) -> None:
    with move.source() as source:
        source.execute("SET SESSION innodb_strict_mode=0")
        source.execute("CREATE TABLE fine (id INT PRIMARY KEY)")
        columns = ", ".join(f"c{n} CHAR(255) CHARACTER SET latin1" for n in range(40))
        source.execute(f"CREATE TABLE heavy (id INT PRIMARY KEY, {columns})")
    move.move = replace(move.move, tables=("fine", "heavy"))
    with pytest.raises(ServerError, match="Row size too large"):
        move.perform("create_workflow")
    move.assert_nothing_left()
    assert move.topology().routing_rules == ()
    with move.target() as target:
        assert target.query("SHOW TABLES") == []


@pytest.mark.servers("mysql")
def test_a_target_that_demands_primary_keys(move: Moving) -> None:
    move.tables("CREATE TABLE keyed (id INT PRIMARY KEY)", "CREATE TABLE keyless (id INT NOT NULL, UNIQUE KEY (id))")
    with setting(move, TARGET, "sql_require_primary_key", "ON"):
        with move.pair.connect(TARGET, None) as target:
            target.execute("DROP DATABASE _movetables")
        assert list(refusals(move)) == ["MT214"]
        assert "table commerce.keyless has no primary key" in refusals(move)["MT214"][0]
        move.move = replace(move.move, tables=("keyed",))
        assert refusals(move) == {}
        move.running()
        move.settled_equal()


@pytest.mark.servers("mariadb-mysql")
def test_a_period_is_refused_where_the_target_has_none(move: Moving) -> None:
    move.tables("CREATE TABLE lasting (id INT PRIMARY KEY, b DATE, e DATE, PERIOD FOR life (b, e))")
    (said,) = refusals(move)["MT211"]
    assert "table lasting has a PERIOD" in said


def test_a_target_with_few_connections(move: Moving) -> None:
    """An application has all connections but a handful; those of a move are few, and it waits for them."""
    move.tables(*(f"CREATE TABLE t{n} (id INT PRIMARY KEY, v INT)" for n in range(12)))
    move.on(SOURCE, *(f"INSERT INTO t{n} VALUES (1, 1), (2, 2)" for n in range(12)))
    with move.target() as admin:
        before = admin.value("SELECT @@global.max_connections")
        admin.execute("SET GLOBAL max_connections=14")
        move.running()
        move.on(SOURCE, "UPDATE t3 SET v=9")
        move.settled_equal()
        for kind in ("switch_reads", "switch_writes"):
            move.perform(kind)
        move.assert_writes_at(TARGET)
        admin.execute(f"SET GLOBAL max_connections={before}")


@pytest.mark.servers("mariadb")
def test_a_server_that_tells_no_case_apart_is_seen(make_server: MakeServer) -> None:
    server = make_server(options=("--lower-case-table-names=1",))
    with connect(server.login) as connection:
        assert observe_server(connection, DATABASE[SOURCE], Path("/")).lower_case_table_names == 1
