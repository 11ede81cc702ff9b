"""The statements about the cluster that the gateway answers itself: ``show vitess_tablets`` and its kin.

Columns: Vitess `executor.go` (showTablets, showShards). A tablet is SERVING when it accepts a connection now.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence

from executor.native.topology import TabletRecord, TopologyState
from planner.cluster import SHARD

Table = tuple[Sequence[str], list[Sequence[str | None]]]
Probe = Callable[[TabletRecord], Awaitable[bool]]
_TABLET_COLUMNS = (
    "Cell",
    "Keyspace",
    "Shard",
    "TabletType",
    "State",
    "Alias",
    "Hostname",
    "PrimaryTermStartTime",
)


async def answer(word: str, like: str | None, state: TopologyState, probe: Probe) -> Table:
    """Columns and rows of ``show <word> [like '<like>']``; `probe` tells whether a tablet accepts connections."""
    if word == "vitess_tablets":
        return await _tablets(like, state, probe)
    rows: list[Sequence[str | None]]
    if word == "vitess_shards":
        rows = [(f"{keyspace.name}/{SHARD}",) for keyspace in state.keyspaces]
        return ("Shards",), _filtered(rows, like)
    if word == "vitess_targets":
        rows = [
            (f"{keyspace.name}:{SHARD}@{tablet_type}",)
            for keyspace in state.keyspaces
            for tablet_type in sorted({t.type.lower() for t in state.tablets if t.keyspace == keyspace.name})
        ]
        return ("Target",), _filtered(rows, like)
    return ("Database",), _filtered([(keyspace.name,) for keyspace in state.keyspaces], like)


async def _tablets(like: str | None, state: TopologyState, probe: Probe) -> Table:
    serving = await asyncio.gather(*(probe(tablet) for tablet in state.tablets))
    states = ["SERVING" if answers else "NOT_SERVING" for answers in serving]
    order = ("PRIMARY", "REPLICA", "RDONLY")
    rows: list[Sequence[str | None]] = [
        (
            tablet.alias.rpartition("-")[0],
            tablet.keyspace,
            SHARD,
            tablet.type.value,
            tablet_state,
            tablet.alias,
            tablet.host,
            tablet.primary_term_start,
        )
        for tablet, tablet_state in sorted(
            zip(state.tablets, states, strict=True),
            key=lambda pair: (pair[0].keyspace, order.index(pair[0].type.value), pair[0].alias),
        )
    ]
    return _TABLET_COLUMNS, _filtered(rows, like)


def _filtered(rows: list[Sequence[str | None]], like: str | None) -> list[Sequence[str | None]]:
    if like is None:
        return rows
    pattern = "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in like)
    return [row for row in rows if any(re.fullmatch(pattern, v or "", re.IGNORECASE | re.DOTALL) for v in row)]
