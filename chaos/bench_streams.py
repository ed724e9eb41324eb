"""The profile of workers' streams: many of them at once, what one costs on each side, and what they do when the leader dies.

The streams are held by a process of its own (bench_holder.py), so that its memory can be told from that of everything else. What
gRPC takes for a stream by itself is measured in the same run, between the same kinds of processes.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from horologe.chaos import bench_holder
from horologe.chaos.bench_fleet import BenchError
from horologe.chaos.bench_report import Report
from horologe.chaos.bench_stage import READY_SECONDS, Stage
from horologe.client import own_program

OPENED_PER_SECOND_MIN = 20
REST_SECONDS = 2.0
POLL_SECONDS = 0.2


class Process:
    """A process of bench_holder.py that is asked how it stands."""

    def __init__(self, *arguments: str) -> None:
        command = own_program.run_module(bench_holder.__name__, *arguments)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    @property
    def rss_bytes(self) -> int:
        """What it holds in memory now."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def ask(self) -> dict[str, Any]:
        """Its report."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise BenchError("the process that holds the streams has ended by itself")
        found: dict[str, Any] = json.loads(line)
        return found

    async def wait(self, streams: int, broken: tuple[str, int] = ("", 0)) -> dict[str, Any]:
        """Until it has so many streams, after so many on one node have broken."""
        address, count = broken
        deadline = time.monotonic() + READY_SECONDS + streams / OPENED_PER_SECOND_MIN
        while time.monotonic() < deadline:
            found = await asyncio.to_thread(self.ask)
            if found["streams"] >= streams and found["broken"].get(address, 0) >= count:
                return found
            await asyncio.sleep(POLL_SECONDS)
        raise BenchError(f"{found['streams']} of {streams} streams are open after {READY_SECONDS:.0f} s and more")

    def end(self) -> None:
        """Gone when this returns."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def process(*arguments: str) -> Iterator[Process]:
    """One that ends with the block."""
    one = Process(*arguments)
    try:
        yield one
    finally:
        one.end()


@dataclass(frozen=True, slots=True)
class Streams:
    """`streams` workers with `slots` slots together, which do nothing but stay."""

    streams: int
    slots: int
    seconds: float
    failover: bool = True
    """Whether the leader is killed, and started again, after that."""

    @property
    def seconds_max(self) -> float:
        return 240 + 4 * (READY_SECONDS + self.streams / OPENED_PER_SECOND_MIN) + self.seconds

    async def play(self, stage: Stage) -> Report:
        report = Report("workers", asdict(self))
        await stage.steps.wait_until("Coming to rest", time.time() + REST_SECONDS)
        empty = await stage.sample()
        addresses = stage.fleet.addresses
        slots = str(-(-self.slots // self.streams))
        with process("hold", "0", slots, "none", *addresses) as one:
            await asyncio.to_thread(one.ask)
            holder_bytes = one.rss_bytes
        with process("hold", str(self.streams), slots, stage.fleet.run, *addresses) as holder:
            begun = time.monotonic()
            await holder.wait(self.streams)
            report.more["streams_opened_per_second"] = round(self.streams / (time.monotonic() - begun), 1)
            await stage.steps.wait_until("Coming to rest", time.time() + REST_SECONDS)
            before, begun_with = await stage.sample(), await asyncio.to_thread(holder.ask)
            await stage.steps.wait_until("Holding", time.time() + self.seconds)
            after, found = await stage.sample(), await asyncio.to_thread(holder.ask)
            report.take_usage(before, after)
            self._take_heartbeats(report, begun_with, found)
            grown = sum(usage.rss_bytes - empty.nodes[node].rss_bytes for node, usage in after.nodes.items())
            report.more["node_kib_per_stream"] = _kib(grown, self.streams)
            report.more["worker_kib_per_stream"] = _kib(holder.rss_bytes - holder_bytes, self.streams)
            if self.failover:
                await self._kill_the_leader(stage, report, holder, after.status.leader)
        report.more |= await _bare(self.streams // len(addresses))
        return report

    def _take_heartbeats(self, report: Report, before: dict[str, Any], found: dict[str, Any]) -> None:
        report.more["heartbeat_seconds"] = found["heartbeat_seconds"]
        report.more["heartbeats"] = found["heartbeats"] - before["heartbeats"]
        for name in ("p50", "p99", "max"):
            report.more[f"heartbeat_acknowledged_{name}_ms"] = (found["acknowledged_after_ms"] or {}).get(name)
        report.more["streams_broken_while_held"] = sum(found["broken"].values())
        report.missed = self.streams - found["streams"]

    async def _kill_the_leader(self, stage: Stage, report: Report, holder: Process, leader: str) -> None:
        """Those on the node that died have to go elsewhere; nobody else should."""
        before = await asyncio.to_thread(holder.ask)
        position = stage.fleet.node_names.index(leader)
        address = stage.fleet.addresses[position]
        broken = before["broken"].get(address, 0) + before["by_address"][address]
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(stage.restart(position))
            found = await holder.wait(self.streams, (address, broken))
            report.more["seconds_until_all_have_a_stream_again"] = round(time.monotonic() - begun, 2)
        await stage.steps.wait_until(
            "Looking who leaves", time.time() + min(self.seconds, 2 * found["heartbeat_seconds"])
        )
        found = await asyncio.to_thread(holder.ask)
        moved = {name: count - before["broken"].get(name, 0) for name, count in found["broken"].items()}
        report.more["streams_of_the_killed_leader"] = moved.pop(address, 0)
        report.more["reconnects_of_others"] = sum(moved.values())
        report.missed += self.streams - found["streams"]


async def _bare(count: int) -> dict[str, Any]:
    """What gRPC takes for a stream by itself, on both sides."""
    with ExitStack() as stack:
        server = stack.enter_context(process("serve"))
        address = f"127.0.0.1:{(await asyncio.to_thread(server.ask))['port']}"
        idle = stack.enter_context(process("bare", "0", address))
        await asyncio.to_thread(idle.ask)
        server_bytes, client_bytes = server.rss_bytes, idle.rss_bytes
        client = stack.enter_context(process("bare", str(count), address))
        await client.wait(count)
        await asyncio.sleep(REST_SECONDS)
        return {
            "bare_server_kib_per_stream": _kib(server.rss_bytes - server_bytes, count),
            "bare_client_kib_per_stream": _kib(client.rss_bytes - client_bytes, count),
        }


def _kib(grown_bytes: int, streams: int) -> float:
    return round(grown_bytes / 1024 / streams, 1)
