"""How well a cluster is, by pictures that a test makes up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from horologe.client.cli.main import app
from horologe.client.findings import Finding, Grade, worst
from horologe.client.health import Picture, judge
from horologe.v1.activity_service_pb2 import ActivitySample, GetActivityResponse
from horologe.v1.cluster_service_pb2 import GetClusterStatusResponse, Member, MemberCondition
from horologe.v1.pause_service_pb2 import ScopePause
from horologe.v1.queue_service_pb2 import Queue

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
GIB = 1 << 30


def member(name: str, **fields: Any) -> Member:
    condition = MemberCondition(version="0.1.0", revision=10_000, disk_free_bytes=50 * GIB, disk_total_bytes=100 * GIB)
    condition.certificate_expire_time.FromDatetime(NOW + timedelta(days=60))
    role = Member.ROLE_LEADER if name == "n1" else Member.ROLE_FOLLOWER
    return Member(**({"name": name, "role": role, "reachable": True, "condition": condition} | fields))


def picture() -> Picture:
    return Picture(
        status=GetClusterStatusResponse(node="n1", leader="n1", term=3, has_quorum=True, worker_count=2),
        members=[member("n1"), member("n2"), member("n3")],
        queues=[Queue(name="queues/default")],
        pauses=[],
        activity=GetActivityResponse(total=ActivitySample(started_count=100)),
        now=NOW,
    )


def waits(seconds: int, **fields: Any) -> Queue:
    queue = Queue(name="queues/default", waiting_count=7, **fields)
    queue.oldest_due_time.FromDatetime(NOW - timedelta(seconds=seconds))
    return queue


def bad(findings: list[Finding]) -> dict[str, Grade]:
    for finding in findings:
        assert finding.found
        assert finding.why
        assert bool(finding.do) == (finding.grade is not Grade.OK), finding
    return {finding.check: finding.grade for finding in findings if finding.grade is not Grade.OK}


def test_a_cluster_that_is_well() -> None:
    found = judge(picture())
    assert bad(found) == {}
    assert worst(found) is Grade.OK
    checks = ["leader", "quorum", "member n1", "member n2", "member n3", "versions", "queues", "starts", "workers"]
    assert [finding.check for finding in found] == checks


def of_third(change: Callable[[MemberCondition], None]) -> Callable[[Picture], None]:
    return lambda shown: change(shown.members[2].condition)


def away(*positions: int) -> Callable[[Picture], None]:
    def change(shown: Picture) -> None:
        for position in positions:
            shown.members[position].reachable = False
            shown.members[position].ClearField("condition")

    return change


def of_status(**fields: Any) -> Callable[[Picture], None]:
    return lambda shown: shown.status.MergeFrom(GetClusterStatusResponse(**fields))


def set_clock(condition: MemberCondition, offset_ms: int, uncertainty_ms: int = 1) -> None:
    condition.clock_offset.FromMilliseconds(offset_ms)
    condition.clock_uncertainty.FromMilliseconds(uncertainty_ms)


def ends_in(condition: MemberCondition, left: timedelta) -> None:
    condition.certificate_expire_time.FromDatetime(NOW + left)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (away(2), {"member n3": Grade.WARNING, "quorum": Grade.WARNING}),
        (away(1, 2), {"member n2": Grade.WARNING, "member n3": Grade.WARNING, "quorum": Grade.FAILURE}),
        (lambda shown: shown.members[2].ClearField("condition"), {"member n3": Grade.WARNING}),
        (lambda shown: shown.status.ClearField("leader"), {"leader": Grade.FAILURE}),
        (lambda shown: shown.status.ClearField("has_quorum"), {"quorum": Grade.FAILURE}),
        (lambda shown: shown.status.ClearField("worker_count"), {"workers": Grade.WARNING}),
        (of_status(insecure=True), {"security": Grade.WARNING}),
        (of_third(lambda each: setattr(each, "revision", 8_000)), {"member n3": Grade.WARNING}),
        (of_third(lambda each: setattr(each, "version", "0.2.0")), {"versions": Grade.WARNING}),
        (of_third(lambda each: set_clock(each, -400)), {"member n3": Grade.WARNING}),
        (of_third(lambda each: set_clock(each, 400, 200)), {}),
        (of_third(lambda each: set_clock(each, 3_600_000)), {"member n3": Grade.FAILURE}),
        (of_third(lambda each: each.clock_correction.FromSeconds(5)), {"member n3": Grade.WARNING}),
        (of_third(lambda each: setattr(each, "disk_free_bytes", 5 * GIB)), {"member n3": Grade.WARNING}),
        (of_third(lambda each: setattr(each, "disk_free_bytes", 1 << 20)), {"member n3": Grade.FAILURE}),
        (of_third(lambda each: ends_in(each, timedelta(days=10))), {"member n3": Grade.WARNING}),
        (of_third(lambda each: ends_in(each, timedelta(hours=1))), {"member n3": Grade.FAILURE}),
        (of_third(lambda each: each.ClearField("certificate_expire_time")), {}),
    ],
)
def test_what_is_wrong(change: Callable[[Picture], Any], expected: dict[str, Grade]) -> None:
    shown = picture()
    change(shown)
    assert bad(judge(shown)) == expected


@pytest.mark.parametrize(
    ("queue", "grade"),
    [
        (waits(30), None),
        (waits(300), Grade.WARNING),
        (waits(3_600), Grade.FAILURE),
        (waits(3_600, running_count=5), Grade.WARNING),
        (waits(3_600, paused=True), None),
    ],
)
def test_queues(queue: Queue, grade: Grade | None) -> None:
    shown = picture()
    shown.queues[0].CopyFrom(queue)  # type: ignore[index]
    assert bad(judge(shown)) == ({} if grade is None else {"queue default": grade})


def test_late_starts_a_pause_and_no_worker_for_what_waits() -> None:
    shown = picture()
    shown.activity.total.late_count = 3
    shown.pauses.append(ScopePause(scope=""))  # type: ignore[attr-defined]
    shown.pauses.append(ScopePause(scope="namespaces/a"))  # type: ignore[attr-defined]
    shown.status.ClearField("worker_count")
    shown.status.queued_count = 1
    assert bad(judge(shown)) == {"starts": Grade.WARNING, "pause": Grade.WARNING, "workers": Grade.FAILURE}


def test_a_cluster_that_nobody_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("horologe.client.cli.session.UNREACHABLE_SECONDS", 0.1)
    result = CliRunner().invoke(app, ["cluster", "health", "--address", "127.0.0.1:1", "--insecure"])
    assert (result.exit_code, "failure  reachable" in result.output) == (2, True)
