"""Which rows of a comparison are kept as samples, and how their values are shortened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from executor.native.vdiff.digest import readable, text_expression
from executor.native.vdiff.options import VDiffOptions
from executor.native.vdiff.report import TRUNCATED
from planner.cluster import Column

_T = TypeVar("_T")


def kept(samples: tuple[_T, ...], more: Sequence[_T], most: int) -> tuple[_T, ...]:
    """`samples` and `more`, up to `most` of them; 0 keeps all."""
    together = (*samples, *more)
    return together if most == 0 else together[:most]


def sample_expression(column: Column, options: VDiffOptions, is_key: bool) -> str:
    """An SQL expression of a value as `shortened` wants it; a large value is already cut by the server."""
    return text_expression(column, 0 if is_key else options.row_diff_column_truncate_at)


def shortened(column: Column, value: str | None, options: VDiffOptions, is_key: bool) -> str:
    """A value, read by `sample_expression`, as samples show it: whole when it is of the key."""
    most = options.row_diff_column_truncate_at
    text = "NULL" if value is None else readable(column, value, 0 if is_key else most)
    if is_key or most < 1 or len(text) <= most:
        return text
    return text[:most] + TRUNCATED
