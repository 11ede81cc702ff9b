"""Secrets that this process has read, so that nothing it prints, keeps or reports can contain one.

Secrets are kept out of messages by construction; this is the second net, under texts that others wrote: a server's
error message, a traceback.
"""

from __future__ import annotations

SHORTEST = 6  # replacing shorter texts would garble messages and hide nothing worth hiding

_secrets: set[str] = set()


def remember(secret: str) -> None:
    """Never show `secret` from now on."""
    if len(secret) >= SHORTEST:
        _secrets.add(secret)


def redact(text: str) -> str:
    """`text` with every remembered secret replaced by ``***``."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
