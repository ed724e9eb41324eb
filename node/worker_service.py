"""The workers' stream, and the workers as seen by people."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
import structlog

from horologe.log.v1 import log_pb2
from horologe.node.callers import current_caller
from horologe.node.certificates import Identity, Role
from horologe.node.conduct import MESSAGES_BURST, MESSAGES_PER_SECOND_MAX, RESULTS_PER_MESSAGE_MAX, Offence
from horologe.node.context import NodeContext
from horologe.node.gateway import Gateway, Response
from horologe.node.ids import new_uuid
from horologe.node.people_worker_service import PeopleWorkerService
from horologe.node.proposals import NoLeaderError, ProposalError
from horologe.node.rate_limits import TokenBuckets
from horologe.node.sessions import WorkerSession, nobody_writes
from horologe.node.tls import identity_of
from horologe.node.validation import QUEUE_RULE, is_queue
from horologe.raft.machine import first_cluster_id_of
from horologe.v1 import worker_pb2, worker_service_pb2

PROTOCOL_VERSION = 1
SLOTS_MAX = 10_000
QUEUES_MAX = 100
NAME_PATTERN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
LABELS_MAX = 64
LABEL_LENGTH_MAX = 256
VERSION_LENGTH_MAX = 64
HELLO_NAME_SHOWN = 140
WORKERS_PER_NODE_MAX = 10_000
HELLO_SECONDS_MAX = 10.0
OPEN_SECONDS = 10.0
ELECTIONS_WAITED = 2
"""A worker that comes while there is no leader is kept waiting for so many election timeouts, then sent elsewhere."""
NO_LEADER_PAUSE_SECONDS = 0.02
HEARTBEATS_PER_TERM = 5
LAST_WORD_SECONDS = 5.0
"""For so long a worker that has to go may take what is in the line for it."""
BREAKING_OFF_SECONDS = 0.5

log = structlog.get_logger(__name__)


class WorkerStream:
    """One life of one worker's stream.

    Nearly all streams are idle nearly always, and there may be many. So there is a task that writes only while there is something
    to write, and nobody keeps a message that he has done with: each is a piece of memory of its own.
    """

    def __init__(self, context: NodeContext, gateway: Gateway, rpc: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._context = context
        self._gateway = gateway
        self._rpc = rpc
        self._writer: asyncio.Task[None] | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Nothing more is read, or nothing more can be written, or is to be."""

    async def run(self) -> None:
        session = await self._begin()
        if session is None:
            return
        reader = asyncio.create_task(self._read(session))
        reader.add_done_callback(self._end)
        try:
            await self._over
            if session.ended:
                # Why it has to go is in the line: it had better read that than guess.
                if self._writer is not None:
                    await asyncio.wait([self._writer], timeout=LAST_WORD_SECONDS)
            elif not session.draining:
                # A stream that breaks off reads like one that was closed; gRPC cancels the call a moment later.
                await asyncio.sleep(BREAKING_OFF_SECONDS)
        except asyncio.CancelledError:
            if not session.ended:
                self._gateway.conduct.broke_off(session.caller, session.worker)
            raise
        finally:
            session.has_outgoing = nobody_writes
            tasks = [task for task in (reader, self._writer) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._gateway.close(session)
            log.info("worker disconnected", worker=session.worker, session=session.number)
        if session.draining and not session.attempts:
            await self._say_goodbye(session)

    def _end(self, task: asyncio.Task[None] | None = None) -> None:
        del task
        if not self._over.done():
            self._over.set_result(None)

    async def _begin(self) -> WorkerSession | None:
        """Takes the worker's hello and welcomes it; None if it says nothing."""
        first = await self._first()
        if first is grpc.aio.EOF:
            return None
        hello = first.hello
        complaint = _complaint(first)
        if complaint is not None:
            self._accuse(hello.worker, Offence.UNEXPECTED_MESSAGE)
            await self._rpc.abort(grpc.StatusCode.INVALID_ARGUMENT, complaint)
        if not self._context.config.insecure:
            forbidden = certificate_complaint(hello, identity_of(self._rpc))
            if forbidden is not None:
                log.warning("worker refused", worker=hello.worker, error=forbidden, source=self._rpc.peer())
                self._accuse(hello.worker, Offence.FALSE_NAME)
                await self._rpc.abort(grpc.StatusCode.PERMISSION_DENIED, forbidden)
        if len(self._gateway.numbers()) >= WORKERS_PER_NODE_MAX:
            await self._rpc.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"this node has {WORKERS_PER_NODE_MAX} workers already; connect to another one",
            )
        session = await self._open(hello)
        revoked = await self._gateway.open(session, list(hello.held_attempts))
        # The welcome goes first, whatever the gateway has put into the line already.
        session.outgoing.insert(0, Response(welcome=self._welcome(session, revoked)))
        session.has_outgoing = partial(self._begin_writing, session)
        session.has_outgoing()
        log.info("worker connected", worker=session.worker, session=session.number)
        return session

    async def _first(self) -> Any:
        try:
            async with asyncio.timeout(HELLO_SECONDS_MAX):
                return await self._rpc.read()
        except TimeoutError:
            await self._rpc.abort(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"the worker did not say hello within {HELLO_SECONDS_MAX:g} s"
            )

    async def _open(self, hello: worker_pb2.Hello) -> WorkerSession:
        command = log_pb2.Command(
            # Sent again by itself when the leader changes: opened twice, the first session would be over at once.
            request_id=new_uuid(self._context.randomness).bytes,
            open_session=log_pb2.OpenSession(
                worker=hello.worker,
                incarnation=hello.incarnation,
                queues=hello.queues or ["default"],
                slot_count=hello.slot_count,
                gateway=self._context.config.name,
                labels=hello.labels,
                version=hello.version,
            ),
        )
        # While a leader is being elected the worker had better wait here than come back after a pause that grows.
        clock = self._context.clock
        patient_until = clock.monotonic() + ELECTIONS_WAITED * self._context.config.election_timeout_ms_max / 1000
        while True:
            try:
                result = await self._context.proposals.propose(command, OPEN_SECONDS)
                break
            except ProposalError as error:
                if not isinstance(error, NoLeaderError) or clock.monotonic() > patient_until:
                    await self._rpc.abort(grpc.StatusCode.UNAVAILABLE, f"no session can be opened now: {error}")
                await asyncio.sleep(NO_LEADER_PAUSE_SECONDS)
        return WorkerSession(number=result.numbers[0], worker=hello.worker, caller=current_caller())

    def _accuse(self, worker: str, offence: Offence) -> None:
        """The name is what the hello says, which may be long, or nothing."""
        caller = current_caller()
        name = caller.principal or worker[:HELLO_NAME_SHOWN]
        self._gateway.conduct.accuse(caller, name, offence, [f"workers/{worker[:HELLO_NAME_SHOWN]}"])

    def _welcome(self, session: WorkerSession, revoked: list[worker_pb2.AttemptId]) -> worker_pb2.Welcome:
        term_ms = self._context.config.lease_term_ms
        with self._context.store.read() as tables:
            cluster_id = first_cluster_id_of(tables)
        welcome = worker_pb2.Welcome(
            session=session.number,
            node=self._context.config.name,
            cluster_id=cluster_id,
            revoked_attempts=revoked,
        )
        welcome.lease_term.FromMilliseconds(term_ms)
        welcome.heartbeat_interval.FromMilliseconds(term_ms // HEARTBEATS_PER_TERM)
        return welcome

    async def _read(self, session: WorkerSession) -> None:
        pace = TokenBuckets(MESSAGES_PER_SECOND_MAX, MESSAGES_BURST)
        while (message := await self._rpc.read()) is not grpc.aio.EOF:
            wait_seconds = pace.take("", self._context.clock.monotonic())
            if wait_seconds:
                self._accuse(session.worker, Offence.FLOOD)
                # What it sends meanwhile waits on its own side.
                await asyncio.sleep(wait_seconds)
            match message.WhichOneof("kind"):
                case "results" if len(message.results.results) > RESULTS_PER_MESSAGE_MAX:
                    self._accuse(session.worker, Offence.FLOOD)
                    session.go_away(f"more than {RESULTS_PER_MESSAGE_MAX} results in one message")
                    return
                case "results":
                    self._gateway.results(session, message.results)
                case "heartbeat":
                    self._gateway.heartbeat(session, message.heartbeat.sequence)
                case "output":
                    self._gateway.output(session, message.output)
                    await self._gateway.output_room()
                case "drain":
                    session.draining = True
                    await self._drain(session)
                case kind:
                    self._accuse(session.worker, Offence.UNEXPECTED_MESSAGE)
                    session.go_away(f"unexpected message {kind}: hello comes once, and first")
                    return
            # While the next one is waited for, nobody needs this one.
            del message

    async def _drain(self, session: WorkerSession) -> None:
        command = log_pb2.Command(drain_worker=log_pb2.DrainWorker(worker=session.worker))
        try:
            await self._context.proposals.propose(command, OPEN_SECONDS)
        except ProposalError as error:
            log.warning("drain not recorded", worker=session.worker, error=str(error))

    def _begin_writing(self, session: WorkerSession) -> None:
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(session))

    async def _write(self, session: WorkerSession) -> None:
        try:
            while session.outgoing:
                waiting, session.outgoing = session.outgoing, []
                for message in waiting:
                    await self._rpc.write(message)
        except BaseException:
            self._end()
            raise
        self._writer = None
        if session.ended:
            self._end()

    async def _say_goodbye(self, session: WorkerSession) -> None:
        command = log_pb2.Command(close_session=log_pb2.CloseSession(session=session.number, clean=True))
        try:
            await self._context.proposals.propose(command, OPEN_SECONDS)
        except ProposalError as error:
            log.info("goodbye not recorded; the lease will run out", worker=session.worker, error=str(error))


class WorkerService(PeopleWorkerService):
    """The workers' stream, beside what people use."""

    def __init__(self, context: NodeContext, gateway: Gateway) -> None:
        super().__init__(context)
        self._context = context
        self._gateway = gateway

    def _renewed_ms(self, session: int) -> int:
        return self._gateway.renewed_ms(session)

    async def Connect(  # type: ignore[override]  # noqa: N802 - reads and writes by itself instead of yielding
        self,
        request_iterator: AsyncIterator[worker_service_pb2.ConnectRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        del request_iterator
        await WorkerStream(self._context, self._gateway, context).run()


def certificate_complaint(hello: worker_pb2.Hello, identity: Identity | None) -> str | None:
    """What the worker says of itself that its certificate does not bear out."""
    if identity is None or identity.role is not Role.WORKER:
        shown = f"{identity.role} {identity.name!r}" if identity is not None else "nobody"
        return f"the certificate is of {shown}, not of a worker; make one with `horologe tls issue worker NAME`"
    # One certificate may serve a pool of workers, each with a name of its own.
    if hello.worker != identity.name and not hello.worker.startswith(f"{identity.name}-"):
        return (
            f"the certificate is of worker {identity.name!r}, the hello of {hello.worker!r}; the name must be that of the "
            "certificate, or begin with it and a hyphen"
        )
    foreign = sorted(set(hello.queues or ["default"]) - set(identity.queues)) if identity.queues else []
    if foreign:
        return f"the certificate allows the queues {', '.join(sorted(identity.queues))}, not {', '.join(foreign)}"
    return None


def _complaint(first: worker_service_pb2.ConnectRequest) -> str | None:
    hello = first.hello
    if first.WhichOneof("kind") != "hello":
        return f"the first message must be hello, not {first.WhichOneof('kind')}"
    if hello.protocol_version != PROTOCOL_VERSION:
        return f"hello.protocol_version is {hello.protocol_version}, this node speaks {PROTOCOL_VERSION}"
    if not NAME_PATTERN.fullmatch(hello.worker):
        return f"hello.worker is {hello.worker[:140]!r}: letters, digits, '.', '_', '-', at most 128 characters"
    if not hello.incarnation or len(hello.incarnation) > 64:
        return "hello.incarnation must have 1 to 64 characters, made anew by each process"
    if not 0 <= hello.slot_count <= SLOTS_MAX:
        return f"hello.slot_count is {hello.slot_count}, must be from 0 to {SLOTS_MAX}"
    if len(hello.queues) > QUEUES_MAX or not all(map(is_queue, hello.queues)):
        return f"hello.queues: at most {QUEUES_MAX}, each of {QUEUE_RULE}"
    if len(hello.labels) > LABELS_MAX or any(
        len(text) > LABEL_LENGTH_MAX for label in hello.labels.items() for text in label
    ):
        return f"hello.labels: at most {LABELS_MAX}, of at most {LABEL_LENGTH_MAX} characters each side"
    if len(hello.version) > VERSION_LENGTH_MAX:
        return f"hello.version has {len(hello.version)} characters, at most {VERSION_LENGTH_MAX} are possible"
    if len(hello.held_attempts) > SLOTS_MAX:
        return f"hello.held_attempts has {len(hello.held_attempts)} entries, at most {SLOTS_MAX} are possible"
    if any(attempt.execution < 1 for attempt in hello.held_attempts):
        return "hello.held_attempts names an execution below 1; there is none"
    return None
