"""`horologe top` against a fake node: what a frame says, with and without a terminal, and what happens when a node is gone."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from fake_cluster import FakeCluster, failure
from rich.console import Console
from typer.testing import Result

from horologe.client import Client
from horologe.client.cli import top as top_module
from horologe.client.cli.session import Session, Settings
from horologe.client.cli.top_frame import Frame, lines, screen, sparkline
from horologe.client.times import to_proto
from horologe.v1.activity_service_pb2 import GetActivityResponse
from horologe.v1.cluster_service_pb2 import GetClusterStatusResponse, Member
from horologe.v1.execution_pb2 import Execution
from horologe.v1.queue_service_pb2 import Queue
from horologe.v1.worker_pb2 import Worker

Run = Callable[..., Result]
NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
STEERING = "\x1b[2J\u202e"


def busy_frame() -> Frame:
    """Something of everything, and a reason that would clear the screen."""
    activity = GetActivityResponse(node="n1", queued_count=7, running_count=1, dead_letter_count=2)
    for count in (0, 4, 8):
        activity.samples.add(started_count=count)
    activity.total.succeeded_count, activity.total.failed_count, activity.total.late_count = 10, 2, 1
    activity.total.start_delay_p50.FromMilliseconds(4)
    activity.total.start_delay_p99.FromMilliseconds(38)
    queue = Queue(name="queues/mail", waiting_count=7, running_count=1)
    queue.oldest_due_time.CopyFrom(to_proto(NOW - timedelta(seconds=90)))
    running = Execution(name="namespaces/shop/jobs/order/executions/41", state=Execution.STATE_RUNNING)
    running.start_time.CopyFrom(to_proto(NOW - timedelta(seconds=5)))
    running.attempts.add(number=2, worker="w1")
    failed = Execution(
        name="namespaces/shop/jobs/bill/executions/40", state=Execution.STATE_DEAD, reason=f"no ink{STEERING}"
    )
    failed.end_time.CopyFrom(to_proto(NOW - timedelta(hours=1)))
    worker = Worker(
        name="workers/w1", state=Worker.STATE_DRAINING, slot_count=4, running_count=1, queues=["mail"], gateway="n2"
    )
    return Frame(
        time=NOW,
        status=GetClusterStatusResponse(node="n1", leader="n2", term=7, has_quorum=True),
        activity=activity,
        members=[
            Member(name="n1", role=Member.ROLE_FOLLOWER, reachable=True),
            Member(name="n2", role=Member.ROLE_LEADER, reachable=True),
            Member(name="n3", role=Member.ROLE_FOLLOWER),
        ],
        queues=[Queue(name="queues/default"), queue],
        running=[running],
        failed=[failed],
        workers=[worker],
    )


def drawn(frame: Frame, *, height: int = 50, colours: bool = False) -> str:
    console = Console(
        file=io.StringIO(),
        width=120,
        height=height,
        force_terminal=colours,
        color_system="standard" if colours else None,
    )
    console.print(screen(frame, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_highest_block_is_the_largest_value() -> None:
    assert sparkline([0, 4, 8]) == "▁▅█"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([1, 1000]) == "▂█"
    assert sparkline([]) == ""


def test_a_frame_in_sentences() -> None:
    told = "\n".join(lines(busy_frame()))
    for sentence in (
        "2026-11-26 12:00:00 UTC, as n1 sees it.",
        "Leader: n2 leads in term 7, a majority answers.",
        "Members: n1 follower, n2 leader, n3 follower UNREACHABLE.",
        "Executions per second: 8 now, 4.0 on average, 8 at most in the last 3 s.",
        "Start delay: half within 4ms, 99 of 100 within 38ms.",
        "In that time: 10 ended well, 2 failed, 1 started late.",
        "Now: 1 running, 7 queued, 2 dead letters.",
        "Queues, 2:",
        "  mail: state active, waiting 7, running 1, oldest 1m30s",
        "  shop/order #41: since 5s, attempt 2, worker w1",
        "  shop/bill #40: state dead, ago 1h, reason no ink",
        "  w1: state draining, slots 1 of 4, queues mail, node n2",
    ):
        assert sentence in told, told
    # What waits most comes first.
    assert told.index("mail: state") < told.index("default: state")
    assert "\x1b" not in told and "\u202e" not in told
    assert not set(told) & set("▁▂▃▄▅▆▇█│─")


def test_a_screen_says_the_same_without_colours() -> None:
    shown = drawn(busy_frame())
    assert "\x1b" not in shown and "\u202e" not in shown
    for text in ("n2 leads in term 7", "n3 follower UNREACHABLE", "▁▅█", "1m30s", "shop/bill #40", "dead", "draining"):
        assert text in shown, shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", drawn(busy_frame(), colours=True))
    assert plain == shown


def test_a_low_screen_shows_the_first_rows_and_says_so() -> None:
    frame = busy_frame()
    assert frame.queues is not None
    frame.queues.extend(Queue(name=f"queues/q{number}") for number in range(10))
    shown = drawn(frame, height=24)
    assert "Queues: 12, 9 of them not shown" in shown
    assert "mail" in shown and "q9" not in shown


def test_nobody_leads_and_nothing_may_be_seen() -> None:
    frame = Frame(NOW, GetClusterStatusResponse(node="n1"), None, None, None, None, None, None, trouble="all are gone")
    for told in ("\n".join(lines(frame)), drawn(frame)):
        assert "NOBODY LEADS, NO MAJORITY ANSWERS" in told
        assert "OLD FIGURES: the cluster does not answer: all are gone" in told
        assert told.count("you may not see this") == 6


def test_one_frame_into_a_pipe(fake: FakeCluster, run: Run) -> None:
    fake.add_execution("report", Execution.STATE_RUNNING)
    fake.add_execution("report", Execution.STATE_DEAD)
    fake.members = [Member(name="n1", role=Member.ROLE_LEADER, reachable=True)]
    result = run("top", "--once")
    assert result.exit_code == 0, result.output
    assert "Leader: n1 leads in term 3" in result.stdout
    assert "default/report #1" in result.stdout and "default/report #2: state dead" in result.stdout
    assert "\x1b" not in result.stdout
    (found,) = map(json.loads, run("top", "--once", "-o", "json").stdout.splitlines())
    assert found["status"]["leader"] == "n1" and [each["id"] for each in found["failed"]] == [2]
    assert found["trouble"] is None


@pytest.mark.parametrize("interval", ["0s", "100ms", "soon"])
def test_an_interval_that_is_none(run: Run, interval: str) -> None:
    assert run("top", "--once", "--interval", interval).exit_code == 2


def test_what_one_may_not_see_is_left_out(fake: FakeCluster, run: Run) -> None:
    for method in ("GetActivity", "ListWorkers"):
        fake.failures[method].append(failure("PERMISSION_DENIED", "PERMISSION_DENIED"))
    shown = run("top", "--once").stdout
    assert "Workers: you may not see this." in shown and "Executions per second: you may not see this." in shown
    assert "Leader: n1 leads" in shown


def test_it_goes_on_when_nobody_answers_for_a_while(fake: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last figures stay, marked as old, until a node answers again."""
    monkeypatch.setattr(top_module, "CALL_SECONDS", 60.0)
    session = Session(Settings())
    session._client = Client(fake.address, insecure=True, unreachable_seconds=60.0)
    frames: list[Frame] = []

    class EnoughError(Exception):
        pass

    def show(frame: Frame) -> None:
        frames.append(frame)
        if len(frames) == 1:
            fake.failures["GetClusterStatus"] += [failure("UNAVAILABLE", "NO_LEADER", "no leader")] * 1000
            monkeypatch.setattr(top_module, "CALL_SECONDS", 1.0)
        if len(frames) == 2:
            fake.failures["GetClusterStatus"].clear()
            monkeypatch.setattr(top_module, "CALL_SECONDS", 60.0)
        if len(frames) == 3:
            raise EnoughError

    with pytest.raises(EnoughError):
        top_module._repeat(session, 0.2, once=False, show=show)
    session.close()
    assert [bool(frame.trouble) for frame in frames] == [False, True, False]
    assert frames[1].status == frames[0].status
