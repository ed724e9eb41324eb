"""The state machine under test: whatever a test does with it, its state must hold together at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.driver import Driver


@pytest.fixture
def machine() -> Iterator[Driver]:
    """Driven by hand; all invariants are checked when the test ends."""
    driver = Driver()
    yield driver
    driver.check()
