"""What the other kind of server can keep exactly, and what the plan refuses."""

from __future__ import annotations

import pytest

from planner.cluster import Column, Key, Table
from planner.translation import MARIADB, MYSQL, collation, obstacles, same_order


def table(*columns: Column, unique: str = "id") -> Table:
    key = Key("PRIMARY", (unique,), unique=True)
    return Table("t", (Column("id", "int", "int", False), *columns), keys=(key,), engine="InnoDB")


def text(name: str, collation: str) -> Column:
    return Column(name, "varchar(20)", "varchar", True, collation.split("_")[0], collation)


@pytest.mark.parametrize(
    ("column_type", "target", "why"),
    [
        ("uuid", MYSQL, "sorts"),
        ("inet4", MYSQL, "addresses"),
        ("inet6", MYSQL, "addresses"),
        ("decimal(65,38)", MYSQL, "30 digits"),
        ("json", MARIADB, "types of its numbers"),
        ("vector(3)", MARIADB, "11.7"),
    ],
)
def test_types_that_only_one_has(column_type: str, target: str, why: str) -> None:
    column = Column("c", column_type, column_type.split("(")[0])
    ((what, found, hint),) = obstacles(table(column), target)
    assert f"t.c is of type {column_type}" in what
    assert why in found
    assert "exclude: [t]" in hint


@pytest.mark.parametrize("target", [MARIADB, MYSQL])
@pytest.mark.parametrize("column_type", ["int(11)", "decimal(65,30)", "longtext", "bit(64)", "geometry", "year(4)"])
def test_types_that_both_have(column_type: str, target: str) -> None:
    column = Column("c", column_type, column_type.split("(")[0])
    assert not list(obstacles(table(column), target))


@pytest.mark.parametrize(
    ("name", "target", "counterpart", "same"),
    [
        ("utf8mb4_general_ci", MARIADB, "utf8mb4_general_ci", True),
        ("latin1_swedish_ci", MYSQL, "latin1_swedish_ci", True),
        ("utf8mb4_0900_bin", MARIADB, "utf8mb4_nopad_bin", True),
        ("utf8mb4_nopad_bin", MYSQL, "utf8mb4_0900_bin", True),
        ("utf8mb4_0900_ai_ci", MARIADB, "utf8mb4_uca1400_nopad_ai_ci", False),
        ("utf8mb4_uca1400_ai_ci", MYSQL, "utf8mb4_unicode_520_ci", False),
        ("utf8mb4_ja_0900_as_cs", MARIADB, None, False),
        ("gb18030_chinese_ci", MARIADB, None, False),
        ("latin1_nopad_bin", MYSQL, None, False),
    ],
)
def test_collations(name: str, target: str, counterpart: str | None, same: bool) -> None:
    assert collation(name, target) == counterpart
    assert same_order(name, target) is same


def test_a_collation_that_is_only_close_will_do_where_nothing_must_be_unique() -> None:
    columns = (text("a", "utf8mb4_0900_ai_ci"), text("b", "utf8mb4_0900_bin"))
    assert not list(obstacles(table(*columns), MARIADB))
    ((what, why, hint),) = obstacles(table(*columns, unique="a"), MARIADB)
    assert "t.a has collation utf8mb4_0900_ai_ci" in what
    assert "unique key" in why
    assert "utf8mb4_bin" in hint
    assert not list(obstacles(table(*columns, unique="b"), MARIADB))


def test_a_key_over_an_expression() -> None:
    keys = (Key("PRIMARY", ("id",), unique=True), Key("f", ("None",), prefix=True))
    made = Table("t", (Column("id", "int", "int", False),), keys=keys)
    ((what, _why, _hint),) = obstacles(made, MARIADB)
    assert "key f of t" in what
    assert not list(obstacles(made, MYSQL))
