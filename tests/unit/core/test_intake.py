"""How much of what callers ask for a leader takes: a table of situations, and due work that is never refused."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from horologe.chaos.bench_core import SETTINGS, START_MS, draft_of_interval
from horologe.log.v1 import log_pb2
from horologe.node.planner import LeaderPlanner
from horologe.raft.commands import OUTCOME, Outcome
from horologe.raft.core import CoreSettings
from horologe.raft.intake import BYTES_MAX, BYTES_MIN, FREE_BYTES, Intake
from horologe.raft.model import Counters
from horologe.raft.replica import Replica
from horologe.raft.step import Inbox, Outbox
from horologe.raft.store import Store

DUE_JOBS = 10_000
ENDS = 1_000_000
"""Ids from here on are of due work, ids below of writers."""
DAY_MS = 86_400_000
_end_ids = itertools.count(ENDS + DUE_JOBS)


def put(kibibytes: int) -> log_pb2.Command:
    """A write of about so many KiB."""
    job = draft_of_interval(1, 2, DAY_MS)
    job.job.description = "x" * (kibibytes * 1024 - 200)
    return log_pb2.Command(put_jobs=log_pb2.PutJobs(mode=log_pb2.PutJobs.MODE_CREATE, jobs=[job]))


def complete() -> log_pb2.Command:
    return log_pb2.Command(complete=log_pb2.Complete())


# Situation, what steps took, what plans took -> the window in KiB after so many looks.
SITUATIONS = """
nothing is due                      0.010  none    6   256
all is well                         0.099  0.249   6   256
steps are slow                      0.150  0.100   3    32
steps are slow for ever             0.150  0.100  20    16
the log is slow, the steps are not  0.010  0.300   3    32
steps are slow, but nothing is due  0.150  none    6   256
"""


@pytest.mark.parametrize("line", SITUATIONS.strip().splitlines(), ids=lambda line: line[:35].strip())
def test_what_may_be_on_its_way_follows_from_what_was_measured(line: str) -> None:
    step_seconds, plan_seconds, looks, expected = line[35:].split()
    intake = Intake(0.0)
    for look in range(1, int(looks) + 1):
        intake.step_took(float(step_seconds))
        if plan_seconds != "none":
            intake.plan_took(float(plan_seconds))
        intake.share([], 0, 0.101 * look)
    assert intake.window_bytes // 1024 == int(expected)


def test_it_stays_within_its_bounds_and_recovers() -> None:
    intake = Intake(0.0)
    sizes = []
    for look in range(1, 41):
        intake.plan_took(0.5 if look <= 20 else 0.02)
        intake.share([], 0, 0.101 * look)
        sizes.append(intake.window_bytes)
    assert min(sizes) == BYTES_MIN and sizes[19] == BYTES_MIN
    assert sizes[-1] == BYTES_MAX


def test_once_nothing_is_due_any_more_what_was_slow_counts_no_more() -> None:
    intake = Intake(0.0)
    intake.plan_took(5.0)
    intake.share([], 0, 0.2)
    assert intake.window_bytes < BYTES_MAX
    for look in range(3, 30):
        intake.share([], 0, 0.101 * look)
    assert intake.window_bytes == BYTES_MAX


def test_due_work_passes_the_line_and_the_order_stays() -> None:
    intake = Intake(0.0)
    writes = [put(64) for _ in range(50)]
    ends = [complete() for _ in range(3)]
    pause = log_pb2.Command(pause_queue=log_pb2.PauseQueue())
    share = intake.share([*writes[:30], ends[0], pause, *writes[30:], *ends[1:]], 0, 0.0)
    assert share.due == [ends[0], pause, *ends[1:]]
    assert share.taken + share.waiting + share.refused == writes
    assert len(share.taken) == 5 and share.waiting and share.refused


@pytest.mark.parametrize("kibibytes", [1, 5, 20])
def test_while_the_log_is_full_a_little_is_taken_now_and_then(kibibytes: int) -> None:
    intake = Intake(0.0)
    taken = sum(len(intake.share([put(kibibytes)] * 9, BYTES_MAX, look * 0.101).taken) for look in range(100))
    assert 0.7 * 100 * FREE_BYTES <= taken * kibibytes * 1024 <= 1.3 * 100 * FREE_BYTES


def test_a_write_larger_than_the_window_is_taken_alone() -> None:
    share = Intake(0.0).share([put(900), put(900)], 0, 0.0)
    assert len(share.taken) == 1 and len(share.waiting) == 1


class Machine:
    """One leader on a machine of a known speed, so that the same happens each time: 30 us for each job made, fired and done."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder, "n1")
        planner = LeaderPlanner(SETTINGS, random.Random(1))
        self.replica = Replica(self.store, CoreSettings(name="n1", members=("n1",)), planner, random.Random(1), 0.0)
        self.now = 0.0
        self.counters = Counters()
        while not self.replica.status.may_serve:
            self.step([])

    def step(self, commands: list[log_pb2.Command]) -> Outbox:
        """Takes as long as what it has done."""
        before, wall_ms = self.counters, START_MS + int(self.now * 1000)
        outbox = self.replica.step(Inbox(commands=commands, heartbeats=[(0, [1])]), self.now, wall_ms)
        with self.store.read() as tables:
            self.counters = after = Counters.load(tables)
        count = after.jobs - before.jobs + after.fired - before.fired + after.completed - before.completed
        self.replica.step_took(30e-6 * count)
        goes_on_at_once = self.replica.tick_at(self.now) <= self.now
        self.now += max(0.001 if goes_on_at_once else 0.02, 30e-6 * count)
        return outbox


class Writers:
    """Callers who each create a batch of jobs, wait for the answer, and go on; refused, they come again after a second."""

    def __init__(self, count: int) -> None:
        self._next_job = 1_000_000
        self._free_at = [(0.0, caller) for caller in range(1, count + 1)]
        self.answered = self.refused = 0

    def commands(self, now: float) -> list[log_pb2.Command]:
        callers = [caller for at, caller in self._free_at if at <= now]
        self._free_at = [(at, caller) for at, caller in self._free_at if at > now]
        return [self._batch(caller) for caller in callers]

    def hear(self, outbox: Outbox, now: float) -> None:
        answered = [number for number, _ in outbox.results if number in range(1, ENDS)]
        refused = [number for number, _ in outbox.refused]
        self._free_at += [(now, number) for number in answered] + [(now + 1, number) for number in refused]
        self.answered += len(answered)
        self.refused += len(refused)

    def _batch(self, caller: int) -> log_pb2.Command:
        first, self._next_job = self._next_job, self._next_job + 100
        return create(caller, range(first, first + 100), START_MS + DAY_MS)


def create(origin_id: int, numbers: range, due_ms: int) -> log_pb2.Command:
    """Daily jobs, due at one instant first."""
    jobs = []
    for number in numbers:
        draft = draft_of_interval(0, 1, DAY_MS)
        draft.job.name, draft.uid = f"namespaces/default/jobs/job-{number}", f"uid-{number}"
        draft.job.schedules[0].interval.phase.FromMilliseconds(due_ms % DAY_MS)
        draft.next_due_ms = draft.next_fire_ms = due_ms
        jobs.append(draft)
    put_jobs = log_pb2.PutJobs(mode=log_pb2.PutJobs.MODE_CREATE, jobs=jobs)
    return log_pb2.Command(origin="n1", origin_id=origin_id, put_jobs=put_jobs)


def outcomes_of(outbox: Outbox) -> list[log_pb2.Command]:
    """What a worker says that has done all of it at once."""
    outcomes = b"".join(
        OUTCOME.pack(execution, token, attempt, Outcome.SUCCEEDED, 0, 0, 1, 1, 0)
        for effects in outbox.effects
        for _, execution, _, attempt, _, token, _ in effects.assigned
    )
    complete = log_pb2.Complete(outcomes=outcomes)
    return [log_pb2.Command(origin="n1", origin_id=next(_end_ids), complete=complete)] if outcomes else []


def test_a_burst_of_due_jobs_is_never_refused_whoever_writes_meanwhile(tmp_path: Path) -> None:
    machine, writers = Machine(tmp_path / "state"), Writers(150)
    worker = log_pb2.OpenSession(worker="w1", incarnation="a", queues=["default"], slot_count=10_000, gateway="n1")
    machine.step([log_pb2.Command(open_session=worker)])
    instant_ms = START_MS + 2_000
    for first in range(0, DUE_JOBS, 1_000):
        machine.step([create(ENDS + first, range(first, first + 1_000), instant_ms)])
    assert machine.now < 1.5, "the burst is yet to come"
    ends: list[log_pb2.Command] = []
    longest_seconds = 0.0
    while machine.counters.completed < DUE_JOBS:
        assert machine.now < 6, f"{machine.counters.completed} of {DUE_JOBS} are done"
        began = machine.now
        outbox = machine.step([*ends, *(writers.commands(machine.now) if machine.now > 1.8 else ())])
        assert not [number for number, _ in outbox.refused if number >= ENDS], "an outcome was refused"
        writers.hear(outbox, machine.now)
        ends = outcomes_of(outbox)
        longest_seconds = max(longest_seconds, machine.now - began)
    machine.store.close()
    # By itself all of it takes 0.6 s of this machine; the writers get what is left, and the rest of them hears so.
    assert machine.now < 2 + 2 * 0.6
    assert writers.answered and writers.refused
    assert longest_seconds < 0.5
