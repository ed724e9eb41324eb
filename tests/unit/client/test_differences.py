"""What differs between two definitions, and how that looks."""

from __future__ import annotations

from horologe.client import jobs
from horologe.client.differences import Difference, differences, lines
from horologe.v1.job_pb2 import Job

NAME = "namespaces/default/jobs/x"


def job(*schedules: object, script: str = "a", **fields: object) -> Job:
    return jobs.job(NAME, list(schedules) or jobs.manual(), jobs.shell(script), **fields)  # type: ignore[arg-type]


def test_fields_are_named_as_in_a_job_file() -> None:
    before = job(jobs.cron("0 2 * * *"), timeout="10m", labels={"team": "data"}, retry=jobs.retry(max_attempts=3))
    after = job(
        jobs.cron("0 3 * * *"), labels={"team": "ops", "tier": "1"}, retry=jobs.retry(max_attempts=5), queue="q"
    )
    assert differences(before, after) == [
        Difference("schedule.cron", "0 2 * * *", "0 3 * * *"),
        Difference("retry.max_attempts", 3, 5),
        Difference("timeout", "10m", None),
        Difference("labels.team", "data", "ops"),
        Difference("labels.tier", None, "1"),
        Difference("queue", None, "q"),
    ]


def test_schedules_are_compared_one_by_one() -> None:
    before = job(jobs.cron("0 2 * * *"))
    after = job(jobs.cron("0 2 * * *", time_zone="UTC"), jobs.every("5m"))
    assert differences(before, after) == [
        Difference("schedule[0].time_zone", None, "UTC"),
        Difference("schedule[1]", None, {"interval": "5m"}),
    ]


def test_what_the_cluster_adds_is_no_difference() -> None:
    before, after = job(), job()
    after.uid, after.etag, after.state = "u", "7", Job.STATE_PAUSED
    assert differences(before, after) == []


def test_a_new_job_is_all_difference() -> None:
    assert [(each.field, each.before, each.after) for each in differences(None, job())] == [
        ("schedule", None, {"manual": True}),
        ("action", None, {"shell": {"script": "a"}}),
    ]


def test_single_values_are_lines() -> None:
    assert list(lines(Difference("timeout", "10m", None))) == [("-", "timeout: 10m")]
    assert list(lines(Difference("limits", None, ["db"]))) == [("+", 'limits: ["db"]')]
    assert list(lines(Difference("priority", 5, 7))) == [("-", "priority: 5"), ("+", "priority: 7")]


def test_of_long_texts_only_the_change_and_its_surroundings_are_lines() -> None:
    old = "".join(f"line {number}\n" for number in range(20))
    new = old.replace("line 10\n", "line ten\n")
    difference = differences(job(script=old), job(script=new))[0]
    assert list(lines(difference)) == [
        (" ", "action.shell.script:"),
        (" ", "  line 8"),
        (" ", "  line 9"),
        ("-", "  line 10"),
        ("+", "  line ten"),
        (" ", "  line 11"),
        (" ", "  line 12"),
    ]
