"""How well a cluster is, judged by what its nodes answer: the rules of `horologe cluster health`, each with its reason.

Here is no I/O: `cli/health.py` asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from horologe.client import durations
from horologe.client.findings import Finding, Grade
from horologe.v1.activity_service_pb2 import GetActivityResponse
from horologe.v1.cluster_service_pb2 import GetClusterStatusResponse, Member
from horologe.v1.pause_service_pb2 import ScopePause
from horologe.v1.queue_service_pb2 import Queue

__all__ = ["Picture", "judge", "unreachable"]

LAG_ENTRIES_MAX = 1_000
"""A few seconds of work; who is further behind than this for long catches up with nobody."""
CLOCK_WARNING_MS, CLOCK_FAILURE_MS = 250, 1_000
"""The second one is the default of `clock_skew_ms_max`."""
DISK_SHARE_MIN, DISK_BYTES_MIN = 0.1, 256 << 20
"""The second one is the default of `disk_free_bytes_min`."""
CERTIFICATE_WARNING, CERTIFICATE_FAILURE = timedelta(days=14), timedelta(days=1)
OVERDUE_WARNING, OVERDUE_FAILURE = timedelta(minutes=1), timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Picture:
    """What the nodes have answered, and when."""

    status: GetClusterStatusResponse
    members: Sequence[Member]
    """With their conditions."""
    queues: Sequence[Queue]
    pauses: Sequence[ScopePause]
    activity: GetActivityResponse
    now: datetime


def unreachable(text: str) -> Finding:
    """No node has answered."""
    why = "whoever cannot reach a node can neither see nor change anything"
    return Finding(
        "reachable", Grade.FAILURE, text, why, "start the nodes; look at addresses, certificates and firewalls"
    )


def judge(picture: Picture) -> list[Finding]:
    """All findings, in the order in which they are best read."""
    return [
        *_leadership(picture),
        *(finding for member in picture.members for finding in _member(member, picture)),
        *_versions(picture.members),
        *_queues(picture),
        *_work(picture),
    ]


def _leadership(picture: Picture) -> Iterator[Finding]:
    status = picture.status
    why = "without a leader that a majority follows nothing fires, and nothing is written"
    do = "start the members that are away; if they are lost for good: `horologe cluster recover`"
    if not status.leader:
        yield Finding("leader", Grade.FAILURE, f"{status.node} knows no leader", why, do)
    else:
        yield Finding("leader", Grade.OK, f"{status.leader} leads in term {status.term}", why)
    voters = [member for member in picture.members if member.role != Member.ROLE_LEARNER]
    there = [member for member in voters if member.reachable]
    needed = len(voters) // 2 + 1
    found = f"{len(there)} of {len(voters)} voters are connected with {status.node}; {needed} are needed"
    if not status.has_quorum or len(there) < needed:
        yield Finding("quorum", Grade.FAILURE, found, why, do)
    elif len(there) == needed < len(voters):
        yield Finding(
            "quorum", Grade.WARNING, f"{found}: if one more goes, all stops", why, "start those that are away"
        )
    else:
        yield Finding("quorum", Grade.OK, found, why)


def _member(member: Member, picture: Picture) -> Iterator[Finding]:
    check = f"member {member.name}"
    if not member.reachable or not member.HasField("condition"):
        found = (
            "is not connected" if not member.reachable else "is connected, and did not say how it is within a second"
        )
        why = "each member that is away is one loss less that the cluster survives"
        do = f"look at its log and its machine: `horologe doctor` there; its address is {member.peer_address}"
        yield Finding(check, Grade.WARNING, f"{member.name} {found}", why, do)
        return
    problems = list(_problems(member, picture))
    condition = member.condition
    found = f"version {condition.version}, at entry {condition.revision}, clock {_signed_ms(member):+.0f} ms"
    found += f", {condition.disk_free_bytes >> 20:,} MiB of disk free"
    yield from problems or [Finding(check, Grade.OK, found, "what its node says of itself")]


def _problems(member: Member, picture: Picture) -> Iterator[Finding]:
    condition, check = member.condition, f"member {member.name}"
    furthest = max(other.condition.revision for other in picture.members)
    if furthest - condition.revision > LAG_ENTRIES_MAX:
        why = "a member that is far behind cannot lead, and answers with old data"
        text = f"{member.name} is {furthest - condition.revision:,} entries behind"
        yield Finding(check, Grade.WARNING, text, why, "look at its disk and its network: `horologe doctor` there")
    surely_ms = abs(_signed_ms(member)) - durations.from_proto(condition.clock_uncertainty).total_seconds() * 1000
    if surely_ms > CLOCK_WARNING_MS or condition.HasField("clock_correction"):
        why = "due times follow the clock; a node that is far from the others goes by theirs and hands over if it leads"
        grade = Grade.FAILURE if surely_ms > CLOCK_FAILURE_MS else Grade.WARNING
        text = f"the clock of {member.name} is {_signed_ms(member):+.0f} ms from that of {picture.status.node}"
        yield Finding(check, grade, text, why, "let the same source set the clocks, with chrony or the like")
    free, total = condition.disk_free_bytes, condition.disk_total_bytes
    if free < max(DISK_BYTES_MIN, DISK_SHARE_MIN * total):
        why = "a node whose disk is full takes no writes, and stops"
        text = f"{member.name} has {free >> 20:,} of {total >> 20:,} MiB of disk free"
        grade = Grade.FAILURE if free < DISK_BYTES_MIN else Grade.WARNING
        yield Finding(
            check, grade, text, why, "free some space, take a larger disk, or keep history for a shorter time"
        )
    if condition.HasField("certificate_expire_time"):
        ends = condition.certificate_expire_time.ToDatetime(UTC)
        left = ends - picture.now
        if left < CERTIFICATE_WARNING:
            why = "nobody speaks with a node whose certificate has ended"
            text = f"the certificate of {member.name} ends on {ends:%Y-%m-%d %H:%M} UTC"
            grade = Grade.FAILURE if left < CERTIFICATE_FAILURE else Grade.WARNING
            yield Finding(check, grade, text, why, "renew it there: `horologe tls rotate`")


def _signed_ms(member: Member) -> float:
    return durations.from_proto(member.condition.clock_offset).total_seconds() * 1000


def _versions(members: Sequence[Member]) -> Iterator[Finding]:
    found = sorted({member.condition.version for member in members if member.HasField("condition")})
    why = "a rolling upgrade is to be ended: until then nothing is used that only the newer version knows"
    if len(found) > 1:
        yield Finding("versions", Grade.WARNING, f"there are {', '.join(found)}", why, "bring all nodes to one version")
    elif found:
        yield Finding("versions", Grade.OK, f"all have {found[0]}", why)


def _queues(picture: Picture) -> Iterator[Finding]:
    why = "what waits in a queue that nobody takes from is not run"
    is_well = True
    for queue in picture.queues:
        if queue.paused or not queue.waiting_count or not queue.HasField("oldest_due_time"):
            continue
        age = picture.now - queue.oldest_due_time.ToDatetime(UTC)
        if age < OVERDUE_WARNING:
            continue
        is_well = False
        name = queue.name.removeprefix("queues/")
        stands = "and nothing of it runs" if not queue.running_count else f"and {queue.running_count} run"
        text = f"{queue.waiting_count} wait in {name}, the oldest for {durations.render(_rounded(age))}, {stands}"
        do = "`horologe worker list` shows who takes from it; add workers or slots, or raise its start rate"
        is_stuck = age >= OVERDUE_FAILURE and not queue.running_count
        yield Finding(f"queue {name}", Grade.FAILURE if is_stuck else Grade.WARNING, text, why, do)
    if is_well:
        yield Finding("queues", Grade.OK, "nothing waits longer than a minute", why)


def _rounded(age: timedelta) -> timedelta:
    return timedelta(seconds=int(age.total_seconds()))


def _work(picture: Picture) -> Iterator[Finding]:
    late, started = picture.activity.total.late_count, picture.activity.total.started_count
    why = "a start is late when it comes more than 5 seconds after it was due"
    found = f"{late} of {started} starts of the last minutes were late"
    do = "`horologe top` shows what is busy; `horologe explain` says of one why it was late"
    yield Finding("starts", Grade.WARNING if late else Grade.OK, found, why, do if late else "")
    status = picture.status
    why = "without workers nothing runs"
    found = f"{status.worker_count} workers are connected"
    if not status.worker_count:
        grade = Grade.FAILURE if status.queued_count else Grade.WARNING
        yield Finding("workers", grade, found, why, "start some: `horologe worker run`")
    else:
        yield Finding("workers", Grade.OK, found, why)
    if any(pause.scope == "" for pause in picture.pauses):
        why, do = (
            "during a pause nothing falls due",
            "`horologe cluster pauses` shows by whom and why; `horologe cluster resume`",
        )
        yield Finding("pause", Grade.WARNING, "the whole cluster is paused", why, do)
    if status.insecure:
        why = "without TLS and authentication whoever reaches a port may do everything, and runs code on every worker"
        yield Finding("security", Grade.WARNING, f"{status.node} is `insecure`", why, "see docs/tls.md")
