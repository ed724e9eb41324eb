"""The API over HTTP, on a node's services: requests, answers, headers and errors."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from http_harness import JOB, create, http_client, problem
from secure_harness import Role, SecureNode
from service_harness import FakeNode, interval_job

from horologe.node.http import api
from horologe.v1 import job_service_pb2

JOBS = "/v1/namespaces/default/jobs"


@pytest.fixture
async def http(node: FakeNode):
    async with http_client(node) as client:
        yield client


async def test_a_job_is_created_read_changed_and_deleted(http: httpx.AsyncClient):
    made = await http.post(JOBS, params={"job_id": "a"}, json=JOB)
    assert made.status_code == 200
    assert made.headers["content-type"] == "application/json"
    assert made.headers["horologe-node"] == "n1"
    assert made.headers["cache-control"] == "no-store"
    job = made.json()["job"]
    assert job["name"] == "namespaces/default/jobs/a"
    assert job["state"] == "STATE_ACTIVE" and job["unfinished_execution_count"] == 0
    read = await http.get(f"{JOBS}/a")
    assert read.json()["job"] == job and isinstance(read.json()["revision"], int)
    listed = await http.get(JOBS, params={"page_size": 1})
    assert [each["name"] for each in listed.json()["jobs"]] == [job["name"]]
    changed = await http.patch(f"{JOBS}/a", params={"update_mask": "description"}, json={"description": "x"})
    assert changed.json()["job"]["description"] == "x"
    assert (await http.delete(f"{JOBS}/a")).status_code == 200
    problem(await http.get(f"{JOBS}/a"), 404, "JOB_NOT_FOUND")


async def test_what_was_done_over_grpc_is_the_same_over_http(http: httpx.AsyncClient, node: FakeNode):
    await node.jobs.CreateJob(job_service_pb2.CreateJobRequest(job_id="a", job=interval_job()))
    found = (await http.get(f"{JOBS}/a")).json()["job"]
    assert found["schedules"][0]["interval"]["every"] == "60s"
    assert found["next_due_time"].endswith("Z")


async def test_filters_are_parameters(http: httpx.AsyncClient):
    for name, team in (("a", "blue"), ("b", "red")):
        await create(http, name, labels={"team": team})
    for query, expected in (
        ({"labels[team]": "red"}, ["b"]),
        ({"name_prefix": "a", "state": "STATE_ACTIVE"}, ["a"]),
        ({"created_before": "2026-01-01T00:00:00Z"}, []),
    ):
        answer = await http.get(JOBS, params=query)
        assert [job["name"][-1] for job in answer.json()["jobs"]] == expected, answer.text
    states = [("states", "STATE_RUNNING"), ("states", "STATE_DEAD")]
    assert (await http.get(f"{JOBS}/-/executions", params=states)).json()["executions"] == []
    assert (
        await http.get("/v1/namespaces/default/deadLetters", params={"filter.fingerprint": "ab" * 8})
    ).status_code == 200


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("nothing=1", "no parameter 'nothing'"),
        ("page_size=many", "no whole number"),
        ("page_size=5000000000", "outside"),
        ("page_size=1&page_size=2", "more than once"),
        ("state=STATE_GONE", "none of STATE_UNSPECIFIED"),
        ("created_from=yesterday", "is not a time"),
        ("labels=x", "no parameter 'labels'"),
        ("owner[x]=1", "no parameter"),
        ("job.name=x", "no parameter"),
    ],
)
async def test_wrong_parameters_are_named(http: httpx.AsyncClient, query: str, words: str):
    assert words in problem(await http.get(f"{JOBS}?{query}"), 400, "INVALID_FIELD")["detail"]


@pytest.mark.parametrize(
    ("body", "reason", "words"),
    [
        (b"{", "INVALID_JSON", "is not JSON"),
        (b"\xff", "INVALID_JSON", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "INVALID_JSON", "is not JSON"),
        (b'{"owner": "a", "owner": "b"}', "INVALID_JSON", "twice"),
        (b'{"priority": NaN}', "INVALID_JSON", "no JSON"),
        (b'{"retry": {"factor": 1e999}}', "INVALID_JSON", "larger than any"),
        (b"[" * 100_000 + b"]" * 100_000, "INVALID_JSON", "inside each other"),
        (b"[" * 100 + b"]" * 100, "INVALID_JSON", "inside each other"),
        (b"", "INVALID_JSON", "the body is missing"),
        (b"null", "INVALID_FIELD", "null where an object"),
        (b"[]", "INVALID_FIELD", "a list where an object"),
        (b'{"retryPolicy": {}}', "INVALID_FIELD", "has no field 'retryPolicy'"),
        (b'{"pauseReason": ""}', "INVALID_FIELD", "did you mean pause_reason?"),
        (b'{"priority": "high"}', "INVALID_FIELD", "no whole number"),
        (b'{"priority": ' + b"9" * 5_000 + b"}", "INVALID_JSON", "larger than any"),
        (b'{"priority": ' + b"9" * 30 + b"}", "INVALID_FIELD", "outside"),
        (b'{"priority": true}', "INVALID_FIELD", "no whole number"),
        (b'{"owner": null}', "INVALID_FIELD", "null where a text"),
        (b'{"owner": "\\ud800"}', "INVALID_FIELD", "no Unicode text"),
        (b'{"\\ud800": 1}', "INVALID_FIELD", "has no field"),
        (b'{"labels": {"\\ud800": "x"}}', "INVALID_FIELD", "no Unicode text"),
        (b'{"timeout": 5}', "INVALID_FIELD", "is not a duration"),
        (b'{"timeout": "99999999999999s"}', "INVALID_FIELD", "is not a duration"),
        (b'{"timeout": "999999999999s"}', "INVALID_FIELD", "timeout"),
        (b'{"start_time": "2026-13-01T00:00:00Z"}', "INVALID_FIELD", "cannot be taken"),
        (b'{"schedules": {}}', "INVALID_FIELD", "an object where a list"),
        (b'{"schedules": [{"manual": {}, "once": {}}]}', "INVALID_FIELD", "manual is given too"),
        (b'{"overlap": 3}', "INVALID_FIELD", "none of OVERLAP"),
        (b'{"action": {"shell": {"stdin": "a secret!"}}}', "INVALID_FIELD", "not base64"),
        (b'{"action": {"python": {"payload": {"a": "\\ud800"}}}}', "INVALID_FIELD", "cannot be taken"),
        (b'{"name": "namespaces/other/jobs/a"}', "INVALID_FIELD", "name"),
    ],
)
async def test_wrong_bodies_are_refused_with_the_place(http: httpx.AsyncClient, body: bytes, reason: str, words: str):
    answer = await http.post(f"{JOBS}?job_id=a", content=body, headers={"content-type": "application/json"})
    assert words in problem(answer, 400, reason)["detail"]


async def test_all_that_is_wrong_is_listed(http: httpx.AsyncClient):
    answer = await http.post(f"{JOBS}?job_id=a&x=1", json={"priority": "x", "schedules": [{"cron": {"expression": 1}}]})
    fields = [each["field"] for each in problem(answer, 400, "INVALID_FIELD")["violations"]]
    assert fields == ["job.priority", "job.schedules[0].cron.expression", "query"]


async def test_what_a_service_refuses_has_its_fields(http: httpx.AsyncClient):
    answer = await http.post(f"{JOBS}?job_id=a", json={**JOB, "priority": 17})
    found = problem(answer, 400, "INVALID_FIELD")
    assert [each["field"] for each in found["violations"]] == ["job.priority"]
    assert found["type"] == "/docs#INVALID_FIELD" and found["title"] == "Invalid field"


async def test_media_types(http: httpx.AsyncClient):
    body = json.dumps(JOB).encode()
    for kind in ("text/plain", "", "application/json; charset=latin-1", "application/x-www-form-urlencoded"):
        answer = await http.post(f"{JOBS}?job_id=a", content=body, headers={"content-type": kind})
        problem(answer, 415, "UNSUPPORTED_MEDIA_TYPE")
    packed = {"content-type": "application/json", "content-encoding": "gzip"}
    problem(await http.post(f"{JOBS}?job_id=a", content=body, headers=packed), 415, "UNSUPPORTED_MEDIA_TYPE")
    good = {"content-type": "Application/JSON; charset=UTF-8"}
    assert (await http.post(f"{JOBS}?job_id=a", content=body, headers=good)).status_code == 200
    assert (await http.post(f"{JOBS}/a:run")).status_code == 200, "an empty request needs no body"


async def test_a_body_where_none_is(http: httpx.AsyncClient):
    await create(http, "a")
    answer = await http.request("DELETE", f"{JOBS}/a", json={"etag": "x"})
    problem(answer, 400, "INVALID_JSON")
    assert (await http.get(f"{JOBS}/a")).status_code == 200


async def test_a_large_body_is_refused_before_it_is_read(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(api, "BODY_BYTES_MAX", 2_000)
    asked = []

    async def body():
        for _ in range(100):
            asked.append(1)
            yield b" " * 1_000

    headers = {"content-type": "application/json"}
    problem(await http.post(f"{JOBS}?job_id=a", content=body(), headers=headers), 413, "BODY_TOO_LARGE")
    assert len(asked) <= 4
    length = {**headers, "content-length": "2001"}
    asked.clear()
    problem(await http.post(f"{JOBS}?job_id=a", content=body(), headers=length), 413, "BODY_TOO_LARGE")
    assert len(asked) <= 1
    large = {**JOB, "description": "x" * 1_500}
    assert (await http.post(f"{JOBS}?job_id=a", json=large)).status_code == 200


async def test_etags(http: httpx.AsyncClient):
    job = await create(http, "a")
    read = await http.get(f"{JOBS}/a")
    tag = read.headers["etag"]
    assert tag == f'W/"{job["etag"]}"'
    known = await http.get(f"{JOBS}/a", headers={"if-none-match": f'"other", {tag}'})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", tag)
    assert (await http.get(f"{JOBS}/a", headers={"if-none-match": '"other"'})).status_code == 200
    changed = await http.patch(f"{JOBS}/a", json={"description": "x"}, headers={"if-match": tag})
    assert changed.status_code == 200 and changed.headers["etag"] != tag
    late = await http.patch(f"{JOBS}/a", json={"description": "y"}, headers={"if-match": tag})
    problem(late, 412, "ETAG_MISMATCH")
    problem(await http.patch(f"{JOBS}/a", json={"description": "y", "etag": job["etag"]}), 409, "ETAG_MISMATCH")
    problem(await http.delete(f"{JOBS}/a", headers={"if-match": tag}), 412, "ETAG_MISMATCH")
    assert (await http.delete(f"{JOBS}/a", headers={"if-match": changed.headers["etag"]})).status_code == 200


@pytest.mark.parametrize(("header", "path"), [("x", JOBS + "/a"), ('"a", "b"', JOBS + "/a"), ('"a"', "/v1/queues/q")])
async def test_preconditions_that_cannot_be_kept(http: httpx.AsyncClient, header: str, path: str):
    problem(await http.patch(path, json={}, headers={"if-match": header}), 400, "INVALID_HEADER")


async def test_repeating_with_a_key(http: httpx.AsyncClient):
    key = {"idempotency-key": "5e2cd6fc-2a4f-4c0e-9d52-1c3f3e6f6c11"}
    first = await http.post(f"{JOBS}?job_id=a", json=JOB, headers=key)
    again = await http.post(f"{JOBS}?job_id=a", json=JOB, headers=key)
    assert first.status_code == again.status_code == 200
    assert first.json()["job"]["uid"] == again.json()["job"]["uid"]
    problem(await http.post(f"{JOBS}?job_id=b", json=JOB, headers=key), 400, "REQUEST_ID_REUSED")
    other = f"{JOBS}?job_id=a&request_id=5e2cd6fc-2a4f-4c0e-9d52-1c3f3e6f6c12"
    problem(await http.post(other, json=JOB, headers=key), 400, "INVALID_HEADER")


async def test_headers_of_reads(http: httpx.AsyncClient):
    await create(http, "a")
    assert (await http.get(f"{JOBS}/a", headers={"horologe-min-revision": "1"})).status_code == 200
    assert (await http.get(f"{JOBS}/a", headers={"horologe-read": "linearizable"})).status_code == 200
    problem(await http.get(f"{JOBS}/a", headers={"horologe-min-revision": "x"}), 400, "INVALID_FIELD")
    problem(await http.get(f"{JOBS}/a", headers={"horologe-read": "x"}), 400, "INVALID_FIELD")


async def test_waiting_helps_is_said(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("horologe.node.interceptors.BEHIND_WAIT_SECONDS_MAX", 0.01)
    answer = await http.get(JOBS, headers={"horologe-min-revision": "999999"})
    found = problem(answer, 503, "BEHIND")
    assert answer.headers["retry-after"] == "1" and found["retry_after_seconds"] == 0.2
    assert found["metadata"]["min_revision"] == "999999"


async def test_pages_of_other_sites_are_refused(http: httpx.AsyncClient):
    await create(http, "a")
    for origin in ("https://evil.example", "http://127.0.0.1:7701", "null"):
        problem(await http.post(f"{JOBS}/a:run", headers={"origin": origin}), 403, "CROSS_ORIGIN")
    own = await http.post(f"{JOBS}/a:run", headers={"origin": "http://127.0.0.1:7700"})
    assert own.status_code == 200
    assert "access-control-allow-origin" not in own.headers


async def test_methods(http: httpx.AsyncClient):
    answer = await http.put(f"{JOBS}/a")
    problem(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "DELETE, GET, PATCH"
    problem(await http.get("/v1/nothing"), 404, "PATH_NOT_FOUND")


async def test_a_defect_says_nothing_of_the_inside(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("horologe.node.http.etags.of_answer", lambda *_: 1 / 0)
    found = problem(await http.get(JOBS), 500, "INTERNAL")
    assert "division" not in found["detail"]


class TestWhoAsks:
    @pytest.fixture
    async def secure(self, tmp_path: Path):
        async with SecureNode(tmp_path, insecure=False).serve() as served:
            yield served

    async def test_a_token(self, secure: SecureNode):
        async with http_client(secure, secure.admin) as http:
            assert (await http.get("/v1/whoami")).json()["principal"] == "admin"

    async def test_nobody_and_somebody_who_is_not_known(self, secure: SecureNode):
        for token in ("", "hlg_AAAA_BBBB", "x.y.z"):
            async with http_client(secure, token) as http:
                for answer in (await http.get("/v1/whoami"), await http.post(JOBS, content=b"{")):
                    problem(answer, 401, "UNAUTHENTICATED")
                    assert answer.headers["www-authenticate"].startswith("Bearer")

    async def test_who_may_not_hears_that(self, secure: SecureNode):
        secure.grant("ann", "default", Role.ROLE_VIEWER)
        async with http_client(secure, secure.token("ann")) as http:
            problem(await http.post(f"{JOBS}?job_id=a", json=JOB), 403, "PERMISSION_DENIED")
        record = (await secure.denied())[-1]
        assert (record.principal, record.method) == ("ann", "JobService.CreateJob")

    async def test_the_session_of_a_browser_reads_and_writes_only_with_its_proof(self, secure: SecureNode):
        from horologe.node.web import view

        async with http_client(secure) as http:
            http.cookies.set(view.SECURE_COOKIE, secure.admin)
            assert (await http.get("/v1/whoami")).status_code == 200
            problem(await http.post(f"{JOBS}?job_id=a", json=JOB), 401, "UNAUTHENTICATED")
            salt = "0123456789abcdef"
            proof = {view.CSRF_HEADER: salt + view._csrf_proof(secure.admin, salt)}
            assert (await http.post(f"{JOBS}?job_id=a", json=JOB, headers=proof)).status_code == 200
