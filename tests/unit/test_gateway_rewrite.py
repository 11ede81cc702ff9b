"""Statements on their way through the gateway: where they go, and every byte of what is sent there."""

# ruff: noqa: E501 - a statement stays on one line

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.native.gateway import scan
from executor.native.gateway.errors import GatewayError
from executor.native.gateway.routing import Route, Target, parse_target
from executor.native.gateway.scan import UnclosedLiteral, join, split
from executor.native.gateway.snapshot import Snapshot
from executor.native.gateway.statement import Verb, analyse
from executor.native.topology import KeyspaceRecord, TopologyState
from planner.cluster import RoutingRule, TabletType
from planner.routing import with_move_created, with_reads_at, with_writes_at

KEYSPACES = tuple(KeyspaceRecord(name, f"vt_{name}") for name in ("commerce", "customer", "order"))
TABLES = ["customer", "corder"]
CREATED = with_move_created((), "commerce", "customer", TABLES)
SWITCHED = with_writes_at(
    with_reads_at(CREATED, "commerce", "customer", TABLES, [TabletType.REPLICA, TabletType.RDONLY], "customer"),
    "commerce",
    "customer",
    TABLES,
    "customer",
)


def routed(text: bytes, target: str = "commerce", rules: tuple[RoutingRule, ...] = ()) -> tuple[str, bytes, Route]:
    state = TopologyState(1, KEYSPACES, (), rules)
    shape, literals = split(text)
    chosen = parse_target(target, state) if target else Target()
    route = Snapshot.of(state).route(analyse(shape), chosen, shape)
    sent = text if route.parts is None else join(b"\0".join(route.parts), literals)
    return (route.key[0] if route.key else "", sent, route)


REWRITES = [
    # unqualified names go as they came
    ("select * from customer", "select * from customer", {"customer"}),
    ("SELECT c FROM `customer` AS c WHERE c.`email` = 'x'", None, {"customer"}),
    ("select customer.email, c.* from customer, corder c", None, {"customer", "corder"}),
    # the keyspace is replaced, and nothing else
    ("select * from commerce.customer", "select * from `vt_commerce`.customer", {"customer"}),
    ("select * from `commerce`.`customer`", "select * from `vt_commerce`.`customer`", {"customer"}),
    ("select * from commerce . customer", "select * from `vt_commerce` . customer", {"customer"}),
    (
        "select commerce.customer.email, customer.email from commerce.customer where commerce.customer.email like 'a'",
        "select `vt_commerce`.customer.email, customer.email from `vt_commerce`.customer "
        "where `vt_commerce`.customer.email like 'a'",
        {"customer"},
    ),
    ("select commerce.customer.* from customer", "select `vt_commerce`.customer.* from customer", {"customer"}),
    (
        "select 'commerce.customer', \"from commerce.x\" /* commerce.customer */ from commerce.t -- commerce.t\n where 1",
        "select 'commerce.customer', \"from commerce.x\" /* commerce.customer */ from `vt_commerce`.t -- commerce.t\n where 1",
        {"t"},
    ),
    ("select 'it''s', 'a\\'b from x', `a'b` from commerce.t", "select 'it''s', 'a\\'b from x', `a'b` from `vt_commerce`.t", {"t"}),
    ("select `No.`, `from`, `a``b` from `commerce`.`No.`", "select `No.`, `from`, `a``b` from `vt_commerce`.`No.`", {"No."}),
    ("select 1 # from commerce.x\n from commerce.t", "select 1 # from commerce.x\n from `vt_commerce`.t", {"t"}),
    ("select 5--1 from commerce.t", "select 5--1 from `vt_commerce`.t", {"t"}),
    ("select /*!40001 SQL_NO_CACHE */ * from t", None, {"t"}),
    ("/*!40000 ALTER TABLE `commerce`.`t` DISABLE KEYS */", "/*!40000 ALTER TABLE `vt_commerce`.`t` DISABLE KEYS */", {"t"}),
    # joins, lists, nesting
    ("select 1 from a join b on a.x = b.x left join (c cross join d) using (x), e", None, set("abcde")),
    ("select 1 from (a, b), ((c)), (select * from d) e", None, set("abcd")),
    ("select 1 from ((select 1 from a) union (select 2 from b)) u", None, set("ab")),
    ("(select 1 from a) union all (select 2 from b order by x limit 1, 2)", None, set("ab")),
    ("select (select max(x) from b), f(x, y) from a where x in (select y from c) and exists (select 1 from d)", None, set("abcd")),
    ("select 1 from a use index for order by (i), b force index (j, k) where x", None, set("ab")),
    ("select 1 from a partition (p0, p1) as x, b", None, set("ab")),
    ("select 1 from a straight_join b", None, set("ab")),
    ("select straight_join x, y from a", None, set("a")),
    ("select 1 from a natural join b group by x, y having z order by u, v limit 3 for update", None, set("ab")),
    ("select * from json_table('[1]', '$[*]' columns (x int path '$')) as j, a", None, set("a")),
    ("select 1 from dual", None, set()),
    ("select extract(year from d), trim(both 'x' from y), substring(z from 2 for 3) from a", None, set("a")),
    ("select x is distinct from y from a", None, set("a")),
    ("select a.from_date, `a`.`join` from a", None, set("a")),
    ("select @from, @@session.sql_mode, @@global.x from a", None, set("a")),
    ("select x as `from`, y as t from a as b, c", None, set("ac")),
    # common table expressions
    ("with c as (select * from a) select * from c, b", None, set("ab")),
    ("with a as (select * from a) select * from a", None, set("a")),
    ("with recursive r (n) as (select 1 union all select n + 1 from r where n < 5) select * from r join a", None, set("a")),
    ("select * from (with c as (select 1 from a) select * from c) x join c", None, set("ac")),
    ("select x, count(*) from a group by x with rollup", None, set("a")),
    # writes
    ("insert into commerce.customer(email) values ('a'), ('b')", "insert into `vt_commerce`.customer(email) values ('a'), ('b')", {"customer"}),
    ("insert ignore customer values (1)", None, {"customer"}),
    ("insert into a (x) select y from b on duplicate key update x = values(x)", None, set("ab")),
    ("insert into a set x = (select max(y) from b)", None, set("ab")),
    ("replace low_priority into a values (1, replace('x', 'y', 'z'))", None, set("a")),
    ("update a, b join c using (i) set a.x = b.x where c.y = 1", None, set("abc")),
    ("update commerce.a set commerce.a.x = 1 where commerce.a.y = 2", "update `vt_commerce`.a set `vt_commerce`.a.x = 1 where `vt_commerce`.a.y = 2", {"a"}),
    ("delete from commerce.a where x = 1 limit 3", "delete from `vt_commerce`.a where x = 1 limit 3", {"a"}),
    ("delete x, commerce.b from a x join commerce.b", "delete x, `vt_commerce`.b from a x join `vt_commerce`.b", set("ab")),
    ("delete x.* from a x", None, set("a")),
    ("delete from x, commerce.b using a x join commerce.b", "delete from x, `vt_commerce`.b using a x join `vt_commerce`.b", set("ab")),
    ("truncate table commerce.a", "truncate table `vt_commerce`.a", set("a")),
    ("load data local infile 'x' into table commerce.a fields terminated by ','", "load data local infile 'x' into table `vt_commerce`.a fields terminated by ','", set("a")),
    # definitions
    ("create table if not exists commerce.a (i int primary key, j int references commerce.b(i) on update cascade)",
     "create table if not exists `vt_commerce`.a (i int primary key, j int references `vt_commerce`.b(i) on update cascade)", set("ab")),
    ("create table a like commerce.b", "create table a like `vt_commerce`.b", set("ab")),
    ("create table a (like b)", None, set("ab")),
    ("create table a as select * from b", None, set("ab")),
    ("create or replace view v as select * from a", None, set("va")),
    ("create unique index i on commerce.a (x, y)", "create unique index i on `vt_commerce`.a (x, y)", set("a")),
    ("alter table commerce.a rename to commerce.b, add foreign key (x) references c (y)",
     "alter table `vt_commerce`.a rename to `vt_commerce`.b, add foreign key (x) references c (y)", set("abc")),
    ("alter table a rename column x to y, rename index i to j", None, set("a")),
    ("drop table if exists commerce.a, b cascade", "drop table if exists `vt_commerce`.a, b cascade", set("ab")),
    ("drop index i on a", None, set("a")),
    ("rename table commerce.a to commerce.b, c to d", "rename table `vt_commerce`.a to `vt_commerce`.b, c to d", set("abcd")),
    ("create trigger t before insert on commerce.a for each row set new.x = 1; ", "create trigger t before insert on `vt_commerce`.a for each row set new.x = 1; ", set("a")),
    # looking
    ("show create table commerce.a", "show create table `vt_commerce`.a", set("a")),
    ("show full columns from a from commerce like 'x%'", "show full columns from a from `vt_commerce` like 'x%'", set("a")),
    ("show index in commerce.a", "show index in `vt_commerce`.a", set("a")),
    ("show tables from commerce like 'x'", "show tables from `vt_commerce` like 'x'", set()),
    ("show table status", None, set()),
    ("describe commerce.a", "describe `vt_commerce`.a", set("a")),
    ("explain format=json select * from commerce.a", "explain format=json select * from `vt_commerce`.a", set("a")),
    ("explain a", None, set("a")),
    ("analyze table a, commerce.b", "analyze table a, `vt_commerce`.b", set("ab")),
    # what only the gateway knows
    ("select database(), x from a", "select 'commerce', x from a", set("a")),
    ("select table_name from information_schema.tables where table_schema = database()", None, set()),
    ("select commerce.f(x) from a", "select `vt_commerce`.f(x) from a", set("a")),
    ("select \xe4\xf6\xfc, '\xff' from commerce.t\xe4", "select \xe4\xf6\xfc, '\xff' from `vt_commerce`.t\xe4", {"t\xe4"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected", "tables"), REWRITES, ids=[case[0][:60] for case in REWRITES])
def test_statement_is_sent_with_only_its_keyspaces_replaced(text: str, expected: str | None, tables: set[str]) -> None:
    keyspace, sent, route = routed(text.encode("latin1"))
    assert sent == (text if expected is None else expected).encode("latin1")
    assert {name.partition(".")[2] for name in route.names} == tables
    assert keyspace == "commerce"


@pytest.mark.parametrize(
    ("text", "target", "keyspace", "sent"),
    [
        ("select * from customer", "commerce", "customer", "select * from customer"),
        ("select * from commerce.customer", "customer", "customer", "select * from `vt_customer`.customer"),
        (
            "select commerce.corder.x from commerce.corder join customer using (i)",
            "commerce",
            "customer",
            "select `vt_customer`.corder.x from `vt_customer`.corder join customer using (i)",
        ),
        ("select * from corder", "", "customer", "select * from corder"),
        ("select * from product", "commerce", "commerce", "select * from product"),
        ("select * from `order`.`order`", "", "order", "select * from `vt_order`.`order`"),
        ("select * from customer", "commerce@rdonly", "customer", "select * from customer"),
    ],
)
def test_rules_decide_where_a_name_goes(text: str, target: str, keyspace: str, sent: str) -> None:
    found, bytes_sent, _ = routed(text.encode(), target, SWITCHED)
    assert (found, bytes_sent) == (keyspace, sent.encode())


@pytest.mark.parametrize(
    ("text", "target", "errno", "words"),
    [
        ("select * from customer join product", "commerce", 1235, "customer in keyspace customer"),
        ("insert into product select * from corder", "commerce", 1235, "product in keyspace commerce"),
        ("select * from t", "", 1046, "keyspaces: commerce, customer, order"),
        ("select * from nowhere.t", "commerce", 1049, "nowhere"),
        ("show tables from nowhere", "commerce", 1049, "nowhere"),
        ("delete from customer", "commerce@replica", 1290, "current type: replica"),
        ("with x as (select 1) update customer set a=1", "commerce@replica", 1290, "only for primary"),
        ("create table t (i int)", "", 1046, "type use"),
        ("insert into mysql.global_priv values (1)", "commerce", 1235, "tablet itself"),
    ],
)
def test_statement_that_cannot_be_routed_says_why(text: str, target: str, errno: int, words: str) -> None:
    with pytest.raises(GatewayError) as caught:
        routed(text.encode(), target, SWITCHED)
    assert caught.value.errno == errno
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("text", "verb", "writes", "locking"),
    [
        ("select 1", Verb.DATA, False, False),
        ("select * from t for update", Verb.DATA, False, True),
        ("select * from t lock in share mode", Verb.DATA, False, True),
        ("insert into t values (1)", Verb.DATA, True, False),
        ("explain delete from t", Verb.DATA, False, False),
        ("analyze delete from t", Verb.DATA, True, False),
        ("set statement max_statement_time=1 for delete from t", Verb.DATA, True, False),
        ("set @a = 1", Verb.SET, False, False),
        ("set transaction read only", Verb.SET_TRANSACTION, False, False),
        ("begin", Verb.BEGIN, False, False),
        ("start transaction with consistent snapshot", Verb.BEGIN, False, False),
        ("begin not atomic select 1; end", Verb.DATA, True, False),
        ("rollback to savepoint x", Verb.SAVEPOINT, False, False),
        ("ROLLBACK", Verb.ROLLBACK, False, False),
        ("select database();", Verb.DATABASE, False, False),
        ("show warnings", Verb.LAST, False, False),
        ("show count(*) warnings", Verb.LAST, False, False),
        ("lock tables a write", Verb.REFUSED, False, False),
        ("set global a = 1", Verb.REFUSED, False, False),
        ("set @@global.a = 1", Verb.REFUSED, False, False),
        ("create user a", Verb.REFUSED, False, False),
        ("drop database a", Verb.REFUSED, False, False),
        ("  -- nothing\n", Verb.EMPTY, False, False),
    ],
)
def test_kind_of_statement(text: str, verb: Verb, writes: bool, locking: bool) -> None:
    statement = analyse(split(text.encode())[0])
    assert (statement.verb, statement.writes, statement.locking) == (verb, writes, locking)


def test_several_statements_are_taken_apart_outside_of_quotes_and_routines() -> None:
    assert len(analyse(split(b"select ';'; insert into `a;b` values (1) /* ; */; select 2;")[0]).parts) == 3
    assert analyse(split(b"create procedure p() begin select 1; select 2; end")[0]).parts == ()
    assert analyse(split(b"select 1;")[0]).parts == ()


def test_shape_is_the_same_for_other_literals_and_more_rows() -> None:
    one, _ = split(b"insert into t values (1, 'a', NULL)")
    many, _ = split(b"insert into t values (-1.5e3, 'it''s', DEFAULT),(2,x'00', _utf8'\\''), (0x41,NULL,NULL)")
    assert split(b'insert into t values (2, "b", null)')[0] == one
    assert many.startswith(b"insert into t values (")
    assert split(b"select * from t1 where a=1")[0] != split(b"select * from t2 where a=1")[0]


@pytest.mark.parametrize("text", [b"select 'abc", b'select "', b"select `a", b"select \0 1"])
def test_open_quotes_and_stray_nul_bytes_are_noticed(text: bytes) -> None:
    with pytest.raises(UnclosedLiteral):
        split(text)


PIECES = st.sampled_from(
    [b"select ", b"'a''b\\''", b'"x"', b"`q`", b"-- c\n", b"/* c' */", b"# '\n", b"1", b"1.5", b"0xAF", b"-", b",", b"(", b")",
     b" from ", b"t", b"NULL", b"a1", b"1a", b"@v", b";", b" ", b"/", b"\xe4", b"."]
)  # fmt: skip


@given(st.lists(PIECES, max_size=30))
def test_taking_apart_and_joining_gives_the_same_bytes(pieces: list[bytes]) -> None:
    text = b" ".join(pieces)
    shape, literals = split(text)
    assert join(shape, literals) == text
    analyse(shape)


@given(st.binary(max_size=80))
def test_any_bytes_are_taken_apart_or_refused(text: bytes) -> None:
    try:
        shape, literals = split(text)
    except UnclosedLiteral:
        return
    assert join(shape, literals) == text
    analyse(shape)


def possessive(parsed: Any) -> Iterator[Any]:
    """What is repeated possessively, anywhere in a parsed pattern."""
    for operator, argument in parsed:
        if str(operator) == "POSSESSIVE_REPEAT":
            yield argument[2]
        for part in argument if isinstance(argument, tuple) else (argument,):
            for item in part if isinstance(part, list) else (part,):
                if hasattr(item, "getwidth"):
                    yield from possessive(item)


def test_python_before_3_11_5_loses_its_place_in_possessive_repetitions_unless_they_are_of_atomic_groups() -> None:
    parse = importlib.import_module("re._parser").parse
    assert len(list(possessive(parse(r"(?:a|b(?:cd|ce)*+)*+x")))) == 2
    for pattern in (scan._PIECES, scan._TOKENS):
        repeated = list(possessive(parse(pattern.pattern, pattern.flags & ~re.UNICODE)))
        assert repeated
        assert [item for item in repeated if not _atomic(item)] == []


def _atomic(item: Any) -> bool:
    """One atomic group, or one character: nothing in it can be tried again."""
    single = ("ATOMIC_GROUP", "IN", "LITERAL", "NOT_LITERAL", "ANY")
    return len(item) == 1 and str(item[0][0]) in single
