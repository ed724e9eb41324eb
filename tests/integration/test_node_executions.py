"""One real node, one real worker: executions that are cancelled, run too long, fail, and what they write."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from one_node import OUTPUT_BYTES_MAX, one_node
from support.timers import hold_timeouts

from horologe.chaos.cluster import eventually
from horologe.client import jobs
from horologe.client.context import Context
from horologe.client.errors import FailedPrecondition
from horologe.v1.execution_pb2 import Attempt, Execution

# Says who it is and who its child is, and then both wait for a long time; the child does not care about SIGTERM.
FAMILY = "sh -c 'trap \"\" TERM; while :; do sleep 1; done' & echo $$ $!; echo begun >&2; wait"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def _gone(pids: list[int]) -> None:
    async def all_gone() -> bool:
        return not any(_is_alive(pid) for pid in pids)

    await eventually(all_gone, 60, f"processes {pids} gone")


async def test_cancelling_a_running_job_ends_its_whole_process_group(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        await here.client.create_job(jobs.job("family", jobs.manual(), jobs.shell(FAMILY), grace="1s"))
        execution = (await here.client.run_job("family")).name

        async def family() -> list[int]:
            return [int(pid) for pid in (await here.output(execution))["STDOUT"].split()]

        pids = await eventually(family, 60, "two process ids in the output")
        assert len(pids) == 2 and all(_is_alive(pid) for pid in pids)
        answer = await here.client.cancel_execution(execution, reason="not wanted any more")
        assert answer.state == Execution.STATE_RUNNING and answer.cancel_requested
        ended = await here.client.wait_execution(execution, timeout=60)
        assert ended.state == Execution.STATE_CANCELLED
        assert [attempt.state for attempt in ended.attempts] == [Attempt.STATE_CANCELLED]
        assert ended.reason == "not wanted any more"
        await _gone(pids)
        with pytest.raises(FailedPrecondition) as late:
            await here.client.cancel_execution(execution)
        assert late.value.reason == "EXECUTION_FINISHED"


async def test_cancelling_again_what_has_not_ended_yet_is_harmless(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        begun, may_end = asyncio.Event(), asyncio.Event()

        @here.worker.handler("tidy")
        async def tidy(context: Context) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                await may_end.wait()

        await here.client.create_job(jobs.job("tidy", jobs.manual(), jobs.python("tidy"), grace="10m"))
        execution = (await here.client.run_job("tidy")).name
        await begun.wait()
        for _ in range(2):
            answer = await here.client.cancel_execution(execution, reason="not wanted any more")
            assert answer.state == Execution.STATE_RUNNING and answer.cancel_requested
        may_end.set()
        assert (await here.client.wait_execution(execution, timeout=60)).state == Execution.STATE_CANCELLED


async def test_cancelling_a_queued_job_ends_it_at_once(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        await here.client.create_job(jobs.job("nobody", jobs.manual(), jobs.shell(["true"]), queue="unserved"))
        execution = await here.client.run_job("nobody")
        assert execution.state == Execution.STATE_QUEUED
        cancelled = await here.client.cancel_execution(execution.name)
        assert cancelled.state == Execution.STATE_CANCELLED
        assert not (await here.client.get_execution(execution.name)).attempts


async def test_a_job_that_runs_too_long_is_ended_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with one_node(tmp_path) as here:
        execution = ""

        async def has_begun() -> bool:
            return execution != "" and (await here.output(execution))["STDERR"] == b"begun\n"

        hold_timeouts(monkeypatch, lambda: eventually(has_begun, 60, "what it says"))
        await here.client.create_job(
            jobs.job(
                "slow",
                jobs.manual(),
                jobs.shell(FAMILY),
                timeout="1s",
                grace="1s",
                retry=jobs.retry(max_attempts=1),
            )
        )
        execution = (await here.client.run_job("slow")).name
        ended = await here.client.wait_execution(execution, timeout=60)
        assert [attempt.state for attempt in ended.attempts] == [Attempt.STATE_TIMED_OUT]
        assert ended.state == Execution.STATE_DEAD
        output = await here.output(execution)
        assert output["STDERR"] == b"begun\n"
        await _gone([int(pid) for pid in output["STDOUT"].split()])


async def test_a_job_that_fails_is_tried_again_and_given_up_at_last(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        await here.client.create_job(
            jobs.job(
                "fails",
                jobs.manual(),
                jobs.shell("echo attempt $HOROLOGE_ATTEMPT; exit 3"),
                retry=jobs.retry(max_attempts=3, base="50ms", jitter="none"),
            )
        )
        execution = (await here.client.run_job("fails")).name
        ended = await here.client.wait_execution(execution, timeout=60)
        assert ended.state == Execution.STATE_DEAD
        assert [(attempt.number, attempt.state, attempt.exit_code) for attempt in ended.attempts] == [
            (number, Attempt.STATE_FAILED, 3) for number in (1, 2, 3)
        ]
        tokens = [attempt.fencing_token for attempt in ended.attempts]
        assert tokens == sorted(set(tokens))
        for number in (1, 2, 3):
            assert (await here.output(execution, attempt=number))["STDOUT"] == f"attempt {number}\n".encode()


async def test_output_can_be_followed_while_it_is_written_and_read_afterwards(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"echo first; echo aside >&2; while [ ! -e {gate} ]; do sleep 0.05; done; echo last"
    async with one_node(tmp_path) as here:
        await here.client.create_job(jobs.job("talks", jobs.manual(), jobs.shell(script)))
        execution = (await here.client.run_job("talks")).name
        following = asyncio.create_task(here.output(execution, follow=True))

        async def first_is_there() -> bool:
            return (await here.output(execution))["STDOUT"] == b"first\n"

        await eventually(first_is_there, 60, "output of a running attempt")
        assert not following.done()
        gate.touch()
        followed = await asyncio.wait_for(following, 60)
        assert followed == {"STDOUT": b"first\nlast\n", "STDERR": b"aside\n"}
        await here.client.wait_execution(execution, timeout=60)
        assert await here.output(execution) == followed
        # Also from a node that has been away.
        await here.stop()
        await here.start()
        assert await here.output(execution) == followed


async def test_output_beyond_the_cap_is_cut_and_marked(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        await here.client.create_job(
            jobs.job("chatty", jobs.manual(), jobs.shell(f"head -c {3 * OUTPUT_BYTES_MAX} /dev/zero"))
        )
        execution = (await here.client.run_job("chatty")).name
        ended = await here.client.wait_execution(execution, timeout=60)
        assert ended.state == Execution.STATE_COMPLETED
        assert ended.attempts[0].output_truncated
        assert len((await here.output(execution))["STDOUT"]) == OUTPUT_BYTES_MAX


async def test_a_running_attempt_survives_a_restart_of_its_node(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"echo before; while [ ! -e {gate} ]; do sleep 0.05; done; echo after"
    # However long the node is away: here it is no question of the lease.
    async with one_node(tmp_path, lease_term_ms=60_000) as here:
        await here.client.create_job(jobs.job("lasting", jobs.manual(), jobs.shell(script)))
        execution = (await here.client.run_job("lasting")).name

        async def begun() -> bool:
            return (await here.output(execution))["STDOUT"] == b"before\n"

        await eventually(begun, 60, "the attempt begun")
        await here.stop()
        await here.start()
        gate.touch()
        ended = await here.client.wait_execution(execution, timeout=60)
        assert ended.state == Execution.STATE_COMPLETED
        assert [attempt.state for attempt in ended.attempts] == [Attempt.STATE_SUCCEEDED]
        assert (await here.output(execution))["STDOUT"] == b"before\nafter\n"


async def test_the_node_tells_what_it_has_seen(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        await here.client.create_job(jobs.job("good", jobs.manual(), jobs.shell("true")))
        await here.client.create_job(
            jobs.job("bad", jobs.manual(), jobs.shell("false"), retry=jobs.retry(max_attempts=1))
        )
        for name in ("good", "bad"):
            await here.client.wait_execution((await here.client.run_job(name)).name, timeout=60)

        async def told() -> bool:
            total = (await here.client.activity()).total
            return (total.started_count, total.succeeded_count, total.failed_count) == (2, 1, 1)

        await eventually(told, 60, "two starts, one success, one failure")
        answer = await here.client.activity()
        assert [name.split("/")[3] for name in answer.failed_executions] == ["bad"]
        assert answer.total.HasField("start_delay_p99")
