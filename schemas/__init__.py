"""JSON Schemas of every document that people write or programs read."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def load(name: str) -> dict[str, Any]:
    """The schema of the documents called `name` (``plan``, ``inventory``, ...), a fresh dict on every call.

    Raises FileNotFoundError if there is no ``<name>.schema.json`` in this package.
    """
    text = files(__name__).joinpath(f"{name}.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
