"""Actions that are HTTP requests, guarded against addresses that a job must not reach.

The guard (`address_guard.py`) resolves a name once, checks every address, and the request goes to a checked address:
what the name means a moment later does not matter. Each hop of a redirect is a request of its own, and checked like the first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from horologe.client.attempts import Attempt, Outcome
from horologe.client.context import Context
from horologe.client.executors.address_guard import AddressGuard, Lookup, RefusedAddressError, look_up
from horologe.client.executors.guarded_transport import CONNECT_SECONDS_MAX, GuardedTransport
from horologe.client.executors.http_body import BodyDecoder, BodyError
from horologe.client.outbox import STANDARD_OUTPUT, Output
from horologe.v1 import job_pb2, worker_pb2

REDIRECTS_MAX = 5

# Nobody means to wait longer; it also keeps a server from parking an execution for ever.
RETRY_AFTER_SECONDS_MAX = 366 * 86400.0

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

# What belongs to the connection, and not to the request of a job.
CONNECTION_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


# What may go to another origin than the one that the job names, when that one sends the request on.
HEADERS_FOR_EVERYBODY = frozenset({"accept", "accept-encoding", "accept-language", "user-agent"})


class HttpExecutor:
    """Sends requests. Each has a connection of its own, so that none travels on one that was checked for another name."""

    def __init__(
        self,
        allowed_networks: Sequence[str] = (),
        *,
        allow_loopback: bool = False,
        hosts: Sequence[str] = (),
        ports: Collection[int] = (),
        lookup: Lookup = look_up,
    ) -> None:
        """What may be reached is told by the arguments of `AddressGuard`."""
        guard = AddressGuard(allowed_networks, allow_loopback=allow_loopback, hosts=hosts, ports=ports, lookup=lookup)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._client = httpx.AsyncClient(
            # One job's cookies are none of another's business.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            transport=GuardedTransport(guard, httpx.AsyncHTTPTransport(trust_env=False, limits=limits)),
            # No proxies and no credentials from the worker's environment.
            trust_env=False,
            follow_redirects=False,
            # The attempt's timeout is the only limit; it is kept by the runner.
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS_MAX),
        )

    async def run(self, attempt: Attempt, output: Output) -> Outcome:
        """Sends the request; the status decides, the body of the answer is the output."""
        action = attempt.action.http
        try:
            request = self._request(attempt, action)
        except (ValueError, httpx.InvalidURL) as error:
            return Outcome.failed(str(error), permanent=True)
        try:
            response = await self._send(request, action)
            try:
                await _copy_body(response, output)
            finally:
                await response.aclose()
        except (RefusedAddressError, RefusedRedirectError) as error:
            return Outcome.failed(str(error), permanent=True)
        except BodyError as error:
            return Outcome.failed(f"{_shown(request)}: {error}", kind="connection")
        except (httpx.HTTPError, OSError) as error:
            return Outcome.failed(f"{_shown(request)}: {str(error) or type(error).__name__}", kind="connection")
        return _outcome(request, response, action)

    async def _send(self, request: httpx.Request, action: job_pb2.HttpAction) -> httpx.Response:
        """The answer, or that of whomever the server sends the request on to."""
        for _ in range(REDIRECTS_MAX + 1):
            response = await self._client.send(request, stream=True)
            if not action.follow_redirects or response.next_request is None:
                return response
            await response.aclose()
            request = _for_next_hop(request, response.next_request)
        raise httpx.TooManyRedirects(f"more than {REDIRECTS_MAX} redirects")

    def _request(self, attempt: Attempt, action: job_pb2.HttpAction) -> httpx.Request:
        method = action.method.upper() or "GET"
        if method not in METHODS:
            raise ValueError(f"the method {action.method!r} is none of {', '.join(METHODS)}")
        for name in action.headers:
            if name.lower() in CONNECTION_HEADERS:
                raise ValueError(f"the header {name!r} belongs to the connection and cannot be set by a job")
            if name.lower() == "idempotency-key" or name.lower().startswith("horologe-"):
                raise ValueError(f"the header {name!r} is set by the worker and cannot be set by a job")
        url = httpx.URL(action.url)
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(f"the URL {action.url!r} is not one of http or https with a host")
        context = Context(attempt)
        headers = httpx.Headers({"Accept-Encoding": "identity", "User-Agent": "horologe"})
        headers.update(dict(action.headers))
        headers.update(
            {
                "Idempotency-Key": context.idempotency_key,
                "Horologe-Job": context.job_name,
                "Horologe-Execution": context.execution_name,
                "Horologe-Attempt": str(context.attempt),
                "Horologe-Due-Time": context.due_time_text,
                "Horologe-Fencing-Token": str(context.fencing_token),
            }
        )
        if context.traceparent:
            headers["Traceparent"] = context.traceparent
        return self._client.build_request(
            method, url, headers=headers, content=action.body or None, timeout=_timeout(action)
        )

    async def close(self) -> None:
        """Closes what is open."""
        await self._client.aclose()


class RefusedRedirectError(Exception):
    """A server sends the request where it must not go."""


def _for_next_hop(request: httpx.Request, following: httpx.Request) -> httpx.Request:
    """The request that a redirect asks for: what only the first origin may know stays behind. RefusedRedirectError."""
    here, there = request.url, following.url
    if there.scheme not in ("http", "https"):
        raise RefusedRedirectError(f"{_shown(request)}: a redirect to {there.scheme}: is not followed")
    if (here.scheme, here.host, here.port) == (there.scheme, there.host, there.port):
        return following
    if here.scheme == "https" and there.scheme == "http":
        raise RefusedRedirectError(f"{_shown(request)}: a redirect from https to http is not followed")
    if following.headers.get("Content-Length", "0") != "0":
        raise RefusedRedirectError(f"{_shown(request)}: a redirect of a body to another host is not followed")
    for name in list(following.headers):
        if name.lower() not in HEADERS_FOR_EVERYBODY | {"host"}:
            del following.headers[name]
    return following


def _timeout(action: job_pb2.HttpAction) -> httpx.Timeout:
    """How long to wait for a connection and for a silent server; the whole attempt is limited by the runner."""
    connect_seconds = action.connect_timeout.ToTimedelta().total_seconds() or CONNECT_SECONDS_MAX
    return httpx.Timeout(None, connect=connect_seconds, read=action.read_timeout.ToTimedelta().total_seconds() or None)


async def _copy_body(response: httpx.Response, output: Output) -> None:
    """The body becomes the output, as far as the cap allows; the rest is not even read."""
    decoder = BodyDecoder(response.headers.get("Content-Encoding", ""))
    async for data in response.aiter_raw():
        for piece in decoder.pieces(data):
            output.write(STANDARD_OUTPUT, piece)
            if output.truncated:
                return
            await output.drain()


def _outcome(request: httpx.Request, response: httpx.Response, action: job_pb2.HttpAction) -> Outcome:
    status = response.status_code
    expected = status in action.expect if action.expect else 200 <= status <= 299
    if expected:
        return Outcome(http_status=status)
    return Outcome(
        kind=worker_pb2.AttemptResult.OUTCOME_FAILED,
        error=f"{_shown(request)}: HTTP {status} {_phrase(status)}".rstrip(),
        error_kind="http",
        http_status=status,
        retry_after_seconds=parse_retry_after(response.headers.get("Retry-After"), time.time()),
    )


def parse_retry_after(text: str | None, now_seconds: float) -> float | None:
    """The seconds that a Retry-After header asks for, in either of its forms; None if it says nothing useful."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), RETRY_AFTER_SECONDS_MAX)
    try:
        seconds = parsedate_to_datetime(text).timestamp() - now_seconds
    except (ValueError, OverflowError):
        return None
    return min(max(math.ceil(seconds), 0.0), RETRY_AFTER_SECONDS_MAX)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _shown(request: httpx.Request) -> str:
    """The request as people may see it: without user, password and query, which may hold secrets."""
    url = request.url
    host = request.headers.get("Host", url.host)
    return f"{request.method} {url.scheme}://{host}{url.path}"
