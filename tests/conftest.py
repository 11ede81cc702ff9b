"""For all tests: hypothesis measures no times, because the machines that run us are shared and slow at times."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--server`` runs the tests of real servers on those of one flavour, or of one pair of them, alone."""
    parser.addoption(
        "--server",
        choices=("mariadb", "mysql", "mariadb-mysql", "mysql-mariadb"),
        help="run cluster tests on this only",
    )
