"""What the tests with real processes share: clusters that are gone when the test ends, whatever happened."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent

# For tests that count terms: nobody is elected because a machine with other work stood still for half a second.
PATIENT_ELECTIONS = {
    "election_timeout_ms_min": 2_000,
    "election_timeout_ms_max": 4_000,
    "lease_term_ms": 60_000,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def patient_elections() -> dict[str, str | int | float]:
    return dict(PATIENT_ELECTIONS)
