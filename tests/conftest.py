"""What all tests share: the `--rewrite` option of text tests, and how much hypothesis tries."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# No deadlines: machines that build are slow now and then. No database: what fails is printed and becomes a test of its own.
settings.register_profile(
    "horologe", deadline=None, database=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("horologe")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite", action="store_true", help="write what happens into the text tests as what is expected"
    )


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--rewrite"))
