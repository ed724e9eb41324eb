"""What the tests with real processes share: clusters that are gone when the test ends, whatever happened."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent

# A lease as short as the rules allow, so that nobody waits ten seconds for a lost worker: elections must fit into its margin.
SHORT_LEASE = {
    "lease_term_ms": 3_000,
    "heartbeat_ms": 40,
    "election_timeout_ms_min": 250,
    "election_timeout_ms_max": 500,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def short_lease() -> dict[str, str | int | float]:
    return dict(SHORT_LEASE)
