"""A fake node for each test, and an environment in which no other cluster can be found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fake_cluster import FakeCluster


@pytest.fixture(autouse=True)
def _no_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOROLOGE_CONTEXT", raising=False)


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    node = FakeCluster()
    yield node
    node.stop()
