"""`horologe job create` against a fake node: a flag for every field of a job, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fake_cluster import FakeCluster
from typer.testing import Result

from horologe.client import jobfile, jobs
from horologe.v1.job_pb2 import Job

Run = Callable[..., Result]

CREATE: list[tuple[list[str], Any, Any]] = [
    (["--every", "5s", "--shell", "echo hi"], jobs.every("5s"), jobs.shell("echo hi")),
    (["--manual", "--argv", "--", "sleep", "-x", "5"], jobs.manual(), jobs.shell(["sleep", "-x", "5"])),
    (["--manual", "--", "sleep", "-x", "5"], jobs.manual(), jobs.shell(["sleep", "-x", "5"])),
    (
        [
            *["--cron", "0 2 * * *", "--tz", "Europe/Berlin", "--dst-gap", "skip", "--http", "post", "http://x"],
            *["-H", "A: b", "--header", "C:d", "--body", "text", "--expect", "200", "--expect", "204"],
        ],
        jobs.cron("0 2 * * *", time_zone="Europe/Berlin", dst_gap="skip"),
        jobs.http("POST", "http://x", headers={"A": "b", "C": "d"}, body="text", expect=[200, 204]),
    ),
    (
        ["--at", "2027-01-01T00:00:00", "--tz", "Europe/Berlin", "--allow-past", "--sql", "db", "select 1"],
        jobs.once("2026-12-31T23:00:00Z", allow_past=True),
        jobs.sql("db", "select 1"),
    ),
    (
        ["--in", "every 5 minutes", "--python", "report", "--payload", '{"a": [1]}'],
        jobs.after_delay("5m"),
        jobs.python("report", {"a": [1]}),
    ),
    (
        ["--every", "1h", "--phase", "0s", "--shell", "x", "--env", "A=b=c", "--cwd", "/tmp"],
        jobs.every("1h", phase="0s"),
        jobs.shell("x", env={"A": "b=c"}, cwd="/tmp"),
    ),
    (
        ["--every", "1h", "--anchor", "2027-01-01T00:00:00Z", "--fixed-delay", "5m", "--sql", "db", "select 1"],
        [jobs.every("1h", anchor="2027-01-01T00:00:00Z"), jobs.fixed_delay("5m")],
        jobs.sql("db", "select 1"),
    ),
    (
        ["--after", "extract", "--after", "load", "--condition", "all_done", "--run-members"],
        jobs.after(["extract", "load"], condition="all_done"),
        jobs.workflow(),
    ),
    (
        ["--cron", "0 0 2 ? * MON", "--dialect", "quartz", "--shell", "x"],
        jobs.cron("0 0 2 ? * MON", dialect="quartz"),
        jobs.shell("x"),
    ),
    (
        [
            *["--interval", "1h", "--shell", "x", "--interpreter", "bash -eu", "--stdin", "text"],
            *["--success-code", "0", "--success-code", "3", "--rlimit", "nofile=64", "--user", "nobody"],
        ],
        jobs.every("1h"),
        jobs.shell(
            "x",
            interpreter=["bash", "-eu"],
            stdin="text",
            success_codes=[0, 3],
            rlimits={"nofile": 64},
            user="nobody",
        ),
    ),
    (
        [
            *["--once", "2027-01-01T00:00:00", "--time-zone", "Europe/Berlin", "--http", "GET", "http://x"],
            *["--follow-redirects", "--connect-timeout", "1s", "--read-timeout", "1m"],
        ],
        jobs.once("2026-12-31T23:00:00Z"),
        jobs.http("GET", "http://x", follow_redirects=True, connect_timeout="1s", read_timeout="1m"),
    ),
    (
        ["--delay", "5m", "--sql", "db", "select :day", "--parameters", '{"day": 1}'],
        jobs.after_delay("5m"),
        jobs.sql("db", "select :day", {"day": 1}),
    ),
]


@pytest.mark.parametrize(("arguments", "schedule", "action"), CREATE)
def test_create(fake: FakeCluster, run: Run, arguments: list[str], schedule: Any, action: Any) -> None:
    result = run("job", "create", "hello", *arguments)
    assert result.exit_code == 0, result.output
    request = fake.requests("CreateJob")[0]
    assert request.job == jobs.job("namespaces/default/jobs/hello", schedule, action)
    assert request.job_id == "hello"
    assert "hello" in result.stdout


EVERY_POLICY = """
--start-time 2027-01-01T00:00:00 --end-time 2028-01-01T00:00:00Z --tz Europe/Berlin --max-executions 7 --jitter 30s
--calendar holidays --calendar weekends --on-exclusion next_open --delete-when-finished
--timeout 10m --execution-timeout 1h --deadline 5m --grace 1s
--max-attempts 5 --retry-backoff fixed --retry-base 1s --retry-factor 3 --retry-cap 1m --retry-jitter none
--retry-on exit:75 --retry-on http:5xx --do-not-retry-on timeout --retry-window 2h
--overlap queue_all --queue-max 10 --max-running 2 --limit db --limit api
--catchup all --catchup-max 9 --catchup-window 1h --on-lease-loss fail
--queue q --priority 0 --worker-label gpu=yes --workflow etl --apply-set shop
--label a=b --output-bytes-max 1000 --owner ada --description text --request-id r -n prod --dry-run -o json
"""


def test_create_with_every_policy(fake: FakeCluster, run: Run) -> None:
    result = run("job", "create", "hello", "--every", "5s", "--every", "7s", "--shell", "x", *EVERY_POLICY.split())
    assert result.exit_code == 0, result.output
    request = fake.requests("CreateJob")[0]
    expected = jobs.job(
        "namespaces/prod/jobs/hello",
        [jobs.every("5s"), jobs.every("7s")],
        jobs.shell("x"),
        start_time="2026-12-31T23:00:00Z",
        end_time="2028-01-01T00:00:00Z",
        max_executions=7,
        jitter="30s",
        calendars=["holidays", "weekends"],
        on_exclusion="next_open",
        delete_when_finished=True,
        retry=jobs.retry(
            max_attempts=5,
            backoff="fixed",
            base="1s",
            factor=3,
            cap="1m",
            jitter="none",
            retry_on=["exit:75", "http:5xx"],
            do_not_retry_on=["timeout"],
            retry_window="2h",
        ),
        timeout="10m",
        execution_timeout="1h",
        deadline="5m",
        grace="1s",
        overlap="queue_all",
        queue_max=10,
        max_running=2,
        limits=["db", "api"],
        catchup="all",
        catchup_max=9,
        catchup_window="1h",
        on_lease_loss="fail",
        queue="q",
        priority=0,
        worker_labels={"gpu": "yes"},
        workflow="etl",
        apply_set="shop",
        labels={"a": "b"},
        output_bytes_max=1000,
        owner="ada",
        description="text",
    )
    assert request.job == expected
    left_out = {field.name for field in Job.DESCRIPTOR.fields} - {field.name for field, _ in expected.ListFields()}
    assert left_out == set(jobfile.OUTPUT_ONLY), "there is a flag for every field"
    assert (request.request_id, request.validate_only, fake.jobs) == ("r", True, {})
    assert json.loads(result.stdout)["retry"]["base"] == "1s"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--shell x", "give one or more of --every, --cron, --at, --in, --fixed-delay and --after, or --manual alone"),
        ("--manual --every 5s --shell x", "or --manual alone"),
        ("--every 5s", "give exactly one of --shell, --argv, --http, --sql, --python and --run-members"),
        ("--every 5s --shell x --python y", "give exactly one of"),
        ("--every 5s --shell x y", "unexpected 'y'; there is another action already"),
        ("--every 5s --argv", "the command is missing"),
        ("--every soon --shell x", "every: 'soon' is not a duration"),
        ("--at 2027-01-01T00:00:00 --shell x", "is a local time"),
        ("--every 5s --tz UTC --shell x", "only goes with --cron, --at, --start-time or --end-time"),
        ("--every 5s --condition all_done --shell x", "only goes with --after"),
        ("--cron @daily --anchor 2027-01-01T00:00:00Z --shell x", "only goes with --every"),
        ("--every 5s --start-time soon --shell x", "'soon' is not an instant"),
        ("--every 5s --max-running 0 --shell x", "greater than or equal to 1"),
        ("--every 5s --shell x --body y", "only goes with --http"),
        ("--every 5s --shell x --payload 1", "only goes with --python"),
        ("--every 5s --python x --payload {", "is not JSON"),
        ("--every 5s --shell x --env A", "'A' is not KEY=VALUE"),
        ("--every 5s --shell x --priority 10", "less than or equal to 9"),
        ("--every 5s --shell x --nonsense", "nonsense"),
        ("--every 5s ls -l /", "No such option: -l; a command that has options of its own stands behind --"),
        ("--every 5s --http http://x", "requires 2 arguments; give METHOD and URL, like --http GET https://"),
        ("--every 5s --http http://x --timeout 1m", "--http: 'http://x' is no method; give METHOD and URL"),
        ("--every 5s --sql db", "requires 2 arguments; give CONNECTION and STATEMENT"),
    ],
)
def test_create_used_wrongly(fake: FakeCluster, run: Run, arguments: str, said: str) -> None:
    result = run("job", "create", "hello", *arguments.split())
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert fake.received == []


@pytest.mark.parametrize("arguments", ["--shel x", "-x -- ls -l"])
def test_a_slip_is_not_taken_for_an_option_of_the_command(run: Run, arguments: str) -> None:
    result = run("job", "create", "hello", "--every", "5s", *arguments.split())
    assert result.exit_code == 2
    assert "No such option" in result.stderr
    assert "behind" not in result.stderr
