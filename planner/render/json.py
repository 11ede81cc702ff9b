"""Draws a plan as JSON, for programs and for keeping: `schemas/plan_output.schema.json` describes it.

Nothing secret can be in it: a plan names servers by their addresses and knows no credentials.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from planner.fingerprint import FORMAT_VERSION
from planner.plan import Plan
from planner.step import Step
from planner.steps.registry import move_to_json, to_json


def to_document(plan: Plan) -> dict[str, Any]:
    """`plan` in plain JSON values."""
    waves = {step_id: number for number, wave in enumerate(plan.waves, 1) for step_id in wave}
    return {
        "format_version": FORMAT_VERSION,
        "document": plan.document,
        "file": plan.file,
        "document_sha256": plan.document_sha256,
        "cluster": plan.cluster,
        "complete": True,
        "errored": bool(plan.refusals),
        "applyable": plan.applyable,
        "fingerprint": plan.fingerprint,
        "summary": asdict(plan.summary),
        "steps": [_step(step, waves[step.id]) for step in plan.steps],
        "refusals": [asdict(refusal) for refusal in plan.refusals],
        "drift": list(plan.drift),
        "notes": [asdict(note) for note in plan.notes],
        "unchanged": list(plan.unchanged),
        "keyspaces": list(plan.keyspaces),
        "moves": [
            {
                "move": move_to_json(made.move),
                "live": made.live.text,
                "traffic_before": made.traffic_before,
                "traffic_after": made.traffic_after,
                "steps": list(made.steps),
            }
            for made in plan.moves
        ],
        "routing_changes": [asdict(change) for change in plan.routing],
        "facts": dict(plan.facts),
    }


def _step(step: Step, wave: int) -> dict[str, Any]:
    return {
        "id": step.id,
        "action": step.action.value,
        "wave": wave,
        "irreversible": step.irreversible,
        "describe": list(step.describe()),
        **to_json(step),
    }


def render(plan: Plan) -> str:
    """`plan` as indented JSON ending in a newline; equal plans give equal bytes."""
    return json.dumps(to_document(plan), indent=2, ensure_ascii=False) + "\n"
