"""What a cluster is made of, as one frozen value.

`observe()` of a backend fills it from live servers; the planner folds step effects over it. Every collection is a
tuple sorted by name, so equal clusters are equal values, whatever order the servers answered in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

_T = TypeVar("_T")

SHARD = "0"  # keyspaces are unsharded; Vitess names the only shard "0"


class TabletType(StrEnum):
    """What a tablet serves. The order is the order in which SwitchTraffic names them."""

    PRIMARY = "PRIMARY"
    REPLICA = "REPLICA"
    RDONLY = "RDONLY"


class StreamState(StrEnum):
    """State of a workflow's stream, as stored in the sidecar (reference: Vitess `vreplication.state`)."""

    STOPPED = "Stopped"
    COPYING = "Copying"
    RUNNING = "Running"
    ERROR = "Error"


@dataclass(frozen=True, order=True)
class Column:
    """One column as information_schema describes it.

    `column_type` is the full text (``decimal(10,2) unsigned``), `data_type` the bare name (``decimal``).
    `generated` columns are computed by the target itself and never copied.
    """

    name: str
    column_type: str
    data_type: str
    nullable: bool = True
    charset: str | None = None
    collation: str | None = None
    generated: bool = False


@dataclass(frozen=True, order=True)
class Key:
    """An index. `nullable` is true when any of its columns may be NULL, `prefix` when any is indexed by prefix."""

    name: str
    columns: tuple[str, ...]
    unique: bool = False
    nullable: bool = False
    prefix: bool = False


@dataclass(frozen=True, order=True)
class ForeignKey:
    """A foreign key of the table it belongs to. `cascades` is true when it changes rows of that table by itself."""

    name: str
    columns: tuple[str, ...]
    referenced_database: str
    referenced_table: str
    cascades: bool = False


@dataclass(frozen=True, order=True)
class Table:
    """A base table. `rows` and `data_length` (bytes) are the server's estimates; `empty` is exact.

    `fenced` is true when the triggers that refuse writes stand on the table; `triggers` names all others. `special`
    tells what few tables have (see `planner.checks_special`).
    """

    name: str
    columns: tuple[Column, ...] = ()
    keys: tuple[Key, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    engine: str = "InnoDB"
    rows: int = 0
    data_length: int = 0
    empty: bool = True
    fenced: bool = False
    triggers: tuple[str, ...] = ()
    special: tuple[str, ...] = ()

    def copy_key(self) -> Key | None:
        """The key that rows are copied and matched by: PRIMARY, else the smallest unique key without NULL or prefix.

        Source: Vitess keys.md (PRIMARY KEY, then a primary-key equivalent). A unique key over a nullable column never
        qualifies, even with no NULL in it.
        """
        usable = [key for key in self.keys if key.unique and not key.nullable and not key.prefix]
        return min(usable, key=lambda key: (key.name != "PRIMARY", len(key.columns), key.name), default=None)


@dataclass(frozen=True, order=True)
class Server:
    """Facts of one server that decide whether tables can be moved from or to it, read from its variables.

    `missing_privileges` lists what our user lacks. `max_allowed_packet` is in bytes, 0 where unknown. `free_bytes` is
    None where it cannot be read.
    `error` is set when the server did not answer, and nothing else but the `flavor` of one that we start.
    """

    address: str
    flavor: str = ""
    version: str = ""
    uuid: str = ""
    log_bin: bool = True
    binlog_format: str = "ROW"
    binlog_row_image: str = "FULL"
    binlog_row_metadata: str = "FULL"
    binlog_order_commits: bool = True
    gtid: bool = True
    logs_cascades: bool = True
    read_only: bool = False
    lower_case_table_names: int = 0
    requires_primary_key: bool = False
    max_allowed_packet: int = 0
    local_infile: bool = True
    missing_privileges: tuple[str, ...] = ()
    free_bytes: int | None = None
    error: str = ""


@dataclass(frozen=True, order=True)
class Tablet:
    """A server in the role it plays. `registered` means the topology knows it, `running` that it answers."""

    alias: str
    keyspace: str
    type: TabletType
    host: str
    port: int
    managed: bool = False
    registered: bool = False
    running: bool = False
    primary_term_start: str = ""
    server: Server | None = None

    @property
    def cell(self) -> str:
        """``zone1`` of ``zone1-0000000100``."""
        return self.alias.rpartition("-")[0]

    @property
    def uid(self) -> int:
        """``100`` of ``zone1-0000000100``."""
        return int(self.alias.rpartition("-")[2])


@dataclass(frozen=True, order=True)
class Keyspace:
    """A logical database and the tables its primary holds. `denied_tables` may not be written here.

    `registered` means the topology knows it; a keyspace of the inventory that it does not know has no tables yet.
    `others` are (name, kind) of what is no base table: VIEW, SEQUENCE, SYSTEM VERSIONED.
    """

    name: str
    database: str
    registered: bool = False
    tables: tuple[Table, ...] = ()
    denied_tables: tuple[str, ...] = ()
    others: tuple[tuple[str, str], ...] = ()

    def table(self, name: str) -> Table | None:
        """The table of that name, or None."""
        return next((table for table in self.tables if table.name == name), None)


@dataclass(frozen=True, order=True)
class VDiffSummary:
    """The newest VDiff of a workflow. `age` is in seconds since it completed, at the time of observing."""

    uuid: str
    state: str
    has_mismatch: bool
    age: float
    rows_compared: int = 0


@dataclass(frozen=True, order=True)
class TableCopy:
    """How far one table's copy has come; `rows_total` is an estimate until it is done."""

    table: str
    rows_copied: int
    rows_total: int
    done: bool


@dataclass(frozen=True, order=True)
class Workflow:
    """A MoveTables workflow; it lives on the primary of its target keyspace.

    `frozen` marks a forward workflow whose writes were switched away; `cutover` is "" or the name of the phase that an
    unfinished cutover reached. `lag` is in seconds, None while unknown. `rate` is rows per second while copying,
    `eta` the seconds until it is done, None while unknown. `throttled` says what holds the copy back, or is "".
    `trouble` says what a stream that should go on is waiting for, or is "".
    """

    name: str
    source: str
    target: str
    tables: tuple[str, ...]
    state: StreamState = StreamState.STOPPED
    message: str = ""
    frozen: bool = False
    position: str = ""
    lag: float | None = None
    copies: tuple[TableCopy, ...] = ()
    rate: float | None = None
    eta: float | None = None
    throttled: str = ""
    trouble: str = ""
    vdiff: VDiffSummary | None = None
    cutover: str = ""
    tablet: str = ""

    @property
    def reverse(self) -> bool:
        """True for the workflow that keeps the old source up to date after a switch."""
        return self.name.endswith("_reverse")

    @property
    def copied(self) -> bool:
        """True once every table is copied and the stream follows the binlog."""
        return self.state is StreamState.RUNNING and not any(not copy.done for copy in self.copies)


@dataclass(frozen=True, order=True)
class CompletedMove:
    """The record that a completed move leaves in the topology. `source_tables` is drop, rename or keep."""

    name: str
    source: str
    target: str
    tables: tuple[str, ...]
    source_tables: str


@dataclass(frozen=True, order=True)
class RoutingRule:
    """``from_table`` (``t``, ``ks.t``, each with ``@replica`` or ``@rdonly``) is served by ``to_table`` (``ks.t``)."""

    from_table: str
    to_table: str


@dataclass(frozen=True, order=True)
class MirrorRule:
    """`percent` of the SELECTs on `from_table` are also sent to `to_table`, their results discarded."""

    from_table: str
    to_table: str
    percent: float


@dataclass(frozen=True)
class Cluster:
    """Everything the planner may look at. `name` is the environment of the inventory it was observed through.

    `unreadable` are workflows as they were last seen, whose PRIMARY does not answer: for display, never to plan by.
    """

    name: str
    keyspaces: tuple[Keyspace, ...] = ()
    tablets: tuple[Tablet, ...] = ()
    workflows: tuple[Workflow, ...] = ()
    routing_rules: tuple[RoutingRule, ...] = ()
    mirror_rules: tuple[MirrorRule, ...] = ()
    completed: tuple[CompletedMove, ...] = ()
    switching: tuple[str, ...] = ()
    unreadable: tuple[Workflow, ...] = ()

    def keyspace(self, name: str) -> Keyspace | None:
        """The keyspace of that name, registered or not, or None."""
        return next((keyspace for keyspace in self.keyspaces if keyspace.name == name), None)

    def tablet(self, alias: str) -> Tablet | None:
        """The tablet of that alias, or None."""
        return next((tablet for tablet in self.tablets if tablet.alias == alias), None)

    def tablets_of(self, keyspace: str) -> tuple[Tablet, ...]:
        """The tablets of a keyspace, by alias."""
        return tuple(tablet for tablet in self.tablets if tablet.keyspace == keyspace)

    def primary(self, keyspace: str) -> Tablet | None:
        """The registered PRIMARY of a keyspace, or None."""
        return next(
            (t for t in self.tablets_of(keyspace) if t.registered and t.type is TabletType.PRIMARY),
            None,
        )

    def workflow(self, keyspace: str, name: str) -> Workflow | None:
        """The workflow of that name whose stream lives in `keyspace`, or None."""
        return next((w for w in self.workflows if w.target == keyspace and w.name == name), None)

    def with_keyspace(self, keyspace: Keyspace) -> Cluster:
        """This cluster with `keyspace` added, or in the place of the one of that name."""
        return replace(self, keyspaces=_put(self.keyspaces, keyspace, lambda k: k.name))

    def with_tablet(self, tablet: Tablet) -> Cluster:
        """This cluster with `tablet` added, or in the place of the one of that alias."""
        return replace(self, tablets=_put(self.tablets, tablet, lambda t: t.alias))

    def with_workflow(self, workflow: Workflow) -> Cluster:
        """This cluster with `workflow` added, or in the place of the one of that keyspace and name."""
        others = self.without_workflow(workflow.target, workflow.name).workflows
        return replace(self, workflows=tuple(sorted((*others, workflow), key=lambda w: (w.target, w.name))))

    def without_workflow(self, keyspace: str, name: str) -> Cluster:
        """This cluster without the workflow of that name in `keyspace`."""
        return replace(self, workflows=tuple(w for w in self.workflows if (w.target, w.name) != (keyspace, name)))


def _put(items: tuple[_T, ...], item: _T, name: Callable[[_T], str]) -> tuple[_T, ...]:
    others = [other for other in items if name(other) != name(item)]
    return tuple(sorted((*others, item), key=name))
