"""How a DECIMAL lies in a row image, after ``my_decimal2bin`` of the servers' ``sql/my_decimal.cc``."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

Reader = Callable[[bytes], str]
"""Bytes of a value -> text."""

_DIGITS_TO_BYTES: Final = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)


def decimal_size(precision: int, scale: int) -> int:
    """Bytes of a DECIMAL(precision, scale) in a row image."""
    whole, fraction = precision - scale, scale
    return whole // 9 * 4 + _DIGITS_TO_BYTES[whole % 9] + fraction // 9 * 4 + _DIGITS_TO_BYTES[fraction % 9]


@lru_cache(maxsize=4096)
def decimal_reader(precision: int, scale: int) -> Reader:
    """Reads a DECIMAL(precision, scale) as exact text, such as ``-12.50``.

    On the wire: big-endian groups of nine digits in four bytes, the odd digits of the whole part first and those of the
    fraction last; a negative number has all bits inverted; then the first bit is inverted.
    """
    size = decimal_size(precision, scale)
    whole = precision - scale
    groups = [whole % 9, *[9] * (whole // 9), *[9] * (scale // 9), scale % 9]
    terms: dict[bool, list[str]] = {True: [], False: []}  # of the whole part, of the fraction
    bits, digits = size * 8, precision
    for count in groups:
        width = _DIGITS_TO_BYTES[count] * 8
        bits -= width
        digits -= count
        if count:
            power = 10 ** (digits - scale if digits >= scale else digits)
            terms[digits >= scale].append(f"(v >> {bits} & {(1 << width) - 1}) * {power}")
    text = f"{{{' + '.join(terms[True]) or '0'}}}"
    if scale:
        text += f".{{{' + '.join(terms[False])}:0{scale}d}}"
    top = 1 << (size * 8 - 1)
    source = f"""
def read(data, from_bytes=int.from_bytes):
    v = from_bytes(data, 'big')
    if v & {top}:
        v ^= {top}
        return f"{text}"
    v ^= {top - 1}
    return f"-{text}"
"""
    scope: dict[str, Reader] = {}
    exec(source, scope)
    return scope["read"]
