"""What foreign keys change by themselves: logged by some servers and not by others, so it is refused or exact."""

from __future__ import annotations

from executor.native.observe.server import observe_server
from executor.native.observe.tables import observe_tables
from executor.native.servers import Connection
from tests.cluster import moving
from tests.cluster.moving import DATABASE, SOURCE, Moving

pair, move = moving.pair, moving.move

PARENT = "CREATE TABLE parent (id INT PRIMARY KEY, up INT, FOREIGN KEY (up) REFERENCES parent (id))"
CHILD = "CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY fk (p) REFERENCES parent (id) {0})"
ROWS = (
    "INSERT INTO parent VALUES (1, NULL), (2, 1), (3, 1), (4, 2), (5, NULL)",
    "INSERT INTO child VALUES (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)",
)


def logs_cascades(connection: Connection) -> bool:
    return observe_server(connection, DATABASE[SOURCE], None).logs_cascades


def test_keys_that_change_nothing_by_themselves_are_followed(move: Moving) -> None:
    move.tables(PARENT, CHILD.format("ON DELETE RESTRICT"), *ROWS)
    move.running()
    move.on(
        SOURCE,
        "DELETE FROM child WHERE id=4",
        "DELETE FROM parent WHERE id=4",
        "INSERT INTO parent VALUES (6, 5)",
        "INSERT INTO child VALUES (6, 6)",
        "UPDATE child SET p=6 WHERE id=1",
        "SET foreign_key_checks=0",
        "UPDATE parent SET id=50 WHERE id=5",
        "UPDATE parent SET up=50 WHERE up=5",
        "UPDATE child SET p=50 WHERE p=5",
    )
    move.settled_equal()


def test_what_cascades_change_is_followed_where_it_is_logged_and_lost_where_it_is_not(move: Moving) -> None:
    move.tables(PARENT, CHILD.format("ON DELETE CASCADE ON UPDATE SET NULL"), *ROWS)
    move.running()
    move.on(SOURCE, "DELETE FROM parent WHERE id=4", "UPDATE parent SET id=50 WHERE id=5")
    move.catch_up()
    with move.source() as source, move.target() as target:
        assert [table.foreign_keys[0].cascades for table in observe_tables(source, DATABASE[SOURCE])] == [True, False]
        here, there = (c.query("SELECT * FROM child ORDER BY id") for c in (source, target))
        assert len(here) == 4
        # This is why plans refuse such keys (MT212) unless both servers log.
        assert (here == there) is logs_cascades(source)


def test_a_cascade_that_is_added_while_rows_move_is_an_error_where_it_is_not_logged(move: Moving) -> None:
    move.tables(PARENT, "CREATE TABLE child (id INT PRIMARY KEY, p INT)", *ROWS)
    move.running()
    move.on(SOURCE, "ALTER TABLE child ADD FOREIGN KEY (p) REFERENCES parent (id) ON DELETE SET NULL")
    with move.source() as source:
        logged = logs_cascades(source)
    if logged:
        move.on(SOURCE, "DELETE FROM parent WHERE id=4")
        move.settled_equal()
    else:
        assert "foreign key" in move.wait_for_error()
