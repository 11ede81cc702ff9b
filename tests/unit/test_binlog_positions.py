"""Positions: MariaDB GTID lists as values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.native.binlog.positions import BadPosition, GtidId, Position, parse, parse_gtid

gtids = st.builds(GtidId, st.integers(0, 5), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
positions = st.dictionaries(st.integers(0, 5), gtids).map(
    lambda found: Position(tuple(sorted(GtidId(domain, g.server, g.sequence) for domain, g in found.items())))
)


@given(positions)
def test_text_parses_back(position: Position) -> None:
    assert parse(position.text) == position


def test_parse_allows_what_mariadb_prints_and_sorts_by_domain() -> None:
    assert parse(" 3-1-7,\n0-2-100 ").text == "0-2-100,3-1-7"
    assert parse("") == Position()
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
        "3E11FA47-71CA-11E1-9E33-C80AA9429562:1-5",
        "٠-1-2",
    ],
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(BadPosition, match="GTID"):
        parse(text)


def test_parse_refuses_a_domain_twice() -> None:
    with pytest.raises(BadPosition, match="twice"):
        parse("0-1-2,0-2-3")


@given(positions, positions)
def test_merge_is_the_smallest_that_contains_both(left: Position, right: Position) -> None:
    merged = left.merge(right)
    assert merged.contains(left)
    assert merged.contains(right)
    assert all(gtid in left.gtids or gtid in right.gtids for gtid in merged.gtids)
    if left.contains(right):
        assert {(g.domain, g.sequence) for g in merged.gtids} == {(g.domain, g.sequence) for g in left.gtids}


@given(positions, gtids)
def test_with_gtid_replaces_the_entry_of_its_domain(position: Position, gtid: GtidId) -> None:
    after = position.with_gtid(*gtid)
    assert after.sequence(gtid.domain) == gtid.sequence
    assert [g for g in after.gtids if g.domain != gtid.domain] == [g for g in position.gtids if g.domain != gtid.domain]


def test_contains_needs_every_domain() -> None:
    assert parse("0-1-5,1-1-3").contains(parse("0-2-5"))
    assert not parse("0-1-5").contains(parse("0-1-5,1-1-1"))
    assert not parse("0-1-5").contains(parse("0-1-6"))
    assert parse("0-1-5").contains(Position())
    assert not Position().contains(parse("0-1-0"))


def test_parse_gtid() -> None:
    assert parse_gtid("1-2-3") == GtidId(1, 2, 3)
    assert GtidId(1, 2, 3).text == "1-2-3"
