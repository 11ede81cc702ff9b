"""Every step kind, and the JSON form that a saved plan keeps steps in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

from planner.document import Move, MoveState
from planner.step import Step
from planner.steps.add_keyspace import AddKeyspace
from planner.steps.add_tablet import AddTablet
from planner.steps.apply_schema import ApplySchema
from planner.steps.cancel import Cancel
from planner.steps.complete import Complete
from planner.steps.create_workflow import CreateWorkflow
from planner.steps.delete_keyspace import DeleteKeyspace
from planner.steps.mirror_traffic import MirrorTraffic
from planner.steps.promote_primary import PromotePrimary
from planner.steps.remove_tablet import RemoveTablet
from planner.steps.reverse_reads import ReverseReads
from planner.steps.reverse_writes import ReverseWrites
from planner.steps.start_tablet import StartTablet
from planner.steps.start_workflow import StartWorkflow
from planner.steps.stop_workflow import StopWorkflow
from planner.steps.switch_reads import SwitchReads
from planner.steps.switch_writes import SwitchWrites
from planner.steps.vdiff import VDiff
from planner.steps.wait_running import WaitRunning

_CLASSES: tuple[type[Step], ...] = (
    AddKeyspace,
    StartTablet,
    AddTablet,
    PromotePrimary,
    ApplySchema,
    CreateWorkflow,
    StartWorkflow,
    WaitRunning,
    VDiff,
    MirrorTraffic,
    SwitchReads,
    SwitchWrites,
    ReverseWrites,
    ReverseReads,
    StopWorkflow,
    Complete,
    Cancel,
    RemoveTablet,
    DeleteKeyspace,
)

STEP_KINDS: Mapping[str, type[Step]] = {step.kind: step for step in _CLASSES}
"""Step classes by kind, in the order in which a plan may use them."""


class UnknownStep(ValueError):
    """A step of a saved plan that this version cannot read; the message names it."""


def to_json(step: Step) -> dict[str, Any]:
    """``{kind, args, reason, depends_on}`` of `step`: all that `from_json` needs, in plain JSON values."""
    args = {f.name: _plain(getattr(step, f.name)) for f in fields(step) if f.name not in ("after", "reason")}
    return {"kind": step.kind, "args": args, "reason": step.reason, "depends_on": list(step.after)}


def from_json(data: Mapping[str, Any]) -> Step:
    """The step that `to_json` wrote; other keys are ignored. Raises `UnknownStep` for what it does not know."""
    kind = data["kind"]
    step = STEP_KINDS.get(kind)
    if step is None:
        raise UnknownStep(f"unknown step kind {kind!r}; this version knows: {', '.join(STEP_KINDS)}")
    try:
        args = _typed(step, data["args"])
        return step(**args, after=tuple(data["depends_on"]), reason=data["reason"])
    except (KeyError, TypeError, ValueError) as error:
        raise UnknownStep(f"step {kind!r} of the saved plan cannot be read: {error}") from error


def move_to_json(move: Move) -> dict[str, Any]:
    """`move` in plain JSON values; `state` is the word that plan files use."""
    return {f.name: _plain(getattr(move, f.name)) for f in fields(Move)}


def move_from_json(data: Mapping[str, Any]) -> Move:
    """The move that `move_to_json` wrote. Raises KeyError, TypeError or ValueError for what is not one."""
    return Move(**_typed(Move, data))


def _plain(value: Any) -> Any:
    if isinstance(value, MoveState):
        return value.text
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Move):
        return move_to_json(value)
    return list(value) if isinstance(value, tuple) else value


def _typed(cls: type[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    unknown = sorted(set(data) - {f.name for f in fields(cls)})
    if unknown:
        raise ValueError(f"unknown argument {', '.join(unknown)}")
    return {name: _value(hints[name], value) for name, value in data.items()}


def _value(hint: Any, value: Any) -> Any:
    if hint is MoveState:
        return MoveState[value.upper()]
    if hint is Move:
        return move_from_json(value)
    if get_origin(hint) is tuple:
        return tuple(_value(get_args(hint)[0], item) for item in value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(value)
    if hint is float:
        return float(value)
    if not isinstance(value, hint):
        raise TypeError(f"{value!r} is not a {hint.__name__}")
    return value
