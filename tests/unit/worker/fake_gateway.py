"""A gateway whose every move is made by the test: a real gRPC server, and no cluster behind it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import grpc
from google.protobuf import json_format, struct_pb2

from horologe.client.worker import Worker
from horologe.v1 import job_pb2, worker_pb2, worker_service_pb2, worker_service_pb2_grpc

Result = worker_pb2.AttemptResult
JOB_NAME = "namespaces/default/jobs/report"
CLUSTER_ID = "c1"


class Stream:
    """One stream of a worker, as the gateway sees it."""

    def __init__(self, gateway: FakeGateway) -> None:
        self._gateway = gateway
        self._outgoing: asyncio.Queue[worker_service_pb2.ConnectResponse | None] = asyncio.Queue()
        self.hello = worker_pb2.Hello()
        self.results: list[Result] = []
        self.output: list[worker_pb2.OutputChunk] = []
        self.order: list[str] = []
        self.heartbeats: list[int] = []
        self.drained = False
        self.ended = False

    def send(self, **kind: Any) -> None:
        """Sends one message, for example `send(go_away=GoAway(...))`."""
        self._outgoing.put_nowait(worker_service_pb2.ConnectResponse(**kind))

    def end(self) -> None:
        """Closes the stream from the gateway's side."""
        self._outgoing.put_nowait(None)

    def assign(self, *assignments: worker_pb2.Assignment, definitions: Iterable[worker_pb2.Definition] = ()) -> None:
        """Sends work."""
        self.send(assignments=worker_pb2.Assignments(definitions=definitions, assignments=assignments))

    def acknowledge(self, *results: Result) -> None:
        """Tells the worker that these are recorded."""
        self.send(result_acks=worker_pb2.ResultAcks(recorded=[attempt_id(result) for result in results]))

    def text(self, stream: int = 1) -> str:
        """All output of one kind."""
        return b"".join(chunk.data for chunk in self.output if chunk.stream == stream).decode()

    async def until_results(self, count: int = 1) -> list[Result]:
        """Waits for so many results."""
        await self._gateway.until(lambda: len(self.results) >= count)
        return self.results

    async def until_output(self, text: str) -> None:
        """Waits until the output contains a text."""
        await self._gateway.until(lambda: text in self.text())


Serve = Callable[[Worker], Awaitable[Stream]]


class FakeGateway(worker_service_pb2_grpc.WorkerServiceServicer):
    """Welcomes everybody, acknowledges heartbeats and results as told, and remembers all it heard."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.lease_ms = 10_000
        self.heartbeat_ms = 2_000
        self.welcomes = True
        self.acknowledges_heartbeats = True
        self.acknowledges_results = True
        self.refusal: tuple[grpc.StatusCode, str] | None = None
        self.address = ""
        self.revoked: list[worker_pb2.AttemptId] = []
        self._changed = asyncio.Condition()
        self._server = grpc.aio.server()
        self._numbers = itertools.count(1)

    async def start(self, credentials: grpc.ServerCredentials | None = None, port: int = 0) -> None:
        """Listens on the loopback, by default on a free port and in clear text."""
        worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(self, self._server)
        place = f"127.0.0.1:{port}"
        added = self._server.add_insecure_port(place) if credentials is None else None
        self.address = f"127.0.0.1:{added or self._server.add_secure_port(place, credentials)}"
        await self._server.start()

    async def stop(self) -> None:
        """Breaks all streams."""
        await self._server.stop(None)

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits until something that the gateway heard makes the condition true."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(condition()))

    async def stream(self, number: int = 1) -> Stream:
        """The n-th stream that any worker opened, once it was welcomed."""
        await self.until(lambda: len(self.streams) >= number)
        return self.streams[number - 1]

    async def another(self, stream: Stream) -> Stream:
        """The first stream of a worker that is another process for the cluster than the one of `stream`."""

        def others() -> list[Stream]:
            return [one for one in self.streams if one.hello.incarnation != stream.hello.incarnation]

        await self.until(others)
        return others()[0]

    async def Connect(  # type: ignore[override]
        self, request_iterator: AsyncIterator[worker_service_pb2.ConnectRequest], context: Any
    ) -> None:
        stream = Stream(self)
        if self.refusal is not None:
            await context.abort(*self.refusal)
        first = await context.read()
        stream.hello = first.hello
        if not self.welcomes:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "no leader")
        await context.write(worker_service_pb2.ConnectResponse(welcome=self._welcome()))
        writer = asyncio.create_task(self._write(stream, context))
        async with self._changed:
            self.streams.append(stream)
            self._changed.notify_all()
        reader = asyncio.create_task(self._read(stream, context))
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reader, writer):
                task.cancel()
            stream.ended = True
            async with self._changed:
                self._changed.notify_all()

    def _welcome(self) -> worker_pb2.Welcome:
        welcome = worker_pb2.Welcome(
            session=next(self._numbers), node="n1", cluster_id=CLUSTER_ID, revoked_attempts=self.revoked
        )
        welcome.lease_term.FromMilliseconds(self.lease_ms)
        welcome.heartbeat_interval.FromMilliseconds(self.heartbeat_ms)
        return welcome

    async def _write(self, stream: Stream, context: Any) -> None:
        while True:
            message = await stream._outgoing.get()
            if message is None:
                return
            await context.write(message)

    async def _read(self, stream: Stream, context: Any) -> None:
        while True:
            request = await context.read()
            if request is grpc.aio.EOF:
                return
            await self._take(stream, request)

    async def _take(self, stream: Stream, request: worker_service_pb2.ConnectRequest) -> None:
        kind = request.WhichOneof("kind")
        assert kind is not None
        stream.order.append(kind)
        if kind == "heartbeat":
            stream.heartbeats.append(request.heartbeat.sequence)
            if self.acknowledges_heartbeats:
                stream.send(heartbeat_ack=worker_pb2.HeartbeatAck(sequence=request.heartbeat.sequence))
        elif kind == "results":
            stream.results += request.results.results
            if self.acknowledges_results:
                stream.acknowledge(*request.results.results)
        elif kind == "output":
            stream.output.append(request.output)
        elif kind == "drain":
            stream.drained = True
        async with self._changed:
            self._changed.notify_all()


def attempt_id(one: Result | worker_pb2.Assignment) -> worker_pb2.AttemptId:
    """Names the attempt of a result or an assignment."""
    return worker_pb2.AttemptId(execution=one.execution, attempt=one.attempt, fencing_token=one.fencing_token)


def assignment(execution: int = 1, *, job: int = 1, attempt: int = 1, token: int = 10, payload: Any = None) -> Any:
    """An assignment with a due time of 2027-01-01T00:00:00.250Z."""
    message = worker_pb2.Assignment(
        execution=execution, job=job, attempt=attempt, fencing_token=token, due_time_ms=1_798_761_600_250
    )
    if payload is not None:
        message.payload.CopyFrom(value(payload))
    return message


def value(thing: Any) -> struct_pb2.Value:
    """A JSON value."""
    return json_format.ParseDict(thing, struct_pb2.Value())


def definition(
    job: int = 1,
    *,
    timeout_seconds: float = 60.0,
    grace_seconds: float = 10.0,
    python: str = "",
    payload: Any = None,
    shell: job_pb2.ShellAction | None = None,
    http: job_pb2.HttpAction | None = None,
    sql: job_pb2.SqlAction | None = None,
) -> worker_pb2.Definition:
    """The definition of a job with one action."""
    action = job_pb2.Action(shell=shell, http=http, sql=sql)
    if python:
        action.python.handler = python
        if payload is not None:
            action.python.payload.CopyFrom(value(payload))
    message = worker_pb2.Definition(job=job, job_name=JOB_NAME, action=action, labels={"team": "data"})
    message.timeout.FromNanoseconds(int(timeout_seconds * 1e9))
    message.grace.FromNanoseconds(int(grace_seconds * 1e9))
    return message
