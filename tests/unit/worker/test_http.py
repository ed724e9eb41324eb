"""HTTP attempts: what is sent, what counts as success, and which addresses are out of reach."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from fake_gateway import JOB_NAME, FakeGateway, Result, Serve, Stream, assignment, definition

from horologe.client.executors.address_guard import AddressGuard
from horologe.client.executors.http import HttpExecutor, parse_retry_after
from horologe.client.worker import Worker
from horologe.v1 import job_pb2

Http = job_pb2.HttpAction


@dataclass
class Site:
    """A server that gives one answer and remembers the requests."""

    url: str = ""
    status: str = "200 OK"
    headers: str = ""
    body: bytes = b"hello\n"
    requests: list[str] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(line[15:]) for line in head.lower().splitlines() if line.startswith("content-length:")), 0)
        self.requests.append(head + (await reader.readexactly(length)).decode())
        lines = f"HTTP/1.1 {self.status}\r\nContent-Length: {len(self.body)}\r\n{self.headers}\r\n"
        writer.write(lines.encode() + self.body)
        try:
            await writer.drain()
        except ConnectionError:
            # The worker reads no more than its cap.
            pass
        finally:
            writer.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    server = await asyncio.start_server(site.answer, "127.0.0.1", 0)
    site.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield site
    server.close()
    await server.wait_closed()


async def run(
    gateway: FakeGateway, serve: Serve, action: Http, *, allow_loopback: bool = True, **limits: float
) -> tuple[Result, Stream]:
    worker = Worker(gateway.address, insecure=True, output_bytes_max=100_000)
    worker.add_executor("http", HttpExecutor(allow_loopback=allow_loopback))
    stream = await serve(worker)
    stream.assign(assignment(7, token=42, attempt=2), definitions=[definition(http=action, **limits)])
    (result,) = await stream.until_results()
    return result, stream


async def test_request_carries_the_attempt_and_its_answer_is_the_output(
    gateway: FakeGateway, serve: Serve, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    headers = {"X-Colour": "blue"}
    action = Http(method="POST", url=f"{site.url}/path?q=1", headers=headers, body=b"the body")
    result, stream = await run(gateway, serve, action)

    assert (result.outcome, result.http_status, stream.text()) == (Result.OUTCOME_SUCCEEDED, 200, "hello\n")
    (request,) = site.requests
    head, _, body = request.partition("\r\n\r\n")
    first, *lines = head.splitlines()
    sent = {name.lower(): text for name, text in (line.split(": ", 1) for line in lines)}
    assert (first, body) == ("POST /path?q=1 HTTP/1.1", "the body")
    assert sent["host"] == site.url.removeprefix("http://")
    assert {name: text for name, text in sent.items() if name.startswith(("horologe-", "idem", "x-"))} == {
        "idempotency-key": "c1-7",
        "horologe-job": JOB_NAME,
        "horologe-execution": f"{JOB_NAME}/executions/7",
        "horologe-attempt": "2",
        "horologe-due-time": "2027-01-01T00:00:00.250Z",
        "horologe-fencing-token": "42",
        "x-colour": "blue",
    }


async def test_a_trace_goes_on_with_the_request(gateway: FakeGateway, serve: Serve, site: Site) -> None:
    worker = Worker(gateway.address, insecure=True)
    worker.add_executor("http", HttpExecutor(allow_loopback=True))
    stream = await serve(worker)
    traced = assignment(7)
    traced.traceparent = f"00-{7:032x}-{9:016x}-01"
    stream.assign(traced, definitions=[definition(http=Http(url=site.url, headers={"traceparent": "the job's own"}))])
    await stream.until_results()
    lines = [line for line in site.requests[0].splitlines() if line.lower().startswith("traceparent:")]
    assert [line.partition(": ")[2] for line in lines] == [traced.traceparent]


async def test_status_decides_and_retry_after_is_passed_on(gateway: FakeGateway, serve: Serve, site: Site) -> None:
    site.status, site.headers = "503 Service Unavailable", "Retry-After: 120\r\n"
    result, stream = await run(gateway, serve, Http(url=f"{site.url}/a?secret=1"))

    assert (result.outcome, result.http_status, result.error_kind) == (Result.OUTCOME_FAILED, 503, "http")
    assert result.error == f"GET {site.url}/a: HTTP 503 Service Unavailable"
    assert result.retry_after.seconds == 120
    assert stream.text() == "hello\n"


async def test_expected_statuses_replace_the_usual_ones(gateway: FakeGateway, serve: Serve, site: Site) -> None:
    site.status = "404 Not Found"
    result, _ = await run(gateway, serve, Http(url=site.url, expect=[404]))
    assert (result.outcome, result.http_status) == (Result.OUTCOME_SUCCEEDED, 404)


async def test_redirects_are_not_followed_and_cookies_not_kept(gateway: FakeGateway, serve: Serve, site: Site) -> None:
    site.status, site.headers = "302 Found", f"Location: {site.url}/elsewhere\r\nSet-Cookie: a=b\r\n"
    result, stream = await run(gateway, serve, Http(url=site.url))
    stream.assign(assignment(8))
    await stream.until_results(2)

    assert (result.outcome, result.http_status) == (Result.OUTCOME_FAILED, 302)
    assert [request.split()[1] for request in site.requests] == ["/", "/"]
    assert "cookie" not in site.requests[1].lower()


async def test_long_answers_are_cut(gateway: FakeGateway, serve: Serve, site: Site) -> None:
    site.body = b"x" * 3_000_000
    result, stream = await run(gateway, serve, Http(url=site.url))
    assert result.output_truncated
    assert len(stream.text()) == 100_000


async def test_slow_server_times_out(gateway: FakeGateway, serve: Serve) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        result, _ = await run(gateway, serve, Http(url=url), timeout_seconds=0.05)
    assert result.outcome == Result.OUTCOME_TIMED_OUT


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "127.1",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "0.0.0.0",
        "localhost",
        "user@127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "[64:ff9b::7f00:1]",
    ],
)
async def test_private_addresses_are_refused_in_every_spelling(
    gateway: FakeGateway, serve: Serve, site: Site, host: str
) -> None:
    port = site.url.rpartition(":")[2]
    result, _ = await run(gateway, serve, Http(url=f"http://{host}:{port}/"), allow_loopback=False)

    assert (result.outcome, result.permanent) == (Result.OUTCOME_FAILED, True)
    assert "is not a public address" in result.error
    assert "http.allow_loopback (for this machine itself: `horologe worker run --http-allow-loopback`)" in result.error
    assert site.requests == []


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (Http(url="ftp://example.com/"), "the URL 'ftp://example.com/' is not one of http or https with a host"),
        (Http(url="http://0177.0.0.1/"), "Invalid IPv4 address: '0177.0.0.1'"),
        (Http(url="http:///path"), "the URL 'http:///path' is not one of http or https with a host"),
        (Http(url="http://a.example/", headers={"Host": "b"}), "the header 'Host' belongs to the connection"),
    ],
)
async def test_impossible_requests_fail_for_good(gateway: FakeGateway, serve: Serve, action: Http, error: str) -> None:
    result, _ = await run(gateway, serve, action)
    assert result.permanent
    assert result.error.startswith(error)


async def test_unreachable_servers_may_be_tried_again(gateway: FakeGateway, serve: Serve) -> None:
    result, _ = await run(gateway, serve, Http(url="http://127.0.0.1:9/"))
    assert (result.outcome, result.permanent, result.error_kind) == (Result.OUTCOME_FAILED, False, "connection")
    assert result.error.startswith("GET http://127.0.0.1:9/: ")


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("64:ff9b::808:808", True),
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("10.2.2.3", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("2002:7f00:1::", False),
        ("fe80::1", False),
        ("fec0::1", False),
        ("255.255.255.255", False),
        ("::", False),
    ],
)
def test_guard_knows_which_addresses_are_public(address: str, allowed: bool) -> None:
    assert AddressGuard(["10.1.0.0/16"]).allows(ipaddress.ip_address(address)) is allowed


def test_guard_names_a_network_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"'10\.0\.0\.1/8' is not a network"):
        AddressGuard(["10.0.0.1/8"])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
        ("soon", None),
        ("9" * 30, 366 * 86400.0),
    ],
)
def test_retry_after_has_two_forms(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text, now_seconds=10.0) == seconds


async def test_redirects_are_followed_only_if_asked(gateway: FakeGateway, serve: Serve, site: Site) -> None:
    site.status, site.headers = "302 Found", "Location: /elsewhere\r\n"
    result, _ = await run(gateway, serve, Http(url=f"{site.url}/here"))
    assert (result.http_status, len(site.requests)) == (302, 1)


async def test_redirects_are_followed_a_few_times(gateway: FakeGateway, serve: Serve, site: Site) -> None:
    site.status, site.headers = "302 Found", "Location: /elsewhere\r\n"
    result, _ = await run(gateway, serve, Http(url=f"{site.url}/here", follow_redirects=True))
    assert (result.outcome, "redirect" in result.error) == (Result.OUTCOME_FAILED, True)
    assert [request.split()[1] for request in site.requests] == ["/here", *["/elsewhere"] * 5]


async def test_a_redirect_leads_nowhere_that_a_job_must_not_reach(
    gateway: FakeGateway, serve: Serve, site: Site
) -> None:
    site.status, site.headers = "302 Found", "Location: http://169.254.169.254/secrets\r\n"
    result, _ = await run(gateway, serve, Http(url=site.url, follow_redirects=True))
    assert (result.permanent, "169.254.169.254" in result.error) == (True, True)


async def test_a_server_may_not_be_silent_for_longer_than_the_job_allows(gateway: FakeGateway, serve: Serve) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        action = Http(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        action.read_timeout.FromMilliseconds(50)
        result, _ = await run(gateway, serve, action)
    assert (result.outcome, "ReadTimeout" in result.error) == (Result.OUTCOME_FAILED, True)
