"""What a connection may hold, and how long, before there is a request: uvicorn bounds neither by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from http_harness import app_of
from service_harness import FakeNode

from horologe.node.http import server as http_server
from horologe.node.http.server import REQUEST_HEAD_BYTES_MAX, HttpServer

PIECE = b"x" * 4_096


@asynccontextmanager
async def connected(node: FakeNode) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    server = HttpServer(app_of(node), "127.0.0.1:0", None)
    await server.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        yield reader, writer
        writer.close()
    finally:
        await server.stop()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    """The head of the answer; the whole of it is read."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    return head


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(b"GET /", id="target"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: ", id="header"),
        pytest.param(
            b"POST /v1/namespaces/default/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Long: ",
            id="trailer",
        ),
    ],
)
async def test_a_head_without_end_ends_the_connection(tmp_path: Path, begin: bytes) -> None:
    async with FakeNode(tmp_path).serve() as node, connected(node) as (_, writer):
        writer.write(begin)
        sent = 0
        with pytest.raises(ConnectionError):
            while sent < 100 * REQUEST_HEAD_BYTES_MAX:
                writer.write(PIECE)
                await writer.drain()
                await asyncio.sleep(0)
                sent += len(PIECE)
        assert sent < 100 * REQUEST_HEAD_BYTES_MAX


async def test_large_bodies_and_many_requests_of_one_connection_are_no_large_heads(tmp_path: Path) -> None:
    async with FakeNode(tmp_path).serve() as node, connected(node) as (reader, writer):
        body = b'{"schedules": "' + b"x" * (4 * REQUEST_HEAD_BYTES_MAX) + b'"}'
        head = b"POST /v1/namespaces/default/jobs?job_id=a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        large = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        small = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Padding: " + PIECE + b"\r\n\r\n"
        assert b" 400 " in await answer(reader, writer, large)
        for _ in range(3 * REQUEST_HEAD_BYTES_MAX // len(PIECE)):
            assert b" 200 " in await answer(reader, writer, small)


@pytest.mark.parametrize("begin", [b"", b"GET /healthz HTT"])
async def test_who_connects_and_says_nothing_is_sent_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: bytes
) -> None:
    monkeypatch.setattr(http_server, "REQUEST_HEAD_SECONDS_MAX", 0.2)
    async with FakeNode(tmp_path).serve() as node, connected(node) as (reader, writer):
        writer.write(begin)
        async with asyncio.timeout(30):
            assert await reader.read() == b""
