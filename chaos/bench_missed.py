"""How a job that has missed thousands of due times is settled, and what that costs all others: longest step, and entries in all.

The core by itself, as in bench_core.py. While the late job is counted and settled, others are due all the time; each waits for
the step that runs when it comes due, so the longest step is the longest delay.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from horologe.chaos.bench_core import START_MS, Core, create_jobs, draft_of_interval
from horologe.log.v1 import log_pb2
from horologe.v1 import job_pb2

DELAY_MS_MAX: Final = 100.0
OTHERS: Final = 1_000
OTHERS_PERIOD_MS: Final = 1_000
STEP_MS: Final = 20
"""Of simulated time, from one step to the next."""
STEPS_MAX: Final = 5_000
MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Settling:
    """One measurement."""

    policy: str
    missed: int
    ledger_rows: int
    steps: int
    """Until the job was on time again."""
    longest_step_ms: float
    usual_step_ms: float
    """The median, while the job was late."""

    @property
    def is_sound(self) -> bool:
        """Within what is promised."""
        return self.longest_step_ms < DELAY_MS_MAX

    def to_record(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self) | {"is_sound": self.is_sound}


def measure(folder: Path, policy: str, missed: int) -> Settling:
    """A job with a cron expression and a calendar of every minute, `missed` due times late, beside others that are on time."""
    core = Core(folder)
    try:
        first_ms = START_MS // MINUTE_MS * MINUTE_MS - missed * MINUTE_MS
        core.now_ms = first_ms - 1
        core.apply(_put(_late_job(policy, missed), first_ms))
        core.now_ms = START_MS
        create_jobs(core, OTHERS, OTHERS_PERIOD_MS)
        core.begin()
        steps_ms: list[float] = []
        while core.next_due_ms(1) <= core.now_ms and len(steps_ms) < STEPS_MAX:
            core.now_ms += STEP_MS
            began = time.perf_counter()
            core.step()
            steps_ms.append((time.perf_counter() - began) * 1000)
        rows = core.ledger_row_count(1)
        return Settling(policy, missed, rows, len(steps_ms), max(steps_ms), sorted(steps_ms)[len(steps_ms) // 2])
    finally:
        core.close()


def _late_job(policy: str, missed: int) -> job_pb2.Job:
    job = draft_of_interval(0, 1, MINUTE_MS).job
    job.name = "namespaces/default/jobs/late"
    job.schedules[0].cron.expression = "* * * * *"
    job.schedules[0].cron.time_zone = "Europe/Berlin"
    job.catchup = job_pb2.CatchupPolicy.Value(f"CATCHUP_POLICY_{policy.upper()}")
    job.catchup_max = 100
    job.catchup_window.FromSeconds((missed + 10) * 60)
    return job


def _put(job: job_pb2.Job, due_ms: int) -> log_pb2.Command:
    draft = log_pb2.JobDraft(job=job, next_due_ms=due_ms, next_fire_ms=due_ms, uid="late")
    return log_pb2.Command(put_jobs=log_pb2.PutJobs(mode=log_pb2.PutJobs.MODE_CREATE, jobs=[draft]))
