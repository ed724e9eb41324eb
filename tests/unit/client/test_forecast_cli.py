"""`horologe forecast` against a fake node: what is asked for, shown, and changed."""

from __future__ import annotations

import json
from collections.abc import Callable

from fake_cluster import DUE, FakeCluster, failure
from typer.testing import Result

from horologe.client import Client
from horologe.v1 import forecast_service_pb2 as forecasts
from horologe.v1.cluster_service_pb2 import Member
from horologe.v1.job_pb2 import CronSchedule

Run = Callable[..., Result]


def forecast() -> forecasts.GetForecastResponse:
    found = forecasts.GetForecastResponse(
        start_time=DUE, start_counts=[1, 40, 0], total_count=41, peak_count=40, job_count=41, spike_total=3
    )
    found.left_out.add(reason=forecasts.LeftOut.REASON_ON_REQUEST, job_count=2)
    spike = found.spikes.add(start_time=DUE, start_count=40)
    spike.causes.add(schedule="0 2 * * *", job_count=30, start_count=30, jobs=["namespaces/default/jobs/a"])
    spike.causes.add(schedule="0 * * * *", job_count=10, start_count=10, jobs=["namespaces/default/jobs/b"])
    return found


def proposal(fake: FakeCluster) -> forecasts.ProposeSpreadResponse:
    found = forecasts.ProposeSpreadResponse(peak_before=40, peak_after=3, more_count=7)
    for name in ("one", "two"):
        job = fake.add_job(name)
        change = found.changes.add(job=job.name, etag=job.etag, before="0 2 * * *", after="H 2 * * *")
        change.schedules.add().cron.expression = "H 2 * * *"
    job = fake.add_job("three")
    change = found.changes.add(
        job=job.name, etag=job.etag, before="1,2 * * * *", after="1,2 * * * *, within 10 minutes"
    )
    change.jitter.FromSeconds(600)
    return found


def test_spikes_and_their_causes(fake: FakeCluster, run: Run) -> None:
    fake.forecast = forecast()
    lines = run("forecast", "--window", "6h", "--step", "5m", "--spikes", "1").stdout.splitlines()
    assert lines[0] == "41 starts of 41 jobs, at most 40 in one step"
    assert lines[1] == "not counted, or not in full: 2 (on_request)"
    assert lines[3].split() == ["START", "TIME", "STARTS", "SCHEDULE", "JOBS", "OF", "THEM", "SUCH", "AS"]
    assert lines[4].split() == ["2027-01-01T00:00:00.000Z", "40", "0", "2", "*", "*", "*", "30", "30", "a"]
    assert lines[5].split()[-3:] == ["10", "10", "b"]
    assert lines[6] == "and 2 more spikes"
    [request] = fake.requests("GetForecast")
    assert (request.parent, request.window.seconds, request.step.seconds) == ("namespaces/default", 21_600, 300)
    assert request.spike_count == 1


def test_all_of_it_for_programs(fake: FakeCluster, run: Run) -> None:
    fake.forecast = forecast()
    found = json.loads(run("forecast", "-A", "-o", "json").stdout)
    assert found["start_counts"] == [1, 40, 0]
    assert found["left_out"] == {"on_request": 2}
    assert found["spikes"][0]["causes"][1]["jobs"] == ["namespaces/default/jobs/b"]
    assert fake.requests("GetForecast")[0].parent == "namespaces/-"


def test_a_forecast_under_way_is_waited_for(fake: FakeCluster, run: Run) -> None:
    fake.failures["GetForecast"].append(failure("UNAVAILABLE", "FORECAST_UNDER_WAY", retry_after="10ms"))
    assert run("forecast").exit_code == 0
    assert len(fake.requests("GetForecast")) == 2


def test_a_proposal_changes_nothing(fake: FakeCluster, run: Run) -> None:
    fake.proposal = proposal(fake)
    result = run("forecast", "--spread", "--changes", "3")
    assert "H 2 * * *" in result.stdout
    assert "at most 40 starts in one step as it is, 3 with these changes" in result.stdout
    assert "7 more jobs could be spread" in result.stdout
    assert fake.requests("ProposeSpread")[0].change_count == 3
    assert not fake.requests("UpdateJob")


def test_a_proposal_is_applied_job_by_job(fake: FakeCluster, run: Run) -> None:
    fake.proposal = proposal(fake)
    fake.failures["UpdateJob"].append(failure("ABORTED", "ETAG_MISMATCH", "somebody was faster"))
    result = run("forecast", "--spread", "--apply", "--yes", "-o", "json")
    assert result.exit_code == 1, "not all of it was done"
    outcomes = {change["job"]: change["outcome"] for change in json.loads(result.stdout)["changes"]}
    assert outcomes.pop("namespaces/default/jobs/one") == "somebody was faster"
    assert set(outcomes.values()) == {"changed"}
    updates = fake.requests("UpdateJob")
    assert [list(update.update_mask.paths) for update in updates] == [["schedules"], ["schedules"], ["jitter"]]
    assert all(update.job.etag for update in updates)
    assert updates[2].job.jitter.seconds == 600


def test_what_makes_no_sense_is_refused(run: Run) -> None:
    assert run("forecast", "--apply").exit_code == 2
    assert run("forecast", "--window", "soon").exit_code == 2


def test_the_sdk_explains_cron(fake: FakeCluster) -> None:
    with Client(fake.address, insecure=True) as client:
        answer = client.explain_cron(CronSchedule(expression="H 2 * * *"), job="nightly")
    assert answer.description == "H 2 * * * of namespaces/default/jobs/nightly"


def test_members_say_how_they_stand(fake: FakeCluster, run: Run) -> None:
    member = Member(name="n1", role=Member.ROLE_LEADER)
    member.condition.version = "9.9"
    member.condition.revision = 123
    member.condition.clock_offset.FromMilliseconds(-250)
    fake.members = [member]
    header, row = run("cluster", "members", "--condition").stdout.splitlines()
    assert header.split()[-6:] == ["VERSION", "REVISION", "CLOCK", "OFFSET", "DISK", "FREE"]
    assert "9.9" in row
    assert "-250ms" in row
    [record] = json.loads(run("cluster", "members", "--condition", "-o", "json").stdout)
    assert record["revision"] == 123
    assert fake.requests("ListMembers")[0].with_condition
