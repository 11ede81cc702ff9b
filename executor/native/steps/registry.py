"""Finds the module that carries out a step: the one named like its kind."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from planner.step import Step
from planner.steps.registry import STEP_KINDS


def module_for(step: Step) -> ModuleType:
    """The module of this package with `perform` and `statements` for the kind of `step`."""
    if step.kind not in STEP_KINDS:
        raise LookupError(f"step kind {step.kind} is not registered")
    return import_module(f"executor.native.steps.{step.kind}")
