"""A watcher whose nodes die one after the other hears every event, once and in order."""

from __future__ import annotations

from support.story import Story

from horologe.chaos.sim.clients import SimClient
from horologe.client import jobs
from horologe.raft.events import rows_from
from horologe.v1.watch_service_pb2 import Event


def test_nothing_is_lost_or_repeated_when_nodes_die() -> None:
    with Story() as story:
        story.begin()
        watcher = story.add_client("watcher")
        heard: list[Event] = []
        is_there: list[int] = []

        async def watch(client: SimClient) -> None:
            async for batch in client.sdk.watch_events("-"):
                is_there.append(batch.revision)
                heard.extend(batch.events)

        watcher.run(watch)
        story.run_until(lambda: bool(is_there), what="the watcher's first word")
        first = is_there[0]
        story.create("tick", jobs.every("1s"))
        for _ in range(3):
            story.run(4.0)
            dead = story.the_leader()
            story.crash(dead)
            story.run(6.0)
            story.restart(dead)
        story.run(4.0)
        job = jobs.manual()
        story.create("last", job)
        story.run_until(lambda: bool(heard) and heard[-1].job.endswith("/last"), what="the last event")
        happened = story.look(
            lambda tables: [row.revision for row in rows_from(tables, first + 1) for _ in row.events],
            story.the_leader(),
        )
        told = [event.revision for event in heard]
        assert len(told) > 30
        assert told == happened[: len(told)]
        assert len({event.resume_token for event in heard}) == len(heard)
