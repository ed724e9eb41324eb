"""Mutants of notifications: what happened is told at least once, whatever becomes of the leader that tells it."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from unittest.mock import patch

from horologe.chaos.mutants.ground import Ground
from horologe.chaos.mutants.mutant import Course, Mutant
from horologe.chaos.sim.listener import ARRIVED, Listener
from horologe.chaos.sim.workers import HANDLER, payload
from horologe.client import jobs
from horologe.node.notifier import Letter, Messenger

_FAILS = jobs.python(HANDLER, payload(0.1, fail=1.0))
"""There is something to tell."""


# --- worlds -----------------------------------------------------------------------------------------------------------


def a_leader_dies_with_a_message(ground: Ground) -> None:
    """As soon as the cluster has on record that the receiver has it."""
    ground.begin("n1")
    listener = Listener(ground.outside, ground.random)
    ground.outside.refuses = lambda: False
    ground.add_client("listener").run(listener.ask)
    ground.wait(lambda: listener.has_rule, "a rule")
    job = jobs.job("sick", jobs.manual(), _FAILS, retry=jobs.retry(max_attempts=1))
    ground.ask(lambda sdk: sdk.create_job(job))
    ground.add_worker("w1")
    ground.workers["w1"].start()
    ground.run_job("sick")
    store = ground.nodes["n2"].store
    assert store is not None

    def is_on_record() -> bool:
        with store.read() as tables:
            return listener.messages(tables) > 0

    ground.run_to(is_on_record, 20.0, "the record of a message")
    ground.crash("n1", silently=True)
    ground.run(5.0 + ground.random.random())
    with store.read() as tables:
        listener.has_heard_of_all(tables)


# --- patches ----------------------------------------------------------------------------------------------------------


def send_behind_the_record(ground: Ground) -> AbstractContextManager[object]:
    del ground
    send = Messenger.send
    tasks: list[asyncio.Task[None]] = []

    async def send_later(self: Messenger, letter: Letter) -> None:
        await asyncio.sleep(1.0)
        await send(self, letter)

    async def begin_to_send(self: Messenger, letter: Letter) -> None:
        tasks.append(asyncio.create_task(send_later(self, letter)))

    return patch.object(Messenger, "send", begin_to_send)


# --- all of them ------------------------------------------------------------------------------------------------------

MUTANTS = (
    Mutant(
        "recorded_when_sent",
        "A message is on record as delivered while it is still to be sent",
        Course("a leader dies with a message", a_leader_dies_with_a_message),
        (ARRIVED,),
        patch=send_behind_the_record,
    ),
)
