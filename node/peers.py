"""Node to node: one gRPC stream between each two members, snapshots, and output that another node keeps.

Of each two members the one whose name sorts first calls; the other one calls too when nobody has called it for a while, for it
may be new, or at a new address. A life of the stream is an epoch: in order, without gaps, and nothing of it is delivered after
it ended. Who may connect is decided in admission.py, who may call in peer_access.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import shutil
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import grpc
import structlog

from horologe.node.admission import PROTOCOL_VERSION, Admission, Hello
from horologe.node.context import NodeContext
from horologe.node.keyring import Keyring
from horologe.node.member_conditions import own_condition, program_version
from horologe.node.outputs import OutputError
from horologe.node.peer_access import hello_complaint
from horologe.node.peer_outputs import PeerOutputs, StrangeOutputError
from horologe.node.surroundings import Surroundings
from horologe.node.tls import NodeTls, peer_options
from horologe.peer.v1 import peer_service_pb2, peer_service_pb2_grpc
from horologe.raft import snapshot
from horologe.raft.cipher import DataKey, pack_keys, unpack_keys
from horologe.raft.cluster_version import version_of
from horologe.raft.machine import cluster_id_of
from horologe.raft.step import Inbox, Outbox
from horologe.raft.store import StoreError

if TYPE_CHECKING:
    from horologe.peer.v1.peer_service_pb2_grpc import PeerServiceAsyncStub

MESSAGE_BYTES_MAX = 32 << 20
BATCH_BYTES_MAX = 8 << 20
"""Messages that wait for the same peer travel together, up to this."""
LINK_BYTES_MAX = 64 << 20
"""A peer that takes nothing for so much is disconnected: Raft's own budget for entries is far below, and what is lost is said
again."""
SYNC_BYTES = 4 << 20
"""So much of a state that arrives is put on the disk at a time."""
REDIAL_SECONDS = 0.2
REFUSED_REDIAL_SECONDS = 1.0
"""Whoever was refused need not be called at once again."""
RELUCTANCE_SECONDS = 1.0
"""Whose name sorts last waits so long to be called before it calls."""
HELLO_SECONDS = 3.0
SIDE_CHANNEL_GRACE_SECONDS = 10.0
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


@dataclass(slots=True)
class _Link:
    """The connection to one peer, as it is now."""

    epoch: int = 0
    up: bool = False
    begun: bool = False
    """The replica knows of this epoch: what it sends from now on belongs to it."""
    outgoing: list[Message] = field(default_factory=list)
    outgoing_bytes: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, message: Message) -> None:
        """Puts a message into the line, or gives the connection up if the line is too long."""
        self.outgoing.append(message)
        self.outgoing_bytes += message.ByteSize()
        if self.outgoing_bytes > LINK_BYTES_MAX:
            self.closed.set()
        self.wake.set()


@dataclass(frozen=True, slots=True)
class _SideChannel:
    """A connection for calls beside the stream."""

    address: str
    generation: int
    """Of the certificates that it was made with."""
    channel: grpc.aio.Channel


class PeerNetwork(peer_service_pb2_grpc.PeerServiceServicer):
    """All connections of this node to the other members."""

    def __init__(
        self,
        context: NodeContext,
        install: Callable[[Path], None],
        outputs: PeerOutputs,
        fail: Callable[[BaseException], None],
        surroundings: Surroundings,
        tls: NodeTls | None,
        keyring: Keyring,
    ) -> None:
        """`install` takes a folder with a fetched state; `outputs` is what it keeps of output; `fail` stops the node;
        without `tls` everything is in plaintext, and everybody is whom they say they are; `keyring` has the data keys that go
        with a state, and keeps those that come with one."""
        self._context = context
        self._install = install
        self._outputs = outputs
        self._surroundings = surroundings
        self._tls = tls
        self._keyring = keyring
        self._name = context.config.name
        configured = {member.name: member.peer_address for member in context.config.members}
        self._admission = Admission(self._hello, context.status, fail, configured, context.clock.monotonic)
        self._links: dict[str, _Link] = {}
        self._dialling: dict[str, asyncio.Task[None]] = {}
        self._fetching: asyncio.Task[None] | None = None
        self._fetch_numbers = itertools.count(1)
        self._channels: dict[str, _SideChannel] = {}
        """For calls beside the streams, by name."""
        self._closing: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        shutil.rmtree(self._context.config.data_dir / "incoming", ignore_errors=True)
        self.follow_configuration()

    def follow_configuration(self) -> None:
        """Calls whoever is a member now, and nobody else."""
        peers = self._admission.peers()
        for peer in sorted(peers - set(self._dialling)):
            self._dialling[peer] = asyncio.create_task(self._dial_for_ever(peer), name=f"dial {peer}")
        for peer in sorted(set(self._dialling) - peers):
            self._dialling.pop(peer).cancel()

    async def stop(self) -> None:
        tasks = [*self._dialling.values(), *([self._fetching] if self._fetching else [])]
        for task in tasks:
            task.cancel()
        for link in self._links.values():
            link.closed.set()
            link.wake.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        for side in self._channels.values():
            await side.channel.close()
        await asyncio.gather(*self._closing)

    def deliver(self, outbox: Outbox) -> None:
        """Sends what a step released. What goes to a peer that is not connected is dropped: Raft says it again."""
        if outbox.configuration_changed or outbox.state_replaced:
            self.follow_configuration()
        for peer, epoch in outbox.epochs:
            link = self._links[peer]
            if link.up and link.epoch == epoch:
                link.begun = True
        for peer, message in outbox.messages:
            known = self._links.get(peer)
            if known is not None and known.begun:
                known.send(message)
        for peer in outbox.dropped:
            self._links[peer].closed.set()
            self._links[peer].wake.set()
        if outbox.snapshot_from is not None and (self._fetching is None or self._fetching.done()):
            self._fetching = asyncio.create_task(self._fetch_snapshot(outbox.snapshot_from), name="fetch snapshot")

    # One stream

    async def _dial_for_ever(self, peer: str) -> None:
        reluctance_seconds = 0.0 if self._name < peer else RELUCTANCE_SECONDS
        while True:
            await self._wait_unconnected(peer)
            await asyncio.sleep(reluctance_seconds + REDIAL_SECONDS * self._context.randomness.random())
            address = self._admission.address_of(peer)
            if self._is_up(peer) or not address:
                await asyncio.sleep(REDIAL_SECONDS)
                continue
            async with self._connect(peer, address) as channel:
                with suppress(grpc.aio.AioRpcError, TimeoutError):
                    if not await self._dial(peer, channel):
                        await asyncio.sleep(REFUSED_REDIAL_SECONDS)

    async def _wait_unconnected(self, peer: str) -> None:
        while self._is_up(peer):
            await self._links[peer].closed.wait()
            # Closed is what begins the end of a link; it is over a moment later.
            await asyncio.sleep(0)

    def _is_up(self, peer: str) -> bool:
        return peer in self._links and self._links[peer].up

    async def _dial(self, peer: str, channel: grpc.aio.Channel) -> bool:
        """Lives one epoch; False if there was none, because one of the two refused."""
        call = peer_service_pb2_grpc.PeerServiceStub(channel).Exchange(wait_for_ready=False)
        write = _writer_of(call)
        await write([Message(hello=self._hello())])
        async with asyncio.timeout(HELLO_SECONDS):
            first = await call.read()
        messages = first.messages if isinstance(first, peer_service_pb2.ExchangeResponse) else []
        verdict = self._admission.judge(peer, messages[0] if messages else None)
        welcome = not verdict.complaint and len(messages) == 1
        if verdict.farewell is not None:
            await write([Message(farewell=verdict.farewell)])
            await call.done_writing()
        elif not verdict.complaint:
            hello = messages[0].hello
            self._take_in(hello, messages[1:])
            if welcome:
                await self._run_link(hello, call.read, write)
        call.cancel()
        return welcome

    async def Exchange(  # type: ignore[override]  # noqa: N802 - reads and writes by itself instead of yielding
        self,
        request_iterator: AsyncIterator[peer_service_pb2.ExchangeRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        del request_iterator
        first = await context.read()
        messages = [] if first is grpc.aio.EOF else first.messages
        if self._tls is not None and (
            complaint := hello_complaint(context, messages[0].hello.node if messages else "")
        ):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, complaint)
        verdict = self._admission.judge(None, messages[0] if messages else None)
        answer = [Message(hello=self._hello())]
        if verdict.farewell is not None:
            answer.append(Message(farewell=verdict.farewell))
        # Also whoever is refused shall see for itself what does not fit: perhaps it is the one that has to go.
        await context.write(peer_service_pb2.ExchangeResponse(messages=answer))
        if verdict.complaint:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, verdict.complaint)
        hello = messages[0].hello
        self._take_in(hello, [])
        await self._run_link(
            hello,
            context.read,
            lambda messages: context.write(peer_service_pb2.ExchangeResponse(messages=messages)),
        )

    def _take_in(self, hello: Hello, rest: Sequence[Message]) -> None:
        """Somebody was let in: note what it says of itself, and of us."""
        self._context.client_addresses[hello.node] = hello.client_address
        self._context.worker_addresses[hello.node] = hello.worker_address
        self._context.submit(Inbox(introductions=[self._admission.introduction(hello)]))
        for message in rest:
            if message.HasField("farewell"):
                self._admission.hear_farewell(hello, message.farewell)

    async def _run_link(
        self, hello: Hello, read: Callable[[], Awaitable[Any]], write: Callable[[list[Message]], Awaitable[None]]
    ) -> None:
        peer = hello.node
        before = self._links.get(peer, _Link())
        # If it is up, the peer has come back before we noticed that it was gone.
        before.closed.set()
        epoch = before.epoch + 1
        link = self._links[peer] = _Link(epoch=epoch, up=True)
        self._context.submit(Inbox(disconnected=[peer]))
        self._context.submit(Inbox(connected=[(peer, epoch)]))
        log.info("peer connected", peer=peer)
        tasks = [
            asyncio.create_task(self._read_link(hello, link, read)),
            asyncio.create_task(self._write_link(link, write)),
            asyncio.create_task(link.closed.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            link.up = link.begun = False
            link.closed.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._links[peer] is link:
                self._context.submit(Inbox(disconnected=[peer]))
                log.info("peer disconnected", peer=peer)

    async def _read_link(self, hello: Hello, link: _Link, read: Callable[[], Awaitable[Any]]) -> None:
        peer = hello.node
        while (batch := await read()) is not grpc.aio.EOF:
            if not link.up or self._links[peer] is not link:
                return
            if batch.messages and batch.messages[-1].HasField("farewell"):
                self._admission.hear_farewell(hello, batch.messages[-1].farewell)
                return
            self._context.submit(Inbox(messages=[(peer, message) for message in batch.messages]))

    async def _write_link(self, link: _Link, write: Callable[[list[Message]], Awaitable[None]]) -> None:
        while True:
            await link.wake.wait()
            link.wake.clear()
            waiting, link.outgoing = link.outgoing, []
            waiting_bytes, link.outgoing_bytes = link.outgoing_bytes, 0
            if waiting_bytes <= BATCH_BYTES_MAX:
                if waiting:
                    await write(waiting)
                continue
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

    def _hello(self) -> Hello:
        with self._context.store.read() as tables:
            cluster_id = cluster_id_of(tables)
            cluster_version = version_of(tables) if cluster_id else 0
        config = self._context.config
        versions = self._surroundings.machine.program.versions
        return Hello(
            node=self._name,
            cluster_id=cluster_id,
            protocol_version=PROTOCOL_VERSION,
            client_address=config.advertised,
            worker_address=config.worker_advertised,
            member_id=self._context.store.id,
            peer_address=config.peer_advertised,
            program=program_version(),
            oldest_version=versions.oldest,
            newest_version=versions.newest,
            cluster_version=cluster_version,
        )

    # Snapshots

    async def FetchSnapshot(  # noqa: N802
        self, request: peer_service_pb2.FetchSnapshotRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[peer_service_pb2.FetchSnapshotResponse]:
        if request.node not in self.peers():
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{request.node!r} is not a member")
        if self._tls is not None and (complaint := hello_complaint(context, request.node)):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, complaint)
        cluster_id = self._hello().cluster_id
        if request.cluster_id not in ("", cluster_id):
            # It has our address from somewhere, and clusters may have members of the same names.
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"{request.node} belongs to cluster {request.cluster_id}, this node to {cluster_id}",
            )
        folder = self._context.config.data_dir / "outgoing" / request.node
        digest = hashlib.sha256()
        total_bytes = 0
        # A rotation may end while the copy begins: what is in it needs the keys of before, or of now, or of both.
        before = self._data_keys()
        async with aclosing(self._surroundings.state_pieces(self._context.store, folder)) as pieces:
            async for data in pieces:
                keys = b"" if total_bytes else pack_keys(dict.fromkeys((*before, *self._data_keys())))
                digest.update(data)
                total_bytes += len(data)
                yield peer_service_pb2.FetchSnapshotResponse(data=data, keys=keys)
        yield peer_service_pb2.FetchSnapshotResponse(digest=digest.digest(), total_bytes=total_bytes)

    def _data_keys(self) -> list[DataKey]:
        """Those that something on this disk may lie under."""
        return [entry.key for entry in self._keyring.entries]

    async def _fetch_snapshot(self, peer: str) -> None:
        """Fetches and verifies; only what is whole is handed over. A failure changes nothing: the leader offers again."""
        # A folder of its own each time: the step thread may still be installing from the one before.
        folder = self._context.config.data_dir / "incoming" / str(next(self._fetch_numbers))
        folder.mkdir(mode=0o700, parents=True)
        log.info("fetching a snapshot", peer=peer)
        try:
            async with self._connect(peer, self._admission.address_of(peer)) as channel:
                stub = peer_service_pb2_grpc.PeerServiceStub(channel)
                cluster_id = self._hello().cluster_id
                request = peer_service_pb2.FetchSnapshotRequest(node=self._name, cluster_id=cluster_id)
                whole: bool | None
                whole, keys = await _receive_file(stub.FetchSnapshot(request), folder / "data.mdb")
        except (grpc.aio.AioRpcError, OSError) as error:
            log.warning("snapshot not fetched", peer=peer, error=str(error))
            whole = None
        if whole:
            try:
                # Before anything that is encrypted with them can become a part of our state.
                await asyncio.to_thread(self._keyring.take_in, unpack_keys(keys), folder)
                await asyncio.to_thread(snapshot.check, folder, self._context.store.cipher)
                self._install(folder)
                return
            except (StoreError, ValueError) as error:
                log.error("snapshot refused: the state that it holds cannot be used", peer=peer, error=str(error))
        if whole is False:
            log.error("snapshot refused: it arrived damaged", peer=peer)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    # Output

    async def FetchOutput(  # noqa: N802
        self, request: peer_service_pb2.FetchOutputRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[peer_service_pb2.FetchOutputResponse]:
        try:
            async with aclosing(self._outputs.fetch(request)) as responses:
                async for response in responses:
                    yield response
        except StrangeOutputError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except OutputError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    async def StoreOutput(  # noqa: N802
        self, request: peer_service_pb2.StoreOutputRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> peer_service_pb2.StoreOutputResponse:
        try:
            await self._outputs.store(request)
        except StrangeOutputError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except OutputError as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        return peer_service_pb2.StoreOutputResponse()

    async def FindInOutput(  # noqa: N802
        self, request: peer_service_pb2.FindInOutputRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> peer_service_pb2.FindInOutputResponse:
        try:
            return await self._outputs.find(request)
        except StrangeOutputError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except OutputError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    # Conditions and leadership

    async def GetCondition(  # noqa: N802
        self, request: peer_service_pb2.GetConditionRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> peer_service_pb2.GetConditionResponse:
        del request, context
        return await asyncio.to_thread(own_condition, self._context)

    async def HandOver(  # noqa: N802
        self, request: peer_service_pb2.HandOverRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> peer_service_pb2.HandOverResponse:
        status = self._context.status()
        if not status.is_leader or (request.target and request.target not in status.configuration.voters):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this node does not lead, or the other one cannot")
        log.info("leadership is to be handed over", to=request.target, principal=request.principal)
        self._context.submit(Inbox(transfer_to=request.target))
        return peer_service_pb2.HandOverResponse()

    def stub_of(self, node: str) -> PeerServiceAsyncStub:
        """For calls to a member beside its stream. Raises KeyError if it is none, or nobody knows its address."""
        address = self._admission.address_of(node) if node in self.peers() else ""
        if not address:
            raise KeyError(node)
        generation = self._tls.generation if self._tls is not None else 0
        side = self._channels.get(node)
        if side is None or (side.address, side.generation) != (address, generation):
            if side is not None:
                # What is under way there may end.
                task = asyncio.create_task(side.channel.close(SIDE_CHANNEL_GRACE_SECONDS))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
            side = self._channels[node] = _SideChannel(address, generation, self._connect(node, address))
        return peer_service_pb2_grpc.PeerServiceStub(side.channel)

    def peers(self) -> set[str]:
        """The names of the other members."""
        return self._admission.peers()

    def _connect(self, peer: str, address: str) -> grpc.aio.Channel:
        if self._tls is None:
            return self._surroundings.channel(address, CHANNEL_OPTIONS)
        options = [*CHANNEL_OPTIONS, *peer_options(peer)]
        return self._surroundings.channel(address, options, self._tls.channel_credentials())


def _writer_of(call: Any) -> Callable[[list[Message]], Awaitable[None]]:
    async def write(messages: list[Message]) -> None:
        await call.write(peer_service_pb2.ExchangeRequest(messages=messages))

    return write


async def _receive_file(
    stream: AsyncIterable[peer_service_pb2.FetchSnapshotResponse], path: Path
) -> tuple[bool, bytes]:
    """Whether the file arrived whole, and the data keys that came with it."""
    digest = hashlib.sha256()
    total_bytes = -1
    received_bytes = unsynced_bytes = 0
    expected = keys = b""
    with path.open("wb") as file:
        async for chunk in stream:
            total_bytes = chunk.total_bytes or total_bytes
            if chunk.data:
                digest.update(chunk.data)
                received_bytes += len(chunk.data)
                unsynced_bytes += len(chunk.data)
                await asyncio.to_thread(file.write, chunk.data)
            if unsynced_bytes >= SYNC_BYTES:
                # All of it at once would keep the disk from everybody else for a long time.
                unsynced_bytes = 0
                await asyncio.to_thread(_sync, file)
            expected = chunk.digest or expected
            keys = chunk.keys or keys
    return received_bytes == total_bytes and digest.digest() == expected, keys


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fdatasync(file.fileno())
