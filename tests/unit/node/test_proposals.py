"""Commands on their way: when they are sent again."""

from __future__ import annotations

import asyncio

import pytest
from service_harness import HandClock

from horologe.log.v1 import log_pb2
from horologe.node.proposals import OutcomeUnknownError, Proposals
from horologe.raft.model import Code, Result


async def test_a_command_is_sent_again_later_and_later_and_at_once_when_the_leader_changes():
    clock, sent = HandClock(), []
    proposals = Proposals("n1", clock, sent.append)
    waiting = asyncio.create_task(proposals.propose(log_pb2.Command(), 60))
    await asyncio.sleep(0)
    moments: list[float] = []
    for tenth in range(1, 200):
        clock.now_ms += 100
        before = len(sent)
        proposals.resend(leader_changed=False)
        if len(sent) > before:
            moments.append(tenth / 10)
    assert moments == [1.6, 4.7, 10.8, 16.9]
    proposals.resend(leader_changed=True)
    assert len(sent) == 6
    proposals.resolve([(sent[0][0].origin_id, Result(Code.OK))])
    assert (await waiting).code is Code.OK


async def test_a_command_that_is_proposed_again_keeps_its_number():
    sent: list[list[log_pb2.Command]] = []
    proposals = Proposals("n1", HandClock(), sent.append)
    command = log_pb2.Command()
    with pytest.raises(OutcomeUnknownError):
        await proposals.propose(command, 0)
    waiting = asyncio.create_task(proposals.propose(command, 60))
    await asyncio.sleep(0)
    first, again = (number for [each] in sent for number in [each.origin_id])
    assert first == again > 0
    proposals.resolve([(again, Result(Code.OK))])
    assert (await waiting).code is Code.OK
