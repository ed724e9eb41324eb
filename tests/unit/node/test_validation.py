"""Job definitions from outside: every field's rule, every default, and that the same definition is stored the same."""

from __future__ import annotations

import copy

import pytest
from google.protobuf import text_format
from google.protobuf.struct_pb2 import Value
from hypothesis import given
from hypothesis import strategies as st
from service_harness import START_MS, interval_job, manual_job, once_job

from horologe.node import schedule
from horologe.node.validation import complete_job
from horologe.v1 import job_pb2

NAME = "namespaces/default/jobs/tick"


def parsed(text: str) -> job_pb2.Job:
    """An interval job with the given fields (text format) on top."""
    return text_format.Merge(text, interval_job())


def violations(job: job_pb2.Job, now_ms: int = START_MS) -> dict[str, str]:
    return dict(complete_job(job, NAME, now_ms)[1])


def complete(job: job_pb2.Job, now_ms: int = START_MS) -> job_pb2.Job:
    completed, found = complete_job(job, NAME, now_ms)
    assert not found
    return completed


def test_defaults_are_written_out():
    job = complete(interval_job(60))
    assert text_format.MessageToString(job) == text_format.MessageToString(
        text_format.Parse(
            f"""
            name: "{NAME}"
            schedules {{ interval {{ every {{ seconds: 60 }} phase {{ seconds: {job.schedules[0].interval.phase.seconds} nanos: {job.schedules[0].interval.phase.nanos} }} }} }}
            action {{ shell {{ argv: "true" }} }}
            retry {{ max_attempts: 3 backoff: BACKOFF_EXPONENTIAL base {{ seconds: 5 }} factor: 2 cap {{ seconds: 3600 }} jitter: JITTER_FULL }}
            timeout {{ seconds: 3600 }}
            overlap: OVERLAP_POLICY_SKIP
            catchup: CATCHUP_POLICY_LATEST
            catchup_window {{ seconds: 60 }}
            on_lease_loss: LEASE_LOSS_POLICY_RETRY
            queue: "default"
            priority: 5
            grace {{ seconds: 10 }}
            queue_max: 1000
            """,  # noqa: E501 - the text form of a message
            job_pb2.Job(),
        )
    )


def test_the_phase_is_the_one_that_the_schedule_would_derive():
    job = interval_job(60)
    derived_ms = schedule.next_due_ms(job.schedules[0], START_MS, NAME)
    stored = complete(job)
    assert schedule.next_due_ms(stored.schedules[0], START_MS, "any other identity") == derived_ms
    assert 0 <= stored.schedules[0].interval.phase.ToMilliseconds() < 60_000


def test_values_of_the_caller_stay():
    job = parsed(
        "priority: 0 queue: 'q.1' timeout { nanos: 250000000 } grace { } overlap: OVERLAP_POLICY_ALLOW "
        "retry { max_attempts: 1 base { } cap { } backoff: BACKOFF_FIXED jitter: JITTER_NONE factor: 1 }"
    )
    stored = complete(job)
    assert stored.priority == 0
    assert stored.grace.ToMilliseconds() == 0
    assert stored.timeout.ToMilliseconds() == 250
    assert stored.retry == job.retry


def test_what_only_the_cluster_sets_is_ignored():
    job = parsed(
        "uid: 'x' etag: '5' state: STATE_PAUSED pause_reason: 'y' unfinished_execution_count: 3 create_time { }"
    )
    assert complete(job) == complete(interval_job())


def test_a_long_base_raises_the_cap_that_nobody_gave():
    assert complete(parsed("retry { base { seconds: 7200 } }")).retry.cap.seconds == 7200
    assert "job.retry.cap" in violations(parsed("retry { base { seconds: 20 } cap { seconds: 10 } }"))


def test_a_delay_becomes_an_instant():
    job = interval_job()
    job.schedules[0].once.delay.FromSeconds(90)
    stored = complete(job)
    assert stored.schedules[0].once.time.ToMilliseconds() == START_MS + 90_000
    assert not stored.schedules[0].once.HasField("delay")
    assert stored.catchup_window.seconds == 365 * 86_400


def test_an_instant_that_is_stored_already_may_have_passed():
    stored = complete(once_job(START_MS + 1000))
    again, found = complete_job(once_job(START_MS + 1000), NAME, START_MS + 9000, "job", stored.schedules)
    assert (again, found) == (stored, [])
    _, found = complete_job(once_job(START_MS + 2000), NAME, START_MS + 9000, "job", stored.schedules)
    assert [each.field for each in found] == ["job.schedules[0].once.time"]


cron_texts = st.sampled_from(["* * * * *", "0 2 * * *", "@daily", "*/5 8-18 * * mon-fri", "30 1 1,15 * *"])
seconds = st.integers(1, 366 * 86_400)


@given(cron_texts, st.sampled_from(["", "UTC", "Europe/Berlin"]), seconds, st.integers(0, 10**9))
def test_the_same_definition_is_stored_the_same_at_any_time_and_stays_as_it_is(expression, zone, every, later_ms):
    job = interval_job(every)
    cron = job.schedules.add().cron
    cron.expression, cron.time_zone = expression, zone
    stored = complete(job)
    assert complete(job, START_MS + later_ms) == stored
    assert complete(stored, START_MS + later_ms) == stored


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("priority: 10", "job.priority"),
        ("priority: -1", "job.priority"),
        ("queue: 'a b'", "job.queue"),
        ("queue: '.a'", "job.queue"),
        (f"queue: '{'q' * 65}'", "job.queue"),
        ("timeout { nanos: 99000000 }", "job.timeout"),
        ("timeout { seconds: 2592001 }", "job.timeout"),
        ("timeout { seconds: -5 }", "job.timeout"),
        ("timeout { seconds: 9223372036854775807 nanos: 2147483647 }", "job.timeout"),
        ("grace { seconds: 3601 }", "job.grace"),
        ("queue_max: 10001", "job.queue_max"),
        ("catchup_window { seconds: -1 }", "job.catchup_window"),
        ("retry { max_attempts: 101 }", "job.retry.max_attempts"),
        ("retry { max_attempts: -1 }", "job.retry.max_attempts"),
        ("retry { factor: 0.5 }", "job.retry.factor"),
        ("retry { factor: inf }", "job.retry.factor"),
        ("retry { factor: nan }", "job.retry.factor"),
        ("retry { base { seconds: 700000 } }", "job.retry.base"),
        ("retry { backoff: 9 }", "job.retry.backoff"),
        ("retry { jitter: 9 }", "job.retry.jitter"),
        ("overlap: 9", "job.overlap"),
        ("catchup: 9", "job.catchup"),
        ("on_lease_loss: 9", "job.on_lease_loss"),
        (f"description: '{'x' * 4097}'", "job.description"),
        ("labels { key: 'Team' value: 'x' }", "job.labels['Team']"),
        ("labels { key: '' value: 'x' }", "job.labels['']"),
        (f"labels {{ key: 'a' value: '{'x' * 257}' }}", "job.labels['a']"),
        (" ".join(f"labels {{ key: 'k{i}' value: '' }}" for i in range(65)), "job.labels"),
        ("execution_timeout { nanos: 1 }", "job.execution_timeout"),
        ("execution_timeout { seconds: -1 }", "job.execution_timeout"),
        ("retry { retry_window { nanos: 5 } }", "job.retry.retry_window"),
        ("retry { retry_on: 'timeout' retry_on: 'exit:' }", "job.retry.retry_on[1]"),
        ("retry { do_not_retry_on: 'http:600' }", "job.retry.do_not_retry_on[0]"),
        ("retry { " + "retry_on: 'lost' " * 51 + "}", "job.retry.retry_on"),
        ("schedules { manual { } }", "job.schedules[1]"),
        ("schedules { }", "job.schedules[1]"),
        ("schedules { cron { expression: '0 0 31 2 *' } }", "job.schedules[1].cron.expression"),
        ("schedules { cron { expression: '* * * * *' time_zone: 'Mars' } }", "job.schedules[1].cron.time_zone"),
        (" ".join(["schedules { interval { every { seconds: 1 } } }"] * 20), "job.schedules"),
    ],
)
def test_one_wrong_field(text, field):
    found = violations(parsed(text))
    assert list(found) == [field]
    assert len(found[field]) < 300


def test_every_wrong_field_is_told_at_once():
    found = violations(parsed("priority: 10 queue: ' ' retry { factor: 0.1 } schedules { }"))
    assert set(found) == {"job.priority", "job.queue", "job.retry.factor", "job.schedules[1]"}


def action(text: str) -> job_pb2.Job:
    job = interval_job()
    job.action.Clear()
    return text_format.Merge(f"action {{ {text} }}", job)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "job.action"),
        ("shell { }", "job.action.shell"),
        ("shell { argv: 'a' script: 'b' }", "job.action.shell"),
        ("shell { argv: '' }", "job.action.shell.argv[0]"),
        ("shell { argv: 'a' argv: 'b\\000c' }", "job.action.shell.argv[1]"),
        ("shell { argv: 'a' interpreter: 'sh' }", "job.action.shell.interpreter"),
        ("shell { script: 'a' interpreter: '' }", "job.action.shell.interpreter[0]"),
        ("shell { script: 'a\\000' }", "job.action.shell.script"),
        ("shell { argv: 'a' env { key: 'A=B' value: '' } }", "job.action.shell.env"),
        ("shell { argv: 'a' env { key: 'A' value: '\\000' } }", "job.action.shell.env['A']"),
        ("shell { argv: 'a' cwd: 'tmp' }", "job.action.shell.cwd"),
        ("shell { argv: 'a' success_codes: 256 }", "job.action.shell.success_codes[0]"),
        (f"shell {{ script: '{'x' * (256 << 10)}' }}", "job.action"),
        ("http { }", "job.action.http.url"),
        ("http { url: 'ftp://host/' }", "job.action.http.url"),
        ("http { url: 'host/path' }", "job.action.http.url"),
        ("http { url: 'http:///path' }", "job.action.http.url"),
        ("http { url: 'http://host:99999/' }", "job.action.http.url"),
        ("http { url: 'http://[::1/' }", "job.action.http.url"),
        ("http { url: 'http://host/a b' }", "job.action.http.url"),
        ("http { url: 'http://host/\\r\\nX: y' }", "job.action.http.url"),
        (f"http {{ url: 'http://host/{'x' * 9000}' }}", "job.action.http.url"),
        ("http { url: 'http://host/' method: 'GET /' }", "job.action.http.method"),
        ("http { url: 'http://host/' headers { key: 'A:' value: '' } }", "job.action.http.headers['A:']"),
        ("http { url: 'http://host/' headers { key: 'A' value: 'b\\r\\nC: d' } }", "job.action.http.headers['A']"),
        ("http { url: 'http://host/' expect: 99 }", "job.action.http.expect[0]"),
        ("sql { statement: 'SELECT 1' }", "job.action.sql.connection"),
        ("sql { connection: 'c' statement: ' ' }", "job.action.sql.statement"),
        ("http { url: 'https://a' method: 'TRACE' }", "job.action.http.method"),
        ("http { url: 'https://a' headers { key: 'Host' value: 'b' } }", "job.action.http.headers['Host']"),
        (
            "http { url: 'https://a' headers { key: 'horologe-job' value: 'b' } }",
            "job.action.http.headers['horologe-job']",
        ),
        (
            "http { url: 'https://a' headers { key: 'Idempotency-Key' value: 'b' } }",
            "job.action.http.headers['Idempotency-Key']",
        ),
        ("sql { connection: 'c' statement: 'SELECT\\000' }", "job.action.sql.statement"),
        ("python { }", "job.action.python.handler"),
        ("python { handler: 'a b' }", "job.action.python.handler"),
    ],
)
def test_a_wrong_action(text, field):
    found = violations(action(text))
    assert list(found) == [field]
    assert len(found[field]) < 300


@pytest.mark.parametrize(
    "text",
    [
        "shell { script: 'set -e\\necho hi' interpreter: 'bash' interpreter: '-eu' env { key: 'A_1' value: 'b\\nc' } cwd: '/' }",
        "http { url: 'https://[::1]:8443/path?q=%20#f' method: 'patch' headers { key: 'X-A' value: 'b\\tc' } expect: 204 }",
        "sql { connection: 'ware.house-1' statement: 'SELECT :a' parameters { fields { key: 'a' value { number_value: 1 } } } }",
        "python { handler: 'reports:daily' payload { string_value: 'x' } }",
    ],
)
def test_a_right_action(text):
    assert not violations(action(text))


def test_nothing_of_the_callers_is_changed():
    job = interval_job()
    before = copy.deepcopy(job)
    complete(job)
    assert job == before


def test_a_manual_job_has_a_window_too():
    assert complete(manual_job()).catchup_window.seconds == 60


@given(st.binary(max_size=200))
def test_no_bytes_can_break_it(raw):
    job = job_pb2.Job()
    try:
        job.ParseFromString(raw)
    except Exception:  # noqa: BLE001 - whatever protobuf refuses never comes to us
        return
    complete_job(job, NAME, START_MS)
    job.action.python.payload.CopyFrom(Value(null_value=0))
    complete_job(job, NAME, START_MS)
