"""SHOW CREATE TABLE of one kind of server, written for the other."""

from __future__ import annotations

import pytest

from executor.errors import MovetablesError
from executor.native.create_table import translated
from executor.native.flavor import Flavor

MARIADB, MYSQL = Flavor("MariaDB", (10, 11)), Flavor("MySQL", (9, 7))


def table(*lines: str, options: str = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4") -> str:
    return "CREATE TABLE `t` (\n  " + ",\n  ".join(lines) + f"\n) {options}"


def to_mariadb(line: str) -> str:
    found = translated(table("`id` int", line), MYSQL, MARIADB)
    return found.split(",\n  ", 1)[1].split("\n)")[0]


def to_mysql(line: str) -> str:
    found = translated(table("`id` int", line), MARIADB, MYSQL)
    return found.split(",\n  ", 1)[1].split("\n)")[0]


def test_between_servers_of_one_kind_nothing_changes() -> None:
    text = table("`a` int /*!80023 INVISIBLE */")
    assert translated(text, MYSQL, MYSQL) == text


@pytest.mark.parametrize(
    ("mysql", "mariadb"),
    [
        ("`a` int DEFAULT NULL /*!80023 INVISIBLE */", "`a` int DEFAULT NULL INVISIBLE"),
        ("KEY `k` (`a`) /*!80000 INVISIBLE */", "KEY `k` (`a`) IGNORED"),
        ("`b` char(1) COLLATE utf8mb4_0900_bin", "`b` char(1) COLLATE utf8mb4_nopad_bin"),
        ("`b` char(1) COLLATE utf8mb4_0900_as_cs", "`b` char(1) COLLATE utf8mb4_uca1400_nopad_as_cs"),
        ("`b` text COMMENT 'COLLATE utf8mb4_0900_bin'", "`b` text COMMENT 'COLLATE utf8mb4_0900_bin'"),
        ("`b` text COMMENT 'it''s /*!80023 INVISIBLE */ \\' '", "`b` text COMMENT 'it''s /*!80023 INVISIBLE */ \\' '"),
        ("`/*!80023 x */` int", "`/*!80023 x */` int"),
        ("`a``b` int /*!80023 INVISIBLE */", "`a``b` int INVISIBLE"),
        ("`g` point /*!80003 SRID 0 */ NOT NULL", "`g` point  NOT NULL"),
        ("`u` char(36) DEFAULT (uuid())", "`u` char(36) DEFAULT (uuid())"),
    ],
)
def test_for_mariadb(mysql: str, mariadb: str) -> None:
    assert to_mariadb(mysql) == mariadb


@pytest.mark.parametrize(
    ("mariadb", "mysql"),
    [
        ("`c` varchar(50) /*M!100301 COMPRESSED*/ DEFAULT NULL", "`c` varchar(50)  DEFAULT NULL"),
        ("KEY `kk` (`a`) IGNORED", "KEY `kk` (`a`) INVISIBLE"),
        ("KEY `IGNORED` (`a`)", "KEY `IGNORED` (`a`)"),
        ("`t` text DEFAULT 'abc\\'(' COMMENT 'DEFAULT 1'", "`t` text DEFAULT ('abc\\'(') COMMENT 'DEFAULT 1'"),
        ("`u` char(36) DEFAULT uuid()", "`u` char(36) DEFAULT (uuid())"),
        (
            "`c` char(9) DEFAULT concat('a)',lower(left('b''',1)))",
            "`c` char(9) DEFAULT (concat('a)',lower(left('b''',1))))",
        ),
        ("`DEFAULT f(1)` int COMMENT 'DEFAULT uuid()'",) * 2,
        ("`d` datetime DEFAULT current_timestamp() ON UPDATE current_timestamp()",) * 2,
        ("`d` datetime DEFAULT (current_timestamp() + interval 1 day)",) * 2,
        ("CONSTRAINT `CONSTRAINT_1` CHECK (`i` > 0)", "CHECK (`i` > 0)"),
        ("CONSTRAINT `mine` CHECK (`i` > 0)", "CONSTRAINT `mine` CHECK (`i` > 0)"),
        ("`n` varchar(9) COLLATE utf8mb4_uca1400_ai_ci", "`n` varchar(9) COLLATE utf8mb4_unicode_520_ci"),
    ],
)
def test_for_mysql(mariadb: str, mysql: str) -> None:
    assert to_mysql(mariadb) == mysql


def test_options_of_the_table() -> None:
    text = table("`a` int", options="ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci COMMENT='x'")
    assert "COLLATE=utf8mb4_uca1400_nopad_ai_ci COMMENT='x'" in translated(text, MYSQL, MARIADB)
    text = table("`a` int", options="ENGINE=InnoDB `page_compressed`='1' TRANSACTIONAL=1 COMMENT='y'")
    assert translated(text, MARIADB, MYSQL).endswith(") ENGINE=InnoDB COMMENT='y'")


def test_a_check_that_is_not_enforced_is_left_out() -> None:
    text = table("`a` int", "CONSTRAINT `c` CHECK ((`a` > 0)) /*!80016 NOT ENFORCED */")
    assert translated(text, MYSQL, MARIADB) == table("`a` int")


@pytest.mark.parametrize(
    "line",
    [
        "`g` point /*!80003 SRID 4326 */",
        "FULLTEXT KEY `f` (`a`) /*!80099 NEW THING */",
        "`a` char(1) COLLATE utf8mb4_ja_0900_as_cs",
    ],
)
def test_what_mariadb_would_ignore_is_an_error(line: str) -> None:
    with pytest.raises(MovetablesError):
        to_mariadb(line)


@pytest.mark.parametrize("line", ["`a` int /*M!101100 NEW THING */", "`a` char(1) COLLATE latin1_nopad_bin"])
def test_what_mysql_would_ignore_is_an_error(line: str) -> None:
    with pytest.raises(MovetablesError):
        to_mysql(line)
