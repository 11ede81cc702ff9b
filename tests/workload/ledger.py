"""What the clients of a workload remember: every write with its outcome, what went wrong, and how long each call took.

Written by many client threads, read after they have ended. The same is appended to a file, one JSON object per line,
so that a run that was killed can still be looked into.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Outcome(StrEnum):
    """What the client was told about a write."""

    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"  # refused, rolled back, or lost before the commit was sent: must not be there
    UNKNOWN = "unknown"  # the connection broke while it was being committed: may be there, whole, or not


@dataclass(frozen=True, slots=True)
class Write:
    """One write that was sent. `txn` is unique; `detail` is what the verifier of its kind needs."""

    txn: str
    kind: str
    outcome: Outcome
    detail: Any = None


@dataclass(frozen=True, slots=True)
class Call:
    """How long a client waited, in seconds of the monotonic clock. `due` is when it meant to begin."""

    due: float
    began: float
    ended: float


@dataclass
class Ledger:
    """Everything that the clients saw. `errors`: what no client should see. `anomalies`: wrong answers."""

    path: Path | None = None
    writes: list[Write] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    anomalies: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._file = self.path.open("a") if self.path else None

    def write(self, write: Write) -> None:
        """Notes a write with its outcome."""
        with self._lock:
            self.writes.append(write)
            self._line(asdict(write))

    def count(self, what: str) -> None:
        """Counts one of: retries, disconnects, reads, and the numbers of the errors behind them."""
        with self._lock:
            self.counts[what] += 1

    def error(self, text: str) -> None:
        """Notes an error that no client should have seen."""
        with self._lock:
            self.errors.append(text)
            self._line({"error": text, "at": time.time()})

    def anomaly(self, text: str) -> None:
        """Notes an answer that contradicts what was acknowledged before."""
        with self._lock:
            self.anomalies.append(text)
            self._line({"anomaly": text, "at": time.time()})

    def call(self, call: Call) -> None:
        """Notes how long a client waited for one write, its retries included."""
        with self._lock:
            self.calls.append(call)

    def _line(self, data: dict[str, Any]) -> None:
        if self._file and not self._file.closed:
            self._file.write(json.dumps(data, default=str) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Closes the file; the memory stays."""
        with self._lock:
            if self._file:
                self._file.close()

    def acknowledged(self) -> int:
        """How many writes were acknowledged so far."""
        with self._lock:
            return sum(1 for write in self.writes if write.outcome is Outcome.ACKNOWLEDGED)


def percentile(values: list[float], share: float) -> float:
    """The smallest value that `share` (0 to 1) of `values` do not exceed; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
