"""SQL texts of a table's layout, the grouping of rows into statements, and the names of fence triggers."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.errors import MovetablesError
from executor.native.cutover.fence import EVENTS, PREFIX, create_statements, drop_statements, is_fenced, trigger_name
from executor.native.stream.layout import SUPPORTED_TYPES, layout_of, literal_expression
from executor.native.stream.write import STATEMENT_BYTES, _grouped
from planner.checks_tables import SUPPORTED_TYPES as PLANNED_TYPES
from planner.cluster import Column, Key, Table


def column(name: str, data_type: str = "int", **more: object) -> Column:
    return Column(name, data_type, data_type, **({"nullable": False} | more))  # type: ignore[arg-type]


def table(*keys: str, **more: object) -> Table:
    columns = tuple(column(name) for name in (*keys, "v"))
    given = {"columns": columns, "keys": (Key("PRIMARY", keys, unique=True),)} | more
    return Table("t", **given)  # type: ignore[arg-type]


def test_planner_and_stream_support_the_same_types() -> None:
    assert SUPPORTED_TYPES == PLANNED_TYPES


@pytest.mark.parametrize("data_type", ["xmltype", ""])
def test_other_types_are_refused_by_name(data_type: str) -> None:
    with pytest.raises(MovetablesError, match="column c"):
        literal_expression(column("c", data_type))


def test_a_table_without_usable_key_has_none() -> None:
    key = Key("u", ("v",), unique=True, nullable=True)
    layout = layout_of("db", table("id", keys=(key,)))
    assert (layout.key, layout.key_name) == ((), "")


def test_generated_columns_are_not_copied() -> None:
    columns = (column("id"), column("g", generated=True, nullable=True), column("v"))
    layout = layout_of("db", table("id", columns=columns))
    assert (layout.column_list, layout.row_end) == ("`id`,`v`", ")")
    assert layout.generated == ("g",)


def test_generated_columns_without_null_are_written_as_default() -> None:
    columns = (column("id"), column("g", generated=True, nullable=False), column("v"))
    layout = layout_of("db", table("id", columns=columns))
    assert (layout.column_list, layout.row_end) == ("`id`,`v`,`g`", ",DEFAULT)")
    assert layout.tuple_expression.endswith(",',DEFAULT)')")


def inside(keys: tuple[str, ...], after: tuple[str, ...] | None, upto: tuple[str, ...] | None) -> str:
    return layout_of("db", table(*keys)).inside(after, upto)


def test_an_open_range_has_no_condition() -> None:
    assert inside(("a",), None, None) == "TRUE"


@given(st.data())
def test_ranges_of_composite_keys_mean_what_tuples_mean(data: st.DataObject) -> None:
    """The condition is evaluated by Python: `=` and AND, OR are all it has."""
    width = data.draw(st.integers(1, 4))
    names = ("a", "b", "c", "d")[:width]
    bounds = st.none() | st.tuples(*[st.integers(0, 2).map(str)] * width)
    after, upto = data.draw(bounds), data.draw(bounds)
    condition = inside(names, after, upto).replace("`", "").replace("=", "==").replace("<==", "<=").replace(">==", ">=")
    for row in product(range(3), repeat=width):
        values = dict(zip(names, row, strict=True))
        found = eval(condition.replace("AND", "and").replace("OR", "or").replace("TRUE", "True"), {}, values)
        above = after is None or row > tuple(map(int, after))
        below = upto is None or row <= tuple(map(int, upto))
        assert found == (above and below)


def test_names_are_quoted() -> None:
    made = Table("a`b", (column("c`d"),), (Key("PRIMARY", ("c`d",), unique=True),))
    layout = layout_of("e`f", made)
    assert layout.qualified == "`e``f`.`a``b`"
    assert layout.matching([("1",), ("2",)]) == "`c``d` IN (1,2)"


@given(st.lists(st.integers(1, STATEMENT_BYTES * 2).map(lambda size: b"x" * min(size, 400_000)), max_size=12))
def test_grouping_keeps_every_row_in_order(rows: list[bytes]) -> None:
    groups = list(_grouped(rows, STATEMENT_BYTES))
    assert [row for group in groups for row in group] == rows
    assert all(len(b",".join(group)) <= STATEMENT_BYTES + 12 or len(group) == 1 for group in groups)


NAMES = st.text(st.characters(max_codepoint=0xD7FF), min_size=1, max_size=64)


@given(NAMES, NAMES)
def test_trigger_names_are_short_and_one_of_a_kind(one: str, other: str) -> None:
    names = {trigger_name(table, event) for table in {one, other} for event in EVENTS}
    assert len(names) == 3 * len({one, other})
    assert all(len(name) <= 64 and name.startswith(PREFIX) and name.isascii() for name in names)


def test_a_fence_is_whole_or_none() -> None:
    assert is_fenced({"INSERT", "UPDATE", "DELETE"})
    assert not is_fenced({"INSERT", "UPDATE"})
    assert not is_fenced(None)


def test_what_is_created_is_what_is_dropped() -> None:
    for created, dropped in zip(create_statements("d`b", "t"), drop_statements("d`b", "t"), strict=True):
        name = dropped.removeprefix("DROP TRIGGER IF EXISTS ")
        assert created.startswith(f"CREATE TRIGGER {name} BEFORE ")
        assert name.startswith("`d``b`.")
