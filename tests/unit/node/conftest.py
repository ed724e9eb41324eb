"""A node's services without Raft."""

from __future__ import annotations

import pytest
from service_harness import FakeNode


@pytest.fixture
async def node(tmp_path):
    async with FakeNode(tmp_path).serve() as served:
        yield served
