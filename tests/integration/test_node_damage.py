"""A record that the disk has changed under a node that runs: whoever reads it, the node ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from one_node import OneNode, one_node

from horologe.client import jobs
from horologe.client.errors import HorologeError
from horologe.node.node import NodeFailedError
from horologe.raft.records import U64
from horologe.raft.store import Store


def _damage(store: Store, table: str, key: bytes) -> None:
    """Flips a bit of the last record of a table, as it is stored."""
    with store._environment.begin(write=True) as transaction:
        stored = bytearray(transaction.get(key, db=store._databases[table]))
        stored[0] ^= 1
        transaction.put(key, bytes(stored), db=store._databases[table])


async def _failure(here: OneNode) -> str:
    assert here.node is not None
    with pytest.raises(NodeFailedError) as caught:
        await asyncio.wait_for(here.node.wait_failed(), 60)
    return str(caught.value)


async def test_a_call_that_meets_a_damaged_record_stops_the_node(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        await here.client.create_job(jobs.job("tick", jobs.manual(), jobs.shell("true")))
        assert here.node is not None
        _damage(here.node.context.store, "job", U64.pack(1))
        with pytest.raises(HorologeError):
            await here.client.get_job("tick")
        assert f"{U64.pack(1).hex()} of table 'job' is damaged" in await _failure(here)


async def test_a_step_that_meets_a_damaged_record_stops_the_node(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        await here.client.create_job(jobs.job("tick", jobs.manual(), jobs.shell("true")))
        assert here.node is not None
        store = here.node.context.store
        _damage(store, "job_state", U64.pack(1))
        # What a node still knows by heart it does not read, but writes again as it was: this record it has to read.
        store._recent.clear()
        with pytest.raises(HorologeError):
            await here.client.with_timeout(5).run_job("tick")
        assert "of table 'job_state' is damaged" in await _failure(here)
