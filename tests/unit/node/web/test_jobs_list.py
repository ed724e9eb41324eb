"""The list of jobs as a browser sees it: filters in the address, dots, pages, and what is done to many jobs at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from secure_harness import Role, SecureNode
from service_harness import FakeNode, interval_job
from web_harness import Browser, browser

from horologe.node.local_calls import LocalCalls
from horologe.raft.commands import Outcome
from horologe.v1 import job_pb2, job_service_pb2

HOSTILE = "<img src=x onerror=alert(1)>\u202e"


async def create(node: FakeNode, job_id: str, namespace: str = "default", **fields: object) -> str:
    job = interval_job(3_600)
    job.overlap = job_pb2.OVERLAP_POLICY_SKIP
    job.MergeFrom(job_pb2.Job(**fields))  # type: ignore[arg-type]
    request = job_service_pb2.CreateJobRequest(parent=f"namespaces/{namespace}", job_id=job_id, job=job)
    return (await node.jobs.CreateJob(request)).job.name


def listed(page: str) -> list[str]:
    """Names of the jobs, in the order of the page."""
    return re.findall(r'href="/jobs/[\w-]+/([\w-]+)"', page)


async def shown(reader: Browser, query: str) -> list[str]:
    answer = await reader.get(f"/jobs{query}")
    assert answer.status_code == 200, answer.text
    return listed(answer.text)


async def test_an_empty_list_says_what_to_do(node: FakeNode) -> None:
    async with browser(node) as reader:
        page = (await reader.get("/jobs")).text
        assert '<a href="/new-job">Make the first one</a>' in page
        assert "Nothing matches" in (await reader.get("/jobs?owner=nobody")).text


async def test_filters_are_in_the_address(node: FakeNode) -> None:
    await create(node, "nightly", owner="ann", labels={"team": "data"})
    await create(node, "report", owner="bob", queue="gpu", labels={"team": "web", "tier": "1"})
    await create(node, "fortnight", "shop", labels={"team": "data"})
    await node.jobs.PauseJob(job_service_pb2.PauseJobRequest(name="namespaces/default/jobs/report", reason="why not"))
    async with browser(node) as reader:
        for query, wanted in (
            ("", ["nightly", "report", "fortnight"]),
            ("?name=night", ["nightly", "fortnight"]),
            ("?name=night*", ["nightly"]),
            ("?namespace=shop", ["fortnight"]),
            ("?state=paused", ["report"]),
            ("?label=team=data", ["nightly", "fortnight"]),
            ("?label=team=web,tier=1", ["report"]),
            ("?owner=ann&namespace=default", ["nightly"]),
            ("?queue=gpu", ["report"]),
            ("?schedule=EVERY", ["nightly", "report", "fortnight"]),
            ("?schedule=0+2", []),
        ):
            assert await shown(reader, query) == wanted, query
        page = (await reader.get("/jobs?label=team%3Dweb&owner=bob")).text
        assert 'name="label" type="text" value="team=web"' in page
        assert "why not" in page
        for query in ("?state=odd", "?label=team", f"?owner={'o' * 300}", "?page=made-up"):
            assert (await reader.get(f"/jobs{query}")).status_code == 400, query


async def test_last_results_are_dots_with_words(node: FakeNode) -> None:
    name = await create(node, "nightly")
    session = node.open_session()
    node.complete(node.fire(1, session))
    node.complete(node.fire(1, session), Outcome.FAILED, retry_delay_ms=-2)
    node.fire(1, session)
    node.fire(1, session)
    async with browser(node) as reader:
        page = (await reader.get("/jobs")).text
        dots = re.findall(r'<li><a class="dot (\w+)" href="([^"]+)" title="([^"]+)"', page)
        assert [state for state, _, _ in dots] == ["completed", "failed", "running", "skipped"]
        assert dots[0][1] == "/executions/default/nightly/1"
        assert "overlap" in dots[3][2]
        assert dots[3][1].startswith("/jobs/default/nightly?at=2027-")
        why = (await reader.get(dots[3][1].replace("&amp;", "&"))).text
        assert "did not run" in why
        assert name in page


async def test_a_full_page_takes_few_calls(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    for position in range(50):
        await create(node, f"job-{position:02}")
    made: list[str] = []
    unary = LocalCalls.unary

    async def counted(calls: LocalCalls, path: str, *rest: Any) -> Any:
        made.append(path.rpartition("/")[2])
        return await unary(calls, path, *rest)

    monkeypatch.setattr(LocalCalls, "unary", counted)
    async with browser(node) as reader:
        assert len(listed((await reader.get("/jobs")).text)) == 50
    assert sorted(made) == ["ListJobs", "ListNamespaces", "WhoAmI"]


async def test_pages_keep_the_filters(node: FakeNode) -> None:
    for position in range(60):
        await create(node, f"job-{position:02}", owner="ann" if position % 10 else "bob")
    async with browser(node) as reader:
        first = (await reader.get("/jobs?owner=ann")).text
        assert len(listed(first)) == 50
        following = re.search(r'rel="next" href="([^"]+)"', first)
        assert following
        address = following[1].replace("&amp;", "&")
        assert "owner=ann" in address
        assert listed((await reader.get(address)).text) == ["job-56", "job-57", "job-58", "job-59"]
        assert len(first) < 300_000


async def test_what_people_wrote_is_shown_and_does_nothing(node: FakeNode) -> None:
    await create(node, "evil", owner=HOSTILE, labels={"x": HOSTILE}, description=HOSTILE)
    await node.jobs.PauseJob(job_service_pb2.PauseJobRequest(name="namespaces/default/jobs/evil", reason=HOSTILE))
    async with browser(node) as reader:
        for address in ("/jobs", "/jobs/default/evil", "/jobs/default/evil/versions", "/jobs/default/evil/edit"):
            page = (await reader.get(address)).text
            assert "<img" not in page, address
            if address != "/jobs/default/evil/edit" and "versions" not in address:
                assert "&lt;img" in page, address
                assert "[U+202E]" in page, address
        page = (await reader.get("/jobs", params={"name": HOSTILE, "label": f"x={HOSTILE}"})).text
        assert "<img" not in page
        proof = {"action": HOSTILE, "selected": HOSTILE}
        assert "<img" not in (await reader.post("/jobs/bulk", proof)).text
        page = (await reader.post("/jobs/bulk", {"action": "run", "selected": HOSTILE})).text
        assert "<img" not in page
        number = re.search(r'name="request_id" value="([^"]+)"', page)
        assert number
        fields = {"action": "run", "selected": HOSTILE, "confirmed": "yes", "request_id": number[1]}
        done = (await reader.post("/jobs/bulk", fields)).text
        assert "<img" not in done
        assert "0 started, 1 refused" in done


async def test_bulk_actions_ask_first_and_say_what_was_done(node: FakeNode) -> None:
    names = [await create(node, f"job-{letter}") for letter in "abc"]
    async with browser(node) as reader:
        await reader.get("/jobs")
        assert (await reader.post("/jobs/bulk", {"action": "pause"})).status_code == 400
        asked = (await reader.post("/jobs/bulk", {"action": "pause", "selected": names[:2]})).text
        assert "Pause 2 jobs?" in asked
        assert not any(job.state == job_pb2.Job.STATE_PAUSED for job in (await all_jobs(node)))
        number = re.search(r'name="request_id" value="([^"]+)"', asked)
        assert number
        fields = {
            "action": "pause", "selected": names[:2], "confirmed": "yes", "reason": "repairs", "request_id": number[1],
        }  # fmt: skip
        done = (await reader.post("/jobs/bulk", fields)).text
        assert "2 paused, 0 refused" in done
        assert [job.pause_reason for job in await all_jobs(node)] == ["repairs", "repairs", ""]
        # Sent twice, it is done once, and says the same.
        assert "2 paused, 0 refused" in (await reader.post("/jobs/bulk", fields)).text
        again = {**fields, "selected": names, "request_id": "6b2a4f0e-6d0f-4b5e-9d0a-0f1f6c0c7f11"}
        mixed = (await reader.post("/jobs/bulk", again)).text
        assert "1 paused, 2 refused" in mixed
        assert "JOB_PAUSED" in mixed
        run = {**again, "action": "run", "request_id": "6b2a4f0e-6d0f-4b5e-9d0a-0f1f6c0c7f12"}
        assert "/executions/default/job-a/1" in (await reader.post("/jobs/bulk", run)).text
        assert (await reader.post("/jobs/bulk", {**run, "request_id": "x"})).status_code == 400
        resume = {**again, "action": "resume", "request_id": "6b2a4f0e-6d0f-4b5e-9d0a-0f1f6c0c7f13"}
        assert "3 resumed, 0 refused" in (await reader.post("/jobs/bulk", resume)).text


async def test_selected_jobs_stay_selected_when_the_list_is_loaded_again(node: FakeNode) -> None:
    names = [await create(node, f"job-{letter}") for letter in "ab"]
    async with browser(node) as reader:
        part = (await reader.part(f"/jobs?owner=&selected={names[1]}")).text
        boxes = re.findall(r'<input type="checkbox"[^>]*>', part)
        assert [(" checked" in box) for box in boxes] == [False, True]
        assert 'hx-get="/jobs?owner="' in part


async def all_jobs(node: FakeNode) -> list[job_pb2.Job]:
    return list((await node.jobs.ListJobs(job_service_pb2.ListJobsRequest())).jobs)


@pytest.fixture
async def secure(tmp_path: Path):
    async with SecureNode(tmp_path, insecure=False).serve() as node:
        for namespace in ("blue", "red"):
            request = job_service_pb2.CreateJobRequest(
                parent=f"namespaces/{namespace}", job_id=f"{namespace}-job", job=interval_job(3_600)
            )
            await node.jobs.CreateJob(request, metadata=(("authorization", f"Bearer {node.admin}"),))
        node.grant("ann", "blue", Role.ROLE_VIEWER)
        node.grant("all", "*", Role.ROLE_VIEWER)
        node.grant("ed", "blue", Role.ROLE_EDITOR)
        yield node


async def test_one_sees_what_one_may_see(secure: SecureNode) -> None:
    async with browser(secure, secure.token("ann")) as ann:
        page = (await ann.get("/jobs")).text
        assert listed(page) == ["blue-job"]
        assert 'type="checkbox"' not in page
        assert "/new-job" not in page
        assert "/jobs/bulk" in page
        assert (await ann.get("/jobs?namespace=red")).status_code == 403
    async with browser(secure, secure.token("all")) as everybody:
        assert listed((await everybody.get("/jobs")).text) == ["blue-job", "red-job"]
    async with browser(secure, secure.token("ed")) as editor:
        page = (await editor.get("/jobs")).text
        assert 'value="run"' in page
        assert 'value="pause"' not in page
    async with browser(secure) as nobody:
        assert (await nobody.get("/jobs")).headers["location"].startswith("/sign-in")


async def test_what_one_may_not_do_is_refused(secure: SecureNode) -> None:
    async with browser(secure, secure.token("ann")) as ann:
        await ann.get("/jobs")
        fields = {
            "action": "run", "selected": "namespaces/blue/jobs/blue-job", "confirmed": "yes",
            "request_id": "6b2a4f0e-6d0f-4b5e-9d0a-0f1f6c0c7f12",
        }  # fmt: skip
        answer = (await ann.post("/jobs/bulk", fields)).text
        assert "0 started, 1 refused" in answer
        assert "PERMISSION_DENIED" in answer
        assert (await ann.post("/jobs/bulk", {**fields, "csrf": "x"})).status_code == 400
