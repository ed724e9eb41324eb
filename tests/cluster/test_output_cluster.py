"""What attempts print is on two nodes: it outlives the node that their worker was connected to, and any node shows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from scenes import over

from horologe.chaos.cluster import ChaosCluster, eventually
from horologe.client import jobs, names
from horologe.client.worker import Context, Worker
from horologe.v1.output_service_pb2 import ReadOutputResponse

SECONDS = 60.0


async def gateway_of(cluster: ChaosCluster, worker: str) -> str:
    async def found() -> str | None:
        return {each.name: each.gateway async for each in cluster.client.list_workers()}.get(f"workers/{worker}")

    return await eventually(found, SECONDS, "the worker's gateway")


@asynccontextmanager
async def printing_worker(cluster: ChaosCluster) -> AsyncIterator[dict[str, asyncio.Event]]:
    """A worker whose attempts print a line, wait until their job's event is set, and print another line."""
    go = {"first": asyncio.Event(), "second": asyncio.Event()}
    worker = Worker(cluster.addresses, name="w1", drain_seconds=1.0, insecure=True)

    @worker.handler("print")
    async def print_and_wait(context: Context) -> None:
        context.write_output("one\n")
        await go[context.payload].wait()
        context.write_output("two\n")

    serving = asyncio.create_task(worker.serve())
    try:
        yield go
    finally:
        worker.drain()
        await serving


async def begin(cluster: ChaosCluster, name: str) -> int:
    await cluster.client.create_job(jobs.job(name, jobs.manual(), jobs.python("print", name)))
    return names.execution_number((await cluster.client.run_job(name)).name)


async def text_of(pieces: AsyncIterator[ReadOutputResponse]) -> str:
    return "".join([piece.data.decode() async for piece in pieces])


async def test_output_is_followed_through_another_node_and_outlives_its_gateway(tmp_path: Path) -> None:
    # The worker has found another gateway before its lease ends, however long that takes here.
    async with ChaosCluster(tmp_path, 3, {"lease_term_ms": 60_000}) as cluster, printing_worker(cluster) as go:
        gateway = await gateway_of(cluster, "w1")
        others = [name for name in cluster.names if name != gateway]

        # Over before its gateway dies.
        first = await begin(cluster, "first")
        await cluster.wait_caught_up(others[0])
        followed = cluster.on(others[0]).read_output(first, follow=True)
        assert (await anext(followed)).data == b"one\n"
        go["first"].set()
        assert await text_of(followed) == "two\n"
        attempt = (await over(cluster, first)).attempts[0]
        assert (attempt.output_copies, attempt.output_bytes) == (2, len("one\ntwo\n"))

        # Its gateway dies while it runs; it goes on under another one.
        second = await begin(cluster, "second")
        await cluster.wait_caught_up(others[1])
        followed = cluster.on(others[1]).read_output(second, follow=True)
        assert (await anext(followed)).data == b"one\n"
        cluster.node(gateway).kill()
        go["second"].set()
        assert await text_of(followed) == "two\n"
        ended = await over(cluster, second)
        assert (len(ended.attempts), ended.attempts[0].output_truncated) == (1, False)

        for name in others:
            await cluster.wait_caught_up(name)
            client = cluster.on(name)
            for number in (first, second):
                assert await text_of(client.read_output(number)) == "one\ntwo\n"
            answer = await client.search_output("first", "TWO", ignore_case=True)
            assert [line.text for match in answer.matches for line in match.lines] == ["two"]
            assert answer.unread_attempt_count == 0
