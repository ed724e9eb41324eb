"""Holds thousands of workers' streams in one process: says hello, sends heartbeats when they are due, and does nothing else.

`python -m horologe.chaos.bench_holder hold COUNT SLOTS NAME ADDRESS...` speaks as that many workers, spread over the nodes; a
stream that breaks goes to the next node. `... bare COUNT ADDRESS` opens as many streams of plain gRPC to `... serve`, a server
whose streams do nothing: it is measured beside, since most of what a stream costs is the library's.

A line on standard input is answered with a line of JSON about how all stand; the process ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import grpc
import uvloop

from horologe.chaos.bench_evidence import Distribution
from horologe.node.open_files import raise_limit
from horologe.v1 import worker_pb2, worker_service_pb2, worker_service_pb2_grpc

STREAMS_PER_CHANNEL: Final = 100
OPENING_MAX: Final = 200
"""Streams that are being opened at a time."""
RETRY_SECONDS: Final = (0.1, 0.5)
TICK_SECONDS: Final = 0.05
BARE_METHOD: Final = "/bare/Stream"
OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    # When to try again is decided here, not by a pause that grows.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)
Stream = grpc.aio.StreamStreamCall[Any, Any]
ConnectRequest = worker_service_pb2.ConnectRequest


@dataclass(slots=True)
class Standing:
    """How the streams stand."""

    streams: int = 0
    """That are open and were welcomed."""
    by_address: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    """Streams that ended, by the node that they were on."""
    refused: int = 0
    """Tries to open one that came to nothing."""
    heartbeats: int = 0
    acknowledged: int = 0
    heartbeat_seconds: float = 0.0
    acknowledged_after_ms: list[float] = field(default_factory=list)
    """Since the last report."""

    def report(self) -> dict[str, Any]:
        """For whoever started this process."""
        taken_ms, self.acknowledged_after_ms = self.acknowledged_after_ms, []
        found = Distribution.of(taken_ms)
        return {
            **{
                name: getattr(self, name)
                for name in ("streams", "refused", "heartbeats", "acknowledged", "heartbeat_seconds")
            },
            "by_address": dict(self.by_address),
            "broken": dict(self.broken),
            "acknowledged_after_ms": asdict(found) if found is not None else None,
        }


class Channels:
    """A connection for every hundred streams to one node."""

    def __init__(self) -> None:
        self._channels: dict[tuple[str, int], grpc.aio.Channel] = {}

    def of(self, address: str, number: int) -> grpc.aio.Channel:
        """The one of the `number`th stream."""
        key = address, number // STREAMS_PER_CHANNEL
        if key not in self._channels:
            self._channels[key] = grpc.aio.insecure_channel(address, options=OPTIONS)
        return self._channels[key]


@dataclass(slots=True, eq=False)
class Held:
    """One worker's stream."""

    stream: Stream
    sequence: int = 0
    sent_at: float = 0.0


class Holder:
    """All streams of this process."""

    def __init__(self, name: str, slots: int, addresses: list[str]) -> None:
        self.standing = Standing()
        self._name = name
        self._slots = slots
        self._addresses = addresses
        self._channels = Channels()
        self._opening = asyncio.Semaphore(OPENING_MAX)
        self._held: dict[int, Held] = {}
        self._chance = random.SystemRandom()

    async def hold(self, number: int) -> None:
        """For ever: a stream, and when it breaks another one, at the next node."""
        position = number
        while True:
            address = self._addresses[position % len(self._addresses)]
            held = None
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                held = await self._open(number, address)
            if held is None:
                self.standing.refused += 1
            else:
                self._count(address, 1)
                self._held[number] = held
                with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await self._read(held)
                self._held.pop(number, None)
                self._count(address, -1)
                self.standing.broken[address] += 1
            position += 1
            await asyncio.sleep(self._chance.uniform(*RETRY_SECONDS))

    async def beat(self) -> None:
        """For ever: each stream's heartbeat when it is due, evenly over the interval."""
        due = 0.0
        turn = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if not self._held or not self.standing.heartbeat_seconds:
                continue
            due = min(len(self._held), due + len(self._held) * TICK_SECONDS / self.standing.heartbeat_seconds)
            numbers = sorted(self._held)
            for _ in range(int(due)):
                turn = (turn + 1) % len(numbers)
                held = self._held[numbers[turn]]
                held.sequence += 1
                held.sent_at = time.monotonic()
                beat = worker_pb2.Heartbeat(sequence=held.sequence)
                keep(held.stream.write(ConnectRequest(heartbeat=beat)))
                self.standing.heartbeats += 1
            due -= int(due)

    async def _open(self, number: int, address: str) -> Held | None:
        async with self._opening:
            stub = worker_service_pb2_grpc.WorkerServiceStub(self._channels.of(address, number))
            stream: Stream = stub.Connect()
            worker = f"{self._name}-{number}"
            hello = worker_pb2.Hello(
                worker=worker, incarnation=worker[-60:], queues=[self._name], slot_count=self._slots, protocol_version=1
            )
            await stream.write(ConnectRequest(hello=hello))
            first: Any = await stream.read()
        if first is grpc.aio.EOF or first.WhichOneof("kind") != "welcome":
            return None
        self.standing.heartbeat_seconds = first.welcome.heartbeat_interval.ToMilliseconds() / 1000
        return Held(stream)

    async def _read(self, held: Held) -> None:
        message: Any
        while (message := await held.stream.read()) is not grpc.aio.EOF:
            match message.WhichOneof("kind"):
                case "heartbeat_ack":
                    self.standing.acknowledged += 1
                    if message.heartbeat_ack.sequence == held.sequence:
                        self.standing.acknowledged_after_ms.append((time.monotonic() - held.sent_at) * 1000)
                case "go_away":
                    return

    def _count(self, address: str, change: int) -> None:
        self.standing.streams += change
        self.standing.by_address[address] += change


class BareHolder:
    """Streams of plain gRPC."""

    def __init__(self, address: str) -> None:
        self.standing = Standing()
        self._address = address
        self._channels = Channels()
        self._opening = asyncio.Semaphore(OPENING_MAX)

    async def hold(self, number: int) -> None:
        """Opens one, and reads from it for ever."""
        async with self._opening:
            call: Any = self._channels.of(self._address, number).stream_stream(BARE_METHOD)
            stream: Stream = call()
            await stream.write(b"hello")
            await stream.read()
        self.standing.streams += 1
        await stream.read()


_tasks: set[asyncio.Task[None]] = set()


def keep(work: Coroutine[Any, Any, None]) -> None:
    """Runs it beside; what a broken stream says to a write is known by its reader."""

    async def run() -> None:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await work

    task = asyncio.create_task(run())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def serve() -> None:
    """A server whose streams say one word and then nothing."""

    async def stream(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]) -> None:
        del requests
        await context.read()
        await context.write(b"welcome")
        await context.read()

    server = grpc.aio.server()
    handler: Any = grpc.stream_stream_rpc_method_handler(stream)
    service, method = BARE_METHOD[1:].split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await answer(lambda: {"port": port})


async def answer(report: Any) -> None:
    """Answers each line, until there are no more."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        sys.stdout.write(json.dumps(report()) + "\n")
        sys.stdout.flush()
    os._exit(0)


async def main(arguments: list[str]) -> None:
    raise_limit()
    gc.freeze()
    kind, *rest = arguments
    if kind == "serve":
        await serve()
        return
    if kind == "bare":
        count, address = rest
        bare = BareHolder(address)
        for number in range(int(count)):
            keep(bare.hold(number))
        await answer(bare.standing.report)
    count, slots, name, *addresses = rest
    holder = Holder(name, int(slots), addresses)
    keep(holder.beat())
    for number in range(int(count)):
        keep(holder.hold(number))
    await answer(holder.standing.report)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
