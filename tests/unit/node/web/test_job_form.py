"""The form for jobs as a browser sees it: fields, job files, what is wrong with them, previews, and two who edit at once."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from service_harness import FakeNode, interval_job
from web_harness import Browser, browser

from horologe.node.web import job_fields, job_text
from horologe.v1 import job_pb2, job_service_pb2, secret_service_pb2

HERE = "/jobs/default/nightly"
FIELDS = {
    "as": "fields", "name": "nightly", "namespace": "default", "kind": "cron", "cron": "0 2 * * *", "dialect": "unix",
    "time_zone": "Europe/Berlin", "action": "shell", "argv": "echo\r\nhello world", "owner": "ann",
    "labels": "team=data\r\ntier = 1", "timeout": "5m", "attempts": "4", "priority": "7", "overlap": "queue_one",
    "catchup": "", "description": "A job", "queue": "",
}  # fmt: skip


async def stored(node: FakeNode) -> job_pb2.Job:
    request = job_service_pb2.GetJobRequest(name="namespaces/default/jobs/nightly")
    return (await node.jobs.GetJob(request)).job


async def create(node: FakeNode, job: job_pb2.Job | None = None) -> job_pb2.Job:
    request = job_service_pb2.CreateJobRequest(job_id="nightly", job=job or interval_job(3_600))
    return (await node.jobs.CreateJob(request)).job


def filled(page: str) -> dict[str, str]:
    """What the form of a page holds, as a browser would send it."""
    form = page[page.index('id="job-form"') : page.index("</form>", page.index('id="job-form"'))]
    fields: dict[str, str] = {}
    for tag in re.findall(r"<input[^>]*>", form):
        said = {name: html.unescape(value) for name, value in re.findall(r'(\w[\w-]*)="([^"]*)"', tag)}
        if said.get("type") != "radio" or tag.endswith(" checked>"):
            fields[said["name"]] = said.get("value", "")
    for name, value in re.findall(r'<textarea[^>]* name="(\w+)"[^>]*>\n(.*?)</textarea>', form, re.S):
        fields[name] = html.unescape(value)
    for name, options in re.findall(r'<select[^>]* name="(\w+)"[^>]*>(.*?)</select>', form, re.S):
        chosen = re.search(r'value="([^"]*)" selected', options) or re.search(r'value="([^"]*)"', options)
        fields[name] = chosen[1] if chosen else ""
    return fields


async def test_a_job_is_created_from_fields(node: FakeNode) -> None:
    async with browser(node) as reader:
        empty = filled((await reader.get("/new-job")).text)
        assert (empty["kind"], empty["action"], empty["dialect"]) == ("cron", "shell", "unix")
        made = await reader.post("/new-job", FIELDS)
        assert (made.status_code, made.headers["location"]) == (303, f"{HERE}?done=created")
        assert "The job was created." in (await reader.get(made.headers["location"])).text
        job = await stored(node)
        assert list(job.action.shell.argv) == ["echo", "hello world"]
        assert (job.schedules[0].cron.expression, job.schedules[0].cron.time_zone) == ("0 2 * * *", "Europe/Berlin")
        assert (dict(job.labels), job.owner) == ({"team": "data", "tier": "1"}, "ann")
        assert (job.timeout.seconds, job.retry.max_attempts, job.priority) == (300, 4, 7)
        assert job.overlap == job_pb2.OVERLAP_POLICY_QUEUE_ONE
        fields = {**filled((await reader.get("/new-job")).text), **FIELDS, "cron": "0 3 * * *"}
        taken = await reader.post("/new-job", fields)
        assert taken.status_code == 422
        assert 'id="error-name"' in taken.text
        again = await reader.post("/new-job", {**filled(taken.text), "name": "other"})
        assert again.headers["location"] == "/jobs/default/other?done=created"


async def test_mistakes_stand_at_their_fields(node: FakeNode) -> None:
    wrong = {
        "cron": "61 * * * *", "argv": "", "timeout": "soon", "labels": "nothing", "priority": "x", "overlap": "odd",
    }  # fmt: skip
    async with browser(node) as reader:
        await reader.get("/new-job")
        page = await reader.post("/new-job", {**FIELDS, **wrong})
        assert page.status_code == 422
        # The form's own come first: they would hide from the API what it has to say.
        for name in ("timeout", "labels", "priority", "overlap"):
            assert f'id="error-{name}"' in page.text, name
        assert filled(page.text)["cron"] == "61 * * * *", "what was filled in is still there"
        page = await reader.post("/new-job", {**FIELDS, "cron": "61 * * * *", "argv": "", "time_zone": "Moon/Sea"})
        assert page.status_code == 422
        for name in ("cron", "argv", "time_zone"):
            assert f'id="error-{name}"' in page.text, name
        for fields, name in (
            ({"name": "Not A Name"}, "name"),
            ({"name": ""}, "name"),
            ({"kind": "every", "every": "1 parsec"}, "every"),
            ({"kind": "at", "at": "tomorrow"}, "at"),
            ({"kind": "odd"}, "kind"),
            ({"kind": "after", "after": ""}, "after"),
            ({"action": "http", "url": "nowhere"}, "url"),
            ({"action": "sql", "connection": "", "statement": "select 1"}, "connection"),
            ({"action": "python", "handler": "h", "payload": "{"}, "payload"),
            ({"action": "odd"}, "action"),
        ):
            page = await reader.post("/new-job", {**FIELDS, **fields})
            assert page.status_code == 422, fields
            assert f'id="error-{name}"' in page.text or "field-error" in page.text, fields


SHAPES: dict[str, dict[str, Any]] = {
    "every": {"kind": "every", "every": "15m"},
    "at": {"kind": "at", "at": "2027-03-01T12:00:00Z"},
    "delay": {"kind": "delay", "delay": "10s"},
    "manual": {"kind": "manual"},
    "http": {"action": "http", "method": "POST", "url": "https://a.example/x", "headers": "X-A: b", "body": "{}"},
    "sql": {"action": "sql", "connection": "shop", "statement": "select :a", "parameters": '{"a": 1}'},
    "python": {"action": "python", "handler": "send", "payload": "[1, null]"},
    "script": {"argv": "", "script": "echo 1\r\necho 2\r\n"},
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_what_was_filled_in_comes_back(node: FakeNode, shape: str) -> None:
    """Saved unchanged, the form changes nothing."""
    async with browser(node) as reader:
        await reader.get("/new-job")
        assert (await reader.post("/new-job", {**FIELDS, **SHAPES[shape]})).status_code == 303
        before = await stored(node)
        fields = filled((await reader.get(f"{HERE}/edit")).text)
        saved = await reader.post(f"{HERE}/edit", fields)
        assert saved.headers["location"] == f"{HERE}?done=changed"
        after = await stored(node)
        assert job_text.to_yaml(after) == job_text.to_yaml(before)


async def test_what_has_no_field_stays(node: FakeNode) -> None:
    job = interval_job(3_600)
    job.schedules[0].interval.phase.FromSeconds(77)
    job.action.shell.env["A"] = "b"
    job.max_running = 3
    job.retry.do_not_retry_on.append("exit:3")
    await create(node, job)
    async with browser(node) as reader:
        fields = filled((await reader.get(f"{HERE}/edit")).text)
        assert (await reader.post(f"{HERE}/edit", {**fields, "owner": "bob"})).status_code == 303
    after = await stored(node)
    assert (after.owner, after.max_running, after.action.shell.env["A"]) == ("bob", 3, "b")
    assert after.schedules[0].interval.phase.seconds == 77
    assert list(after.retry.do_not_retry_on) == ["exit:3"]


async def test_a_job_file_is_edited_as_text(node: FakeNode) -> None:
    job = interval_job(3_600)
    job.schedules.add().cron.expression = "0 5 * * *"
    await create(node, job)
    async with browser(node) as reader:
        page = (await reader.get(f"{HERE}/edit")).text
        fields = filled(page)
        assert fields["as"] == "yaml", "two schedules have no fields"
        assert "As fields" not in page
        text = fields["yaml"]
        assert "cron: 0 5 * * *" in text
        wrong = await reader.post(f"{HERE}/edit", {**fields, "yaml": text.replace("0 5 * * *", "0 99 * * *")})
        assert wrong.status_code == 422
        assert re.search(r"line \d: schedules\[1\]\.cron\.expression", html.unescape(wrong.text))
        unknown = await reader.post(f"{HERE}/edit", {**fields, "yaml": f"{text}\nodd: 1\n"})
        assert "unknown key" in html.unescape(unknown.text)
        renamed = await reader.post(f"{HERE}/edit", {**fields, "yaml": text.replace("nightly", "other")})
        assert (renamed.status_code, "keeps its name" in renamed.text) == (422, True)
        many = await reader.post(f"{HERE}/edit", {**fields, "yaml": f"{text}---\n{text.replace('nightly', 'b')}"})
        assert "there are 2 jobs in it" in many.text
        assert "too many" in (await reader.post(f"{HERE}/edit", {**fields, "yaml": "#" * 300_001})).text
        saved = await reader.post(f"{HERE}/edit", {**fields, "yaml": f"{text}owner: eve\n".replace("\n", "\r\n")})
        assert saved.status_code == 303
        assert (await stored(node)).owner == "eve"


async def test_from_fields_to_text(node: FakeNode) -> None:
    async with browser(node) as reader:
        await reader.get("/new-job")
        page = await reader.post("/new-job", {**FIELDS, "switch": "yaml"})
        fields = filled(page.text)
        assert fields["as"] == "yaml"
        assert "hello world" in fields["yaml"]
        assert (await reader.post("/new-job", fields)).status_code == 303
        assert (await stored(node)).owner == "ann"
        started = filled((await reader.get("/new-job?as=yaml&namespace=shop")).text)
        assert "namespace: shop" in started["yaml"]


async def test_two_who_edit_at_once(node: FakeNode) -> None:
    await create(node)
    async with browser(node) as reader:
        fields = filled((await reader.get(f"{HERE}/edit")).text)
        theirs = job_pb2.Job(name="namespaces/default/jobs/nightly", owner="<b>eve</b>", max_running=4)
        await node.jobs.UpdateJob(job_service_pb2.UpdateJobRequest(job=theirs))
        conflict = await reader.post(f"{HERE}/edit", {**fields, "queue": "gpu"})
        assert conflict.status_code == 409
        assert "Somebody else has changed nightly" in conflict.text
        assert "+ owner: &lt;b&gt;eve" in conflict.text
        assert "- owner: &lt;b&gt;eve" in conflict.text, "saving would take it back"
        assert "+ queue: gpu" in conflict.text
        assert (await stored(node)).queue == "default"
        form = conflict.text[conflict.text.index('action="/jobs/default/nightly/edit"') :]
        kept = {
            name: html.unescape(value)
            for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form)
        }
        assert (await reader.post(f"{HERE}/edit", {**kept, "csrf": reader.proof})).status_code == 303
        after = await stored(node)
        assert (after.queue, after.owner, after.max_running) == ("gpu", "", 4)


async def preview(reader: Browser, **fields: str) -> str:
    answer = await reader.post("/new-job/preview", {**FIELDS, **fields}, headers={"hx-request": "true"})
    assert answer.status_code == 200
    return html.unescape(answer.text)


async def test_the_next_times_are_shown_while_one_types(node: FakeNode) -> None:
    async with browser(node) as reader:
        await reader.get("/new-job")
        part = await preview(reader, name="")
        assert "<html" not in part
        assert part.count("+0100") == 10
        assert "Europe/Berlin" in part
        assert "expression" in await preview(reader, cron="61 * * * *") or "61" in await preview(
            reader, cron="61 * * * *"
        )
        assert "error box" in await preview(reader, cron="61 * * * *")
        assert "error box" in await preview(reader, kind="every", every="soon")
        assert "On request only" in await preview(reader, kind="manual")
        assert (await preview(reader, kind="every", every="1h")).count("<time") == 10
        text = "name: x\nschedule: {cron: '0 4 * * *'}\naction: {shell: {argv: ['true']}}\n"
        assert "04:00" in await preview(reader, **{"as": "yaml", "yaml": text})
        assert "error box" in await preview(reader, **{"as": "yaml", "yaml": "- - -"})


async def test_secrets_are_named_only(node: FakeNode) -> None:
    secret = secret_service_pb2.SetSecretRequest(name="namespaces/default/secrets/db", value=b"hunter2")
    await node.secrets.SetSecret(secret)
    async with browser(node) as reader:
        page = (await reader.get("/new-job")).text
        assert "<code>db</code>" in page
        assert "hunter2" not in page


def test_bodies_that_are_no_text_have_no_field() -> None:
    job = interval_job()
    job.name = "namespaces/default/jobs/a"
    job.action.http.body = b"\xff\xfe"
    assert job_fields.to_fields(job) is None
    job.action.workflow.SetInParent()
    assert job_fields.to_fields(job) is None
