"""The end of a copy that is foretold is within a quarter of the truth, from a tenth of the way on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pytest

from executor.native.stream.copy import CopyState
from executor.native.stream.copy_progress import WINDOW_SECONDS, CopyProgress
from executor.native.stream.deferred_keys import KeysAdded

START = 1_000_000.0


@dataclass(frozen=True)
class Given:
    """A table of a copy that never was: its rows, their bytes, the rows that the server believes in, its keys."""

    rows: int
    size: float
    believed: float = 1.0
    keys: int = 0


@dataclass(frozen=True)
class Costs:
    """Seconds: of a row, of a byte, of adding a key to a row, and of holding still after each batch of a second."""

    row: float = 2e-6
    byte: float = 2e-8
    key: float = 1.15e-6
    hold: float = 0.0


def ends(tables: Mapping[str, Given], costs: Costs, counted_at: float = 2.0) -> list[tuple[float, float]]:
    """(true seconds left, foretold seconds left) of a copy of `tables` in turn, after each second of it."""
    now, told = START, []
    states = {name: CopyState(name, None, 0, False) for name in tables}
    keys = {name: given.keys for name, given in tables.items() if given.keys}
    added: list[KeysAdded] = []
    progress = CopyProgress(
        1,
        {name: int(given.rows * given.believed) for name, given in tables.items()},
        {name: given.size * 16 / 15 + 20 for name, given in tables.items()},  # as InnoDB stores them
    )
    progress.sample(now, list(states.values()), {})
    for name, given in tables.items():
        while not states[name].done:
            cost = costs.row + given.size * costs.byte
            rows = min(int(1.0 / cost), given.rows - states[name].rows_copied)
            now += rows * cost
            copied = states[name].rows_copied + rows
            states[name] = replace(
                states[name], rows_copied=copied, bytes_copied=int(copied * given.size), done=copied == given.rows
            )
            if now - START > counted_at:
                progress.counted({name: given.rows for name, given in tables.items()})
            told.append((now, progress.sample(now, list(states.values()), keys, added)[1]))
            if costs.hold and not states[name].done:
                now += costs.hold
                progress.pause(now)
    for name, given in tables.items():
        if given.keys:
            seconds = given.rows * given.keys * costs.key
            for part in range(10):
                told.append((now + seconds * part / 10, progress.sample(now + seconds * part / 10,
                             list(states.values()), keys, added)[1]))  # fmt: skip
            now += seconds
            del keys[name]
            added.append(KeysAdded(name, given.keys, seconds))
    return [(now - at, end - at) for at, end in told if end and at - START >= 0.1 * (now - START)]


MANY = 3_000_000
COPIES: dict[str, Callable[[], list[tuple[float, float]]]] = {
    "one table": lambda: ends({"t": Given(MANY, 165)}, Costs()),
    "believed rows half of the truth": lambda: ends({"t": Given(2 * MANY, 165, believed=0.5)}, Costs()),
    "believed rows thrice the truth": lambda: ends({"t": Given(2 * MANY, 165, believed=3)}, Costs()),
    "short rows, then long ones": lambda: ends({"a": Given(MANY, 15), "b": Given(200, 2_000_000)}, Costs()),
    "long rows, then short ones": lambda: ends({"a": Given(200, 2_000_000), "b": Given(MANY, 15)}, Costs()),
    "held half of the time": lambda: ends({"t": Given(MANY, 165)}, Costs(hold=1.0)),
    "held most of the time": lambda: ends({"t": Given(3 * MANY, 165)}, Costs(hold=4.0)),
    "keys of one table": lambda: ends({"t": Given(MANY, 165, keys=2)}, Costs()),
    "keys of some tables": lambda: ends({n: Given(MANY, 100, keys=2) for n in "abc"}, Costs()),
    "a server twice as slow": lambda: ends({"t": Given(MANY, 165, keys=2)}, Costs(4e-6, 4e-8, 2.3e-6)),
}


@pytest.mark.parametrize("what", COPIES)
def test_the_end_is_foretold_within_a_quarter_from_a_tenth_on(what: str) -> None:
    told = COPIES[what]()
    assert len(told) > 10
    assert [(left, said) for left, said in told if abs(said - left) > 0.25 * left + 1.0] == []


def test_keys_that_take_longer_than_foretold_are_never_said_to_be_done() -> None:
    told = ends({"t": Given(MANY, 165, keys=2)}, Costs(key=4e-6))
    assert min(said for left, said in told if left > 5.0) > 0.0


def test_the_rate_is_measured_anew_after_a_long_pause() -> None:
    progress = CopyProgress(1, {"t": 1000}, {"t": 100.0})
    for second in range(3):
        progress.sample(START + second, [CopyState("t", None, 100 * second, False, 10_000 * second)], {})
    later = START + 2 + 10 * WINDOW_SECONDS
    progress.pause(later)
    assert progress.sample(later, [CopyState("t", None, 200, False, 20_000)], {}) == (0.0, 0.0)
    rate, end = progress.sample(later + 1, [CopyState("t", None, 300, False, 30_000)], {})
    assert (rate, round(end - later)) == (100.0, 8)


def test_nothing_is_foretold_of_keys_that_an_earlier_process_left() -> None:
    progress = CopyProgress(1, {"t": 1000}, {"t": 100.0})
    assert progress.sample(START, [CopyState("t", None, 1000, True, 100_000)], {"t": 2}) == (0.0, 0.0)
