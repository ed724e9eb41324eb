"""The recurring jobs of a simulated cluster, by dice: schedules and policies of all kinds, and what each of them may lead to.

Here belongs what is decided before a job exists. Who creates it is in `workload`, how it is judged in `judge`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from horologe.chaos.checker import Rule
from horologe.chaos.checker_bounds import Bound
from horologe.chaos.history import Policy
from horologe.chaos.sim.clocks import START_MS
from horologe.chaos.sim.workers import HANDLER, SLOW_QUEUE, ZONE, payload
from horologe.client import jobs
from horologe.v1.job_pb2 import OVERLAP_POLICY_ALLOW, Action, Job, RetryPolicy, Schedule

QUEUE_MAX = 3
CATCHUP_MAX = 3
SHARED_LIMIT = "shared"
SHARED_MAX = 3
"""Callers set the limit anew, but never higher."""
_CATCHUP = {
    "latest": {"CATCHUP_LATEST", "CATCHUP_WINDOW"},
    "skip": {"CATCHUP_SKIP"},
    "earliest": {"CATCHUP_EARLIEST", "CATCHUP_WINDOW"},
    "all": {"CATCHUP_MAX", "CATCHUP_WINDOW"},
}
_OVERLAP = {
    "skip": {"OVERLAP"},
    "allow": set[str](),
    "queue_one": {"QUEUE_FULL"},
    "queue_all": {"QUEUE_FULL"},
    "replace": {"REPLACED"},
}
"""Reasons for which each policy leaves a due time out."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A job before it is created.

    Attributes:
        policy: What may become of its due times.
        is_deaf: Its handler goes on after it was told to end, so nobody can say what runs.
    """

    job: Job
    policy: Policy
    is_deaf: bool

    def bounds(self, number: int) -> Iterator[Bound]:
        """What the evidence must not contradict."""
        if self.is_deaf:
            return
        if self.job.overlap != OVERLAP_POLICY_ALLOW:
            yield Bound(f"overlap of {self.job.name}", frozenset({number}), 1, Rule.RAN_BESIDE)
        if self.job.max_running:
            yield Bound(self.job.name, frozenset({number}), self.job.max_running, Rule.LIMIT_EXCEEDED)


def recurring(number: int, now_seconds: float, dice: random.Random) -> Definition:
    """The `number`th job, when so many seconds have passed."""
    overlap = dice.choice(["allow", "allow", *_OVERLAP])
    catchup = dice.choice(list(_CATCHUP))
    max_running = dice.choice([0, 0, 0, 1, 2])
    # A handler that is deaf goes on after its attempt is over: nobody can say what runs then.
    is_deaf = dice.random() < 0.1
    deadline = timedelta(seconds=2) if dice.random() < 0.15 else None
    definition = jobs.job(
        f"tick-{number}",
        _schedule(now_seconds, dice),
        _action(dice, is_deaf=is_deaf),
        start_time=_instant(now_seconds + 5) if dice.random() < 0.1 else None,
        end_time=_instant(now_seconds + 25) if dice.random() < 0.1 else None,
        jitter=timedelta(milliseconds=400) if dice.random() < 0.15 else None,
        deadline=deadline,
        limits=[SHARED_LIMIT] if not is_deaf and dice.random() < 0.2 else [],
        queue=SLOW_QUEUE if dice.random() < 0.15 else "",
        worker_labels={ZONE: "a"} if dice.random() < 0.1 else {},
        catchup_max=CATCHUP_MAX,
        overlap=overlap,
        queue_max=QUEUE_MAX,
        max_running=max_running,
        catchup=catchup,
        retry=_retry(dice),
        timeout=timedelta(seconds=dice.choice([3, 10, 60])),
        execution_timeout=timedelta(seconds=20) if dice.random() < 0.1 else None,
        grace=timedelta(seconds=1),
        on_lease_loss="fail" if dice.random() < 0.2 else "retry",
        priority=dice.randint(1, 9),
    )
    # Its own attempts may all fail, and what is lost or replaced ends badly: only the account is judged.
    # The administrator pauses the namespace.
    left_out = {"PAUSED"} | _CATCHUP[catchup] | _OVERLAP[overlap] | ({"DEADLINE"} if deadline else set())
    policy = Policy(frozenset(left_out), may_fail=True)
    return Definition(definition, policy, is_deaf)


def workflow(first_number: int, dice: random.Random) -> list[Job]:
    """A workflow and its nodes, numbered from `first_number` on: two ways from the first to the last, and an alarm."""
    root, first, left, right, last, alarm = (
        f"{word}-{first_number + position}"
        for position, word in enumerate(["flow", "first", "left", "right", "last", "alarm"])
    )
    period = timedelta(seconds=dice.choice([4, 7]))
    overlap = dice.choice(["skip", "allow", "queue_one"])
    condition = dice.choice(["all_succeeded", "all_succeeded", "all_done", "any_succeeded"])
    nodes = {
        first: jobs.manual(),
        left: jobs.after(first),
        right: jobs.after(first),
        last: jobs.after([left, right], condition=condition),
        alarm: jobs.after([left, right], condition="any_failed"),
    }
    made = [jobs.job(root, jobs.every(period), jobs.workflow(), overlap=overlap)]
    for name, schedule in nodes.items():
        action = jobs.python(HANDLER, payload(dice.choice([0.05, 0.5]), fail=dice.choice([0.0, 0.3])))
        made.append(jobs.job(name, schedule, action, workflow=root, retry=retries(dice)))
    return made


def retries(dice: random.Random) -> RetryPolicy:
    """A quick policy, so that a short run sees many attempts."""
    return jobs.retry(max_attempts=dice.choice([1, 2, 5]), base="200ms", cap="2s")


def _retry(dice: random.Random) -> RetryPolicy:
    policy = retries(dice)
    if dice.random() < 0.2:
        policy.retry_window.FromSeconds(dice.choice([1, 5]))
    if dice.random() < 0.2:
        policy.do_not_retry_on.append(dice.choice(["timeout", "lost", "RuntimeError"]))
    return policy


def _schedule(now_seconds: float, dice: random.Random) -> Schedule | list[Schedule]:
    kind = dice.random()
    if kind < 0.05:
        return jobs.fixed_delay(timedelta(seconds=dice.choice([1, 3])))
    if kind < 0.1:
        return jobs.cron("* * * * *")
    if kind < 0.2:
        return jobs.cron(dice.choice(["*/3 * * * * *", "1/4 * * * * *"]), dialect="unix-seconds-first")
    if kind < 0.3:
        soon = START_MS + int(now_seconds * 1000) + dice.randint(3_000, 30_000)
        return jobs.once(datetime.fromtimestamp(soon / 1000, UTC), allow_past=True)
    if kind < 0.4:
        return [_every(dice, 4_000, 7_000), jobs.cron("*/5 * * * * *", dialect="unix-seconds-first")]
    return _every(dice, 1_000, 1_500, 2_000, 3_000, 5_000, 7_000)


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(START_MS // 1000 + int(seconds), UTC)


def _every(dice: random.Random, *periods_ms: int) -> Schedule:
    return jobs.every(timedelta(milliseconds=dice.choice(periods_ms)))


def _action(dice: random.Random, *, is_deaf: bool) -> Action:
    seconds = round(dice.choice([0.0, 0.05, 0.5, 2.0, 5.0]) * dice.random(), 3)
    fail, permanent = (0.4, 0.2) if dice.random() < 0.3 else (0.0, 0.0)
    return jobs.python(HANDLER, payload(seconds, fail, permanent, 2.0 if is_deaf else 0.0))
