"""What was read from a stream just before it was closed from this side is not acted upon."""

from __future__ import annotations

import asyncio

import grpc.aio
import pytest
from fake_gateway import assignment, definition

from horologe.client.attempts import AttemptTable
from horologe.client.lease import Lease
from horologe.client.outbox import Outbox
from horologe.client.runner import Runner
from horologe.client.session import DisconnectedError, Identity, Session
from horologe.v1 import worker_pb2, worker_service_pb2


class LateStream:
    """Hands out an assignment, and before its reader goes on, the lease ends."""

    def __init__(self) -> None:
        self.reads = 0

    async def read(self) -> worker_service_pb2.ConnectResponse:
        self.reads += 1
        assert self.reads == 1, "it went on with a stream that was closed"
        self.session.close("the lease ended")
        work = worker_pb2.Assignments(definitions=[definition(python="work")], assignments=[assignment(1, token=5)])
        return worker_service_pb2.ConnectResponse(assignments=work)

    def cancel(self) -> None:
        """The call ends; what was read stays read."""


def nowhere(address: str) -> grpc.aio.Channel:
    raise AssertionError(f"it connects to {address}")


async def test_an_assignment_that_was_read_before_the_lease_ended_is_not_started() -> None:
    table, outbox, lease, stream = AttemptTable(), Outbox(), Lease(), LateStream()
    runner = Runner(table, outbox, lease, {}, 1_000, lambda: None)
    identity = Identity("w1", "i1", ("default",), 1)
    session = stream.session = Session("n1:7400", identity, table, runner, outbox, lease, asyncio.Event(), nowhere)
    session.welcome = worker_pb2.Welcome(cluster_id="c1")

    with pytest.raises(DisconnectedError, match="the lease ended"):
        await session._receive(stream)
    assert stream.reads == 1
    assert not table.running
    await runner.close()
