"""The desired state that a plan file asks for, as frozen values. `loading.py` reads it from YAML."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class MoveState(IntEnum):
    """Where a move should stand. Ordered: a later state includes everything before it."""

    ABSENT = 0
    CREATED = 1
    RUNNING = 2
    READS_SWITCHED = 3
    SWITCHED = 4
    COMPLETED = 5

    @property
    def text(self) -> str:
        """The word that plan files use."""
        return self.name.lower()


class OnDdl(StrEnum):
    """What the stream does at DDL on a moved table (Vitess `--on-ddl`)."""

    IGNORE = "IGNORE"
    STOP = "STOP"
    EXEC = "EXEC"
    EXEC_IGNORE = "EXEC_IGNORE"


class SourceTables(StrEnum):
    """What becomes of the source tables when a move completes."""

    DROP = "drop"
    RENAME = "rename"
    KEEP = "keep"


@dataclass(frozen=True, order=True)
class Move:
    """One MoveTables workflow. `tables` is ("*",) until the planner resolves it against the live source.

    Durations are in seconds. `mirror_percent` is 0 to 100. `defer_secondary_keys` None leaves it to the size of each
    table. A throttle's limit of 0 means not to look.
    """

    name: str
    source: str
    target: str
    tables: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    state: MoveState = MoveState.RUNNING
    on_ddl: OnDdl = OnDdl.IGNORE
    defer_secondary_keys: bool | None = None
    throttle_max_replica_lag: float = 5.0
    throttle_max_history_list: int = 1_000_000
    verify_before_switch: bool = True
    verify_max_age: float = 86400.0
    mirror_percent: float = 0.0
    timeout: float = 30.0
    max_replication_lag: float = 30.0
    reverse_replication: bool = True
    source_tables: SourceTables = SourceTables.DROP
    keep_routing_rules: bool = False

    @property
    def reverse_name(self) -> str:
        """Name of the reverse workflow, as Vitess builds it."""
        return f"{self.name}_reverse"


@dataclass(frozen=True, order=True)
class InitialSchema:
    """A SQL file that fills the empty database of a new keyspace. `sql` is its text, `file` its path for display."""

    file: str
    sql: str


@dataclass(frozen=True, order=True)
class DesiredKeyspace:
    """A keyspace and the tablets that should serve it; `absent` asks for its removal.

    `absent_tablets` names tablets to be removed from it.
    """

    name: str
    tablets: tuple[str, ...] = ()
    absent_tablets: tuple[str, ...] = ()
    initial_schema: InitialSchema | None = None
    absent: bool = False


@dataclass(frozen=True)
class Document:
    """A whole plan file. `source_bytes_sha256` goes into the fingerprint of the plan made from it."""

    name: str
    file: str
    source_bytes_sha256: str
    keyspaces: tuple[DesiredKeyspace, ...] = ()
    moves: tuple[Move, ...] = ()
