"""How fast the dashboard is when there is much to show, what its readers cost the node, and whether they delay a start.

One secure node with a history (bench_pages_fill.py) is asked for each page and its filters over a connection that stays open: the
time counts from the request to the last byte of the answer, TLS on loopback included; beside it stands the node's processor time,
which is what is left of it on a machine without other work. Then Chromium, if playwright and it are
there, says when it painted something. Then many readers keep a stream of changes open on an idle node.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from horologe.chaos.bench_fleet import BenchError
from horologe.chaos.bench_pages_fill import filled_cluster
from horologe.client.client import Client
from horologe.node.local_cluster import TLS_FOLDER, TOKEN_FILE, LocalCluster, option_of
from horologe.node.tls_folder import CA_FILE

BYTES_MAX = 300_000
"""No page may be larger."""
VISITS = 40
"""Of each page, after two that do not count."""
READY_SECONDS = 120.0
POLL_SECONDS = 0.1
IDLE_SECONDS = 20.0
CHROMIUM = Path("/usr/bin/chromium")
PAINTS = 5
PAINT_POLL_MILLISECONDS = 20
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
STREAMS_PER_READER = 50
"""Half of what one principal may have open at a node."""
_JOB = "/jobs/space-3/job-0000123"
PAGES = (
    "/",
    "/jobs",
    "/jobs?name=job-00012*",
    "/jobs?name=4711",
    "/jobs?namespace=space-1",
    "/jobs?state=paused",
    "/jobs?label=team%3Dteam-7",
    "/jobs?owner=owner-17",
    "/jobs?queue=rare",
    "/jobs?schedule=29+2",
    _JOB,
    f"{_JOB}/calendar",
    f"{_JOB}/versions",
    f"{_JOB}/edit",
    "/new-job",
    "/executions",
    "/executions?namespace=space-3",
    "/executions?job=job-0000123",
    "/executions?job=job-00012*",
    "/executions?state=dead",
    "/executions?state=running",
    "/executions?state=cancelled",
    "/executions?queue=rare",
    "/executions?worker=worker-3",
    "/executions?owner=owner-17",
    "/executions?label=team%3Dteam-7",
    "/executions?from=72h&to=48h",
    "/executions/space-3/job-0000123/124",
    "/dead-letters",
    "/dead-letters/space-3",
    "/workflows",
    "/queues",
    "/workers",
    "/forecast",
    "/cron",
    "/cluster",
    "/audit",
    "/notifications",
)
PAINTED = ("/", "/jobs", "/executions", "/dead-letters", _JOB)


@dataclass(slots=True)
class PageTime:
    """One page, visited again and again."""

    path: str
    status: int
    bytes: int
    cpu_ms: float
    """Of the node, for one visit."""
    p50_ms: float
    p95_ms: float
    max_ms: float


@dataclass(slots=True)
class PagesReport:
    """What was measured."""

    jobs: int
    executions: int
    pages: list[PageTime] = field(default_factory=list)
    first_paint_ms: dict[str, float] = field(default_factory=dict)
    """The median of some visits; empty where there is no browser."""
    streams: int = 0
    idle_cores: float = 0.0
    """What the node used before there were streams."""
    streaming_cores: float = 0.0
    """What it used with them."""

    def to_record(self) -> dict[str, Any]:
        return asdict(self)


def run(folder: Path, jobs: int, executions: int, streams: int, say: Callable[[str], None]) -> PagesReport:
    """Fills a node in `folder` unless that was done before, and measures."""
    cluster = filled_cluster(folder, jobs, executions, say)
    report = PagesReport(jobs, executions)
    cluster.start()
    try:
        node = psutil.Process(cluster.nodes[0].pid)
        token = (cluster.folder / TOKEN_FILE).read_text().strip()
        with _signed_in(cluster, token) as browser:
            for path in PAGES:
                report.pages.append(_visit(browser, path, node))
                say(f"{path}: {report.pages[-1].p95_ms:.0f} ms")
            report.first_paint_ms = dict(_paints(browser, say))
            report.streams = streams
            say(f"{streams} streams")
            cookies = _cookies_of_readers(cluster, -(-streams // STREAMS_PER_READER))
            report.idle_cores, report.streaming_cores = asyncio.run(_stream(cluster, cookies, node, streams))
    finally:
        cluster.stop()
    return report


def address_of(cluster: LocalCluster) -> str:
    """Of the pages of its first node."""
    return f"https://{option_of(cluster.nodes[0], 'http_listen')}"


def _trusted(cluster: LocalCluster) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(cluster.folder / TLS_FOLDER / CA_FILE))


@contextmanager
def _signed_in(cluster: LocalCluster, token: str) -> Iterator[httpx.Client]:
    """Somebody with a session, once the node leads and shows pages."""
    deadline = time.monotonic() + READY_SECONDS
    with httpx.Client(base_url=address_of(cluster), verify=_trusted(cluster), timeout=30.0) as browser:
        while True:
            try:
                form = re.search('name="csrf" value="([^"]+)"', browser.get("/sign-in").text)
                fields = {"token": token, "next": "/", "csrf": form[1] if form is not None else ""}
                answer = browser.post("/sign-in", data=fields)
                if answer.status_code == 303:
                    break
                problem = f"status {answer.status_code}"
            except httpx.TransportError as error:
                problem = str(error)
            if time.monotonic() > deadline or not cluster.nodes[0].is_running:
                raise BenchError(f"the node shows no pages: {problem}")
            asyncio.run(asyncio.sleep(POLL_SECONDS))
        yield browser


def _visit(browser: httpx.Client, path: str, node: psutil.Process) -> PageTime:
    for _ in range(2):
        browser.get(path)
    taken: list[float] = []
    before = _used_seconds(node)
    for _ in range(VISITS):
        begun = time.perf_counter()
        answer = browser.get(path)
        taken.append((time.perf_counter() - begun) * 1e3)
    used = _used_seconds(node) - before
    taken.sort()
    return PageTime(
        path,
        answer.status_code,
        len(answer.content),
        round(used * 1e3 / VISITS, 1),
        round(taken[VISITS // 2], 1),
        round(taken[int(VISITS * 0.95)], 1),
        round(taken[-1], 1),
    )


def _used_seconds(node: psutil.Process) -> float:
    times = node.cpu_times()
    return float(times.user + times.system)


def _paints(browser: httpx.Client, say: Callable[[str], None]) -> Iterator[tuple[str, float]]:
    """When Chromium painted something for the first time after it began to load a page: the median of some visits."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        say("no playwright: nothing is painted")
        return
    if not CHROMIUM.exists():
        say(f"no {CHROMIUM}: nothing is painted")
        return
    arguments = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    address = str(browser.base_url).rstrip("/")
    cookies: list[Any] = [
        {"name": name, "value": value, "url": address, "secure": True} for name, value in browser.cookies.items()
    ]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        for path in PAINTED:
            found = []
            for _ in range(PAINTS):
                # A profile of its own each time: nothing is in its cache.
                context = chromium.new_context(ignore_https_errors=True)
                context.add_cookies(cookies)
                page = context.new_page()
                page.goto(address + path, wait_until="load")
                while not (painted := page.evaluate(FIRST_PAINT)):
                    page.wait_for_timeout(PAINT_POLL_MILLISECONDS)
                found.append(float(painted))
                context.close()
            yield path, round(sorted(found)[PAINTS // 2], 1)
        chromium.close()


# Streams


def _cookies_of_readers(cluster: LocalCluster, count: int) -> list[str]:
    """Of so many people, each with a session: one of them may have only so many streams."""
    cookies = []
    with Client(context_file=cluster.context_file) as administrator:
        for number in range(count):
            name = f"reader-{number}"
            administrator.set_grant(name, "viewer", everywhere=True)
            made = administrator.create_token(name, time_to_live="1h")
            with _signed_in(cluster, made.secret) as browser:
                cookies.append("; ".join(f"{name}={value}" for name, value in browser.cookies.items()))
    return cookies


async def _stream(cluster: LocalCluster, cookies: list[str], node: psutil.Process, count: int) -> tuple[float, float]:
    """Cores that the node uses without streams, and with them."""
    idle = await _cores(node)
    host, _, port = option_of(cluster.nodes[0], "http_listen").rpartition(":")
    writers: list[asyncio.StreamWriter] = []
    readers: list[asyncio.Task[None]] = []
    try:
        for number in range(count):
            reader, writer = await asyncio.open_connection(host, int(port), ssl=_trusted(cluster))
            writers.append(writer)
            cookie = cookies[number % len(cookies)]
            head = f"GET /live HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cookie}\r\nAccept: text/event-stream\r\n\r\n"
            writer.write(head.encode())
            status = await reader.readline()
            if b" 200 " not in status:
                raise BenchError(f"stream {len(writers)} of {count} was answered with {status!r}")
            readers.append(asyncio.create_task(_read_on(reader)))
        streaming = await _cores(node)
        if any(task.done() for task in readers):
            raise BenchError("streams ended while they were measured")
        return idle, streaming
    finally:
        for task in readers:
            task.cancel()
        for writer in writers:
            writer.transport.abort()


async def _read_on(reader: asyncio.StreamReader) -> None:
    while await reader.read(4096):
        pass


async def _cores(node: psutil.Process) -> float:
    begun, before = time.monotonic(), _used_seconds(node)
    await asyncio.sleep(IDLE_SECONDS)
    return round((_used_seconds(node) - before) / (time.monotonic() - begun), 3)
