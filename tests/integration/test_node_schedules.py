"""One real node, one real worker: overlap, pause, and due times that pass while the node is away."""

from __future__ import annotations

from pathlib import Path

from one_node import OneNode, one_node

from horologe.chaos.cluster import eventually
from horologe.client import jobs
from horologe.v1.execution_pb2 import Execution

AWAY_SECONDS = 60
EVERY_SECONDS = 2


async def _ledger_with(here: OneNode, job: str, outcome: str, count: int) -> None:
    async def there() -> bool:
        return (await here.ledger(job))[outcome] >= count

    await eventually(there, 60, f"{count} due times of {job} {outcome}", poll_seconds=0.1)


async def test_overlap_skip_runs_one_at_a_time_and_allow_runs_beside(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        for overlap in ("skip", "allow"):
            await here.client.create_job(
                jobs.job(overlap, jobs.every("1s", phase="0s"), jobs.python("hold", 2.6), overlap=overlap)
            )
        await _ledger_with(here, "skip", "SKIPPED", 3)
        await _ledger_with(here, "skip", "RAN", 2)
        await _ledger_with(here, "allow", "RAN", 5)
        assert here.most_at_a_time["skip"] == 1
        assert here.most_at_a_time["allow"] >= 2
        assert set(await here.ledger("allow")) == {"RAN"}
        reasons = {row.reason async for row in here.client.list_ledger("skip") if row.outcome == 2}
        assert len(reasons) == 1 and all(reasons), "a skipped due time says why"


async def test_a_paused_job_is_not_fired_and_goes_on_afterwards(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        await here.client.create_job(jobs.job("ticks", jobs.every("1s"), jobs.python("hold", 0)))
        await here.client.create_job(jobs.job("beside", jobs.every("1s"), jobs.python("hold", 0)))
        await _ledger_with(here, "ticks", "RAN", 1)
        await here.client.pause_job("ticks")
        ran = (await here.ledger("ticks"))["RAN"]
        beside = (await here.ledger("beside"))["RAN"]
        await _ledger_with(here, "beside", "RAN", beside + 3)
        assert (await here.ledger("ticks"))["RAN"] == ran
        await here.client.resume_job("ticks")
        await _ledger_with(here, "ticks", "RAN", ran + 2)


async def test_due_times_that_passed_while_the_node_was_away(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        for catchup in ("latest", "skip"):
            await here.client.create_job(
                jobs.job(
                    catchup,
                    jobs.every(f"{EVERY_SECONDS}s", phase="0s"),
                    jobs.python("hold", 0),
                    overlap="allow",
                    catchup=catchup,
                    catchup_window="1h",
                )
            )
        for catchup in ("latest", "skip"):
            await _ledger_with(here, catchup, "RAN", 1)
        left_ms = here.clock.wall_ms()
        await here.stop()
        here.clock.ahead_ms += AWAY_SECONDS * 1000
        await here.start()
        await here.worker_connected()
        await _ledger_with(here, "latest", "COALESCED", 1)
        await _ledger_with(here, "skip", "MISSED", 1)
        # However long it took to stop and to start again.
        missed_max = (here.clock.wall_ms() - left_ms) // (EVERY_SECONDS * 1000) + 1
        for catchup in ("latest", "skip"):
            await _ledger_with(here, catchup, "RAN", 3)
        missed = AWAY_SECONDS // EVERY_SECONDS
        latest, skip = await here.ledger("latest"), await here.ledger("skip")
        assert set(latest) == {"RAN", "COALESCED"} and missed - 3 <= latest["COALESCED"] <= missed_max
        assert set(skip) == {"RAN", "MISSED"} and missed - 4 <= skip["MISSED"] <= missed_max
        for catchup in ("latest", "skip"):
            assert await _gaps(here, catchup) == []
            states = {execution.state async for execution in here.client.list_executions(catchup)}
            assert states <= {Execution.STATE_COMPLETED, Execution.STATE_RUNNING, Execution.STATE_QUEUED}


async def _gaps(here: OneNode, job: str) -> list[tuple[int, int]]:
    """Places where the ledger does not go on from one due time to the next: there must be none."""
    rows = [row async for row in here.client.list_ledger(job)]
    ends = [row.last_due_time.ToSeconds() if row.count > 1 else row.due_time.ToSeconds() for row in rows]
    starts = [row.due_time.ToSeconds() for row in rows]
    return [(end, start) for end, start in zip(ends, starts[1:], strict=False) if start - end != EVERY_SECONDS]
