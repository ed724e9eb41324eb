"""The page of a job as a browser sees it: what it is, why it did not run, its versions, and what is done to it from there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from secure_harness import Role, SecureNode, bearer
from service_harness import FakeNode, interval_job
from web_harness import Browser, browser

from horologe.node import paging
from horologe.raft.commands import Outcome
from horologe.v1 import job_pb2, job_service_pb2

NAME, HERE = "namespaces/default/jobs/nightly", "/jobs/default/nightly"
Requests = job_service_pb2


async def create(node: FakeNode, **fields: object) -> job_pb2.Job:
    job = job_pb2.Job(**fields)  # type: ignore[arg-type]
    if not job.schedules:
        job.MergeFrom(interval_job(3_600))
    if not job.action.WhichOneof("kind"):
        job.action.shell.argv.append("true")
    return (await node.jobs.CreateJob(Requests.CreateJobRequest(job_id="nightly", job=job))).job


async def stored(node: FakeNode) -> job_pb2.Job:
    return (await node.jobs.GetJob(Requests.GetJobRequest(name=NAME))).job


def cron_job() -> job_pb2.Job:
    job = job_pb2.Job()
    job.schedules.add().cron.expression = "0 2 * * *"
    job.schedules[0].cron.time_zone = "Europe/Berlin"
    return job


async def test_what_it_is_and_when_it_is_due(node: FakeNode) -> None:
    await create(node, schedules=cron_job().schedules, owner="ann", labels={"team": "data"}, description="A\nB")
    async with browser(node) as reader:
        answer = await reader.get(HERE)
        page = answer.text
        assert answer.status_code == 200
        assert "At 02:00 in Europe/Berlin" in page or "02:00" in page
        assert page.count("+0100</td>") == 10
        assert 'datetime="2027-01-16T01:00:00.000Z"' in page
        assert "cron: 0 2 * * *" in page
        assert "time_zone: Europe/Berlin" in page
        assert "3 attempts, exponential backoff" in page
        assert 'href="/jobs?label=team%3Ddata"' in page
        assert "No executions yet" in page
        assert "style=" not in page
        assert len(page) < 300_000
        assert (await reader.get("/jobs/default/nothing")).status_code == 404
        assert (await reader.get("/jobs/default/What%3F")).status_code == 400


async def some_history(node: FakeNode) -> None:
    """Completed, failed, running, and skipped because it runs."""
    await create(node, overlap=job_pb2.OVERLAP_POLICY_SKIP)
    session = node.open_session()
    node.complete(node.fire(1, session))
    node.complete(node.fire(1, session), Outcome.FAILED, retry_delay_ms=-2)
    node.fire(1, session)
    node.fire(1, session)


async def test_what_became_of_its_due_times(node: FakeNode) -> None:
    await some_history(node)
    async with browser(node) as reader:
        page = (await reader.get(HERE)).text
        links = re.findall(r'href="(/executions/default/nightly/\d)"', page)
        assert links[:3] == [f"/executions/default/nightly/{number}" for number in (3, 2, 1)]
        assert re.search(r'"figure">1</span> <span class="name">failed', page)
        row = re.search(r'<a href="([^"]+)" aria-label="Why, 2027', page)
        assert row
        for address in (row[1].replace("&amp;", "&"), f"{HERE}?at=", f"{HERE}?at=-1h"):
            explained = (await reader.get(address)).text
            assert re.search(r"<p[^>]*>[^<]*2027|did not run|not due", explained)
        assert "did not run" in (await reader.get(row[1].replace("&amp;", "&"))).text
        part = (await reader.part(f"{HERE}/why?at=what")).text
        assert "<html" not in part
        assert 'class="error box"' in part
        charts = [json.loads(found) for found in re.findall(r'"application/json">(.+?)</script>', page)]
        assert [len(chart["x"]) for chart in charts] == [2, 2], "when the third one started is not known yet"
        assert [series["label"] for series in charts[0]["series"]] == ["completed", "not completed"]
        assert "of the last 2: half within" in page


async def test_the_part_that_follows(node: FakeNode) -> None:
    await some_history(node)
    async with browser(node) as reader:
        part = (await reader.part(f"{HERE}/now")).text
        assert "<html" not in part
        assert f'hx-get="{HERE}/now" hx-trigger="sse:changed"' in part
        assert "/executions/default/nightly/3" in part


async def test_the_calendar_counts_days(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    await some_history(node)
    async with browser(node) as reader:
        part = (await reader.part(f"{HERE}/calendar")).text
        assert "<html" not in part
        assert "Fri 2027-01-15: 1 completed, 1 failed, 1 unfinished, 1 skipped" in part
        assert "✗" in part
        assert part.count("<rect") == 5 * 7 + 5, "five weeks, and this one until Friday"
        assert '<td class="nowrap">2027-01-15</td><td class="number">1</td>' in part
        assert "is counted" not in part
        assert "<html" in (await reader.get(f"{HERE}/calendar")).text
        monkeypatch.setattr(paging, "SCAN_ROWS_MAX", 1)
        assert "is counted" not in (await reader.part(f"{HERE}/calendar")).text, "four calls count four due times"
        node.fire(1)
        assert "is counted" in (await reader.part(f"{HERE}/calendar")).text


async def test_run_pause_and_resume(node: FakeNode) -> None:
    await create(node)
    async with browser(node) as reader:
        page = (await reader.get(HERE)).text
        number = re.search(r'name="request_id" value="([^"]+)"', page)
        assert number
        run = {"request_id": number[1]}
        for _ in range(2):
            ran = await reader.post(f"{HERE}/run", run)
            assert (ran.status_code, ran.headers["location"]) == (303, "/executions/default/nightly/1")
        refused = await reader.post(f"{HERE}/run")
        assert (refused.status_code, "OVERLAP" in refused.text) == (409, True)
        forced = await reader.post(f"{HERE}/run", {"force": "yes"})
        assert forced.headers["location"] == "/executions/default/nightly/2"
        paused = await reader.post(f"{HERE}/pause", {"reason": "<b>repairs</b>"})
        assert paused.headers["location"] == f"{HERE}?done=paused"
        page = (await reader.get(paused.headers["location"])).text
        assert "The job was paused." in page
        assert "&lt;b&gt;repairs" in page
        assert "/resume" in page
        assert (await stored(node)).pause_reason == "<b>repairs</b>"
        again = await reader.post(f"{HERE}/pause")
        assert (again.status_code, "JOB_PAUSED" in again.text) == (409, True)
        assert (await reader.post(f"{HERE}/resume", {"catchup": "yes"})).status_code == 303
        assert (await stored(node)).state == job_pb2.Job.STATE_ACTIVE
        assert "<script>" not in (await reader.get(f"{HERE}?done=<script>")).text


async def test_delete_asks_first(node: FakeNode) -> None:
    job = await create(node)
    async with browser(node) as reader:
        asked = (await reader.get(f"{HERE}/delete")).text
        assert "Delete nightly?" in asked
        assert f'name="etag" value="{job.etag}"' in asked
        await node.jobs.PauseJob(Requests.PauseJobRequest(name=NAME))
        late = await reader.post(f"{HERE}/delete", {"etag": "1234567"})
        assert (late.status_code, "ETAG_MISMATCH" in late.text) == (409, True)
        done = await reader.post(f"{HERE}/delete", {"etag": (await stored(node)).etag})
        assert done.headers["location"] == "/jobs?namespace=default"
        assert (await reader.get(HERE)).status_code == 404


async def test_versions_their_differences_and_going_back(node: FakeNode) -> None:
    job = await create(node)
    job.action.shell.argv[:] = ["echo", "<i>two</i>"]
    changed = (await node.jobs.UpdateJob(Requests.UpdateJobRequest(job=job))).job
    async with browser(node) as reader:
        page = (await reader.get(f"{HERE}/versions")).text
        assert f"From {job.etag} to {changed.etag}" in page
        assert '<span class="gone">- action.shell.argv' in page
        assert "&lt;i&gt;two" in page
        assert "<i>" not in page
        assert "No difference" in (await reader.get(f"{HERE}/versions?from={job.etag}&to={job.etag}")).text
        assert (await reader.get(f"{HERE}/versions?from=x")).status_code == 400
        revert = {"to": job.etag, "etag": "1"}
        assert (await reader.post(f"{HERE}/revert", revert)).status_code == 409
        done = await reader.post(f"{HERE}/revert", {**revert, "etag": changed.etag})
        assert done.headers["location"] == f"{HERE}?done=reverted"
        assert list((await stored(node)).action.shell.argv) == ["true"]
        assert (await reader.post(f"{HERE}/revert", {"to": "x"})).status_code == 400


async def test_a_backfill_is_counted_first(node: FakeNode) -> None:
    await create(node)
    async with browser(node) as reader:
        assert "Count only" in (await reader.get(f"{HERE}/backfill")).text
        wrong = await reader.post(f"{HERE}/backfill", {"start_time": "soon", "only": "odd", "max_running": "x"})
        assert wrong.status_code == 422
        assert wrong.text.count('aria-invalid="true"') == 4
        fields = {
            "start_time": "2027-01-14T00:00:00Z", "end_time": "2027-01-14T05:00:00Z", "only": "missing",
            "order": "forwards", "max_running": "2",
        }  # fmt: skip
        counted = await reader.post(f"{HERE}/backfill", fields)
        assert "Run 5 executions" in counted.text
        assert (await reader.post(f"{HERE}/backfill", {**fields, "max_running": "100000"})).status_code == 422
        begun = await reader.post(f"{HERE}/backfill", {**fields, "begin": "yes"})
        assert "has begun" in begun.text
        assert "horologe operation get 1" in begun.text


@pytest.fixture
async def secure(tmp_path: Path):
    async with SecureNode(tmp_path, insecure=False).serve() as node:
        for role, name in ((Role.ROLE_VIEWER, "vic"), (Role.ROLE_EDITOR, "ed"), (Role.ROLE_OPERATOR, "op")):
            node.grant(name, "default", role)
        request = Requests.CreateJobRequest(job_id="nightly", job=interval_job(3_600))
        await node.jobs.CreateJob(request, metadata=bearer(node.admin))
        yield node


FORMS = ("run", "pause", "resume", "revert", "delete", "backfill", "edit")
FIELDS = {
    "to": "3", "start_time": "-1d", "end_time": "-1h", "kind": "manual", "action": "shell", "argv": "true", "name": "nightly",
}  # fmt: skip


def offered(page: str) -> set[str]:
    return {form for form in FORMS if f'{HERE}/{form}"' in page}


async def refusals(reader: Browser) -> dict[str, int]:
    await reader.get(HERE)
    return {form: (await reader.post(f"{HERE}/{form}", FIELDS)).status_code for form in FORMS if form != "revert"}


async def test_a_viewer_is_offered_nothing_and_may_do_nothing(secure: SecureNode) -> None:
    async with browser(secure, secure.token("vic")) as viewer:
        page = (await viewer.get(HERE)).text
        assert offered(page) == set()
        assert "nightly" in page
        assert set((await refusals(viewer)).values()) == {403}
        refused = await viewer.post(f"{HERE}/run")
        assert "PERMISSION_DENIED" in refused.text
        assert "may not" in refused.text
        for form in FORMS:
            assert (await viewer.post(f"{HERE}/{form}", {"csrf": ""})).status_code == 400
        for address in ("/new-job", f"{HERE}/edit", f"{HERE}/delete", f"{HERE}/backfill"):
            assert (await viewer.get(address)).status_code == 403, address
        new = await viewer.post("/new-job", {**FIELDS, "name": "other"})
        assert new.status_code == 403
        assert (await viewer.post("/new-job", {"as": "yaml", "yaml": "name: x"})).status_code == 403


async def test_what_editors_and_operators_are_offered(secure: SecureNode) -> None:
    async with browser(secure, secure.token("ed")) as editor:
        assert offered((await editor.get(HERE)).text) == {"run", "delete", "backfill", "edit"}
        assert (await editor.post(f"{HERE}/edit", {**FIELDS, "etag": ""})).status_code == 303
        # The job is now the editor's own.
        assert "pause" in offered((await editor.get(HERE)).text)
        assert (await editor.post(f"{HERE}/pause")).status_code == 303
    async with browser(secure, secure.token("op")) as operator:
        assert offered((await operator.get(HERE)).text) == {"run", "resume", "delete", "backfill", "edit"}
