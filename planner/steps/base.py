"""What the steps of a move share: their subject, the display facts of a dry run, and the effects used by several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from planner.cluster import Cluster, Keyspace
from planner.document import Move
from planner.step import Step


@dataclass(frozen=True)
class MoveStep(Step):
    """A step of one move. `move.tables` is resolved.

    The databases and the uids of the two primaries are for the dry-run text alone, and may be left out.
    """

    move: Move
    source_database: str = field(default="", kw_only=True)
    target_database: str = field(default="", kw_only=True)
    source_uid: int = field(default=0, kw_only=True)
    target_uid: int = field(default=0, kw_only=True)

    @property
    def subject(self) -> str:
        """``customer.commerce2customer``: the keyspace that the workflow lives in, and its name."""
        return f"{self.move.target}.{self.move.name}"

    @property
    def tables_text(self) -> str:
        """``[corder,customer]``, as Vitess prints tables."""
        return f"[{','.join(self.move.tables)}]"

    def locked(self, *lines: str) -> tuple[str, ...]:
        """`lines` between the locking of both keyspaces and their unlocking."""
        source, target = self.move.source, self.move.target
        return (
            f"Lock keyspace {source}",
            f"Lock keyspace {target}",
            *lines,
            f"Unlock keyspace {target}",
            f"Unlock keyspace {source}",
        )

    def source_parts(self) -> str:
        """``keyspace:commerce;shard:0;tablet:101`` without what is not known."""
        return _parts(self.move.source, self.source_uid)

    def target_parts(self) -> str:
        """``keyspace:customer;shard:0;tablet:200`` without what is not known."""
        return _parts(self.move.target, self.target_uid)


def _parts(keyspace: str, uid: int) -> str:
    return f"keyspace:{keyspace};shard:0" + (f";tablet:{uid}" if uid else "")


def database_part(database: str) -> str:
    """``;dbname:vt_customer``, or nothing for a database that is not known."""
    return f";dbname:{database}" if database else ""


def with_fences(cluster: Cluster, keyspace: str, tables: Sequence[str], fenced: bool) -> Cluster:
    """`cluster` with `tables` of `keyspace` denied and fenced, or both taken off them."""
    found = cluster.keyspace(keyspace)
    if found is None:
        return cluster
    denied = set(found.denied_tables) - set(tables) | (set(tables) if fenced else set())
    return cluster.with_keyspace(
        replace(
            found,
            denied_tables=tuple(sorted(denied)),
            tables=tuple(replace(t, fenced=fenced) if t.name in tables else t for t in found.tables),
        )
    )


def without_tables(keyspace: Keyspace, tables: Sequence[str]) -> Keyspace:
    """`keyspace` without `tables`."""
    return replace(keyspace, tables=tuple(table for table in keyspace.tables if table.name not in tables))
