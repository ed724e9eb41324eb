"""One schedule as the API carries it: validation, defaults, intervals, descriptions."""

from __future__ import annotations

from datetime import datetime

import pytest
from google.protobuf import text_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from horologe.node import schedule
from horologe.node.schedule import Violation
from horologe.node.zones import ms_from_instant
from horologe.v1.job_pb2 import CronSchedule, Schedule

MINUTE_MS = 60_000


def ms(text: str) -> int:
    return ms_from_instant(datetime.fromisoformat(text))


NOW_MS = ms("2027-01-15T08:00:00Z")


def parse(text: str) -> Schedule:
    return text_format.Parse(text, Schedule())


def cron(expression: str, zone: str = "") -> Schedule:
    return Schedule(cron=CronSchedule(expression=expression, time_zone=zone))


def once(text: str, allow_past: bool = False) -> Schedule:
    made = Schedule()
    made.once.time.FromJsonString(text)
    made.once.allow_past = allow_past
    return made


def interval(every_seconds: int, phase_seconds: int | None = None) -> Schedule:
    made = Schedule()
    made.interval.every.seconds = every_seconds
    if phase_seconds is not None:
        made.interval.phase.FromSeconds(phase_seconds)
    return made


@pytest.mark.parametrize(
    "text",
    [
        'cron { expression: "0 2 * * *" }',
        'cron { expression: "@daily" time_zone: "Europe/Berlin" dialect: DIALECT_UNIX dst_gap: GAP_POLICY_SKIP }',
        "interval { every { seconds: 1 } }",
        "interval { every { seconds: 31622400 } phase { seconds: 31622399 nanos: 999000000 } }",
        "interval { every { seconds: 1 nanos: 500000000 } phase { } }",
        "once { time { seconds: 1900000000 } }",
        "once { time { seconds: 100 } allow_past: true }",
        "once { delay { nanos: 1 } }",
        "interval { every { seconds: 60 } anchor { seconds: 1900000007 } }",
        "fixed_delay { delay { seconds: 1 } }",
        "manual { }",
    ],
)
def test_valid(text: str) -> None:
    assert schedule.validate(parse(text), "job.schedules[0]", NOW_MS, "j") == []


@pytest.mark.parametrize(
    ("text", "field", "description"),
    [
        ("", "", "set exactly one of cron, interval, once, fixed_delay, after and manual"),
        ("cron { }", ".cron.expression", "the expression is empty"),
        ('cron { expression: "61 * * * *" }', ".cron.expression", '"61" is outside 0 to 59'),
        ('cron { expression: "0 0 31 2 *" }', ".cron.expression", "is never due"),
        ('cron { expression: "* * * * *" time_zone: "Mars/Base" }', ".cron.time_zone", "not a time zone"),
        ('cron { expression: "* * * * *" dialect: 9 }', ".cron.dialect", "9 is not a known value"),
        ('cron { expression: "* * * * *" dst_gap: 9 }', ".cron.dst_gap", "9 is not a known value"),
        ('cron { expression: "* * * * *" dst_overlap: 9 }', ".cron.dst_overlap", "9 is not a known value"),
        ('cron { expression: "* * * * *" day_match: 9 }', ".cron.day_match", "9 is not a known value"),
        ("interval { }", ".interval.every", "the period is missing"),
        ("interval { every { } }", ".interval.every", "0 s is outside 1 second to 366 days"),
        ("interval { every { nanos: 999000000 } }", ".interval.every", "0.999 s is outside"),
        ("interval { every { seconds: -5 } }", ".interval.every", "-5 s is outside"),
        ("interval { every { seconds: 31622401 } }", ".interval.every", "31622401 s is outside"),
        ("interval { every { seconds: 1 nanos: 1 } }", ".interval.every", "1.000000001 s is not a whole number of ms"),
        ("interval { every { seconds: 5 } phase { seconds: 5 } }", ".interval.phase", "5 s is outside the period"),
        ("interval { every { seconds: 5 } phase { seconds: -1 } }", ".interval.phase", "-1 s is outside the period"),
        ("interval { every { seconds: 5 } phase { nanos: 1 } }", ".interval.phase", "0.000000001 s is not a whole"),
        ("interval { every { seconds: 5 } phase { } anchor { } }", ".interval.anchor", "`phase` is given too"),
        ("interval { every { seconds: 5 } anchor { seconds: -1 } }", ".interval.anchor", "outside the years 1970"),
        ("fixed_delay { }", ".fixed_delay.delay", "the delay is missing"),
        ("fixed_delay { delay { nanos: 5 } }", ".fixed_delay.delay", "0.000000005 s is outside 1 second"),
        ("fixed_delay { delay { seconds: 1 nanos: 1 } }", ".fixed_delay.delay", "1.000000001 s is not a whole"),
        ("once { }", ".once", "neither is set; set exactly one of time and delay"),
        ("once { time { seconds: 1900000000 } delay { seconds: 1 } }", ".once", "both are set"),
        ("once { time { seconds: 100 } }", ".once.time", "1970-01-01T00:01:40Z has passed"),
        ("once { time { seconds: 999999999999 } }", ".once.time", "outside the years 1970 to 9999"),
        ("once { time { seconds: 0 } allow_past: true }", ".once.time", "outside the years 1970 to 9999"),
        ("once { time { seconds: -1 } allow_past: true }", ".once.time", "outside the years 1970 to 9999"),
        ("once { delay { } }", ".once.delay", "0 s is not after now"),
        ("once { delay { seconds: -1 nanos: -500000000 } }", ".once.delay", "-1.5 s is not after now"),
        ("once { delay { seconds: 315576000000 } }", ".once.delay", "ends after the year 9999"),
    ],
)
def test_a_violation_names_field_value_and_rule(text: str, field: str, description: str) -> None:
    (violation,) = schedule.validate(parse(text), "job.schedules[3]", NOW_MS, "j")
    assert violation.field == f"job.schedules[3]{field}"
    assert description.replace("of ms", "of milliseconds") in violation.description


def test_several_violations_come_together() -> None:
    wrong = parse('cron { expression: "x" time_zone: "europe/berlin" dst_gap: 7 }')
    assert [violation.field for violation in schedule.validate(wrong, "s", NOW_MS, "j")] == [
        "s.cron.dst_gap",
        "s.cron.time_zone",
        "s.cron.expression",
    ]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("europe/berlin", 'did you mean "Europe/Berlin"?'),
        ("Europe/Berlim", 'did you mean "Europe/Berlin"?'),
        ("berlin", 'did you mean "Europe/Berlin"?'),
        ("New York", 'did you mean "America/New_York"?'),
        ("Europe", "names look like"),
        ("../../etc/passwd", "names look like"),
        ("right/Europe/Berlin", "not a time zone"),
        ("localtime", "not a time zone"),
        ("Nul\x00l", "not a time zone"),
        ("x" * 5000, "names look like"),
    ],
)
def test_an_unknown_zone_is_refused_with_the_nearest(name: str, hint: str) -> None:
    (violation,) = schedule.validate(cron("0 0 * * *", name), "s", NOW_MS, "j")
    assert violation.field == "s.cron.time_zone"
    assert hint in violation.description
    assert "\n" not in violation.description


def test_normalise_writes_the_defaults_out() -> None:
    stored = schedule.normalise(cron(" 0 2 * * * "), NOW_MS)
    assert stored == parse(
        'cron { expression: "0 2 * * *" time_zone: "UTC" dialect: DIALECT_UNIX dst_gap: GAP_POLICY_RUN_AFTER '
        "dst_overlap: OVERLAP_POLICY_FIRST day_match: DAY_MATCH_EITHER }"
    )
    assert schedule.normalise(stored, NOW_MS + 1) == stored


def test_normalise_turns_a_delay_into_a_time_and_leaves_its_argument_alone() -> None:
    asked = parse("once { delay { seconds: 90 nanos: 1 } allow_past: true }")
    stored = schedule.normalise(asked, NOW_MS)
    assert stored.once.time.ToMilliseconds() == NOW_MS + 90_001
    assert not stored.once.HasField("delay")
    assert stored.once.allow_past
    assert asked.once.HasField("delay")
    assert schedule.normalise(stored, NOW_MS + 5) == stored


def test_normalise_turns_an_anchor_into_a_phase() -> None:
    stored = schedule.normalise(parse("interval { every { seconds: 60 } anchor { seconds: 1900000007 } }"), NOW_MS)
    assert stored == parse("interval { every { seconds: 60 } phase { seconds: 47 } }")
    assert schedule.next_due_ms(stored, 1_900_000_006_999, "j") == 1_900_000_007_000


def test_interval_is_epoch_plus_phase_plus_periods() -> None:
    every = interval(300, 60)
    assert schedule.next_due_ms(every, 0, "j") == 60_000
    assert schedule.next_due_ms(every, 60_000, "j") == 360_000
    assert schedule.next_due_ms(every, 59_999, "j") == 60_000
    assert schedule.next_due_ms(every, -240_001, "j") == -240_000


def test_a_derived_phase_stays_and_spreads() -> None:
    every = interval(60)
    phases = [schedule.next_due_ms(every, -1, f"namespaces/default/jobs/j{number}") for number in range(2_000)]
    assert phases[7] == schedule.next_due_ms(every, -1, "namespaces/default/jobs/j7")
    assert all(phase is not None and 0 <= phase < MINUTE_MS for phase in phases)
    seconds = [sum(1 for phase in phases if phase is not None and phase // 6_000 == slot) for slot in range(10)]
    assert min(seconds) > 150
    # Fixed for ever: stored jobs rely on it.
    assert schedule.next_due_ms(every, -1, "namespaces/default/jobs/nightly") == 6_694


def test_once_is_due_once() -> None:
    asked = once("2027-01-15T08:00:00.250Z")
    assert schedule.next_due_ms(asked, NOW_MS, "j") == NOW_MS + 250
    assert schedule.next_due_ms(asked, NOW_MS + 250, "j") is None


def test_what_has_no_due_times_of_its_own() -> None:
    for text in ("manual { }", "fixed_delay { delay { seconds: 5 } }"):
        assert schedule.next_due_ms(parse(text), NOW_MS, "j") is None


@pytest.mark.parametrize(
    ("described", "text"),
    [
        (cron("0 2 * * *", "Europe/Berlin"), "At 02:00 (Europe/Berlin)"),
        (cron("@daily"), "At 00:00 (UTC)"),
        (cron("*/5 * * * *"), "Every 5 minutes (UTC)"),
        (cron("*/100 * * * *"), "Every hour (UTC)"),
        (cron("*/45 * * * *"), "At 0 and 45 minutes past the hour (UTC)"),
        (cron("30 17 * * mon-FRI"), "At 17:30, Monday through Friday (UTC)"),
        (cron("0 0 * * 0,7"), "At 00:00, only on Sunday (UTC)"),
        (cron("0 0 * * 5-7"), "At 00:00, only on Sunday, Friday, and Saturday (UTC)"),
        (cron("0 0 13 * 5"), "At 00:00, on day 13 of the month, or on Friday (UTC)"),
        (cron("0 0 */15 * 5"), "At 00:00, on day 1, 16, and 31 of the month, but only on Friday (UTC)"),
        (interval(300), "every 5 minutes"),
        (interval(5_400, 30), "every 1 hour 30 minutes, shifted by 30 seconds"),
        (once("2027-02-01T00:00:00Z"), "once at 2027-02-01T00:00:00Z"),
        (once("2027-02-01T00:00:00.25Z"), "once at 2027-02-01T00:00:00.250Z"),
        (parse("once { delay { seconds: 1 } }"), "once, 1 second after its creation"),
        (parse("fixed_delay { delay { seconds: 90 } }"), "1 minute 30 seconds after the end of each execution"),
        (parse("manual { }"), "on request only"),
    ],
)
def test_describe(described: Schedule, text: str) -> None:
    assert schedule.describe(described) == text


def test_a_violation_is_a_field_and_a_description() -> None:
    assert Violation("a.b", "c") == ("a.b", "c")


@pytest.mark.parametrize("kind", [Duration, Timestamp])
@pytest.mark.parametrize("span_ms", [0, 1, 999, 1_000, 86_400_001, schedule.LATEST_MS])
def test_milliseconds_are_written_as_the_library_writes_them(kind: type[Duration | Timestamp], span_ms: int) -> None:
    ours, theirs = kind(), kind()
    schedule.write_ms(ours, span_ms)
    theirs.FromMilliseconds(span_ms)
    assert ours == theirs


def test_a_span_of_nothing_is_there_once_it_is_written() -> None:
    made = Schedule()
    schedule.write_ms(made.interval.phase, 0)
    assert made.interval.HasField("phase")
