"""The step thread and the event loop: what one hands to the other, and what ends the node."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from service_harness import HandClock
from structlog.testing import capture_logs

from horologe.node import stepper as stepper_module
from horologe.node.clock import SystemClock
from horologe.node.metrics import Metrics
from horologe.node.stepper import Punctuality, Stepper
from horologe.peer.v1.peer_service_pb2 import PeerMessage
from horologe.raft.step import Inbox, Outbox


class NoStore:
    commits = 0


class OneOutbox:
    """A replica whose every step releases something, and for which nothing can wait."""

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
    async with asyncio.timeout(60):
        assert str(await failed) == "nobody of this name"
    await asyncio.to_thread(stepper.stop)


class Patient(OneOutbox):
    """One that has nothing to do by itself, and for which everything can wait."""

    def __init__(self) -> None:
        self.stepped = threading.Event()

    def tick_at(self, now):
        return now + 1_000.0

    def can_wait(self, inbox, now):
        return True

    def step(self, inbox, now, wall_ms):
        if inbox.messages:
            self.stepped.set()
        return Outbox()


async def test_what_can_wait_is_taken_up_a_little_later(monkeypatch):
    monkeypatch.setattr(stepper_module, "WAIT_SECONDS_MAX", 1_000.0)
    replica = Patient()
    stepper = Stepper(replica, SystemClock(), lambda _: None, lambda _: None, Metrics().stepped)  # type: ignore[arg-type]
    stepper.start()
    stepper.submit(Inbox(messages=[("n2", PeerMessage())]))
    assert await asyncio.to_thread(replica.stepped.wait, 60)
    await asyncio.to_thread(stepper.stop)


def test_rest_is_not_late():
    punctuality = Punctuality(100.0)
    with capture_logs() as said:
        punctuality.note(100.3, rested_seconds=0.3)
        punctuality.note(101.0, rested_seconds=0.69)
        punctuality.note(101.3, rested_seconds=0.1)
        punctuality.note(102.1, rested_seconds=0.8)
    assert [(entry["log_level"], entry["milliseconds"]) for entry in said] == [("debug", 10.0), ("warning", 200.0)]


class HeldUp:
    """Stands for the lock: whoever waits for it is woken by what comes in 5 ms later, and goes on another 180 ms later."""

    def __init__(self, clock: HandClock, come_in: Callable[[], None]) -> None:
        self.clock, self.come_in = clock, come_in

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def notify(self) -> None:
        pass

    def wait(self, timeout: float) -> None:
        self.clock.now_ms += 5
        self.come_in()
        self.clock.now_ms += 180


async def test_who_is_woken_late_has_not_rested(monkeypatch):
    clock = HandClock()
    monkeypatch.setattr(Patient, "can_wait", lambda self, inbox, now: False)
    stepper = Stepper(Patient(), clock, lambda _: None, lambda _: None, Metrics().stepped)  # type: ignore[arg-type]
    stepper._wake = HeldUp(clock, lambda: stepper.submit(Inbox(messages=[("n2", PeerMessage())])))  # type: ignore[assignment]
    assert stepper._wait() is not None
    assert round(stepper._rested_seconds, 3) == 0.005
