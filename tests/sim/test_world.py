"""The simulated world itself: real nodes, workers and callers live in it, and it does the same for the same seed."""

from __future__ import annotations

import os
import subprocess
import sys

from horologe.chaos.evidence import Kind
from horologe.chaos.history import Answer
from horologe.chaos.sim.clients import SimClient
from horologe.chaos.sim.workers import HANDLER, payload
from horologe.chaos.sim.world import World, WorldOptions
from horologe.client import jobs

A_SHORT_LIFE = """
from horologe.chaos.sim.world import World, WorldOptions
with World(11, WorldOptions(nodes=3, workers=1)) as world:
    world.start()
    world.run(3)
    world.crash(world.leader())
    world.run(7)
    print(world.trace_hash)
"""


async def _tick(client: SimClient) -> None:
    job = jobs.job("tick-1", jobs.every("1s"), jobs.python(HANDLER, payload(seconds=0.1)))
    await client.ask("create", "tick-1", client.sdk.create_job(job, request_id=client.new_request_id()))


def test_one_node_runs_a_job() -> None:
    with World(1, WorldOptions(nodes=1, workers=1)) as world:
        world.start()
        world.add_client("c1").run(_tick)
        world.run(10)
        assert [operation.answer for operation in world.operations] == [Answer.OK]
        assert sum(mark.kind == Kind.ENDED for mark in world.marks) >= 7


def test_a_lost_leader_is_replaced_and_comes_back() -> None:
    with World(2, WorldOptions(nodes=3, workers=2)) as world:
        world.start()
        world.add_client("c1").run(_tick)
        world.run_until(lambda: len(world.marks) > 4)
        first = world.leader()
        assert first is not None
        world.crash(first)
        world.run_until(lambda: world.leader() not in (None, first))
        before = len(world.marks)
        world.run_until(lambda: len(world.marks) > before + 4)
        world.restart(first)
        world.run_until(world.is_converged)
        world.compare_states()
        assert world.observer.counts["elections won"] >= 2


def test_a_partition_stops_the_minority() -> None:
    with World(3, WorldOptions(nodes=3, workers=2)) as world:
        world.start()
        world.run_until(world.is_converged)
        old = world.leader()
        assert old is not None
        others = [name for name in world.nodes if name != old]
        world.partition([old], others)
        world.run_until(lambda: world.leader() in others)
        world.heal()
        world.run_until(world.is_converged)
        world.compare_states()


def test_the_same_seed_does_the_same_under_any_hash_seed() -> None:
    hashes = {
        subprocess.run(
            [sys.executable, "-c", A_SHORT_LIFE],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2", "3")
    }
    assert len(hashes) == 1
    assert len(hashes.pop()) == 33
