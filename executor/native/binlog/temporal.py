"""How dates and times lie in row images and in MySQL's JSON, after ``my_time_packed_to_binary`` and its like."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import Final

from executor.native.binlog.decimals import Reader

_UNIX_EPOCH: Final = date(1970, 1, 1).toordinal()


@lru_cache(maxsize=1 << 16)
def _date(day: int) -> str:
    """(year * 16 + month) * 32 + day as text."""
    return f"{day >> 9:04d}-{day >> 5 & 15:02d}-{day & 31:02d}"


@lru_cache(maxsize=1 << 16)
def _datetime_day(day: int) -> str:
    """(year * 13 + month) * 32 + day as text."""
    year, month = divmod(day >> 5, 13)
    return f"{year:04d}-{month:02d}-{day & 31:02d}"


@lru_cache(maxsize=1 << 17)
def _clock(packed: int) -> str:
    """(hour * 64 + minute) * 64 + second as text."""
    return f"{packed >> 12:02d}:{packed >> 6 & 63:02d}:{packed & 63:02d}"


@lru_cache(maxsize=1 << 16)
def _unix_day(days: int) -> str:
    return date.fromordinal(_UNIX_EPOCH + days).isoformat()


@lru_cache(maxsize=1 << 17)
def _unix_clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def date_text(data: bytes) -> str:
    """A DATE; zero parts are kept: ``0000-00-00``, ``2024-00-10``."""
    return _date(int.from_bytes(data, "little"))


def _fraction(value: int, digits: int) -> str:
    """The stored fraction as text: a column of an odd number of digits stores one more, which is 0."""
    stored = digits + digits % 2
    return f".{value:0{stored}d}"[: digits + 1]


@lru_cache(maxsize=16)
def datetime_reader(digits: int) -> Reader:
    """Reads a DATETIME(digits); zero parts are kept."""

    def read(data: bytes) -> str:
        value = int.from_bytes(data[:5], "big") - 0x8000000000
        text = f"{_datetime_day(value >> 17)} {_clock(value & 0x1FFFF)}"
        return text + _fraction(int.from_bytes(data[5:], "big"), digits) if digits else text

    return read


@lru_cache(maxsize=16)
def timestamp_reader(digits: int) -> Reader:
    """Reads a TIMESTAMP(digits) as text in UTC; all zero bits are MariaDB's zero timestamp."""
    empty = bytes(4 + (digits + 1) // 2)
    zero = "0000-00-00 00:00:00" + (_fraction(0, digits) if digits else "")

    def read(data: bytes) -> str:
        if data == empty:
            return zero
        days, seconds = divmod(int.from_bytes(data[:4], "big"), 86400)
        text = f"{_unix_day(days)} {_unix_clock(seconds)}"
        return text + _fraction(int.from_bytes(data[4:], "big"), digits) if digits else text

    return read


@lru_cache(maxsize=16)
def time_reader(digits: int) -> Reader:
    """Reads a TIME(digits), from -838:59:59.999999 to 838:59:59.999999."""
    bits = (digits + 1) // 2 * 8
    offset = 0x800000 << bits
    mask = (1 << bits) - 1

    def read(data: bytes) -> str:
        value = int.from_bytes(data, "big") - offset
        sign = "-" if value < 0 else ""
        value = abs(value)
        text = sign + _clock(value >> bits & 0x3FFFFF)
        return text + _fraction(value & mask, digits) if digits else text

    return read


def date_of_packed(packed: int) -> str:
    """The date of a number as MySQL keeps it in JSON: that of `datetime_of_packed`."""
    return _datetime_day(packed >> 41)


def datetime_of_packed(packed: int) -> str:
    """A date and time of a number: day as in DATETIME, clock, and 24 bits of microseconds."""
    return f"{_datetime_day(packed >> 41)} {_clock(packed >> 24 & 0x1FFFF)}.{packed & 0xFFFFFF:06d}"


def time_of_packed(packed: int) -> str:
    """A time of a number: clock and 24 bits of microseconds, negative as a whole."""
    sign = "-" if packed < 0 else ""
    packed = abs(packed)
    return f"{sign}{_clock(packed >> 24)}.{packed & 0xFFFFFF:06d}"
