"""Wall clocks that are an hour wrong: nothing fires before its time, nothing twice, and the account is whole afterwards."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio

from horologe.chaos.checker import Verdict, check
from horologe.chaos.cluster import ChaosCluster, NotInTimeError, Setting, eventually
from horologe.chaos.evidence import read_folder
from horologe.chaos.recording_worker import NOOP
from horologe.chaos.workload import RecurringJobs, read_outcomes
from horologe.client import jobs

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOUR_MS = 3_600_000
WORK = RecurringJobs(count=50, period_ms=1_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ChaosCluster]:
    async with ChaosCluster(tmp_path_factory.mktemp("clocks"), 3, setting=Setting(clock_files=True)) as cluster:
        cluster.add_worker("w1").start()
        await cluster.wait_workers("w1")
        await WORK.create(cluster.client)
        await cluster.client.create_job(jobs.job("in-half-an-hour", jobs.after_delay("30m"), jobs.python(NOOP)))
        yield cluster


async def _with_a_wrong_clock(cluster: ChaosCluster, offset_ms: int) -> None:
    """Sets the leader's clock wrong, lets work go on, sets it right again, and judges the whole time."""
    leader = await cluster.wait_leader()
    from_ms = _next_second_ms()
    done = (await cluster.client.cluster_status()).completed_count
    cluster.clock_file(leader).write_text(str(offset_ms))

    async def another() -> bool:
        return (await cluster.leader()) not in (None, leader)

    async def goes_on() -> bool:
        return (await cluster.client.cluster_status()).completed_count > done + 150

    await eventually(another, 60, "a leader whose clock is right")
    await eventually(goes_on, 60, "work goes on")
    cluster.clock_file(leader).write_text("0")
    done += 150
    await eventually(goes_on, 60, "work goes on with right clocks")
    until_ms = _next_second_ms()
    verdict = Verdict()

    async def sound() -> bool:
        nonlocal verdict
        marks = read_folder(cluster.evidence)
        ledger, outcomes = await WORK.ledger(cluster.client), await read_outcomes(cluster.client)
        verdict = check(marks, WORK.expected(from_ms, until_ms), ledger, outcomes)
        return verdict.is_sound

    with suppress(NotInTimeError):
        await eventually(sound, 60, "all accounted for", poll_seconds=0.5)
    assert verdict.is_sound, verdict.summary()
    assert [row async for row in cluster.client.list_ledger("in-half-an-hour")] == []
    log_time_ms = (await cluster.client.cluster_status()).log_time.ToMilliseconds()
    assert log_time_ms < time.time() * 1000 + HOUR_MS / 2, "the time of the log has run away"


def _next_second_ms() -> int:
    return (int(time.time()) + 1) * 1000


async def test_scenario_17_clock_of_the_leader_is_an_hour_ahead(cluster: ChaosCluster) -> None:
    await _with_a_wrong_clock(cluster, HOUR_MS)


async def test_scenario_18_clock_of_the_leader_is_an_hour_behind(cluster: ChaosCluster) -> None:
    await _with_a_wrong_clock(cluster, -HOUR_MS)
