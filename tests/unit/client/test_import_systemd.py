"""systemd timers to jobs: calendar events, spans, services; what is listed, what is refused."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from support.pages import marked

from horologe.client import jobs, systemd
from horologe.client.errors import InvalidFile
from horologe.client.imports import Imported, Options
from horologe.client.systemd_calendar import read_calendar
from horologe.client.systemd_units import read_span
from horologe.v1.job_pb2 import CATCHUP_POLICY_SKIP

TIMER = """\
[Unit]
Description=Nightly backup

[Timer]
OnCalendar=Mon..Fri *-*-* 02:30
OnCalendar=*-*~01 04:00:00 Europe/Berlin
Persistent=true
RandomizedDelaySec=5min
WakeSystem=true
"""
SERVICE = """\
[Service]
Type=oneshot
User=backup
Environment=TARGET=/srv "NAME=a b"
ExecStartPre=-/bin/mkdir -p ${TARGET}
ExecStart=/usr/bin/backup --to $TARGET \\
  --name "${NAME}"
TimeoutStartSec=1h 30min
PrivateTmp=yes
"""
DAILY = "[Timer]\nOnCalendar=daily\n"
TRUE = "[Service]\nExecStart=/bin/true\n"


def load(timer: str, service: str | None = TRUE, **options: str) -> Imported:
    content = None if service is None else service.encode()
    return systemd.loads(timer.encode(), "x.timer", content, Options(**options))


def problems_of(timer: str, service: str | None = TRUE) -> str:
    with pytest.raises(InvalidFile) as caught:
        load(timer, service)
    return str(caught.value)


def test_everything_that_is_carried_over() -> None:
    job = load(TIMER, SERVICE, time_zone="UTC").jobs[0]
    assert job == jobs.job(
        "namespaces/default/jobs/x",
        [
            jobs.cron("30 2 * * mon-fri", time_zone="UTC", dialect="unix", day_match="both"),
            jobs.cron("0 4 L * *", time_zone="Europe/Berlin", dialect="unix", day_match="both"),
        ],
        jobs.shell(
            "set -e\n/bin/mkdir -p /srv || true\n/usr/bin/backup --to /srv --name 'a b'\n",
            env={"TARGET": "/srv", "NAME": "a b"},
            cwd="/",
        ),
        retry=jobs.retry(max_attempts=1),
        jitter="5m",
        timeout="90m",
        catchup="latest",
        catchup_window="366d",
        on_lease_loss="fail",
        description="Nightly backup",
    )


def test_what_is_not_is_listed_by_file_and_line() -> None:
    assert [str(notice) for notice in load(TIMER, SERVICE).notices] == [
        "x.service:3: runs as the worker's user, not as 'backup'",
        "x.service:9: PrivateTmp= is not carried over",
        "x.timer:9: WakeSystem= is not carried over",
    ]


def test_other_kinds_of_timers() -> None:
    after_end = load("[Timer]\nOnBootSec=5min\nOnUnitInactiveSec=10min\n").jobs[0]
    assert list(after_end.schedules) == [jobs.fixed_delay("10m")]
    active = load("[Timer]\nOnUnitActiveSec=1h 30\n")
    assert list(active.jobs[0].schedules) == [jobs.every("1h30s")]
    assert "counts from a phase of its own" in str(active.notices[0])
    assert load(DAILY).jobs[0].catchup == CATCHUP_POLICY_SKIP


def test_conditions_are_not_asked() -> None:
    imported = load("[Unit]\nConditionACPower=true\n" + DAILY, "[Unit]\nAssertPathExists=/srv\n" + TRUE)
    assert [str(notice) for notice in imported.notices] == [
        "x.service:2: AssertPathExists=/srv is not carried over: it is not asked here",
        "x.timer:2: ConditionACPower=true is not carried over: it is not asked here",
    ]


def test_an_empty_assignment_forgets() -> None:
    job = load("[Timer]\nOnCalendar=daily\nOnCalendar=\nOnCalendar=hourly\n").jobs[0]
    assert [each.cron.expression for each in job.schedules] == ["0 * * * *"]


def test_one_command_runs_as_it_is() -> None:
    service = "[Service]\nType=oneshot\nEnvironment=\"A=x y\"\nExecStart=-/bin/echo $A '${A}' $$ 100%%\nWorkingDirectory=-/srv\n"
    action = load(DAILY, service).jobs[0].action
    assert list(action.shell.argv) == ["/bin/echo", "x", "y", "x y", "$", "100%"]
    assert list(action.shell.success_codes) == list(range(256))
    assert action.shell.cwd == "/srv"
    codes = load(DAILY, TRUE + "SuccessExitStatus=3 TEMPFAIL\nTimeoutStopSec=5\nRuntimeMaxSec=2h\n").jobs[0]
    assert list(codes.action.shell.success_codes) == [0, 3, 75]
    assert (codes.grace.seconds, codes.timeout.seconds) == (5, 7200)


EVENTS = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", marked("docs/importing.md", "events"), re.MULTILINE)


@pytest.mark.parametrize(("event", "expression"), EVENTS)
def test_calendar_events(event: str, expression: str) -> None:
    assert read_calendar(event, "UTC") == jobs.cron(expression, time_zone="UTC", dialect="unix", day_match="both")


def test_the_page_has_events() -> None:
    assert len(EVENTS) == 15


def test_calendar_events_with_seconds_and_years() -> None:
    seconds = jobs.cron("30 * * * * *", time_zone="UTC", dialect="unix-seconds-first", day_match="both")
    assert read_calendar("*-*-* *:*:30", "UTC") == seconds
    assert read_calendar("2030-01-02 03:04:05 Europe/Berlin", "UTC") == jobs.once("2030-01-02T02:04:05Z")
    year = jobs.cron("0 0 6 1 * ? 2030-2031", time_zone="UTC", dialect="quartz")
    assert read_calendar("2030..2031-*-01 06:00", "UTC") == year
    days = jobs.cron("0 0 6 ? * mon 2030", time_zone="UTC", dialect="quartz")
    assert read_calendar("Mon 2030-*-* 06:00", "UTC") == days


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ("", "is not a calendar event"),
        ("whenever", "'whenever' is not a weekday"),
        ("daily or so", "is not a calendar event"),
        ("*-*-* 25:00", "the hour '25' is outside 0 to 23"),
        ("*-*-* *:*:0.5", "the second '0.5' cannot be said in cron"),
        ("Sun..Tue 10:00", "the weekdays Sun..Tue run backwards"),
        ("*-*-5..2 10:00", "the day range 5..2 runs backwards"),
        ("*-*~1..3", "the day ~1..3 cannot be said in cron"),
        ("Mon 2030-*-01 06:00", "says years, weekdays and days of the month together"),
        ("2030-02-30 06:00", "is not an instant"),
        ("*:0/0", "the minute '0/0' is outside"),
    ],
)
def test_events_that_cron_cannot_say(event: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        read_calendar(event, "UTC")


def test_spans() -> None:
    assert read_span("1h 30min") == timedelta(minutes=90)
    assert read_span("5") == timedelta(seconds=5)
    assert read_span("2weeks 3days 4us") == timedelta(days=17, microseconds=4)
    assert read_span("1.5month") == timedelta(days=365.25 / 12 * 1.5)
    for wrong in ("", "1 fortnight", "-5s", "infinity", "9999999y"):
        with pytest.raises(ValueError, match=r"span of time|thousand years"):
            read_span(wrong)


@pytest.mark.parametrize(
    ("timer", "service", "said"),
    [
        (DAILY, None, "x.timer:2: x.service, which it starts, is not beside it"),
        ("[Timer]\n", TRUE, "x.timer:1: has no OnCalendar="),
        ("[Timer]\nOnBootSec=5\n", TRUE, "x.timer:2: cannot be carried over: a cluster has no start of the machine"),
        ("OnCalendar=daily\n", TRUE, "x.timer:1: 'OnCalendar' stands before the first section"),
        ("[Timer]\nnonsense\n", TRUE, "x.timer:2: 'nonsense' is neither a [Section] nor Name=value"),
        ("[Timer]\nOnCalendar=never\n", TRUE, "x.timer:2: 'never' is not a weekday"),
        ("[Timer]\nOnUnitActiveSec=soon\n", TRUE, "x.timer:2: 'soon' is not a span of time"),
        (DAILY + "RandomizedDelaySec=x\n", TRUE, "x.timer:3: 'x' is not a span of time"),
        (DAILY, "[Service]\n", "x.service:1: has no ExecStart="),
        (DAILY, TRUE + "Type=forking\n", "x.service:3: Type=forking: a job is one process"),
        (DAILY, "[Service]\nExecStart=/bin/a %n\n", "x.service:2: has a specifier"),
        (DAILY, "[Service]\nExecStart=/bin/a 'b\n", "x.service:2: No closing quotation"),
        (DAILY, "[Service]\nExecStart=/bin/a \\x20\n", "x.service:2: has a backslash escape"),
        (DAILY, "[Service]\nExecStart=-\n", "x.service:2: has no command"),
        (DAILY, "[Service]\nExecStart=@/bin/a b\n", "x.service:2: the prefix '@' cannot be carried over"),
        (DAILY, "[Service]\nEnvironmentFile=/e\nExecStart=/bin/a ${B}\n", "x.service:3: $B comes from a file"),
        (DAILY, TRUE + "Environment=A\n", "x.service:3: 'A' is not NAME=value"),
        (DAILY, TRUE + "WorkingDirectory=~\n", "x.service:3: WorkingDirectory=~: write the folder's name"),
        (DAILY, TRUE + "SuccessExitStatus=SIGTERM\n", "x.service:3: SuccessExitStatus=SIGTERM: only exit codes"),
    ],
)
def test_what_stands_in_the_way_is_named(timer: str, service: str | None, said: str) -> None:
    assert said in problems_of(timer, service)


def test_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.timer").write_text(DAILY + ("Unit=../c.service\n" if name == "b" else ""))
    (tmp_path / "a.service").write_text(TRUE)
    (tmp_path / "c.service").write_text(TRUE)
    imported = systemd.load([tmp_path], Options())
    assert [(found.job.name.rpartition("/")[2], Path(found.file).name) for found in imported.found] == [
        ("a", "a.timer"),
        ("b", "b.timer"),
    ]
    with pytest.raises(InvalidFile, match=r"absent.timer: cannot be read"):
        systemd.load([tmp_path / "absent.timer"], Options())
