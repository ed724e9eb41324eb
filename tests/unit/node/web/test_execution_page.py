"""The page of an execution: what it tells, what it offers to whom, and what it does."""

from __future__ import annotations

import json
import re

import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value
from runs_harness import HOSTILE, PARENT, apply_workflow, create, die, fail, printed, run
from secure_harness import Role, SecureNode, bearer
from web_harness import browser

from horologe.node.web.execution_page import changed_payload, pretty
from horologe.node.web.view import FormError
from horologe.raft.commands import Outcome
from horologe.raft.model import ExecutionState
from horologe.v1 import job_service_pb2

PAGE = "/executions/default/tick/1"


def text_of(html: str) -> str:
    """What a reader sees of a page, in one line."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


async def test_it_tells_what_happened(node) -> None:
    await create(node, labels={"team": "a"})
    number = node.fire(1, node.open_session())
    fail(node, number, "no such table", retry_ms=5_000)
    node.clock.now_ms += 5_000
    async with browser(node) as reader:
        waiting = (await reader.get(PAGE)).text
        assert '<span class="badge scheduled">scheduled</span>' in waiting
        assert "next attempt" in waiting
        assert "no such table" in waiting
        assert 'class="span failed"' in waiting
        text = text_of(waiting)
        for told in ("Timeline", "Attempts", "Story", "Output", "team=a", "attempt 1 given to w1"):
            assert told in text
        assert 'href="/jobs/default/tick?version=' in waiting
        assert "/executions?label=team%3Da" in waiting
        assert (await reader.part(PAGE)).text.count("<section") == 1


async def test_what_is_over_is_not_asked_for_again(node) -> None:
    await create(node)
    number = node.fire(1, node.open_session())
    async with browser(node) as reader:
        assert f'hx-get="{PAGE}"' in (await reader.get(PAGE)).text
        node.complete(number, exit_code=0, result=Value(string_value=HOSTILE))
        page = (await reader.get(PAGE)).text
        assert "sse:changed" not in page
        assert "Result" in page


async def test_hostile_texts_are_shown_as_what_they_are(node) -> None:
    await create(node, labels={"team": "x"})
    number = node.fire(1, node.open_session())
    output = f"\x1b[31m{HOSTILE}\n".encode()
    await printed(node, number, output, stream=2)
    fail(node, number, HOSTILE, output_nodes=["n1"], output_bytes=len(output))
    async with browser(node) as reader:
        page = (await reader.get(PAGE)).text
        log = (await reader.http.get(f"{PAGE}/log")).text
        for text in (page, log):
            assert "<script>alert" not in text
            assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
            assert "\u202e" not in text
            assert "\x07" not in text
            assert "U+202E" in text
        assert "\x1b" not in log
        assert '<span class="log-error"><b>err</b> ' in log
        assert "text/event-stream" in (await reader.http.get(f"{PAGE}/log")).headers["content-type"]
        policy = (await reader.get(PAGE)).headers["content-security-policy"]
        assert "script-src 'self'" in policy


async def test_no_page_is_large_whatever_was_written(node) -> None:
    worst = '"' * 4_096
    await create(node)
    number = node.fire(1, node.open_session())
    await printed(node, number, *[b'"' * 60_000] * 5)
    fail(node, number, worst, output_nodes=["n1"], output_bytes=300_000, result=Value(string_value='"' * 60_000))
    async with browser(node) as reader:
        for address in (PAGE, "/executions", "/dead-letters", "/dead-letters/default", f"{PAGE}/log"):
            answer = await reader.get(address)
            assert answer.status_code == 200
            assert len(answer.content) < 300_000, address
        assert len((await reader.get(f"{PAGE}/output")).content) == 300_000


async def test_output_that_nobody_keeps_any_more_is_no_error_of_the_page(node) -> None:
    await create(node)
    number = node.fire(1, node.open_session())
    node.complete(number, output_nodes=["n7"], output_bytes=11)
    async with browser(node) as reader:
        log = await reader.get(f"{PAGE}/log")
        assert log.status_code == 200
        assert "event: note\ndata: attempt 1 printed 11 bytes, and no node keeps them any more" in log.text
        assert log.text.endswith("event: end\ndata: end\n\n")
        assert (await reader.get(f"{PAGE}/output")).status_code == 404


async def test_its_number_alone_leads_to_it(node) -> None:
    await create(node)
    node.fire(1)
    async with browser(node) as reader:
        answer = await reader.http.get("/executions/-/-/1")
        assert (answer.status_code, answer.headers["location"]) == (303, PAGE)
        for address, status in (("/executions/default/tick/7", 404), ("/executions/default/tick/x", 400)):
            for path in (address, f"{address}/log", f"{address}/output", f"{address}/actions"):
                assert (await reader.get(path)).status_code == status, path


async def test_cancelling(node) -> None:
    await create(node)
    number = node.fire(1)
    async with browser(node) as reader:
        assert f'action="{PAGE}/cancel"' in (await reader.get(PAGE)).text
        answer = await reader.post(f"{PAGE}/cancel", {"reason": "enough"})
        assert (answer.status_code, answer.headers["location"]) == (303, PAGE)
        assert node.execution(number).state == ExecutionState.CANCELLED
        page = (await reader.get(PAGE)).text
        assert "enough" in page
        assert f"{PAGE}/cancel" not in page


async def test_forms_count_only_with_their_proof(node) -> None:
    await create(node)
    number = node.fire(1)
    async with browser(node) as reader:
        await reader.get(PAGE)
        for action in ("cancel", "run", "rerun", "redrive", "purge"):
            assert (await reader.http.post(f"{PAGE}/{action}", data={})).status_code == 400, action
        assert node.execution(number).state == ExecutionState.QUEUED


async def test_the_actions_come_anew_when_they_change(node) -> None:
    await create(node)
    number = node.fire(1)
    async with browser(node) as reader:
        page = (await reader.get(PAGE)).text
        address = re.search(rf'hx-get="({PAGE}/actions\?seen=[^"]+)"', page)[1]
        assert (await reader.part(address)).status_code == 204
        node.assign(number, node.open_session())
        node.complete(number, exit_code=0)
        answer = await reader.part(address)
        assert answer.status_code == 200
        assert f"{PAGE}/run" in answer.text
        assert f"{PAGE}/cancel" not in answer.text


async def test_running_again(node) -> None:
    await create(node)
    node.fire(1, node.open_session())
    node.complete(1, exit_code=0)
    async with browser(node) as reader:
        page = (await reader.get(PAGE)).text
        fields = {"request_id": re.search(r'name="request_id" value="([^"]+)"', page)[1]}
        first = await reader.post(f"{PAGE}/run", fields)
        again = await reader.post(f"{PAGE}/run", fields)
        assert first.headers["location"] == again.headers["location"] == "/executions/default/tick/2"


async def test_a_dead_letter_is_driven_again_with_another_payload(node) -> None:
    await create(node)
    number = die(node)
    async with browser(node) as reader:
        page = (await reader.get(PAGE)).text
        assert "Redrive with another payload" in page
        assert "/dead-letters/default?fingerprint=" in page
        refused = await reader.post(f"{PAGE}/redrive", {"payload": "{broken", "payload_before": "1"})
        assert (refused.status_code, "no JSON" in refused.text) == (400, True)
        await reader.get(PAGE)
        answer = await reader.post(f"{PAGE}/redrive", {"payload": '{"a": [1, null]}', "payload_before": '"x"'})
        assert answer.status_code == 303
        assert node.execution(number).state == ExecutionState.QUEUED
        redriven = node.commands[-1].redrive_dead_letter
        assert json_format.MessageToDict(redriven.payload) == {"a": [1, None]}


async def test_a_dead_letter_is_purged(node) -> None:
    await create(node)
    die(node)
    async with browser(node) as reader:
        assert f'action="{PAGE}/purge" data-confirm="' in (await reader.get(PAGE)).text
        assert (await reader.post(f"{PAGE}/purge")).status_code == 303
        page = (await reader.get(PAGE)).text
        assert f"{PAGE}/purge" not in page
        assert f"{PAGE}/redrive" not in page
        assert (await reader.post(f"{PAGE}/purge")).status_code == 404


async def test_a_node_of_a_run_leads_to_the_run_and_runs_again(node) -> None:
    await apply_workflow(node, {"a": (), "b": ("a",)})
    root = await run(node)
    node.assign(root + 1, node.open_session())
    node.complete(root + 1, Outcome.FAILED, retry_delay_ms=-1, error="e")
    async with browser(node) as reader:
        page = (await reader.get(f"/executions/default/a/{root + 1}")).text
        assert f'href="/workflows/default/etl?run={root}"' in page
        assert "Rerun this and all after it" in page
        answer = await reader.post(f"/executions/default/a/{root + 1}/rerun")
        assert answer.headers["location"] == f"/workflows/default/etl?run={root}"


async def test_a_deleted_job(node) -> None:
    await create(node)
    node.fire(1, node.open_session())
    node.complete(1, exit_code=0)
    await node.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(name=f"{PARENT}/jobs/tick"))
    async with browser(node) as reader:
        page = (await reader.get(PAGE)).text
        assert "is deleted" in page
        assert f"{PAGE}/run" not in page


# Rights


async def test_a_viewer_is_offered_nothing_and_may_do_nothing(tmp_path) -> None:
    async with SecureNode(tmp_path, insecure=False).serve() as node:
        await create(node)
        die(node)
        node.fire(1)
        node.grant("ann", "default", Role.ROLE_VIEWER)
        async with browser(node, node.token("ann")) as reader:
            for number in (1, 2):
                page = (await reader.get(f"/executions/default/tick/{number}")).text
                main = page.partition("<main")[2].partition("</main>")[0]
                assert "<form" not in main
                assert "Output" in main
                for action in ("cancel", "run", "rerun", "redrive", "purge"):
                    answer = await reader.post(f"/executions/default/tick/{number}/{action}")
                    assert answer.status_code == 403, action
                    assert "ann may not" in answer.text
        assert [node.execution(number).state for number in (1, 2)] == [ExecutionState.DEAD, ExecutionState.QUEUED]


async def test_what_is_offered_follows_rights(tmp_path) -> None:
    async with SecureNode(tmp_path, insecure=False).serve() as node:
        await create(node)
        node.fire(1)
        node.grant("ann", "default", 0, "job.read")
        node.grant("oscar", "default", Role.ROLE_OPERATOR)
        async with browser(node, node.token("ann")) as reader:
            page = (await reader.get(PAGE)).text
            assert "Download as text" not in page
            assert (await reader.get(f"{PAGE}/log")).status_code == 403
            assert (await reader.get(f"{PAGE}/output")).status_code == 403
        async with browser(node, node.token("oscar")) as reader:
            assert f"{PAGE}/cancel" in (await reader.get(PAGE)).text


async def test_owners_cancel_what_is_theirs(tmp_path) -> None:
    """Without the right to cancel what others run."""
    async with SecureNode(tmp_path, insecure=False).serve() as node:
        node.grant("eve", "default", Role.ROLE_EDITOR)
        node.grant("fay", "default", Role.ROLE_EDITOR)
        token = node.token("eve")
        job = job_service_pb2.CreateJobRequest(parent=PARENT, job_id="tick")
        job.job.schedules.add().manual.SetInParent()
        job.job.action.shell.script = "true"
        await node.jobs.CreateJob(job, metadata=bearer(token))
        await node.jobs.RunJob(job_service_pb2.RunJobRequest(name=f"{PARENT}/jobs/tick"), metadata=bearer(token))
        async with browser(node, node.token("fay")) as reader:
            assert f"{PAGE}/cancel" not in (await reader.get(PAGE)).text
            assert (await reader.post(f"{PAGE}/cancel")).status_code == 403
        async with browser(node, token) as reader:
            assert f"{PAGE}/cancel" in (await reader.get(PAGE)).text
            assert (await reader.post(f"{PAGE}/cancel")).status_code == 303


async def test_without_a_session_it_leads_to_the_sign_in(tmp_path) -> None:
    async with SecureNode(tmp_path, insecure=False).serve() as node, browser(node) as reader:
        for address in (PAGE, "/executions", "/dead-letters", "/workflows"):
            answer = await reader.get(address)
            assert (answer.status_code, answer.headers["location"]) == (303, f"/sign-in?next={address}")


# Payloads


def test_a_payload_that_was_not_changed_is_not_sent() -> None:
    before = pretty(json_format.ParseDict({"a": ["b"]}, Value()))
    assert changed_payload(before.replace("\n", "\r\n"), before) is None
    assert changed_payload("", before) is None
    assert changed_payload(None, before) is None
    assert json_format.MessageToDict(changed_payload("[1]", before)) == [1]


@pytest.mark.parametrize("text", ["{", "NaN", "[" * 100_000, '{"a": Infinity}'])
def test_a_payload_that_is_no_json(text) -> None:
    with pytest.raises(FormError, match="payload"):
        changed_payload(text, "")


def test_a_long_result_is_cut() -> None:
    text = pretty(Value(string_value="x" * 65_000))
    assert len(text) < 21_000
    assert json.loads(text.partition("\n")[0] + '"').startswith("x")
