"""Finding the end of an answer, however its bytes are cut, and telling answers apart."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.native.gateway import auth, packets
from executor.native.gateway.packets import (
    ErrorPacket,
    eof,
    frame,
    frames,
    lenenc,
    ok,
    read_lenenc,
    result_set,
    text_rows,
)
from executor.native.gateway.renumber import renumbered
from executor.native.gateway.result import Expect, ResultReader
from executor.native.gateway.variables import Variables, autocommit_in

BIG = "x" * (packets.MAX_PAYLOAD - 4)  # with its length in front, exactly a full packet


def read(data: bytes, cuts: list[int], deprecate_eof: bool, expect: Expect = Expect.FIRST) -> ResultReader:
    reader = ResultReader(expect, deprecate_eof)
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    for start, end in itertools.pairwise(edges):
        if start < end:
            assert reader.expect != Expect.DONE, "the end was found too early"
            reader.feed(data[start:end])
    return reader


@given(st.lists(st.integers(0, 1 << 16), max_size=12), st.booleans(), st.integers(0, 4), st.integers(1, 300))
def test_end_of_a_result_set_is_found_however_it_is_cut(cuts: list[int], new: bool, rows: int, columns: int) -> None:
    table = [[None if (i + j) % 5 == 0 else "v" * (i * j % 400) for j in range(columns)] for i in range(rows)]
    payloads = result_set([f"c{i}" for i in range(columns)], table, packets.STATUS_AUTOCOMMIT, deprecate_eof=new)
    reader = read(frames(payloads), cuts, new)
    assert (reader.expect, reader.status, reader.failed) == (Expect.DONE, packets.STATUS_AUTOCOMMIT, False)
    decoded = [[v if v is None else v.decode() for v in row] for row in text_rows(payloads, deprecate_eof=new)]
    assert decoded == table


@pytest.mark.parametrize("new", [False, True])
def test_rows_of_sixteen_mebibytes_are_not_mistaken_for_an_end(new: bool) -> None:
    payloads = result_set(["a"], [[BIG], ["\ufffe" * 3 + BIG * 2], ["b"]], 2, deprecate_eof=new)
    reader = read(frames(payloads), [100, packets.MAX_PAYLOAD + 1, 40_000_000], new)
    assert reader.expect == Expect.DONE


@given(st.lists(st.integers(0, 400), max_size=8), st.booleans())
def test_answers_follow_each_other_until_the_last(cuts: list[int], new: bool) -> None:
    more = packets.STATUS_MORE_RESULTS | packets.STATUS_AUTOCOMMIT
    data = frames([*result_set(["a"], [["1"]], more, deprecate_eof=new), ok(more, 300), ok(packets.STATUS_IN_TRANS, 7)])
    reader = read(data, cuts, new)
    assert (reader.expect, reader.status, reader.affected) == (Expect.DONE, packets.STATUS_IN_TRANS, 7)


@given(st.lists(st.integers(0, 400), max_size=8))
def test_error_after_rows_ends_the_answer(cuts: list[int]) -> None:
    error = ErrorPacket(1317, "70100", b"Query execution was interrupted")
    data = frames([*result_set(["a"], [["1"]], 2, deprecate_eof=True)[:-1], error.payload()])
    assert read(data, cuts, True).failed
    assert ErrorPacket.parse(error.payload()) == error


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize(("columns", "parameters"), [(0, 0), (2, 0), (0, 3), (1, 1)])
def test_prepared_statement_answer(new: bool, columns: int, parameters: int) -> None:
    first = b"\0\1\0\0\0" + columns.to_bytes(2, "little") + parameters.to_bytes(2, "little") + b"\0\0\0"
    payloads = [first]
    for count in (parameters, columns):
        payloads += [b"\3def" + b"x" * 20] * count
        if count and not new:
            payloads.append(eof(2))
    assert read(frames(payloads), [5, 17], new, Expect.PREPARED).expect == Expect.DONE


def test_cursor_ends_after_the_columns() -> None:
    status = packets.STATUS_CURSOR_EXISTS | packets.STATUS_AUTOCOMMIT
    reader = read(frames([lenenc(1), b"\3def" + b"x" * 20, eof(status)]), [], False)
    assert reader.expect == Expect.DONE


def test_file_is_asked_for_and_the_answer_goes_on() -> None:
    reader = read(frame(b"\xfb/tmp/file", 1), [], False)
    assert reader.expect == Expect.INFILE
    reader.resume()
    reader.feed(frame(ok(2, 5), 4))
    assert (reader.expect, reader.affected) == (Expect.DONE, 5)


@given(st.integers(0, (1 << 63) - 1))
def test_lenenc_round_trip(value: int) -> None:
    data = lenenc(value)
    assert read_lenenc(data, 0) == (value, len(data))


@pytest.mark.parametrize("new", [False, True])
def test_answers_of_several_statements_are_numbered_through(new: bool) -> None:
    one = frames(result_set(["a"], [["1"], ["2"]], 2, deprecate_eof=new))
    two = frames([ok(2, 1)])
    first, seq, failed = renumbered(one, 1, more=True, deprecate_eof=new)
    second, end, _ = renumbered(two, seq, more=False, deprecate_eof=new)
    assert not failed
    assert end == seq + 1
    assert second[3] == seq
    reader = read(first + second, [], new)
    assert (reader.expect, reader.status, reader.affected) == (Expect.DONE, 2, 1)


def test_password_proofs() -> None:
    nonce = bytes(range(40, 60))
    # from the documents of both methods: XOR(SHA1(p), SHA1(nonce + SHA1(SHA1(p)))) and its SHA-256 sister
    assert auth.proof(auth.NATIVE, "secret", nonce) != auth.proof(auth.NATIVE, "Secret", nonce)
    assert len(auth.proof(auth.NATIVE, "secret", nonce) or b"") == 20
    assert len(auth.proof(auth.CACHING_SHA2, "secret", nonce) or b"") == 32
    assert auth.proof(auth.NATIVE, "", nonce) == b""
    assert auth.proof("sha256_password", "secret", nonce) is None


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (b"SET AUTOCOMMIT = 0", False),
        (b"set @@session.autocommit=1", True),
        (b"set names utf8, autocommit='ON'", True),
        (b"set `autocommit` := off", False),
        (b"set @my_autocommit_x=1, @autocommit=1", None),
        (b"set time_zone='+00:00'", None),
    ],
)
def test_autocommit_is_read_from_set(sql: bytes, expected: bool | None) -> None:
    assert autocommit_in(sql) is expected


def test_settings_are_replayed_in_order_and_replaced_only_where_nothing_depends_on_them() -> None:
    variables = Variables()
    for sql in (
        b"SET sql_mode='A'",
        b"SET SESSION sql_mode = 'B'",
        b"set @a=1",
        b"set @b=@a",
        b"set @a=2",
        b"SET NAMES utf8",
    ):
        variables.record(sql)
    assert variables.since(0) == [
        b"SET SESSION sql_mode = 'B'",
        b"set @a=1",
        b"set @b=@a",
        b"set @a=2",
        b"SET NAMES utf8",
    ]
    assert variables.since(variables.version - 1) == [b"SET NAMES utf8"]
