"""Node to node: one gRPC stream between each two members, snapshots, and output that another node keeps.

Of each two members the one whose name sorts first calls. A life of the stream is an epoch: in order, without gaps, and
nothing of it is delivered after it ended.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import shutil
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import structlog

from horologe.node.context import NodeContext
from horologe.peer.v1 import peer_service_pb2, peer_service_pb2_grpc
from horologe.raft.machine import cluster_id_of
from horologe.raft.replica import Inbox, Outbox

PROTOCOL_VERSION = 1
MESSAGE_BYTES_MAX = 32 << 20
BATCH_BYTES_MAX = 8 << 20
"""Messages that wait for the same peer travel together, up to this."""
CHUNK_BYTES = 1 << 20
REDIAL_SECONDS = 0.2
HELLO_SECONDS = 3.0
CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 4_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A proxy has no business between nodes.
    ("grpc.enable_http_proxy", 0),
    # Two nodes in one process must not share a connection.
    ("grpc.use_local_subchannel_pool", 1),
]

log = structlog.get_logger(__name__)
Message = peer_service_pb2.PeerMessage


class ForeignClusterError(Exception):
    """This node's data belongs to another cluster than that of most members."""


class ForeignDataError(Exception):
    """The data folder belongs to another cluster than the members."""


@dataclass(slots=True)
class _Link:
    """The connection to one peer, as it is now."""

    epoch: int = 0
    up: bool = False
    begun: bool = False
    """The replica knows of this epoch: what it sends from now on belongs to it."""
    outgoing: list[Message] = field(default_factory=list)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)


class PeerNetwork(peer_service_pb2_grpc.PeerServiceServicer):
    """All connections of this node to the other members."""

    def __init__(
        self,
        context: NodeContext,
        install: Callable[[Path], None],
        read_output: Callable[
            [peer_service_pb2.FetchOutputRequest], AsyncIterator[peer_service_pb2.FetchOutputResponse]
        ],
        fail: Callable[[BaseException], None],
    ) -> None:
        """`install` takes a folder with a fetched state; `read_output` reads what this node keeps; `fail` stops the node."""
        self._context = context
        self._install = install
        self._read_output = read_output
        self._fail = fail
        self._strangers: dict[str, str] = {}
        """Members that belong to another cluster than this node, and to which."""
        self._fail = fail
        self._foreign: set[str] = set()
        self._name = context.config.name
        self._addresses = {
            member.name: member.peer_address for member in context.config.members if member.name != self._name
        }
        self._links = {peer: _Link() for peer in self._addresses}
        self._tasks: list[asyncio.Task[None]] = []
        self._fetching: asyncio.Task[None] | None = None
        self._fetch_numbers = itertools.count(1)

    def start(self) -> None:
        shutil.rmtree(self._context.config.data_dir / "incoming", ignore_errors=True)
        for peer in self._addresses:
            if self._name < peer:
                self._tasks.append(asyncio.create_task(self._dial_for_ever(peer), name=f"dial {peer}"))

    async def stop(self) -> None:
        tasks = [*self._tasks, *([self._fetching] if self._fetching else [])]
        for task in tasks:
            task.cancel()
        for link in self._links.values():
            link.closed.set()
            link.wake.set()
        await asyncio.gather(*tasks, return_exceptions=True)

    def deliver(self, outbox: Outbox) -> None:
        """Sends what a step released. What goes to a peer that is not connected is dropped: Raft says it again."""
        for peer, epoch in outbox.epochs:
            link = self._links[peer]
            if link.up and link.epoch == epoch:
                link.begun = True
        for peer, message in outbox.messages:
            link = self._links[peer]
            if link.begun:
                link.outgoing.append(message)
                link.wake.set()
        for peer in outbox.dropped:
            self._links[peer].closed.set()
            self._links[peer].wake.set()
        if outbox.snapshot_from is not None and (self._fetching is None or self._fetching.done()):
            self._fetching = asyncio.create_task(self._fetch_snapshot(outbox.snapshot_from), name="fetch snapshot")

    # One stream

    async def _dial_for_ever(self, peer: str) -> None:
        while True:
            async with grpc.aio.insecure_channel(self._addresses[peer], options=CHANNEL_OPTIONS) as channel:
                with suppress(grpc.aio.AioRpcError, TimeoutError):
                    call = peer_service_pb2_grpc.PeerServiceStub(channel).Exchange(wait_for_ready=False)
                    await call.write(peer_service_pb2.ExchangeRequest(messages=[self._hello()]))
                    async with asyncio.timeout(HELLO_SECONDS):
                        first = await call.read()
                    messages = first.messages if isinstance(first, peer_service_pb2.ExchangeResponse) else []
                    if self._check_hello(peer, messages) is None:
                        await self._run_link(peer, call.read, _writer_of(call))
                    call.cancel()
            await asyncio.sleep(REDIAL_SECONDS * (0.5 + random.random()))

    async def Exchange(  # type: ignore[override]  # noqa: N802 - reads and writes by itself instead of yielding
        self,
        request_iterator: AsyncIterator[peer_service_pb2.ExchangeRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        del request_iterator
        first = await context.read()
        messages = [] if first is grpc.aio.EOF else first.messages
        name = messages[0].hello.node if messages else ""
        complaint = self._check_hello(name, messages)
        if complaint is not None:
            if name in self._links:
                # It shall see for itself what does not fit: perhaps it is the one that has to go.
                await context.write(peer_service_pb2.ExchangeResponse(messages=[self._hello()]))
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, complaint)
        await context.write(peer_service_pb2.ExchangeResponse(messages=[self._hello()]))
        await self._run_link(
            name,
            context.read,
            lambda messages: context.write(peer_service_pb2.ExchangeResponse(messages=messages)),
        )

    async def _run_link(
        self, peer: str, read: Callable[[], Awaitable[Any]], write: Callable[[list[Message]], Awaitable[None]]
    ) -> None:
        link = self._links[peer]
        if link.up:
            # The peer has come back before we noticed that it was gone.
            link.closed.set()
        epoch = link.epoch + 1
        link = self._links[peer] = _Link(epoch=epoch, up=True)
        self._context.submit(Inbox(disconnected=[peer]))
        self._context.submit(Inbox(connected=[(peer, epoch)]))
        log.info("peer connected", peer=peer)
        tasks = [
            asyncio.create_task(self._read_link(peer, link, read)),
            asyncio.create_task(self._write_link(link, write)),
            asyncio.create_task(link.closed.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            link.up = link.begun = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._links[peer] is link:
                self._context.submit(Inbox(disconnected=[peer]))
                log.info("peer disconnected", peer=peer)

    async def _read_link(self, peer: str, link: _Link, read: Callable[[], Awaitable[Any]]) -> None:
        while (batch := await read()) is not grpc.aio.EOF:
            if not link.up or self._links[peer] is not link:
                return
            self._context.submit(Inbox(messages=[(peer, message) for message in batch.messages]))

    async def _write_link(self, link: _Link, write: Callable[[list[Message]], Awaitable[None]]) -> None:
        while True:
            await link.wake.wait()
            link.wake.clear()
            waiting, link.outgoing = link.outgoing, []
            batch: list[Message] = []
            size = 0
            for message in waiting:
                size += message.ByteSize()
                if batch and size > BATCH_BYTES_MAX:
                    await write(batch)
                    batch, size = [], message.ByteSize()
                batch.append(message)
            if batch:
                await write(batch)

    def _hello(self) -> Message:
        with self._context.store.read() as tables:
            cluster_id = cluster_id_of(tables)
        hello = peer_service_pb2.Hello(
            node=self._name,
            cluster_id=cluster_id,
            protocol_version=PROTOCOL_VERSION,
            client_address=self._context.config.advertised,
        )
        return Message(hello=hello)

    def _check_hello(self, expected: str, messages: Any) -> str | None:
        if not messages or messages[0].WhichOneof("kind") != "hello":
            return "the first message must be a hello"
        hello = messages[0].hello
        own_cluster_id = self._hello().hello.cluster_id
        complaint = None
        if hello.node != expected or hello.node not in self._links:
            complaint = f"{hello.node!r} is not a member of this cluster; members are {sorted(self._links)}"
        elif hello.protocol_version != PROTOCOL_VERSION:
            complaint = f"{hello.node} speaks protocol {hello.protocol_version}, this node {PROTOCOL_VERSION}"
        elif hello.cluster_id and own_cluster_id and hello.cluster_id != own_cluster_id:
            complaint = f"{hello.node} belongs to cluster {hello.cluster_id}, this node to {own_cluster_id}"
            self._meet_foreigner(hello.node, complaint)
        if complaint is not None:
            log.error("peer refused", peer=expected, reason=complaint)
        else:
            self._context.client_addresses[hello.node] = hello.client_address
        return complaint

    def _meet_foreigner(self, peer: str, complaint: str) -> None:
        """One foreign member is that member's mistake; if most are foreign, it is ours."""
        self._foreign.add(peer)
        if 2 * len(self._foreign) > len(self._links):
            folder = self._context.config.data_dir
            advice = "correct `data_dir` or `members` in the configuration"
            self._fail(ForeignClusterError(f"{folder} holds the data of another cluster: {complaint}; {advice}"))

    def _meet_stranger(self, peer: str, cluster_id: str, own_cluster_id: str) -> None:
        """When a majority of the members is one other cluster, it is this node that has come to the wrong one."""
        self._strangers[peer] = cluster_id
        strangers = sorted(name for name, other in self._strangers.items() if other == cluster_id)
        if 2 * len(strangers) > len(self._addresses) + 1:
            state = self._context.config.data_dir / "state"
            self._fail(
                ForeignDataError(
                    f"{state} belongs to cluster {own_cluster_id}, but {' and '.join(strangers)} are members of cluster "
                    f"{cluster_id}; correct `data_dir` or `members` in the configuration"
                )
            )

    # Snapshots

    async def FetchSnapshot(  # noqa: N802
        self, request: peer_service_pb2.FetchSnapshotRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[peer_service_pb2.FetchSnapshotResponse]:
        if request.node not in self._links:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{request.node!r} is not a member")
        folder = self._context.config.data_dir / "outgoing" / request.node
        shutil.rmtree(folder, ignore_errors=True)
        try:
            await asyncio.to_thread(self._context.store.copy_to, folder)
            path = folder / "data.mdb"
            digest = hashlib.sha256()
            yield peer_service_pb2.FetchSnapshotResponse(total_bytes=path.stat().st_size)
            with path.open("rb") as file:
                while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    digest.update(data)
                    yield peer_service_pb2.FetchSnapshotResponse(data=data)
            yield peer_service_pb2.FetchSnapshotResponse(digest=digest.digest())
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _fetch_snapshot(self, peer: str) -> None:
        """Fetches and verifies; only what is whole is handed over. A failure changes nothing: the leader offers again."""
        # A folder of its own each time: the step thread may still be installing from the one before.
        folder = self._context.config.data_dir / "incoming" / str(next(self._fetch_numbers))
        folder.mkdir(mode=0o700, parents=True)
        log.info("fetching a snapshot", peer=peer)
        try:
            async with grpc.aio.insecure_channel(self._addresses[peer], options=CHANNEL_OPTIONS) as channel:
                stub = peer_service_pb2_grpc.PeerServiceStub(channel)
                cluster_id = self._hello().hello.cluster_id
                request = peer_service_pb2.FetchSnapshotRequest(node=self._name, cluster_id=cluster_id)
                whole: bool | None = await _receive_file(stub.FetchSnapshot(request), folder / "data.mdb")
        except (grpc.aio.AioRpcError, OSError) as error:
            log.warning("snapshot not fetched", peer=peer, error=str(error))
            whole = None
        if whole:
            self._install(folder)
            return
        if whole is False:
            log.error("snapshot refused: it arrived damaged", peer=peer)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    # Output

    async def FetchOutput(  # noqa: N802
        self, request: peer_service_pb2.FetchOutputRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[peer_service_pb2.FetchOutputResponse]:
        del context
        async for piece in self._read_output(request):
            yield piece

    async def fetch_output(
        self, node: str, request: peer_service_pb2.FetchOutputRequest
    ) -> AsyncIterator[peer_service_pb2.FetchOutputResponse]:
        """Reads output that another node keeps; raises grpc.aio.AioRpcError if that node cannot be reached."""
        async with grpc.aio.insecure_channel(self._addresses[node], options=CHANNEL_OPTIONS) as channel:
            async for piece in peer_service_pb2_grpc.PeerServiceStub(channel).FetchOutput(request):
                yield piece


def _writer_of(call: Any) -> Callable[[list[Message]], Awaitable[None]]:
    async def write(messages: list[Message]) -> None:
        await call.write(peer_service_pb2.ExchangeRequest(messages=messages))

    return write


async def _receive_file(stream: AsyncIterable[peer_service_pb2.FetchSnapshotResponse], path: Path) -> bool:
    """Whether the file arrived whole."""
    digest = hashlib.sha256()
    total_bytes = -1
    received_bytes = 0
    expected = b""
    with path.open("wb") as file:
        async for chunk in stream:
            if total_bytes < 0:
                total_bytes = chunk.total_bytes
            if chunk.data:
                digest.update(chunk.data)
                received_bytes += len(chunk.data)
                await asyncio.to_thread(file.write, chunk.data)
            expected = chunk.digest or expected
    return received_bytes == total_bytes and digest.digest() == expected
