"""A worker that keeps no rules: it speaks the protocol by hand, renews only if it is made to, and reports what it likes."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import deque
from typing import Self

import grpc

from horologe.v1 import worker_pb2, worker_service_pb2, worker_service_pb2_grpc

Request = worker_service_pb2.ConnectRequest
Response = worker_service_pb2.ConnectResponse


class RudeWorker:
    """One stream to one node."""

    def __init__(
        self,
        address: str,
        name: str,
        *,
        queue: str = "default",
        incarnation: str = "",
        renews: bool = False,
        held: list[worker_pb2.AttemptId] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self.name = name
        self.incarnation = incarnation or secrets.token_hex(8)
        self._address = address
        self._credentials = credentials
        self._queue = queue
        self._held = held or []
        self._renews = renews
        self._renewing: asyncio.Task[None] | None = None
        # gRPC takes one write at a time, and refuses a second one by ending the stream.
        self._writing = asyncio.Lock()
        self._assigned: deque[worker_pb2.Assignment] = deque()

    async def __aenter__(self) -> Self:
        options = [("grpc.use_local_subchannel_pool", 1)]
        if self._credentials is None:
            self._channel = grpc.aio.insecure_channel(self._address, options=options)
        else:
            self._channel = grpc.aio.secure_channel(self._address, self._credentials, options=options)
        self._stream = worker_service_pb2_grpc.WorkerServiceStub(self._channel).Connect()
        hello = worker_pb2.Hello(
            worker=self.name,
            incarnation=self.incarnation,
            queues=[self._queue],
            slot_count=10,
            held_attempts=self._held,
            protocol_version=1,
        )
        await self.send(Request(hello=hello))
        self.welcome = (await self.read("welcome")).welcome
        if self._renews:
            self._renewing = asyncio.create_task(self._keep_renewing())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        self._stream.cancel()
        await self._channel.close()

    async def send(self, request: Request) -> None:
        """Whatever it likes."""
        async with self._writing:
            await self._stream.write(request)

    async def read(self, kind: str) -> Response:
        """The next message of a kind, over all others. AssertionError if the stream ends before."""
        while True:
            message = await self._stream.read()
            assert isinstance(message, Response), f"the stream ended while {self.name} waited for {kind}"
            if message.WhichOneof("kind") == kind:
                return message

    async def take_assignment(self) -> worker_pb2.Assignment:
        """The next assignment. Several may come in one message."""
        while not self._assigned:
            self._assigned.extend((await self.read("assignments")).assignments.assignments)
        return self._assigned.popleft()

    async def _keep_renewing(self) -> None:
        for sequence in itertools.count(1):
            await asyncio.sleep(self.welcome.heartbeat_interval.ToMilliseconds() / 1000)
            await self.send(Request(heartbeat=worker_pb2.Heartbeat(sequence=sequence)))

    async def report(
        self,
        assignment: worker_pb2.Assignment,
        outcome: worker_pb2.AttemptResult.Outcome.ValueType = worker_pb2.AttemptResult.OUTCOME_SUCCEEDED,
        *,
        token: int | None = None,
    ) -> worker_pb2.ResultAcks:
        """Reports an end, under the attempt's own token or another one, and waits for the answer."""
        result = worker_pb2.AttemptResult(
            execution=assignment.execution,
            attempt=assignment.attempt,
            fencing_token=assignment.fencing_token if token is None else token,
            outcome=outcome,
        )
        await self.send(Request(results=worker_pb2.AttemptResults(results=[result])))
        return (await self.read("result_acks")).result_acks


def attempt_id(assignment: worker_pb2.Assignment) -> worker_pb2.AttemptId:
    """As it is named in a Hello."""
    return worker_pb2.AttemptId(
        execution=assignment.execution, attempt=assignment.attempt, fencing_token=assignment.fencing_token
    )
