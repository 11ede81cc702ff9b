"""Which rows of a comparison are kept as samples, and how their values are shortened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from executor.native.vdiff.options import VDiffOptions
from executor.native.vdiff.report import TRUNCATED

_T = TypeVar("_T")


def kept(samples: tuple[_T, ...], more: Sequence[_T], most: int) -> tuple[_T, ...]:
    """`samples` and `more`, up to `most` of them; 0 keeps all."""
    together = (*samples, *more)
    return together if most == 0 else together[:most]


def shortened(text: str, options: VDiffOptions, is_key: bool) -> str:
    """A value as samples show it: whole when it is of the key."""
    most = options.row_diff_column_truncate_at
    if is_key or most < 1 or len(text) <= most:
        return text
    return text[:most] + TRUNCATED
