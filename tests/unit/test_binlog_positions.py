"""Positions as values: MariaDB's GTID lists and MySQL's GTID sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.native.binlog.gtid_list import parse_gtid
from executor.native.binlog.positions import (
    BadPosition,
    GtidId,
    GtidList,
    GtidSet,
    MysqlGtid,
    Position,
    advanced,
    held_back,
    parse,
)

gtids = st.builds(GtidId, st.integers(0, 5), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
positions = st.dictionaries(st.integers(0, 5), gtids).map(
    lambda found: GtidList(tuple(sorted(GtidId(domain, g.server, g.sequence) for domain, g in found.items())))
)


@given(positions)
def test_text_parses_back(position: Position) -> None:
    assert parse(position.text) == position


def test_parse_allows_what_mariadb_prints_and_sorts_by_domain() -> None:
    assert parse(" 3-1-7,\n0-2-100 ").text == "0-2-100,3-1-7"
    assert parse("") == GtidList()
    assert not parse("  ")


@pytest.mark.parametrize(
    "text",
    [
        "0-1",
        "0-1-2-3",
        "a-1-2",
        "0-1-2,",
        ",",
        "0-1--2",
        "4294967296-1-1",
        "0-4294967296-1",
        "0-1-18446744073709551616",
        "0-1-2 0-1-3",
        "٠-1-2",
        "0-1-5 held",
        "0-1-5 held 0-1 after 0-1-2",
        "3E11FA47-71CA-11E1-9E33-C80AA942956:1-5",
        "3E11FA47-71CA-11E1-9E33-C80AA9429562:0-5",
        "3E11FA47-71CA-11E1-9E33-C80AA9429562:5-1",
        "3E11FA47-71CA-11E1-9E33-C80AA9429562:9223372036854775808",
        "3E11FA47-71CA-11E1-9E33-C80AA9429562:1a",
        "3E11FA47-71CA-11E1-9E33-C80AA9429562:1:٠",
    ],
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(BadPosition, match="GTID"):
        parse(text)


def test_parse_refuses_a_domain_twice() -> None:
    with pytest.raises(BadPosition, match="twice"):
        parse("0-1-2,0-2-3")


@given(positions, positions)
def test_merge_is_the_smallest_that_contains_both(left: GtidList, right: GtidList) -> None:
    merged = left.merge(right)
    assert merged.contains(left)
    assert merged.contains(right)
    assert all(gtid in left.gtids or gtid in right.gtids for gtid in merged.gtids)
    if left.contains(right):
        assert {(g.domain, g.sequence) for g in merged.gtids} == {(g.domain, g.sequence) for g in left.gtids}


@given(positions, gtids)
def test_with_gtid_replaces_the_entry_of_its_domain(position: GtidList, gtid: GtidId) -> None:
    after = position.with_gtid(gtid)
    assert after.sequence(gtid.domain) == gtid.sequence
    assert [g for g in after.gtids if g.domain != gtid.domain] == [g for g in position.gtids if g.domain != gtid.domain]


def test_contains_needs_every_domain() -> None:
    assert parse("0-1-5,1-1-3").contains(parse("0-2-5"))
    assert not parse("0-1-5").contains(parse("0-1-5,1-1-1"))
    assert not parse("0-1-5").contains(parse("0-1-6"))
    assert parse("0-1-5").contains(GtidList())
    assert not GtidList().contains(parse("0-1-0"))


def test_parse_gtid() -> None:
    assert parse_gtid("1-2-3") == GtidId(1, 2, 3)
    assert GtidId(1, 2, 3).text == "1-2-3"


def test_a_prepared_transaction_is_left_out_of_a_list_until_it_is_settled() -> None:
    prepared, later = GtidId(0, 1, 57), GtidId(0, 1, 58)
    held = advanced(held_back(parse("0-1-56,1-1-3"), prepared), later)
    assert held.text == "0-1-58,1-1-3 held 0-1-57 after 0-1-56"
    assert parse(held.text) == held
    assert held.resume.text == "0-1-56,1-1-3"
    assert isinstance(held, GtidList)
    assert held.has(later)
    assert not held.has(prepared)
    assert not held.contains(parse("0-1-58"))
    assert held.contains(parse("0-1-56"))
    assert held.contains(held)
    assert parse("0-1-58,1-1-3").contains(held)
    assert held_back(held, prepared) == held  # it was read again after a restart
    assert held.merge(parse("0-1-57")).text == "0-1-58,1-1-3"
    assert held.merge(parse("0-1-56")) == held
    assert advanced(held, prepared).text == "0-1-58,1-1-3"


def test_the_first_transaction_of_a_domain_may_be_held() -> None:
    held = held_back(parse("1-1-3"), GtidId(0, 1, 1))
    assert parse(held.text) == held
    assert held.resume.text == "1-1-3"


def test_of_several_held_transactions_the_first_decides_where_to_resume() -> None:
    position = parse("0-1-5")
    for number in (6, 7):
        position = held_back(position, GtidId(0, 1, number))
    assert position.resume.text == "0-1-5"
    assert parse(position.text) == position
    assert advanced(position, GtidId(0, 1, 6)).resume.text == "0-1-6"


A, B = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "00000000-0000-0000-0000-000000000001"
mysql_gtids = st.builds(MysqlGtid, st.sampled_from([A, B]), st.sampled_from(["", "t", "z_9"]), st.integers(1, 40))
gtid_sets = st.lists(mysql_gtids, max_size=60)


@given(gtid_sets)
def test_a_set_holds_what_was_added_in_whatever_order(added: list[MysqlGtid]) -> None:
    position: Position = parse("")
    for gtid in added:
        position = advanced(position, gtid)
    assert parse(position.text) == position or not added
    for gtid in added:
        assert position.has(gtid)  # type: ignore[arg-type]
        missing = MysqlGtid(gtid.source, gtid.tag, gtid.number + 1)
        assert position.has(missing) is (missing in added)  # type: ignore[arg-type]
    backwards: Position = parse("")
    for gtid in reversed(added):
        backwards = advanced(backwards, gtid)
    assert backwards == position


@given(gtid_sets, gtid_sets)
def test_sets_contain_and_merge_as_sets_do(left: list[MysqlGtid], right: list[MysqlGtid]) -> None:
    def of(gtids: list[MysqlGtid]) -> GtidSet:
        position = GtidSet()
        for gtid in gtids:
            position = position.with_gtid(gtid)
        return position

    assert of(left).contains(of(right)) is (set(right) <= set(left))
    assert of(left).merge(of(right)) == of(left + right)


def test_a_set_reads_what_mysql_prints_and_people_type() -> None:
    text = f"{A.upper()}:7:1-3 : 4 ,\n{B}:5:TAG:1-2:9:other:3"
    assert parse(text).text == f"{B}:5:other:3:tag:1-2:9,{A}:1-4:7"


def test_a_set_with_a_hole_is_what_a_prepared_transaction_leaves() -> None:
    position = parse(f"{A}:1-5")
    assert held_back(position, MysqlGtid(A, "", 6)) == position
    assert advanced(position, MysqlGtid(A, "", 7)).text == f"{A}:1-5:7"


def test_a_set_grows_at_its_end_without_touching_the_rest() -> None:
    position = parse(",".join([f"{A}:" + ":".join(str(n) for n in range(1, 2000, 2)), f"{B}:1-5"]))
    grown = advanced(position, MysqlGtid(B, "", 6))
    assert isinstance(position, GtidSet)
    assert isinstance(grown, GtidSet)
    assert grown.sources[1] is position.sources[1]


def test_how_a_set_is_sent() -> None:
    plain, tagged = parse(f"{A}:1-6"), parse(f"{A}:1-6,{A}:foo_1:1-2")
    assert isinstance(plain, GtidSet)
    assert isinstance(tagged, GtidSet)
    uuid = A.replace("-", "")
    interval = "01000000000000000100000000000000"
    assert plain.encoded.hex() == f"0100000000000000{uuid}{interval}0700000000000000"
    assert tagged.encoded.hex() == (
        f"0102000000000001{uuid}00{interval}0700000000000000{uuid}0a666f6f5f31{interval}0300000000000000"
    )


def test_positions_of_two_kinds_do_not_mix() -> None:
    with pytest.raises(BadPosition, match="the other MySQL's"):
        advanced(parse("0-1-5"), MysqlGtid(A, "", 1))
    assert not parse("0-1-5").contains(parse(f"{A}:1"))
    assert advanced(parse(""), MysqlGtid(A, "", 1)).text == f"{A}:1"
