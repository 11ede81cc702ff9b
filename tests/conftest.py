"""For all tests: hypothesis measures no times, because the machines that run us are shared and slow at times."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")
