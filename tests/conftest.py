"""What all tests share: the `--rewrite` option of text tests, and how much hypothesis tries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# Before anybody imports grpc: see there.
import horologe.node  # noqa: F401

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


@pytest.fixture(autouse=True)
def logs_as_by_default() -> Iterator[None]:
    """A program that a test runs in this process configures its log, and its stream is closed with the test."""
    yield
    structlog.reset_defaults()
