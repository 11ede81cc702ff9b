"""VDiff of tables that are compared as a whole: without a key, and with keys that the two servers order differently."""

from __future__ import annotations

import threading

import pytest

from executor.errors import Refused, TimedOut
from executor.native.servers import connect
from executor.native.stream.layout import TableLayout, describe_tables, layout_of
from executor.native.vdiff.confirm import Marking
from executor.native.vdiff.moment import same_moment
from executor.native.vdiff.options import VDiffOptions
from executor.native.vdiff.pairs import Pair
from executor.native.vdiff.report import TableReport
from executor.native.vdiff.whole import DiffDurationExceeded, WholeComparison
from planner.cluster import Table
from tests.cluster import vdiff_move
from tests.cluster.vdiff_move import Move, counters, only_table

servers, move = vdiff_move.servers, vdiff_move.move


def compared(move: Move, rows: list[str], other: list[str], **options: float) -> TableReport:
    """What the comparison of tables of one column without a key finds; each side's rows as SQL values."""
    for server, database, values in ((move.source, "src", rows), (move.target, "dst", other)):
        with connect(server.login, database=database) as connection:
            connection.execute("CREATE TABLE k (v VARCHAR(20), w INT) ENGINE=InnoDB")
            for start in range(0, len(values), 1000):
                connection.execute(f"INSERT INTO k VALUES {','.join(values[start : start + 1000])}")
    return whole(move, **options)


def whole(move: Move, **options: float) -> TableReport:
    """Compares the tables `k` of both sides as a whole, without a stream."""
    with move.connect_source() as source, move.connect_target() as target:
        table = describe_tables(source, "src", ["k"])[0]
        layouts = [keyless(database, table) for database in ("src", "dst")]
        pair = Pair(layouts[0], layouts[1], 100, whole=True)
        given = VDiffOptions(**options)  # type: ignore[arg-type]
        comparison = WholeComparison(source, target, pair, given, TableReport("k"), lambda _: None)
        comparison.run()
        return comparison.report


def keyless(database: str, table: Table) -> TableLayout:
    return TableLayout(database, table.name, table.columns, (), "")


def found(report: TableReport) -> tuple[int, int, int, int]:
    return report.matching, report.mismatched, report.extra_source, report.extra_target


def test_rows_without_a_key_are_counted(move: Move) -> None:
    same = ["('a',1)", "('a',1)", "('b',2)", "(NULL,NULL)", "('',0)"]
    assert found(compared(move, same, list(reversed(same)))) == (5, 0, 0, 0)


def test_duplicates_that_would_cancel_in_a_xor_are_found(move: Move) -> None:
    report = compared(move, ["('x',1)"] * 4 + ["('y',2)"], ["('x',1)"] * 2 + ["('y',2)"])
    assert found(report) == (3, 0, 2, 0)
    assert report.extra_source_samples == ({"v": "x", "w": "1"},)


def test_pairs_of_duplicates_that_were_exchanged_are_found(move: Move) -> None:
    report = compared(move, ["('x',1)"] * 2, ["('y',2)"] * 2)
    assert found(report) == (0, 0, 2, 2)


def test_values_that_collations_take_for_equal_are_found_without_a_key(move: Move) -> None:
    report = compared(move, ["('a',1)", "('b ',1)", "(NULL,1)"], ["('A',1)", "('b',1)", "('NULL',1)"])
    assert found(report) == (0, 0, 3, 3)


def test_many_rows_differ_in_bounded_memory(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executor.native.vdiff.whole.HELD_ROWS", 500)
    rows = [f"('r',{number})" for number in range(5000)]
    other = [f"('{'r' if number % 2 else 's'}',{number})" for number in range(5000)]
    report = compared(move, rows, other)
    assert found(report) == (2500, 0, 2500, 2500)
    assert len(report.extra_source_samples) == len(report.extra_target_samples) == 10


def test_a_key_that_both_sides_order_differently_is_compared_as_a_whole(move: Move) -> None:
    rows = [f"('{letter * 2}', {n})" for n, letter in enumerate("aÖbßzcüdE")]
    move.begin("k VARCHAR(10) COLLATE utf8mb4_bin PRIMARY KEY, v INT", f"VALUES {','.join(rows)}")
    move.on_target("ALTER TABLE t MODIFY k VARCHAR(10) COLLATE utf8mb4_unicode_ci NOT NULL")
    assert counters(move.vdiff()) == (9, 0, 0, 0)
    move.on_target("UPDATE t SET v=-1 WHERE v=3", "DELETE FROM t WHERE v=4", "INSERT INTO t VALUES ('new', 99)")
    report = move.vdiff()
    assert counters(report) == (7, 1, 1, 1)
    source, target = only_table(report).mismatch_samples[0]
    assert (source["k"], source["v"], target["v"]) == ("ßß", "3", "-1")
    assert only_table(move.vdiff(max_extra_rows_to_compare=0)).extra_source == 2
    with pytest.raises(Refused, match="has no key along which both sides could end"):
        move.vdiff(limit=3)


def test_a_whole_table_is_compared_while_it_changes(move: Move) -> None:
    move.begin("k VARCHAR(10) COLLATE utf8mb4_bin PRIMARY KEY, v INT", "VALUES ('a',0),('b',0),('c',0)")
    move.on_target("ALTER TABLE t MODIFY k VARCHAR(10) COLLATE utf8mb4_unicode_ci NOT NULL")
    stop, written = threading.Event(), []

    def write() -> None:
        with move.connect_source() as source:
            while not stop.wait(0.003):
                source.execute("UPDATE t SET v=1-v WHERE k='a'")
                source.execute("UPDATE t SET v=v+1 WHERE k='b'")
                written.append(1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            assert counters(move.vdiff()) == (3, 0, 0, 0)
        move.on_target("UPDATE t SET v=-7 WHERE k='c'")
        assert counters(move.vdiff()) == (2, 1, 0, 0)
    finally:
        stop.set()
        writer.join()
    assert len(written) > 20


def test_an_open_transaction_does_not_hold_up_writers_for_long(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executor.native.vdiff.moment.ATTEMPTS", 2)
    move.begin("k VARCHAR(10) COLLATE utf8mb4_bin PRIMARY KEY, v INT", "VALUES ('a',0),('b',0)")
    marking = Marking(move.connect_source, move.connect_target, "customer", "commerce2customer", 10, lambda _: None)
    with move.connect_source() as open_one, move.connect_source() as other:
        layout = layout_of("src", describe_tables(other, "src", ["t"])[0])
        open_one.execute("START TRANSACTION")
        open_one.execute("UPDATE t SET v=1 WHERE k='a'")
        other.execute("SET SESSION lock_wait_timeout=10")
        done = threading.Event()

        def take() -> None:
            with (
                pytest.raises(TimedOut, match="has no moment"),
                same_moment(move.connect_source, move.connect_target, layout, marking),
            ):
                pass
            done.set()

        taking = threading.Thread(target=take)
        taking.start()
        wrote = 0
        while not done.is_set():
            assert other.execute("UPDATE t SET v=v+1 WHERE k='b'") == 1
            wrote += 1
        open_one.execute("ROLLBACK")
        taking.join()
    marking.close()
    assert wrote > 1


def test_a_snapshot_is_not_held_longer_than_asked(move: Move) -> None:
    rows = [f"('{'r' * 20}',{number})" for number in range(5000)]
    compared(move, rows, rows)
    with pytest.raises(DiffDurationExceeded, match="exceeding the max-diff-duration time"):
        whole(move, max_diff_duration=0.000001)


def test_a_table_without_a_key_is_compared_along_its_stream(move: Move) -> None:
    move.begin("v VARCHAR(20), w INT", "VALUES ('x',1),('x',1),('x',1),(NULL,NULL),('y',2)")
    assert counters(move.vdiff()) == (5, 0, 0, 0)
    move.on_source("DELETE FROM t WHERE w=2 LIMIT 1", "INSERT INTO t VALUES ('x',1),('z',3)")
    assert counters(move.vdiff()) == (6, 0, 0, 0)
    move.on_target("DELETE FROM t WHERE w=1 LIMIT 1", "INSERT INTO t VALUES ('z',3)")
    report = move.vdiff()
    assert counters(report) == (5, 0, 1, 1)
    assert only_table(report).extra_source_samples == ({"v": "x", "w": "1"},)
    assert only_table(report).extra_target_samples == ({"v": "z", "w": "3"},)


@pytest.mark.servers("mariadb-mysql", "mysql-mariadb")
@pytest.mark.parametrize("key", ["INT", "VARCHAR(20) COLLATE utf8mb4_unicode_ci", "VARCHAR(20) COLLATE utf8mb4_bin"])
def test_servers_of_two_kinds_are_compared(move: Move, key: str) -> None:
    move.begin(
        f"id {key} PRIMARY KEY, v VARCHAR(20), d DOUBLE, f FLOAT, t TIMESTAMP(6) NULL, b VARBINARY(9), h ENUM('a','b')",
        "SELECT seq, CONCAT('é', seq), seq/7e0, seq/7e0, '2024-01-01 00:00:00.000001', UNHEX('00FF'), 'b' "
        "FROM seq_1_to_700",
    )
    assert counters(move.vdiff()) == (700, 0, 0, 0)
    move.on_target("UPDATE t SET d=d+1e-13 WHERE id='7'", "DELETE FROM t WHERE id='9'")
    report = move.vdiff()
    assert counters(report) == (698, 1, 1, 0)
    assert only_table(report).extra_source_samples[0]["v"] == "é9"
