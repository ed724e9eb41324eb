"""Queues, workers, cluster, audit, forecast and cron as pages: what they show, what they do, and what is not offered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from secure_harness import Role, SecureNode, bearer
from service_harness import FakeNode, interval_job
from web_harness import Browser, browser

from horologe.v1 import job_pb2, job_service_pb2, limit_service_pb2, pause_service_pb2

PAGES = ("/queues", "/workers", "/cluster", "/audit", "/forecast", "/forecast/spread", "/cron")
POSTS = {
    "/queues/pause": {"queue": "default"},
    "/queues/resume": {"queue": "default"},
    "/queues/settings": {"queue": "default", "count": "3"},
    "/workers/drain": {"worker": "w1"},
    "/cluster/transfer-leader": {},
    "/cluster/pause": {"scope": ""},
    "/cluster/resume": {"scope": ""},
}


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[FakeNode, Browser]]:
    """A node without security, and somebody who looks at it."""
    async with FakeNode(folder, members=("n1", "n2")).serve() as node, browser(node) as reader:
        yield node, reader


def cron_job(name: str, expression: str = "0 12 * * *") -> job_pb2.Job:
    job = interval_job(name=name)
    job.schedules[0].cron.expression = expression
    return job


def token_of(node: SecureNode, principal: str, namespace: str) -> str:
    """Of somebody who may look, and nothing else."""
    node.grant(principal, namespace, Role.ROLE_VIEWER)
    return node.token(principal)


async def put(node: FakeNode, *jobs: job_pb2.Job) -> None:
    await node.jobs.BatchCreateJobs(job_service_pb2.BatchCreateJobsRequest(jobs=jobs))


async def test_queues_are_paused_set_and_resumed(tmp_path: Path) -> None:
    async with opened(tmp_path) as (node, reader):
        assert "No queues yet" in (await reader.get("/queues")).text
        await put(node, interval_job(60, "tick"))
        node.fire(1)
        page = (await reader.get("/queues")).text
        assert "default" in page
        assert 'class="elapsed"' in page
        answer = await reader.post("/queues/pause", {"queue": "default", "reason": "<moving>"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/queues")
        page = (await reader.get("/queues")).text
        assert "&lt;moving&gt;" in page
        assert "/queues/resume" in page
        await reader.post("/queues/resume", {"queue": "default"})
        fields = {"queue": "default", "count": "10", "per": "0.5", "burst": "2", "aging": "0"}
        assert (await reader.post("/queues/settings", fields)).status_code == 303
        page = (await reader.get("/queues?edit=default")).text
        assert "burst 2" in page
        assert "strict" in page
        assert 'value="0.5"' in page
        await reader.post("/queues/settings", {"queue": "default"})
        page = (await reader.get("/queues")).text
        assert "burst" not in page
        assert "10 min" in page


async def test_what_is_no_number_is_said_at_its_field(tmp_path: Path) -> None:
    async with opened(tmp_path) as (node, reader):
        await put(node, interval_job(60, "tick"))
        await reader.get("/queues?edit=default")
        answer = await reader.post("/queues/settings", {"queue": "default", "count": "many", "aging": "-1"})
        assert answer.status_code == 400
        assert 'id="error-count"' in answer.text
        assert 'id="error-aging"' in answer.text
        assert 'value="many"' in answer.text


async def test_workers_are_drained(tmp_path: Path) -> None:
    async with opened(tmp_path) as (node, reader):
        assert "No workers are connected" in (await reader.get("/workers")).text
        await put(node, interval_job(60, "tick"))
        session = node.open_session("w<1>")
        node.fire(1, session)
        page = (await reader.get("/workers")).text
        assert "w&lt;1&gt;" in page
        assert "1 of 10" in page
        assert "data-confirm=" in page
        assert (await reader.post("/workers/drain", {"worker": "w<1>"})).status_code == 303
        page = (await reader.get("/workers")).text
        assert "draining" in page
        assert "/workers/drain" not in page


async def test_parts_come_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, reader):
        for path in ("/queues", "/workers", "/cluster", "/cron", "/forecast", "/forecast/spread"):
            part = (await reader.part(path)).text
            assert part.lstrip().startswith("<div id="), path
            assert "<html" not in part


async def test_the_cluster_its_pauses_and_limits(tmp_path: Path) -> None:
    async with opened(tmp_path) as (node, reader):
        await put(node, interval_job(60, "tick"))
        limit = limit_service_pb2.SetLimitRequest(name="namespaces/default/limits/database", max_running=5)
        await node.limits.SetLimit(limit)
        page = (await reader.get("/cluster")).text
        for text in ("n1", "n2", "0 of 5", "database", "horologe cluster add", "Neither the cluster"):
            assert text in page
        scope = {"scope": "namespaces/default", "reason": "a <b> move"}
        assert (await reader.post("/cluster/pause", scope)).status_code == 303
        page = (await reader.get("/cluster")).text
        assert "a &lt;b&gt; move" in page
        await reader.post("/cluster/resume", {"scope": "namespaces/default", "catchup": "yes"})
        listed = await node.pauses.ListPauses(pause_service_pb2.ListPausesRequest())
        assert not listed.pauses
        refused = await reader.post("/cluster/resume", {"scope": "namespaces/default"})
        assert refused.status_code == 409
        assert "SCOPE_NOT_PAUSED" in refused.text


async def test_leadership_is_handed_over(tmp_path: Path) -> None:
    async with opened(tmp_path) as (node, reader):
        page = (await reader.get("/cluster")).text
        assert '<option value="n2">' in page
        assert '<option value="n1">' not in page
        node.submitted.clear()
        real = node.context.submit

        def submit(inbox) -> None:
            real(inbox)
            node.leader = inbox.transfer_to or "n2"

        node.context.submit = submit
        assert (await reader.post("/cluster/transfer-leader", {"target": "n2"})).status_code == 303
        assert node.inboxes[-1].transfer_to == "n2"


async def test_the_audit_log_is_filtered(tmp_path: Path) -> None:
    async with SecureNode(tmp_path, insecure=False).serve() as node, browser(node, node.admin) as reader:
        ann = node.somebody("ann", Role.ROLE_EDITOR)
        for name in ("one", "two"):
            request = job_service_pb2.CreateJobRequest(job_id=name, job=interval_job())
            await node.jobs.CreateJob(request, metadata=ann)
        page = (await reader.get("/audit")).text
        assert "JobService.CreateJob" in page
        assert "horologe audit verify" in page
        assert page.index("jobs/two") < page.index("jobs/one"), "newest first"
        one = (await reader.get("/audit?object=namespaces/default/jobs/one&principal=ann&outcome=allowed")).text
        assert "jobs/two" not in one
        assert "jobs/one" in one
        assert "Nothing of that kind" in (await reader.get("/audit?outcome=refused&principal=ann")).text
        assert "Nothing of that kind" in (await reader.get("/audit?before=2001-01-01")).text
        wrong = await reader.get("/audit?from=yesterday")
        assert wrong.status_code == 400
        assert 'id="error-from"' in wrong.text


async def test_the_cron_playground(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, reader):
        page = (await reader.get("/cron")).text
        assert "Every 15 minutes" in page
        query = "expression=30+2+*+*+*&time_zone=Europe/Berlin&from=2027-03-27&dst_gap=run_after"
        page = (await reader.get(f"/cron?{query}")).text
        assert "At 02:30 (Europe/Berlin)" in page
        assert "2027-03-28T03:00:00+02:00" in page
        assert "moved: 02:30 does not exist" in page
        assert 'value="Europe/Berlin"' in page
        skipped = (await reader.part(f"/cron?{query}&dst_gap=skip".replace("&dst_gap=run_after", ""))).text
        assert "2027-03-28T" not in skipped
        wrong = await reader.part("/cron?expression=61+*+*+*+*")
        assert wrong.status_code == 200
        assert 'role="alert"' in wrong.text
        assert "outside 0 to 59" in wrong.text
        assert 'role="alert"' in (await reader.part("/cron?expression=&from=now")).text
        hostile = (await reader.part("/cron?expression=<script>&time_zone=<b>")).text
        assert "<script>" not in hostile
        assert "<b>" not in hostile


async def test_a_spike_is_shown_and_spread(tmp_path: Path) -> None:
    async with opened(tmp_path) as (node, reader):
        await put(node, *(cron_job(f"report-{n}") for n in range(20)))
        page = (await reader.get("/forecast")).text
        assert "20 starts" in page
        assert "0 12 * * *" in page
        assert '<a class="cut" href="/jobs/default/report-0">' in page
        page = (await reader.get("/forecast/spread")).text
        assert page.count('type="checkbox"') == 20
        changes = [f"namespaces/default/jobs/report-{n} 1" for n in range(15)]
        gone = "namespaces/default/jobs/report-19 7"
        await node.jobs.UpdateJob(
            job_service_pb2.UpdateJobRequest(
                job=job_pb2.Job(name="namespaces/default/jobs/report-0", description="new")
            )
        )
        answer = await reader.post("/forecast/spread", {"change": [*changes, gone]})
        assert answer.status_code == 200
        assert "14 jobs have" in answer.text
        assert "2 jobs were" in answer.text
        assert "changed by somebody else" in answer.text
        for number in (0, 1, 15):
            request = job_service_pb2.GetJobRequest(name=f"namespaces/default/jobs/report-{number}")
            job = (await node.jobs.GetJob(request)).job
            expected = "H 12 * * *" if number == 1 else "0 12 * * *"
            assert job.schedules[0].cron.expression == expected


async def test_nothing_to_spread(tmp_path: Path) -> None:
    async with opened(tmp_path) as (node, reader):
        await put(node, interval_job(60, "even"))
        assert "No minute has twice the average" in (await reader.get("/forecast?window=3h")).text
        assert "Nothing to spread" in (await reader.get("/forecast/spread")).text


async def test_a_forecast_that_takes_long_comes_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("horologe.node.forecast_service.WAIT_SECONDS", 0.0)
    async with opened(tmp_path) as (node, reader):
        await put(node, interval_job(60, "even"))
        for path in ("/forecast", "/forecast/spread"):
            page = (await reader.get(path)).text
            assert f'hx-get="{path}" hx-trigger="load delay:1s"' in page


async def test_a_viewer_is_offered_nothing_and_does_nothing(tmp_path: Path) -> None:
    async with SecureNode(tmp_path, insecure=False).serve() as node:
        await node.jobs.BatchCreateJobs(
            job_service_pb2.BatchCreateJobsRequest(jobs=[cron_job(f"report-{n}") for n in range(20)]),
            metadata=bearer(node.admin),
        )
        node.open_session()
        viewer = token_of(node, "vic", "*")
        async with browser(node, viewer) as reader:
            for path in PAGES:
                answer = await reader.get(path)
                assert answer.status_code == (403 if path == "/audit" else 200), path
                main = answer.text.partition("<main")[2].partition("</main>")[0]
                assert 'method="post"' not in main
                assert 'type="checkbox"' not in main
            for path, fields in POSTS.items():
                answer = await reader.post(path, fields)
                assert answer.status_code == 403, path
                assert "PERMISSION_DENIED" in answer.text
            request = job_service_pb2.GetJobRequest(name="namespaces/default/jobs/report-0")
            job = (await node.jobs.GetJob(request, metadata=bearer(node.admin))).job
            answer = await reader.post("/forecast/spread", {"change": [f"{job.name} {job.etag}"]})
            assert answer.status_code == 403
            assert "0 jobs have" in answer.text
            assert "may not" in answer.text


async def test_a_form_from_elsewhere_does_not_count(tmp_path: Path) -> None:
    async with opened(tmp_path) as (node, reader):
        await reader.get("/queues")
        commands = len(node.commands)
        for path, fields in (*POSTS.items(), ("/forecast/spread", {"change": "a 1"})):
            answer = await reader.post(path, {**fields, "csrf": "0" * 80})
            assert answer.status_code == 400, path
        assert len(node.commands) == commands


async def test_somebody_of_one_namespace_sees_its_part(tmp_path: Path) -> None:
    async with SecureNode(tmp_path, insecure=False).serve() as node:
        jobs = [cron_job("one"), cron_job("two"), cron_job("other", "0 9 * * *")]
        for job in jobs[:2]:
            job.name = job.name.replace("default", "shop")
        await node.jobs.BatchCreateJobs(job_service_pb2.BatchCreateJobsRequest(jobs=jobs), metadata=bearer(node.admin))
        sam = token_of(node, "sam", "shop")
        async with browser(node, sam) as reader:
            page = (await reader.get("/forecast")).text
            assert "0 12 * * *" in page
            assert 'value="shop"' in page
            assert (await reader.get("/forecast?namespace=default")).status_code == 403
            assert (await reader.get("/forecast?namespace=-")).status_code == 403
            assert "0 12 * * *" in (await reader.get("/forecast/spread")).text
            assert (await reader.get("/cluster")).status_code == 200
