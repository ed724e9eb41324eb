"""One life of the worker's stream: hello, heartbeats, work in, results out.

A session translates between the stream and the runner. It decides nothing about attempts, and it does not reconnect:
that is `worker.py`.
"""

from __future__ import annotations

import asyncio
import enum
import importlib.metadata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import grpc
import structlog

from horologe.client import tls
from horologe.client.attempts import AttemptKey, AttemptTable, Definition
from horologe.client.channel import METHOD_NOT_FOUND, WRONG_PORT
from horologe.client.cluster_context import ClusterContext
from horologe.client.errors import InvalidContext
from horologe.client.lease import NEVER, Lease
from horologe.client.outbox import Outbox
from horologe.client.runner import Runner
from horologe.v1 import worker_pb2, worker_service_pb2, worker_service_pb2_grpc

log = structlog.get_logger(__name__)

PROTOCOL_VERSION = 1

# A node without a leader cannot welcome anybody; another one perhaps can.
WELCOME_SECONDS_MAX = 5.0

# How long the other side may take to close the stream after the last word.
FAREWELL_SECONDS_MAX = 1.0

MESSAGE_BYTES_MAX = 16 * 1024 * 1024

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # Heartbeats notice a dead connection earlier; this is for a stream on which nothing is acknowledged any more.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Reconnecting is decided in `worker.py`: no hidden pauses, no connection shared with the last session.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    # Nodes are neighbours: a proxy from the environment is never meant for them.
    ("grpc.enable_http_proxy", 0),
)

_REFUSALS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)

Connect = Callable[[str], grpc.aio.Channel]
"""Makes a new channel to an address, or raises InvalidContext."""
Stream = grpc.aio.StreamStreamCall[worker_service_pb2.ConnectRequest, worker_service_pb2.ConnectResponse]


class RefusedError(Exception):
    """The cluster does not want this worker as it is; coming again does not help."""


class DisconnectedError(Exception):
    """The stream ended, or could not be made; another node may do better."""


class Ending(enum.Enum):
    """Why a stream ended in good order."""

    GO_AWAY = "go away"
    DRAINED = "drained"
    LEFT = "left"


@dataclass(slots=True)
class Identity:
    """How the worker introduces itself."""

    worker: str
    incarnation: str
    queues: tuple[str, ...]
    slot_count: int
    labels: dict[str, str] = field(default_factory=dict)

    def hello(self, held_attempts: list[worker_pb2.AttemptId], *, draining: bool) -> worker_pb2.Hello:
        """The first message of a stream. A worker that drains offers no slots."""
        return worker_pb2.Hello(
            worker=self.worker,
            incarnation=self.incarnation,
            queues=self.queues,
            slot_count=0 if draining else self.slot_count,
            labels=self.labels,
            held_attempts=held_attempts,
            version=importlib.metadata.version("horologe"),
            protocol_version=PROTOCOL_VERSION,
        )


def connector(context: ClusterContext) -> Connect:
    """Channels as the context says, each with the certificates as they are then."""

    def connect(address: str) -> grpc.aio.Channel:
        if context.insecure:
            return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        credentials, options = tls.secure(context, CHANNEL_OPTIONS)
        return grpc.aio.secure_channel(address, credentials, options=options)

    return connect


class Session:
    """A stream to one node, from Hello to its end."""

    def __init__(
        self,
        address: str,
        identity: Identity,
        table: AttemptTable,
        runner: Runner,
        outbox: Outbox,
        lease: Lease,
        draining: asyncio.Event,
        connect: Connect,
        explain: Callable[[str], str] = lambda details: "",
        on_welcome: Callable[[], None] = lambda: None,
    ) -> None:
        self.address = address
        self.welcome: worker_pb2.Welcome | None = None
        self.welcomed_at = NEVER
        self._identity = identity
        self._table = table
        self._runner = runner
        self._outbox = outbox
        self._lease = lease
        self._draining = draining
        self._connect = connect
        self._explain = explain
        self._on_welcome = on_welcome
        self._definitions: dict[int, Definition] = {}
        self._heartbeats_sent_at: dict[int, float] = {}
        self._heartbeat_seconds = 0.0
        self._sequence = 0
        self._drain_sequence = 0
        self._drain_confirmed = asyncio.Event()
        self._settled = asyncio.Event()
        self._close_reason = ""
        self._leaving = False
        self._stream: Stream | None = None

    async def run(self) -> Ending:
        """Lives until the stream ends. Raises `DisconnectedError` when it broke and `RefusedError` when it is pointless."""
        async with self._channel() as channel:
            stub = worker_service_pb2_grpc.WorkerServiceStub(channel)
            self._stream = stub.Connect()
            helpers: list[asyncio.Task[None]] = []
            try:
                await self._introduce(self._stream)
                helpers += [asyncio.create_task(self._send(self._stream)), asyncio.create_task(self._beat())]
                return await self._receive(self._stream)
            except grpc.aio.AioRpcError as error:
                raise self._failure(error.code(), error.details()) from error
            except asyncio.CancelledError:
                # A call that is cancelled from this side ends its readers the same way as a task that is cancelled.
                task = asyncio.current_task()
                if not self._close_reason or (task is not None and task.cancelling()):
                    raise
                raise DisconnectedError(self._close_reason) from None
            finally:
                self._settled.set()
                self._drain_confirmed.set()
                self._stream.cancel()
                for helper in helpers:
                    helper.cancel()
                await asyncio.gather(*helpers, return_exceptions=True)

    def close(self, reason: str) -> None:
        """Breaks the stream off: whoever waits in `run` gets `DisconnectedError`."""
        self._close_reason = self._close_reason or reason
        if self._stream is not None:
            self._stream.cancel()

    async def drain(self) -> None:
        """Tells the cluster to send nothing new, and waits until it must have heard it.

        The stream keeps order: with the acknowledgement of a heartbeat that left after the Drain, all that was sent
        before has arrived. Returns when the stream is over; the next one begins with a Drain anyway.
        """
        await self._settled.wait()
        if self._drain_confirmed.is_set():
            return
        self._outbox.add_drain()
        self._drain_sequence = self._send_heartbeat()
        await self._drain_confirmed.wait()

    async def leave(self) -> None:
        """Says nothing more and waits a moment for the other side to close too."""
        self._leaving = True
        if self._stream is None or self.welcome is None or self._stream.done():
            return
        await self._stream.done_writing()
        try:
            await asyncio.wait_for(self._stream.code(), FAREWELL_SECONDS_MAX)
        except TimeoutError:
            self.close("the worker left")

    def _channel(self) -> grpc.aio.Channel:
        try:
            return self._connect(self.address)
        except InvalidContext as error:
            # Certificates that are being replaced, perhaps: half an hour earlier they were good.
            raise DisconnectedError(str(error)) from error

    def _failure(self, code: grpc.StatusCode, details: str | None) -> RefusedError | DisconnectedError:
        if code in _REFUSALS:
            return RefusedError(WRONG_PORT if details == METHOD_NOT_FOUND else details or code.name)
        meaning = self._explain(details or "")
        return DisconnectedError(meaning or f"{code.name}: {details or 'the node closed the stream'}")

    async def _introduce(self, stream: Stream) -> None:
        draining = self._draining.is_set()
        hello = self._identity.hello(self._table.held(), draining=draining)
        # Before the message leaves: the lease must not begin later than the cluster can have seen it.
        sent_at = self._lease.clock()
        try:
            async with asyncio.timeout(WELCOME_SECONDS_MAX):
                await stream.write(worker_service_pb2.ConnectRequest(hello=hello))
                response = await stream.read()
        except TimeoutError:
            raise DisconnectedError(f"no welcome within {WELCOME_SECONDS_MAX:g} s") from None
        if not isinstance(response, worker_service_pb2.ConnectResponse):
            raise self._failure(await stream.code(), await stream.details())
        if response.WhichOneof("kind") == "go_away":
            raise DisconnectedError(f"the node sent the worker away: {response.go_away.reason}")
        if response.WhichOneof("kind") != "welcome":
            raise DisconnectedError(f"the node answered with {response.WhichOneof('kind')} instead of welcome")
        if self._runner.check_lease():
            raise DisconnectedError("the lease of the last session ended before the node answered")
        self._begin(response.welcome, sent_at)
        if draining:
            self._outbox.add_drain()

    def _begin(self, welcome: worker_pb2.Welcome, sent_at: float) -> None:
        self.welcome = welcome
        self.welcomed_at = self._lease.clock()
        self._heartbeat_seconds = welcome.heartbeat_interval.ToNanoseconds() / 1e9
        term_seconds = welcome.lease_term.ToNanoseconds() / 1e9
        if not 0 < self._heartbeat_seconds < term_seconds:
            raise DisconnectedError(
                f"the node named a lease term of {term_seconds:g} s with a heartbeat every {self._heartbeat_seconds:g} s"
            )
        self._lease.begin(term_seconds, sent_at)
        self._runner.revoke(list(_keys(welcome.revoked_attempts)))
        self._outbox.begin_session(list(self._table.unacknowledged.values()))
        log.info(
            "connected",
            worker=self._identity.worker,
            node=welcome.node,
            address=self.address,
            session=welcome.session,
            queues=",".join(self._identity.queues),
            slots=self._identity.slot_count,
            held_attempts=len(self._table.running),
        )
        self._settled.set()
        self._on_welcome()

    # In

    async def _receive(self, stream: Stream) -> Ending:
        while True:
            response = await stream.read()
            if not isinstance(response, worker_service_pb2.ConnectResponse):
                return await self._ended(stream)
            if self._runner.check_lease():
                raise DisconnectedError("the lease ended")
            if self._close_reason:
                # It was read already when the stream was closed from this side. After the end of a lease nothing may start:
                # there is no lease that would end it.
                raise DisconnectedError(self._close_reason)
            kind = response.WhichOneof("kind")
            if kind == "assignments":
                self._take_assignments(response.assignments)
            elif kind == "result_acks":
                self._take_acknowledgements(response.result_acks)
            elif kind == "heartbeat_ack":
                self._take_renewal(response.heartbeat_ack.sequence)
            elif kind == "cancellation":
                cancellation = response.cancellation
                self._runner.cancel(_keys(cancellation.attempts), cancellation.reason)
            elif kind == "drain":
                log.info("the cluster asks this worker to drain")
                self._draining.set()
            elif kind == "go_away":
                log.info("the node sends the worker away", reason=response.go_away.reason, address=self.address)
                return Ending.DRAINED if response.go_away.drained else Ending.GO_AWAY

    async def _ended(self, stream: Stream) -> Ending:
        code = await stream.code()
        if self._leaving:
            return Ending.LEFT
        if self._close_reason and code not in _REFUSALS:
            raise DisconnectedError(self._close_reason)
        raise self._failure(code, await stream.details())

    def _take_assignments(self, message: worker_pb2.Assignments) -> None:
        for definition in message.definitions:
            self._definitions[definition.job] = Definition.from_message(definition)
        assert self.welcome is not None
        self._runner.start(message.assignments, self._definitions, self.welcome.cluster_id)

    def _take_acknowledgements(self, message: worker_pb2.ResultAcks) -> None:
        if message.lease_lost:
            log.warning("results were refused because their lease was lost", count=len(message.lease_lost))
            lost = list(_keys(message.lease_lost))
            self._table.forget_results(lost)
            self._outbox.forget(lost)
        recorded = list(_keys(message.recorded))
        self._table.forget_results(recorded)
        self._outbox.forget(recorded)

    def _take_renewal(self, sequence: int) -> None:
        sent_at = self._heartbeats_sent_at.pop(sequence, None)
        if sent_at is None:
            return
        self._lease.renew(sent_at)
        if self._drain_sequence and sequence >= self._drain_sequence:
            self._drain_confirmed.set()
        for earlier in [one for one in self._heartbeats_sent_at if one < sequence]:
            del self._heartbeats_sent_at[earlier]

    # Out

    async def _send(self, stream: Stream) -> None:
        try:
            while True:
                await stream.write(await self._outbox.next_request())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The stream is over; its reader knows why. What was not acknowledged goes again on the next one.
            return

    async def _beat(self) -> None:
        beat_count = 0
        rounds = max(1, round(self._lease.term_seconds / 2 / self._heartbeat_seconds))
        unacknowledged: set[AttemptKey] = set()
        while True:
            await asyncio.sleep(self._heartbeat_seconds)
            if self._runner.check_lease():
                self.close("the lease ended")
                return
            if self._lease.clock() >= self._lease.reconnect_at:
                self.close("the node acknowledges no heartbeats")
                return
            self._send_heartbeat()
            beat_count += 1
            if beat_count % rounds == 0:
                # What waited for a whole round may have been lost with a leader.
                table = self._table.unacknowledged
                self._outbox.repeat([table[key] for key in unacknowledged & table.keys()])
                unacknowledged = set(table)

    def _send_heartbeat(self) -> int:
        self._sequence += 1
        # From now, although it leaves a little later: the lease may end too early, but never too late.
        self._heartbeats_sent_at[self._sequence] = self._lease.clock()
        self._outbox.add_heartbeat(self._sequence)
        return self._sequence


def _keys(attempt_ids: Iterable[worker_pb2.AttemptId]) -> Iterator[AttemptKey]:
    return ((one.execution, one.fencing_token) for one in attempt_ids)
