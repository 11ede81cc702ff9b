"""What SHOW GRANTS says, against what a move needs."""

from __future__ import annotations

import pytest

from executor.native.flavor import flavor_of
from executor.native.observe.privileges import ON_DATABASE, SIDECAR, held_globally
from executor.native.observe.privileges import missing_from_grants as missing_for
from planner.checks import writable
from planner.cluster import Server, Tablet, TabletType

DATABASE = "vt_customer"
GLOBAL = flavor_of("10.11.6-MariaDB").replication_privileges
MYSQL = flavor_of("9.7.4-2").replication_privileges
USAGE = "GRANT USAGE ON *.* TO `m`@`%` IDENTIFIED BY PASSWORD '*81F5E21E35407D884A6CD4A731AEBFB6AF209E1B'"
REPLICATION = "GRANT REPLICATION SLAVE, BINLOG MONITOR, SLAVE MONITOR ON *.* TO `m`@`%`"


def missing_from_grants(grants: list[str], database: str) -> tuple[str, ...]:
    return missing_for(grants, database, GLOBAL)


def grant(privileges: tuple[str, ...], where: str) -> str:
    return f"GRANT {', '.join(privileges)} ON {where} TO `m`@`%`"


ENOUGH = [USAGE, REPLICATION, grant(ON_DATABASE, "`vt_customer`.*"), grant(SIDECAR, "`_movetables`.*")]


def test_what_the_documentation_names_is_enough() -> None:
    assert missing_from_grants(ENOUGH, DATABASE) == ()


@pytest.mark.parametrize("name", ON_DATABASE)
def test_each_privilege_on_the_database_is_missed(name: str) -> None:
    rest = tuple(other for other in ON_DATABASE if other != name)
    grants = [USAGE, REPLICATION, grant(rest, "`vt_customer`.*"), grant(SIDECAR, "`_movetables`.*")]
    assert missing_from_grants(grants, DATABASE) == (f"{name} ON `vt_customer`.*",)


@pytest.mark.parametrize("name", SIDECAR)
def test_each_privilege_on_the_sidecar_is_missed(name: str) -> None:
    rest = tuple(other for other in SIDECAR if other != name)
    grants = [USAGE, REPLICATION, grant(ON_DATABASE, "`vt_customer`.*"), grant(rest, "`_movetables`.*")]
    assert missing_from_grants(grants, DATABASE) == (f"{name} ON `_movetables`.*",)


@pytest.mark.parametrize("name", GLOBAL)
def test_each_global_privilege_is_missed_even_if_held_on_the_database(name: str) -> None:
    rest = tuple(other for other in GLOBAL if other != name)
    grants = [USAGE, grant(rest, "*.*"), *ENOUGH[2:], grant((name,), "`vt_customer`.*")]
    assert missing_from_grants(grants, DATABASE) == (f"{name} ON *.*",)


def test_old_names_count_as_the_new_ones() -> None:
    grants = ["GRANT REPLICATION SLAVE, REPLICATION CLIENT, REPLICA MONITOR ON *.* TO `m`@`%`", *ENOUGH[2:]]
    assert missing_from_grants(grants, DATABASE) == ()


@pytest.mark.parametrize("text", ["GRANT ALL PRIVILEGES ON *.* TO `m`@`%` WITH GRANT OPTION", "GRANT ALL ON *.* TO m"])
def test_all_privileges_everywhere_are_enough(text: str) -> None:
    assert missing_from_grants([text], DATABASE) == ()
    assert "SUPER" in held_globally([text])


def test_all_privileges_on_one_database_do_not_reach_another() -> None:
    grants = [REPLICATION, "GRANT ALL PRIVILEGES ON `vt_commerce`.* TO `m`@`%`", ENOUGH[3]]
    assert missing_from_grants(grants, DATABASE) == tuple(f"{name} ON `vt_customer`.*" for name in ON_DATABASE)


@pytest.mark.parametrize(
    ("pattern", "database", "reached"),
    [
        ("vt%", "vt_customer", True),
        ("vt_customer", "vtxcustomer", True),
        (r"vt\_customer", "vt_customer", True),
        (r"vt\_customer", "vtxcustomer", False),
        (r"vt\%", "vt_customer", False),
        ("vt*", "vt_customer", False),
        ("vt[_]customer", "vt_customer", False),
        ("a``b", "a`b", True),
        ("VT_customer", "vt_customer", False),
    ],
)
def test_wildcards_of_database_names(pattern: str, database: str, reached: bool) -> None:
    grants = [REPLICATION, grant(ON_DATABASE, f"`{pattern}`.*"), ENOUGH[3]]
    assert (missing_from_grants(grants, database) == ()) is reached


def test_grants_on_one_table_or_some_columns_are_not_enough() -> None:
    grants = [*ENOUGH[:2], grant(ON_DATABASE, "`vt_customer`.`corder`"), ENOUGH[3]]
    assert len(missing_from_grants(grants, DATABASE)) == len(ON_DATABASE)


def test_mysql_asks_for_what_its_own_privileges_allow() -> None:
    held = "GRANT REPLICATION SLAVE, REPLICATION CLIENT, XA_RECOVER_ADMIN ON *.* TO `m`@`%`"
    assert missing_for([USAGE, held, *ENOUGH[2:]], DATABASE, MYSQL) == ()
    assert missing_for(ENOUGH, DATABASE, MYSQL) == ("REPLICATION CLIENT ON *.*", "XA_RECOVER_ADMIN ON *.*")
    dynamic = "GRANT BACKUP_ADMIN,BINLOG_ADMIN ON *.* TO `m`@`%`"
    assert missing_for([held, dynamic, "GRANT `r`@`%` TO `m`@`%`", *ENOUGH[2:]], DATABASE, MYSQL) == ()


def test_a_partial_revoke_takes_away_what_is_held_everywhere_else() -> None:
    everything = ", ".join(dict.fromkeys((*MYSQL, *ON_DATABASE)))
    grants = [f"GRANT {everything} ON *.* TO `m`@`%`", "REVOKE SELECT, DROP ON `vt_customer`.* FROM `m`@`%`"]
    assert missing_for(grants, DATABASE, MYSQL) == ("SELECT ON `vt_customer`.*", "DROP ON `vt_customer`.*")
    assert missing_for(grants, "vt_commerce", MYSQL) == ()
    assert missing_for([*grants, "GRANT SELECT, DROP ON `vt_customer`.* TO `m`@`%`"], DATABASE, MYSQL) == ()


def test_grants_add_up() -> None:
    grants = [USAGE, grant(("REPLICATION SLAVE",), "*.*"), grant(("BINLOG MONITOR", "SLAVE MONITOR", "SELECT"), "*.*")]
    grants += [grant(ON_DATABASE[1:5], "`vt_customer`.*"), grant(ON_DATABASE[5:], "`vt\\_%`.*"), ENOUGH[3]]
    assert missing_from_grants(grants, DATABASE) == ()


def test_the_hint_holds_a_grant_for_each_level() -> None:
    missing = ("SLAVE MONITOR ON *.*", "ALTER ON `vt_customer`.*", "DROP ON `vt_customer`.*", "SUPER ON *.* (or so)")
    server = Server(address="127.0.0.1:17200", missing_privileges=missing)
    tablet = Tablet("zone1-0000000200", "customer", TabletType.PRIMARY, "127.0.0.1", 17200, server=server)
    (refusal,) = writable(tablet)
    user = "'<user of zone1-0000000200 in the inventory>'@'%'"
    assert refusal.hint == (
        f"as an administrator of that server: GRANT SLAVE MONITOR, SUPER ON *.* TO {user}; "
        f"GRANT ALTER, DROP ON `vt_customer`.* TO {user};"
    )
