"""What every step of a plan is: a frozen value with four pure methods, and the refusals it may answer with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from planner.cluster import Cluster


class Action(StrEnum):
    """What a step does to the world; decides its symbol and which number of the summary it counts in."""

    CREATE = "create"
    CHANGE = "change"
    MOVE = "move"
    VERIFY = "verify"
    DROP = "drop"


@dataclass(frozen=True, order=True)
class Refusal:
    """Why a step may not run: what was found, what was expected, what to type next. `code` is stable (``MT012``)."""

    code: str
    found: str
    expected: str
    hint: str
    step: str = ""

    def text(self) -> str:
        """One line for logs and errors."""
        return f"{self.code}: {self.found}; expected {self.expected}. {self.hint}"


@dataclass(frozen=True)
class Step(ABC):
    """One change of the cluster, decided but not yet carried out.

    `after` holds the ids of the steps that must be finished first. `reason` says what was found and what is wanted.
    """

    kind: ClassVar[str]
    action: ClassVar[Action]
    irreversible: ClassVar[bool] = False
    summary: ClassVar[str] = ""

    after: tuple[str, ...] = field(default=(), kw_only=True)
    reason: str = field(default="", kw_only=True)

    @property
    @abstractmethod
    def subject(self) -> str:
        """What the step acts on, such as ``customer.commerce2customer``."""

    @property
    def id(self) -> str:
        """Stable name of the step: ``kind:subject``."""
        return f"{self.kind}:{self.subject}"

    @abstractmethod
    def done(self, cluster: Cluster) -> bool:
        """True when the cluster is already as this step would leave it."""

    @abstractmethod
    def ready(self, cluster: Cluster) -> tuple[Refusal, ...]:
        """Everything that speaks against running this step now; empty when it may run."""

    @abstractmethod
    def effect(self, cluster: Cluster) -> Cluster:
        """The cluster as this step leaves it."""

    @abstractmethod
    def describe(self) -> tuple[str, ...]:
        """What a dry run prints, in Vitess's wording where Vitess has this step."""
