"""Draws what a move translates for the other kind of server: a line for each change, with the columns it is made to."""

from __future__ import annotations

from collections.abc import Sequence

from planner.translation import Note

MOST = 12
"""A line names no more columns than that; the plan as JSON has all of them."""


def lines(notes: Sequence[Note]) -> list[str]:
    """``collation a becomes b (the closest one; ...): t.x, t.y and 3 more columns``, in the order of the notes."""
    columns: dict[str, list[str]] = {}
    for note in notes:
        columns.setdefault(f"{note.found} becomes {note.becomes} ({note.effect})", []).append(
            f"{note.table}.{note.column}"
        )
    return [f"{change}: {_named(names)}" for change, names in columns.items()]


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST])
    more = len(names) - MOST
    return shown if more <= 0 else f"{shown} and {more} more column{'s' if more > 1 else ''}"
