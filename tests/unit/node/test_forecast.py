"""Forecasts: the same as asking every job's timetable, whatever their schedules, over changes of clocks too."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from service_harness import FakeNode, interval_job, manual_job, refused

from horologe.log.v1 import log_pb2
from horologe.node import forecast_service, views
from horologe.node.calendars import exclusions_of
from horologe.node.cron import compile_rule
from horologe.node.due_patterns import MINUTE_MS, Window, cron_pattern
from horologe.node.forecast import Forecast, Survey
from horologe.node.schedule import cron_rule
from horologe.node.spread import hashed, spread_of
from horologe.node.timetable import Timetable, timetable_of
from horologe.v1 import calendar_service_pb2, forecast_service_pb2, job_pb2, job_service_pb2

Api = forecast_service_pb2
Reason = Api.LeftOut
DAY = 24 * 60
WINTER = "2027-01-15T08:00:00+00:00"
GAP, OVERLAP = "2027-03-27T20:00:00+00:00", "2027-10-30T20:00:00+00:00"
"""Evenings before clocks move in Berlin."""
EXPRESSIONS = (
    "0 2 * * *", "30 2 * * *", "*/5 * * * *", "7 * * * *", "15,45 1-4 * * *", "0 0 1 * *", "59 23 * * sun", "H H * * *",
    "H/10 * * * *", "0 0-6/2 * * 1-5", "@hourly", "20 3 L * *",
)  # fmt: skip
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")


def at_ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def cron_job(expression: str, zone: str = "", name: str = "", **policies: int) -> job_pb2.Job:
    job = interval_job(name=name)
    cron = job_pb2.CronSchedule(expression=expression, time_zone=zone, **policies)
    job.schedules[0].cron.CopyFrom(cron)
    return job


async def put(node: FakeNode, *jobs: job_pb2.Job) -> None:
    for number, job in enumerate(jobs):
        job.name = job.name or f"namespaces/default/jobs/job-{number}"
    await node.jobs.BatchCreateJobs(job_service_pb2.BatchCreateJobsRequest(jobs=jobs))


def survey(node: FakeNode, namespace: str = "") -> Forecast:
    now_ms = node.clock.now_ms
    window = Window(-(-now_ms // MINUTE_MS) * MINUTE_MS, DAY)
    found = Survey(node.store, namespace, window, now_ms)
    for _ in found.work():
        pass
    return found.forecast


def brute_force(node: FakeNode, window: Window) -> list[int]:
    """Asks each job's timetable for each of its starts."""
    counts = [0] * window.minutes
    with node.store.read() as tables:
        records = [log_pb2.JobRecord.FromString(bytes(raw)) for _, raw in tables.job.scan()]
        for record in records:
            timetable = timetable_of(record.job, exclusions_of(tables, record.job), record.schedule_time_ms)
            state = views.read_job_state(tables, record.id)
            due_ms: int | None = state.next_due_ms or None
            while due_ms is not None and due_ms < window.end_ms:
                fire_ms = timetable.fire_ms(due_ms)
                if window.start_ms <= fire_ms < window.end_ms:
                    counts[window.minute_of(fire_ms)] += 1
                due_ms = timetable.next_after(due_ms)
    return counts


@pytest.mark.parametrize("now", [WINTER, GAP, OVERLAP])
async def test_a_forecast_is_what_all_timetables_say(tmp_path: Path, now: str) -> None:
    dice = random.Random(now)
    async with FakeNode(tmp_path).serve() as node:
        node.clock.now_ms = at_ms(now) + 12_345
        calendar = calendar_service_pb2.SetCalendarRequest()
        calendar.calendar.name = "namespaces/default/calendars/nights"
        calendar.calendar.hours.add(to="06:00")
        await node.calendars.SetCalendar(calendar)
        jobs = []
        for number in range(120):
            job = dice.choice((_random_cron, _random_interval))(dice)
            job.name = f"namespaces/default/jobs/job-{number}"
            if dice.random() < 0.2:
                job.jitter.FromSeconds(dice.randrange(1, 7_200))
            if dice.random() < 0.1:
                job.calendars.append("nights")
                job.on_exclusion = dice.choice((0, job_pb2.EXCLUSION_POLICY_NEXT_OPEN))
            if dice.random() < 0.1:
                job.end_time.FromMilliseconds(node.clock.now_ms + dice.randrange(1, DAY) * MINUTE_MS)
            elif dice.random() < 0.1:
                job.start_time.FromMilliseconds(node.clock.now_ms + dice.randrange(1, DAY) * MINUTE_MS)
            if dice.random() < 0.1:
                job.schedules.append(_random_cron(dice).schedules[0])
            jobs.append(job)
        await put(node, *jobs)
        forecast = survey(node)
        assert list(forecast.counts) == brute_force(node, forecast.window)
        assert sum(forecast.counts) > 5_000
        assert not forecast.left_out


def _random_cron(dice: random.Random) -> job_pb2.Job:
    return cron_job(
        dice.choice(EXPRESSIONS), dice.choice(ZONES), dst_gap=dice.randrange(3), dst_overlap=dice.randrange(4)
    )


def _random_interval(dice: random.Random) -> job_pb2.Job:
    job = interval_job(dice.choice((1, 7, 45, 60, 61, 90, 100, 300, 3_600, 5_400, 86_400, 100_000)))
    if dice.random() < 0.3:
        job.schedules[0].interval.every.FromMilliseconds(dice.randrange(1_000, 10_000_000))
    return job


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("now", [WINTER, GAP, OVERLAP, "2027-04-03T14:00:00+00:00", "2027-10-02T15:00:00+00:00"])
@pytest.mark.parametrize("hours_before", [0, 5, 23, 26])
def test_a_cron_expression_over_a_change_of_clocks(zone: str, now: str, hours_before: int) -> None:
    window = Window(at_ms(now) - hours_before * 3_600_000, DAY)
    for expression in EXPRESSIONS:
        for gap in range(3):
            for overlap in range(4):
                cron = cron_job(expression, zone, dst_gap=gap, dst_overlap=overlap).schedules[0]
                pattern = cron_pattern(compile_rule(cron_rule(cron.cron, "name")), window)
                run = Timetable([cron], "name")
                expected, due_ms = [], run.next_after(window.start_ms - 1)
                while due_ms is not None and due_ms < window.end_ms:
                    expected.append(window.minute_of(due_ms))
                    due_ms = run.next_after(due_ms)
                assert list(pattern.minutes) == expected, (expression, zone, gap, overlap)


async def test_equal_schedules_are_laid_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    laid_out = []
    real = cron_pattern
    monkeypatch.setattr("horologe.node.forecast.cron_pattern", lambda *args: laid_out.append(args) or real(*args))
    async with FakeNode(tmp_path).serve() as node:
        await put(node, *(cron_job("0 2 * * *", "Europe/Berlin") for _ in range(300)))
        forecast = survey(node)
    assert len(laid_out) == 1
    assert max(forecast.counts) == 300
    assert [(group.text, group.count) for group in forecast.groups] == [("0 2 * * * Europe/Berlin", 300)]


async def test_what_is_not_foreseen_is_said(tmp_path: Path) -> None:
    async with FakeNode(tmp_path).serve() as node:
        fixed = interval_job()
        fixed.schedules[0].fixed_delay.delay.FromSeconds(600)
        paused = interval_job()
        paused.state = job_pb2.Job.STATE_PAUSED
        manual = manual_job()
        after = manual_job()
        after.schedules[0].after.jobs.append("job-0")
        ended = cron_job("* * * * *")
        ended.max_executions = 7
        await put(node, interval_job(3_600), fixed, paused, manual, after, ended)
        node.clock.now_ms += 1
        answer = await node.forecast.GetForecast(Api.GetForecastRequest(parent="namespaces/default"))
        assert {each.reason: each.job_count for each in answer.left_out} == {
            Reason.REASON_PAUSED: 1,
            Reason.REASON_ON_REQUEST: 1,
            Reason.REASON_AFTER_OTHERS: 1,
            Reason.REASON_AFTER_THEIR_END: 1,
        }
        # Each hour once; seven minutes of the one that ends, of which the first has begun.
        assert answer.total_count == 24 + 7
        assert answer.job_count == 2


async def test_jobs_of_a_paused_namespace_do_not_start(tmp_path: Path) -> None:
    async with FakeNode(tmp_path).serve() as node:
        await put(node, interval_job(60, "a"), interval_job(60, "b"))
        node.apply(log_pb2.Command(pause_scope=log_pb2.PauseScope(namespace="default", paused=True)))
        answer = await node.forecast.GetForecast(Api.GetForecastRequest(parent="namespaces/-"))
        assert answer.total_count == 0
        assert [(each.reason, each.job_count) for each in answer.left_out] == [(Reason.REASON_PAUSED, 2)]


async def test_a_namespace_of_many(tmp_path: Path) -> None:
    async with FakeNode(tmp_path).serve() as node:
        await put(node, interval_job(3_600, "a"), interval_job(3_600, "b"))
        other = interval_job(3_600)
        other.name = "namespaces/shop/jobs/a"
        await put(node, other)
        for parent, total in (("namespaces/-", 72), ("namespaces/shop", 24), ("namespaces/none", 0), ("", 48)):
            answer = await node.forecast.GetForecast(Api.GetForecastRequest(parent=parent))
            assert answer.total_count == total, parent


async def test_steps_and_window(tmp_path: Path) -> None:
    async with FakeNode(tmp_path).serve() as node:
        await put(node, *(cron_job("30 * * * *") for _ in range(5)))
        request = Api.GetForecastRequest()
        request.window.FromSeconds(3 * 3_600)
        request.step.FromSeconds(900)
        answer = await node.forecast.GetForecast(request)
        assert answer.start_time.ToMilliseconds() == node.clock.now_ms
        assert answer.start_counts == [0, 0, 5, 0] * 3
        assert (answer.total_count, answer.peak_count, answer.spike_total) == (15, 5, 3)
        assert [spike.start_count for spike in answer.spikes] == [5, 5, 5]
        for field, seconds in (("window", 30), ("window", 90_000), ("step", 61), ("step", 7_200), ("step", -60)):
            wrong = Api.GetForecastRequest()
            getattr(wrong, field).FromSeconds(seconds)
            refusal = await refused(node.forecast.GetForecast(wrong))
            assert field in refusal.fields
        assert (
            "spike_count" in (await refused(node.forecast.GetForecast(Api.GetForecastRequest(spike_count=-1)))).fields
        )


async def test_spikes_and_who_causes_them(tmp_path: Path) -> None:
    async with FakeNode(tmp_path).serve() as node:
        await put(
            node,
            *(cron_job("0 12 * * *") for _ in range(30)),
            *(cron_job("0 */6 * * *", name=f"quarter-{n}") for n in range(4)),
            *(interval_job(3_600, f"even-{n}") for n in range(20)),
        )
        answer = await node.forecast.GetForecast(Api.GetForecastRequest(spike_count=1))
        [spike] = answer.spikes
        assert spike.start_time.ToDatetime(UTC) == datetime(2027, 1, 15, 12, tzinfo=UTC)
        assert spike.start_count == answer.peak_count >= 34
        first, second = spike.causes[:2]
        assert (first.schedule, first.job_count, first.start_count) == ("0 12 * * *", 30, 30)
        assert list(first.jobs) == [f"namespaces/default/jobs/job-{n}" for n in range(10)]
        assert (second.schedule, second.job_count, second.start_count) == ("0 */6 * * *", 4, 4)


async def test_a_forecast_is_kept_for_a_while(tmp_path: Path) -> None:
    async with FakeNode(tmp_path).serve() as node:
        await put(node, cron_job("0 * * * *"))
        first = await node.forecast.GetForecast(Api.GetForecastRequest())
        await put(node, cron_job("0 * * * *", name="other"))
        assert await node.forecast.GetForecast(Api.GetForecastRequest()) == first
        node.clock.now_ms += 61_000
        later = await node.forecast.GetForecast(Api.GetForecastRequest())
        assert (first.total_count, later.total_count) == (24, 48)


async def test_whoever_asks_for_a_large_one_is_told_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast_service, "WAIT_SECONDS", 0.0)
    async with FakeNode(tmp_path).serve() as node:
        await put(node, interval_job(60, "a"))
        refusal = await refused(node.forecast.GetForecast(Api.GetForecastRequest()))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "FORECAST_UNDER_WAY")
        assert refusal.retry_ms
        monkeypatch.setattr(forecast_service, "WAIT_SECONDS", 10.0)
        assert (await node.forecast.GetForecast(Api.GetForecastRequest())).total_count == DAY


async def test_patience_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("horologe.node.forecast.LOOKS_MAX", 10)
    async with FakeNode(tmp_path).serve() as node:
        jittered, several = cron_job("0 * * * *", name="jittered"), cron_job("0 * * * *", name="several")
        jittered.jitter.FromSeconds(3_000)
        several.schedules.append(cron_job("5 * * * *").schedules[0])
        await put(node, jittered, several)
        answer = await node.forecast.GetForecast(Api.GetForecastRequest())
        assert [each.reason for each in answer.left_out] == [
            Reason.REASON_JITTER,
            Reason.REASON_TOO_MANY_DUE_TIMES,
        ]
        assert answer.total_count == 24


# Spreading


@pytest.mark.parametrize(
    ("expression", "dialect", "expected"),
    [
        ("0 2 * * *", 0, "H 2 * * *"),
        ("5 * * * mon", 0, "H * * * mon"),
        ("@daily", 0, "H 0 * * *"),
        ("@Hourly", 0, "H * * * *"),
        ("*/15 * * * *", 0, "H/15 * * * *"),
        ("3/20 * * * *", 0, "H/20 * * * *"),
        ("0,30 8 * * *", 0, "H/30 8 * * *"),
        ("30 0 2 * * ?", job_pb2.CronSchedule.DIALECT_QUARTZ, "30 H 2 * * ?"),
        ("0 2 * * *", job_pb2.CronSchedule.DIALECT_KUBERNETES, "H 2 * * *"),
        ("0 0 2 * * *", job_pb2.CronSchedule.DIALECT_UNIX_SECONDS_FIRST, "0 H 2 * * *"),
        ("*/7 * * * *", 0, ""),
        ("1,2,3 * * * *", 0, ""),
        ("* * * * *", 0, ""),
        ("0-10 * * * *", 0, ""),
        ("H 2 * * *", 0, ""),
    ],
)
def test_a_minute_becomes_a_hashed_one(expression: str, dialect: int, expected: str) -> None:
    assert hashed(job_pb2.CronSchedule(expression=expression, dialect=dialect)) == expected


def test_which_jobs_stay() -> None:
    for job in (interval_job(), manual_job(), cron_job("* * * * *"), cron_job("H 2 * * *")):
        assert spread_of(job) is None
    two = cron_job("0 2 * * *")
    two.schedules.append(two.schedules[0])
    assert spread_of(two) is None
    change = spread_of(cron_job("1,2,3 * * * *"))
    assert change is not None
    assert (change.jitter.seconds, len(change.schedules)) == (600, 0)
    phased = interval_job(300)
    phased.schedules[0].interval.phase.FromSeconds(0)
    change = spread_of(phased)
    assert change is not None
    assert not change.schedules[0].interval.HasField("phase")


async def test_what_is_proposed_is_what_comes_of_it(tmp_path: Path) -> None:
    async with FakeNode(tmp_path).serve() as node:
        phased = interval_job(3_600, "phased")
        phased.schedules[0].interval.phase.FromSeconds(0)
        await put(
            node,
            *(cron_job("0 2 * * *", "Europe/Berlin") for _ in range(100)),
            phased,
            cron_job("* * * * *", name="always"),
            interval_job(60, "even"),
        )
        proposal = await node.forecast.ProposeSpread(Api.ProposeSpreadRequest(parent="namespaces/default"))
        assert (proposal.peak_before, proposal.more_count) == (103, 0)
        assert proposal.peak_after < 20
        assert len(proposal.changes) == 101
        by_job = {change.job: change for change in proposal.changes}
        change = by_job["namespaces/default/jobs/job-7"]
        assert (change.before, change.after) == ("0 2 * * * Europe/Berlin", "H 2 * * * Europe/Berlin")
        for change in proposal.changes:
            job = job_pb2.Job(name=change.job, etag=change.etag, schedules=change.schedules)
            await node.jobs.UpdateJob(job_service_pb2.UpdateJobRequest(job=job))
        node.clock.now_ms += 61_000
        later = await node.forecast.GetForecast(Api.GetForecastRequest(parent="namespaces/default"))
        # The window has moved on by two minutes.
        assert list(later.start_counts[:-2]) == list(proposal.counts_after[2:])


async def test_an_even_load_is_left_alone(tmp_path: Path) -> None:
    async with FakeNode(tmp_path).serve() as node:
        await put(node, *(interval_job(60, f"even-{n}") for n in range(5)))
        proposal = await node.forecast.ProposeSpread(Api.ProposeSpreadRequest())
        assert not proposal.changes
        assert proposal.peak_before == proposal.peak_after == 5


async def test_a_proposal_is_bounded(tmp_path: Path) -> None:
    async with FakeNode(tmp_path).serve() as node:
        await put(
            node, *(cron_job("0 2 * * *") for _ in range(30)), *(cron_job("0 2 * * 6", name=f"s{n}") for n in range(7))
        )
        proposal = await node.forecast.ProposeSpread(Api.ProposeSpreadRequest(change_count=10))
        assert (len(proposal.changes), proposal.more_count) == (10, 27)
        wrong = Api.ProposeSpreadRequest(change_count=-1)
        assert "change_count" in (await refused(node.forecast.ProposeSpread(wrong))).fields
        assert {change.before for change in proposal.changes} == {"0 2 * * *"}
