"""The step thread and the event loop: what one hands to the other, and what ends the node."""

from __future__ import annotations

import asyncio

from service_harness import HandClock

from horologe.node.metrics import Metrics
from horologe.node.stepper import Stepper
from horologe.raft.step import Inbox, Outbox


class NoStore:
    commits = 0


class OneOutbox:
    """A replica whose every step releases something."""

    store = NoStore()

    def wait_seconds(self, now, wall_ms):
        return None

    def tick_at(self, now):
        return now + 1.0

    def can_wait(self, inbox, now):
        return False

    def step(self, inbox, now, wall_ms):
        return Outbox(leader_changed=True)


async def test_what_cannot_be_delivered_ends_the_node():
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def deliver(outbox: Outbox) -> None:
        raise LookupError("nobody of this name")

    def fail(error: BaseException) -> None:
        if not failed.done():
            failed.set_result(error)

    stepper = Stepper(OneOutbox(), HandClock(), deliver, fail, Metrics().stepped)  # type: ignore[arg-type]
    stepper.start()
    stepper.submit(Inbox())
    async with asyncio.timeout(10):
        assert str(await failed) == "nobody of this name"
    await asyncio.to_thread(stepper.stop)
