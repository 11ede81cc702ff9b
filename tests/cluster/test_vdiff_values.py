"""Digests are equal for equal rows, whichever servers hold them, and differ for every difference."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from executor.native.local.local_server import LocalServer
from executor.native.servers import Connection, connect
from executor.native.stream.layout import describe_tables, layout_of
from executor.native.vdiff.digest import digest, prepare, range_rows
from executor.native.vdiff.pairs import as_text
from tests.cluster import vdiff_move
from tests.cluster.conftest import Pairing
from tests.cluster.vdiff_move import counters, fresh_move, only_table
from tests.cluster.vdiff_values import DIFFERENCES, differences

anywhere = pytest.mark.servers("mariadb", "mysql", "mariadb-mysql", "mysql-mariadb")


servers = vdiff_move.servers


@pytest.fixture
def sides(servers: list[LocalServer]) -> Iterator[tuple[Connection, Connection]]:
    with connect(servers[0].login) as source, connect(servers[1].login) as target:
        for connection in (source, target):
            connection.execute("DROP DATABASE IF EXISTS digests")
            connection.execute("CREATE DATABASE digests CHARACTER SET utf8mb4")
            connection.execute("USE digests")
            prepare(connection)
        yield source, target


@anywhere
@pytest.mark.parametrize("what", DIFFERENCES)
def test_digests_tell_equal_from_different(what: str, sides: tuple[Connection, Connection], pairing: Pairing) -> None:
    difference = differences(pairing.source, pairing.target).get(what)
    if difference is None:
        pytest.skip("both servers do not have this type")
    source, target = sides
    columns = ", ".join(f"c{number} {kind}" for number, kind in enumerate(difference.types))
    for connection in sides:
        connection.execute(f"CREATE TABLE d (id INT PRIMARY KEY, {columns}) ENGINE=InnoDB")
        connection.execute(f"INSERT INTO d VALUES (1, {', '.join(difference.here)})")
    layout = as_text(
        layout_of("digests", describe_tables(source, "digests", ["d"])[0]), describe_tables(target, "digests", ["d"])[0]
    )
    assert digest(source, layout, None, None).same(digest(target, layout, None, None))
    assert digest(source, layout, None, None).whole
    target.execute(f"REPLACE INTO d VALUES (1, {', '.join(difference.there)})")
    assert not digest(source, layout, None, None).same(digest(target, layout, None, None))
    here, there = (range_rows(connection, layout, None, None).popitem()[1] for connection in sides)
    assert here.hash != there.hash


@pytest.mark.servers("mariadb-mysql", "mysql-mariadb")
def test_keys_of_numbers_that_the_servers_write_in_two_ways(servers: list[LocalServer]) -> None:
    with fresh_move(servers) as move:
        keys = "(1.736033744707875e-15, 0.00001, 1), (0.5, 0.5, 2), (9223372036854775808, 1, 3)"
        move.begin("f DOUBLE, g FLOAT, v INT, PRIMARY KEY (f, g)", f"VALUES {keys}")
        assert counters(move.vdiff()) == (3, 0, 0, 0)
        move.on_target("UPDATE t SET v=9 WHERE v=1")
        assert counters(move.vdiff()) == (2, 0, 1, 1)


def test_every_difference_in_one_value_is_found_and_shown(servers: list[LocalServer], flavor: str) -> None:
    planted = list(differences(flavor).items())
    names = [[f"c{i}_{part}" for part in range(len(found.types))] for i, (_, found) in enumerate(planted)]
    columns = [
        f"{n} {kind}"
        for part, (_, d) in zip(names, planted, strict=True)
        for n, kind in zip(part, d.types, strict=True)
    ]
    here = ",".join(value for _, difference in planted for value in difference.here)
    with fresh_move(servers) as move:
        rows = ",".join(f"({number},{here})" for number in range(len(planted)))
        move.begin(f"id INT PRIMARY KEY, {', '.join(columns)}", f"VALUES {rows}")
        assert counters(move.vdiff()) == (len(planted), 0, 0, 0)
        for number, (_, difference) in enumerate(planted):
            changes = ",".join(f"{n}={value}" for n, value in zip(names[number], difference.there, strict=True))
            nothing = ",".join(f"{n}=NULL" for n in names[number])  # MySQL takes 1 and 1.0 in JSON for no change
            move.on_target(f"UPDATE t SET {nothing} WHERE id={number}", f"UPDATE t SET {changes} WHERE id={number}")
        report = move.vdiff(max_report_sample_rows=0)
        unseen = {str(i) for i in range(len(planted))} - {s["id"] for s, _ in only_table(report).mismatch_samples}
        assert [planted[int(number)][0] for number in unseen] == []
        assert counters(report) == (0, len(planted), 0, 0)
        for number, (source, target) in enumerate(only_table(report).mismatch_samples):
            what, difference = planted[number]
            differing = [name for name in source if source[name] != target[name]]
            if not difference.look_alike:
                assert differing == names[number], what
