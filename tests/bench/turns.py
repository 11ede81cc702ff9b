"""The turns of a benchmark: how long each way took, and whose processor time it was. Prints the medians."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.cluster import table
from tests.bench.processor import Processor

OURS = "movetables"


@dataclass(frozen=True)
class Turn:
    """Seconds that one turn took, and the processor seconds of each server and of everything else; see Processor."""

    took: float
    spent: tuple[float, ...]


def taken(processor: Processor, way: Callable[[], float]) -> Turn:
    """Runs `way`, which returns its seconds."""
    before = processor.seconds()
    took = way()
    return Turn(took, tuple(now - then for then, now in zip(before, processor.seconds(), strict=True)))


def report(turns: Mapping[str, Sequence[Turn]], rows: int, servers: Sequence[str] = ("source", "target")) -> None:
    """Prints medians, rates, how long each way takes compared with OURS, and the processor time by `servers`."""
    medians = {name: statistics.median(turn.took for turn in found) for name, found in turns.items()}
    lines = [
        (
            name,
            f"{median:.1f} s",
            f"{rows / median:,.0f}",
            f"{median / medians[OURS]:.2f}x",
            *(f"{statistics.median(each):.1f} s" for each in zip(*(turn.spent for turn in turns[name]), strict=True)),
        )
        for name, median in medians.items()
    ]
    headings = ["median of each", "time", "rows/s", f"time of {OURS} = 1", *(f"{name} CPU" for name in servers)]
    print(table([*headings, "others CPU"], lines), flush=True)
