"""Waits until the gateways know of a switch, so that they hold statements before the fence stands."""

from __future__ import annotations

import time

from executor.native.topology import SCHEMA, Topology

LIVE_SECONDS = 5.0


def wait_for_gateways(topology: Topology, version: int, timeout: float = 1.0) -> bool:
    """Waits until every gateway with a fresh heartbeat has seen `version` of the topology; False after `timeout`.

    A gateway that has not is no danger: its statements meet the fence, and it holds them then.
    """
    deadline = time.monotonic() + timeout
    while True:
        behind = topology.connection().value(
            f"SELECT COUNT(*) FROM {SCHEMA}.gateway WHERE heartbeat > %s AND seen_version < %s",
            [time.time() - LIVE_SECONDS, version],
        )
        if not behind:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.003)
