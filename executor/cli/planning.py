"""What `plan`, `graph` and `apply` have in common: the plan that their arguments ask for."""

from __future__ import annotations

from pathlib import Path

from executor.cli.environment import read_text
from executor.errors import BadDocument, MovetablesError, Refused, VerificationMismatch
from planner.checks import is_verification
from planner.plan import Plan
from planner.saved import SavedPlanError, load


def is_saved(path: Path) -> bool:
    """True for a file that holds a saved plan (JSON) rather than a plan file (YAML). Raises Usage."""
    return read_text(path, "plan file").lstrip().startswith("{")


def open_saved(path: Path) -> Plan:
    """The saved plan in `path`. Raises Usage or BadDocument."""
    try:
        return load(read_text(path, "saved plan"))
    except SavedPlanError as error:
        raise BadDocument(f"{path}: {error}") from error


def refusal_error(plan: Plan) -> MovetablesError | None:
    """What a plan with refusals means for the exit code; None for one without."""
    if not plan.refusals:
        return None
    count = len(plan.refusals)
    kind = VerificationMismatch if all(map(is_verification, plan.refusals)) else Refused
    reasons = "1 reason" if count == 1 else f"{count} reasons"
    return kind(f"plan {plan.document} is refused for {reasons}; nothing was changed", plan.refusals[0].hint)
