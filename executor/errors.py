"""Every error that a user may see, and the exit code it means.

    MovetablesError            1   failure
    ├── Stale                  3   the saved plan no longer matches the cluster
    ├── Refused                4   refused for safety
    ├── LockHeld               5   another apply holds the lock, or took it from this one (LockLost)
    ├── Interrupted            6   stopped on request; resumable
    ├── VerificationMismatch   7   source and target differ
    ├── Declined               8   answered no at the prompt
    ├── TimedOut               9   a deadline passed; nothing was changed, or it was undone
    ├── Ambiguous             10   it cannot be told whether a change happened; a human must look
    ├── Usage                 64   wrong command line
    └── BadDocument           65   plan or inventory is invalid

Anything else that escapes is a bug: 70. `exit_code_for` is the only place that knows the numbers.
"""

from __future__ import annotations


class MovetablesError(Exception):
    """What was found (`message`) and what to type next (`hint`, may be empty)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Stale(MovetablesError):
    """The saved plan no longer matches the cluster."""


class Refused(MovetablesError):
    """A precondition does not hold; nothing was changed."""


class LockHeld(MovetablesError):
    """Another apply holds the lock; the message names it."""


class Interrupted(MovetablesError):
    """Stopped at a safe point on request; the hint is the command that resumes."""


class VerificationMismatch(MovetablesError):
    """VDiff found a difference."""


class Declined(MovetablesError):
    """The prompt was not answered with yes."""


class TimedOut(MovetablesError):
    """A deadline passed; what had begun was undone."""


class Ambiguous(MovetablesError):
    """Whether a change happened cannot be told; the hint says what to look at."""


class Usage(MovetablesError):
    """The command line makes no sense."""


class BadDocument(MovetablesError):
    """A plan or inventory is invalid; the message holds every mistake with file:line:col."""


_CODES: tuple[tuple[type[MovetablesError], int], ...] = (
    (Stale, 3),
    (Refused, 4),
    (LockHeld, 5),
    (Interrupted, 6),
    (VerificationMismatch, 7),
    (Declined, 8),
    (TimedOut, 9),
    (Ambiguous, 10),
    (Usage, 64),
    (BadDocument, 65),
    (MovetablesError, 1),
)

CHANGES_PRESENT = 2  # only `plan --detailed-exitcode`
BUG = 70


def exit_code_for(error: BaseException) -> int:
    """The process exit code that `error` means; 70 for anything that is not ours."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), BUG)
