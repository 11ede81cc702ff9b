"""Values of row images as SQL literals, against encoders that are written from the format's description."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.native.binlog import literals as lit
from executor.native.binlog import table_map as t
from executor.native.binlog import temporal
from executor.native.binlog.decimals import decimal_reader, decimal_size
from executor.native.binlog.table_map import Column

DIGIT_BYTES = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4]


def encode_decimal(text: str, precision: int, scale: int) -> bytes:
    negative = text.startswith("-")
    whole, _, fraction = text.lstrip("-").partition(".")
    whole = whole.rjust(precision - scale, "0")[-(precision - scale) :] if precision > scale else ""
    head = len(whole) % 9
    groups = ([whole[:head]] if head else []) + [whole[i : i + 9] for i in range(head, len(whole), 9)]
    groups += [fraction[i : i + 9] for i in range(0, len(fraction), 9)]
    data = bytearray(b"".join(int(g).to_bytes(DIGIT_BYTES[len(g)], "big") for g in groups))
    if negative:
        data = bytearray(byte ^ 0xFF for byte in data)
    data[0] ^= 0x80
    return bytes(data)


@st.composite
def decimals(draw: st.DrawFn) -> tuple[Decimal, int, int]:
    precision = draw(st.integers(1, 65))
    scale = draw(st.integers(0, min(precision, 38)))
    number = draw(st.integers(-(10**precision) + 1, 10**precision - 1))
    with localcontext() as context:
        context.prec = 100
        return Decimal(number).scaleb(-scale), precision, scale


@given(decimals())
def test_decimal(case: tuple[Decimal, int, int]) -> None:
    value, precision, scale = case
    data = encode_decimal(f"{value:f}", precision, scale)
    assert len(data) == decimal_size(precision, scale)
    text = decimal_reader(precision, scale)(data)
    assert Decimal(text) == value
    assert text == f"{value:f}"


def encode_datetime(year: int, month: int, day: int, h: int, m: int, s: int, micro: int, digits: int) -> bytes:
    packed = ((year * 13 + month) << 22 | day << 17 | h << 12 | m << 6 | s) + 0x8000000000
    return packed.to_bytes(5, "big") + encode_fraction(micro, digits)


def encode_fraction(micro: int, digits: int) -> bytes:
    size = (digits + 1) // 2
    return (micro // 10 ** (6 - 2 * size)).to_bytes(size, "big")


fractions = st.tuples(st.integers(0, 999_999), st.integers(0, 6)).map(lambda p: (p[0] // 10 ** (6 - p[1]), p[1]))


def fraction_text(value: int, digits: int) -> str:
    return f".{value:0{digits}d}" if digits else ""


@given(
    st.integers(0, 9999),
    st.integers(0, 12),
    st.integers(0, 31),
    st.integers(0, 23),
    st.integers(0, 59),
    st.integers(0, 59),
    fractions,
)
def test_datetime(year: int, month: int, day: int, h: int, m: int, s: int, fraction: tuple[int, int]) -> None:
    value, digits = fraction
    data = encode_datetime(year, month, day, h, m, s, value * 10 ** (6 - digits), digits)
    expected = f"{year:04d}-{month:02d}-{day:02d} {h:02d}:{m:02d}:{s:02d}" + fraction_text(value, digits)
    assert temporal.datetime_reader(digits)(data) == expected
    packed_date = year << 9 | month << 5 | day
    assert temporal.date_text(packed_date.to_bytes(3, "little")) == expected[:10]


@given(st.integers(0, 2**32 - 1), fractions)
def test_timestamp(seconds: int, fraction: tuple[int, int]) -> None:
    value, digits = fraction
    data = seconds.to_bytes(4, "big") + encode_fraction(value * 10 ** (6 - digits), digits)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    expected = f"{moment:%Y-%m-%d %H:%M:%S}" if seconds or value else "0000-00-00 00:00:00"
    assert temporal.timestamp_reader(digits)(data) == expected + fraction_text(value, digits)


@given(st.booleans(), st.integers(0, 838), st.integers(0, 59), st.integers(0, 59), fractions)
def test_time(negative: bool, h: int, m: int, s: int, fraction: tuple[int, int]) -> None:
    value, digits = fraction
    size = (digits + 1) // 2
    number = (h << 12 | m << 6 | s) << 8 * size | value * 10 ** (2 * size - digits)
    negative = negative and number > 0
    data = ((0x800000 << 8 * size) + (-number if negative else number)).to_bytes(3 + size, "big")
    expected = f"{'-' if negative else ''}{h:02d}:{m:02d}:{s:02d}" + fraction_text(value, digits)
    assert temporal.time_reader(digits)(data) == expected


@pytest.mark.parametrize("kind", [t.TIMESTAMP, t.DATETIME, t.TIME])
def test_the_temporal_format_of_5_5_is_refused(kind: int) -> None:
    column = Column("at", kind, 0, True, False, None)
    assert "mysql56_temporal_format" in lit.refusal(column)


@pytest.mark.parametrize("kind", [200, 244])
def test_types_that_cannot_be_written_are_refused(kind: int) -> None:
    assert "not supported" in lit.refusal(Column("c", kind, 4, True, False, t.BINARY))


def test_a_supported_type_has_no_refusal() -> None:
    assert lit.refusal(Column("c", t.LONG, 0, True, False, None)) == ""
