"""Reads a plan that was kept as JSON. Showing one always works; whether it still holds is `Plan.stale`'s to say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jsonschema

import schemas
from planner.document import MoveState
from planner.fingerprint import FORMAT_VERSION, fingerprint
from planner.plan import MovePlan, Plan, RoutingChange
from planner.step import Refusal
from planner.steps.registry import UnknownStep, from_json, move_from_json
from planner.translation import Note


class SavedPlanError(ValueError):
    """A file that is not a saved plan this version can use; the message says what was found and what to do."""


def load(text: str) -> Plan:
    """The plan that `planner.render.json.render` wrote.

    Raises `SavedPlanError` when the text is not such a plan, is of another major format version, or does not match its
    own fingerprint, which means that it was edited.
    """
    data = _parsed(text)
    try:
        plan = _plan(data)
    except (UnknownStep, KeyError, TypeError, ValueError) as error:
        raise SavedPlanError(f"the saved plan cannot be read: {error}; make it again with: movetables plan") from error
    if fingerprint(plan.document_sha256, plan.facts, plan.steps) != plan.fingerprint:
        raise SavedPlanError(
            "the saved plan does not match its fingerprint, so it was changed after it was made; "
            "make it again with: movetables plan --out FILE"
        )
    return plan


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise SavedPlanError(f"this is not a saved plan: {error}; make one with: movetables plan --out FILE") from error
    found = data.get("format_version") if isinstance(data, dict) else None
    if not isinstance(found, str) or found.split(".")[0] != FORMAT_VERSION.split(".")[0]:
        raise SavedPlanError(f"found format_version {found!r}, expected {FORMAT_VERSION}; make the plan again")
    validator = jsonschema.Draft202012Validator(schemas.load("plan_output"))
    wrong = jsonschema.exceptions.best_match(validator.iter_errors(data))
    if wrong is not None:
        raise SavedPlanError(f"the saved plan cannot be read: {wrong.json_path}: {wrong.message}")
    return dict(data)


def _plan(data: Mapping[str, Any]) -> Plan:
    return Plan(
        document=data["document"],
        file=data["file"],
        cluster=data["cluster"],
        document_sha256=data["document_sha256"],
        steps=tuple(from_json(step) for step in data["steps"]),
        refusals=tuple(Refusal(**refusal) for refusal in data["refusals"]),
        unchanged=tuple(data["unchanged"]),
        drift=tuple(data["drift"]),
        keyspaces=tuple(data["keyspaces"]),
        moves=tuple(
            MovePlan(
                move_from_json(made["move"]),
                MoveState[made["live"].upper()],
                made["traffic_before"],
                made["traffic_after"],
                tuple(made["steps"]),
            )
            for made in data["moves"]
        ),
        routing=tuple(RoutingChange(**change) for change in data["routing_changes"]),
        facts=data["facts"],
        fingerprint=data["fingerprint"],
        notes=tuple(Note(**note) for note in data.get("notes", ())),
    )
