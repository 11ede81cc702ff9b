"""What a workload found, as a value and as a few lines for people."""

from __future__ import annotations

from dataclasses import dataclass

from tests.workload.ledger import Ledger, percentile

SHOWN = 12


@dataclass(frozen=True)
class Verdict:
    """The end of a workload. Counts of writes are of the lists in `findings`, which say what exactly was wrong.

    `lost`: acknowledged and not there. `duplicated`: there more often than sent. `orphans`: a part of a transaction.
    `phantoms`: there, though it failed or was never sent. `contradictions`: rows, sums, versions or answers that do not
    fit what was acknowledged. `errors`: what no client should have seen. Pauses are in milliseconds, per write.
    """

    acknowledged: int
    unknown: int
    lost: int
    duplicated: int
    orphans: int
    phantoms: int
    contradictions: int
    errors: int
    retries: int
    disconnects: int
    longest_pause_ms: float
    p99_pause_ms: float
    findings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True when every write is there once and whole, and no client saw an error."""
        wrong = (self.lost, self.duplicated, self.orphans, self.phantoms, self.contradictions, self.errors)
        return self.acknowledged > 0 and not any(wrong)

    def text(self) -> str:
        """The verdict for people, with the first findings."""
        lines = [
            f"{self.acknowledged} writes acknowledged, lost {self.lost}, duplicated {self.duplicated}, "
            f"orphans {self.orphans}, errors seen {self.errors}, longest pause {self.longest_pause_ms:.0f} ms "
            f"(p99 {self.p99_pause_ms:.0f} ms)",
            f"phantoms {self.phantoms}, contradictions {self.contradictions}, retried transactions {self.retries}, "
            f"lost connections {self.disconnects}, unknown outcomes {self.unknown}",
        ]
        lines += [f"  {finding}" for finding in self.findings[:SHOWN]]
        if len(self.findings) > SHOWN:
            lines.append(f"  and {len(self.findings) - SHOWN} more")
        return "\n".join(lines)


@dataclass
class Findings:
    """Collects what a verifier finds."""

    lost: list[str]
    duplicated: list[str]
    orphans: list[str]
    phantoms: list[str]
    contradictions: list[str]

    @classmethod
    def none(cls) -> Findings:
        """Nothing found yet."""
        return cls([], [], [], [], [])

    def verdict(self, ledger: Ledger) -> Verdict:
        """Together with what the clients saw."""
        waits = [(call.ended - call.began) * 1000 for call in ledger.calls]
        contradictions = [*self.contradictions, *ledger.anomalies]
        kinds = {
            "lost": self.lost,
            "duplicated": self.duplicated,
            "orphan": self.orphans,
            "phantom": self.phantoms,
            "contradiction": contradictions,
            "error": ledger.errors,
        }
        return Verdict(
            acknowledged=ledger.acknowledged(),
            unknown=sum(1 for write in ledger.writes if write.outcome == "unknown"),
            lost=len(self.lost),
            duplicated=len(self.duplicated),
            orphans=len(self.orphans),
            phantoms=len(self.phantoms),
            contradictions=len(contradictions),
            errors=len(ledger.errors),
            retries=ledger.counts["retries"],
            disconnects=ledger.counts["disconnects"],
            longest_pause_ms=max(waits, default=0.0),
            p99_pause_ms=percentile(waits, 0.99),
            findings=tuple(f"{kind}: {text}" for kind, texts in kinds.items() for text in texts),
        )
