"""A saved plan is applied only to the cluster that it was made from: every fact it was decided by is read again."""

from __future__ import annotations

import json
from typing import Any

from executor.errors import Stale, Usage
from executor.journal import RunState, runs
from executor.native.topology import Topology
from planner.cluster import Cluster
from planner.plan import Plan

MIN_PREFIX = 12
MAX_SHOWN = 20


def raise_if_stale(plan: Plan, cluster: Cluster) -> None:
    """Raises Stale, with each fact then and now, when `cluster` is no longer as `plan` found it."""
    changed = plan.stale(cluster)
    if not changed:
        return
    lines = [f"  {fact}: then {_shown(then)}, now {_shown(now)}" for fact, then, now in _narrowed(changed)]
    if len(lines) > MAX_SHOWN:
        lines = [*lines[:MAX_SHOWN], f"  and {len(lines) - MAX_SHOWN} more"]
    raise Stale(
        f"the cluster has changed since plan {plan.document} was made:\n" + "\n".join(lines),
        f"plan again: movetables plan {plan.file} --out FILE",
    )


def _narrowed(changed: tuple[tuple[str, Any, Any], ...]) -> list[tuple[str, Any, Any]]:
    """Facts that are mappings are told by the keys that differ."""
    found: list[tuple[str, Any, Any]] = []
    for fact, then, now in changed:
        if isinstance(then, dict) and isinstance(now, dict):
            keys = sorted(key for key in {*then, *now} if then.get(key) != now.get(key))
            found += [(f"{fact}, {key}", then.get(key), now.get(key)) for key in keys]
        else:
            found.append((fact, then, now))
    return found


def _shown(value: Any) -> str:
    if value is None:
        return "(nothing)"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}..."


def continues(topology: Topology, plan: Plan) -> str:
    """The id of the run that `plan` would continue, or "".

    Its own unfinished run has changed the facts that a saved plan was made from. That is no reason to refuse it, as
    long as nobody else applied anything since: each step is checked again by itself.
    """
    newest = next(iter(runs(topology.connection(), limit=1)), None)
    if newest is None or newest.fingerprint != plan.fingerprint or newest.state == RunState.DONE.value:
        return ""
    return newest.id


def check_approval(plan: Plan, approved: str) -> None:
    """Raises Usage for a fingerprint of fewer than 12 digits, Stale when it is not that of `plan`."""
    if len(approved) < MIN_PREFIX:
        raise Usage(
            f"--approve {approved}: {len(approved)} digits are too few",
            f"give at least the first {MIN_PREFIX} digits of the fingerprint that `movetables plan` prints",
        )
    if not plan.fingerprint.startswith(approved.lower()):
        raise Stale(
            f"the plan that was approved ({approved}) is not the one that would be applied now "
            f"({plan.fingerprint[: max(MIN_PREFIX, len(approved))]})",
            f"review it again: movetables plan {plan.file}",
        )
