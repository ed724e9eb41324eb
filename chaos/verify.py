"""`horologe verify`: reads a live cluster through its API and proves that its account is whole.

Two questions. Do all members hold the same state? Each is asked for the digest of its state as of one checkpoint. Is every due
time of every job accounted for exactly once? Each job's ledger is held against a timetable that is computed here. How a ledger
is judged is in audit.py; what is printed is in verify_cli.py.

No clock of ours is read: what is due by now is decided by the cluster's own time at the checkpoint.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from horologe.chaos.audit import JobAudit, Period, Row
from horologe.chaos.closures import ClosedTooLongError
from horologe.chaos.timetable import timetable_of, why_not
from horologe.client.async_client import AsyncClient
from horologe.client.errors import HorologeError, NotFound
from horologe.v1.cluster_service_pb2 import GetStateDigestResponse, Member
from horologe.v1.execution_service_pb2 import LedgerRow
from horologe.v1.job_pb2 import Job

CONCURRENT_JOBS = 16
CHECKPOINTS_MAX = 3
"""A member that has just restarted, or was far behind, has no digest of a checkpoint; it gets another chance."""
DIGEST_SECONDS = 120.0
LOOKS_MAX = 3
"""A job that changes while it is read is read again; and so is one with findings, once what is late has had its time."""
LOOK_AGAIN_SECONDS = 2.0
PRUNING_MARGIN_MS = 3_600_000
"""Retention drops rows while this runs."""


@dataclass(frozen=True, slots=True)
class MemberState:
    """What a member answered."""

    name: str
    digest: str = ""
    record_count: int = 0
    error: str = ""


@dataclass(slots=True)
class Verification:
    """What was looked at, and what was found."""

    revision: int = 0
    time_ms: int = 0
    """The cluster's time at the checkpoint: due times up to `grace` before it are judged."""
    members: list[MemberState] = field(default_factory=list)
    jobs: int = 0
    paused: int = 0
    """Jobs that are paused: what a pause swallows is accounted for when they are resumed."""
    unjudged: list[tuple[str, str]] = field(default_factory=list)
    """Jobs whose ledger cannot be held against anything, and why."""
    unread: list[tuple[str, str]] = field(default_factory=list)
    """Jobs that could not be read, and why."""
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    unsound: list[JobAudit] = field(default_factory=list)

    @property
    def due(self) -> int:
        return sum(self.outcomes.values()) + self.wrong["missing"] + self.wrong["late"]

    @property
    def digests(self) -> set[str]:
        return {member.digest for member in self.members if member.digest}

    @property
    def is_sound(self) -> bool:
        """Nothing wrong was seen."""
        return not self.wrong and len(self.digests) <= 1

    @property
    def is_complete(self) -> bool:
        """Everything was seen."""
        return bool(self.members) and not self.unread and not any(member.error for member in self.members)

    def add(self, audit: JobAudit) -> None:
        self.outcomes += audit.outcomes
        self.wrong += audit.wrong
        if not audit.is_sound:
            self.unsound.append(audit)


async def verify(
    client: AsyncClient, grace_ms: int, progress: Callable[[int], None] = lambda jobs: None
) -> Verification:
    """Looks at everything. Raises HorologeError if the cluster does not even take a checkpoint or list its jobs.

    `progress` is told the number of jobs that were looked at.
    """
    found = Verification()
    await compare_members(client, found)
    status = await client.cluster_status()
    found.time_ms = status.log_time.ToMilliseconds()
    oldest_ms = found.time_ms - int(status.history_retention_days * 86_400_000) + PRUNING_MARGIN_MS
    limit = asyncio.Semaphore(CONCURRENT_JOBS)

    async def look(job: Job) -> None:
        try:
            await _look_at_job(client, job, oldest_ms, grace_ms, found)
        finally:
            limit.release()
            progress(found.jobs)

    async with asyncio.TaskGroup() as group:
        async for job in client.list_jobs(parent="-"):
            await limit.acquire()
            group.create_task(look(job))
    found.unsound.sort(key=lambda audit: audit.name)
    return found


# Members


async def compare_members(client: AsyncClient, found: Verification) -> None:
    """Until every member has answered for one and the same checkpoint, or cannot."""
    for _ in range(CHECKPOINTS_MAX):
        found.revision = await client.take_checkpoint()
        members = [member async for member in client.list_members()]
        found.members = list(await asyncio.gather(*(_ask_member(client, member, found.revision) for member in members)))
        if all(member.digest for member in found.members):
            return


async def _ask_member(client: AsyncClient, member: Member, revision: int) -> MemberState:
    if not member.address:
        return MemberState(member.name, error="nobody knows its address: it is not connected")
    asked = client.at(member.address, unreachable_seconds=3.0).with_timeout(DIGEST_SECONDS)
    try:
        answer: GetStateDigestResponse = await asked.state_digest(revision)
    except HorologeError as error:
        return MemberState(member.name, error=str(error).splitlines()[0])
    if answer.node != member.name:
        return MemberState(member.name, error=f"{member.address} is node {answer.node}")
    return MemberState(member.name, answer.digest.hex(), answer.record_count)


# Jobs


async def _look_at_job(client: AsyncClient, job: Job, oldest_ms: int, grace_ms: int, found: Verification) -> None:
    found.jobs += 1
    reason = why_not(job)
    if reason:
        found.unjudged.append((job.name, reason))
        return
    try:
        for look in range(1, LOOKS_MAX + 1):
            audit = await _audit(client, job, oldest_ms, grace_ms, found)
            if audit.is_sound or look == LOOKS_MAX:
                break
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            job = await client.get_job(job.name)
    except NotFound:
        return  # Deleted meanwhile.
    except ClosedTooLongError:
        found.unjudged.append((job.name, "its calendars leave it no opening for more than 40 days on end"))
        return
    except HorologeError as error:
        found.unread.append((job.name, str(error).splitlines()[0]))
        return
    if job.state == Job.STATE_PAUSED:
        found.paused += 1
    found.add(audit)


async def _audit(client: AsyncClient, job: Job, oldest_ms: int, grace_ms: int, found: Verification) -> JobAudit:
    calendars = [await client.get_calendar(_calendar_name(job, name)) for name in job.calendars]
    changed_ms = max(
        job.schedule_time.ToMilliseconds(), *(calendar.update_time.ToMilliseconds() for calendar in calendars), 0
    )
    since_ms = max(changed_ms, oldest_ms)
    required_ms = since_ms + grace_ms if since_ms == changed_ms else since_ms
    # A due time of a job with jitter may be on its way for so long.
    until_ms = found.time_ms - grace_ms - job.jitter.ToMilliseconds()
    if job.state == Job.STATE_PAUSED:
        until_ms = since_ms
    elif job.max_executions and not job.HasField("next_due_time"):
        until_ms = min(until_ms, await _over_ms(client, job, until_ms, oldest_ms))
    period = Period(since_ms, required_ms, until_ms, job.next_due_time.ToMilliseconds())
    audit = JobAudit(job.name, timetable_of(job, calendars), period)
    async for row in client.list_ledger(job.name):
        audit.take(_row(row))
    audit.finish()
    return audit


async def _over_ms(client: AsyncClient, job: Job, until_ms: int, oldest_ms: int) -> int:
    """The due time with which a job had made all the executions that it may make; `until_ms` if it has not."""
    made, last_ms = 0, 0
    async for row in client.list_ledger(job.name):
        one = _row(row)
        if one.makes_execution and not one.is_on_request:
            made, last_ms = made + 1, one.last_ms
    if made >= job.max_executions or job.create_time.ToMilliseconds() < oldest_ms:
        # What history has forgotten cannot be counted: then what it still knows is taken to be the end.
        return last_ms
    return until_ms


def _calendar_name(job: Job, calendar: str) -> str:
    return f"{job.name.rpartition('/jobs/')[0]}/calendars/{calendar}"


def _row(row: LedgerRow) -> Row:
    return Row(
        row.due_time.ToMilliseconds(),
        row.last_due_time.ToMilliseconds(),
        row.count,
        LedgerRow.Outcome.Name(row.outcome).removeprefix("OUTCOME_").lower(),
        row.execution,
        row.on_request,
    )
