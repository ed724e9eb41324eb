"""What a connection may hold, and how long, before there is a request: uvicorn bounds neither by itself."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
from http_harness import app_of
from service_harness import FakeNode

from horologe.chaos.cluster import eventually
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
        async with asyncio.timeout(60):
            assert await reader.read() == b""


async def test_only_so_many_requests_wait_behind_each_other(tmp_path: Path) -> None:
    async with FakeNode(tmp_path).serve() as node, connected(node) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * (http_server.PIPELINED_MAX + 2))
        async with asyncio.timeout(60):
            assert b" 400 " in await reader.read()


async def test_whoever_does_not_read_the_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "STALLED_SECONDS_MAX", 0.2)
    begun = asyncio.Event()

    async def long(scope: Any, receive: Any, send: Any) -> None:
        del scope, receive
        begun.set()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1_000):
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
        await send({"type": "http.response.body"})

    server = HttpServer(long, "127.0.0.1:0", None)
    await server.start()
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    cast(asyncio.Transport, writer.transport).pause_reading()
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await begun.wait()

    async def is_left() -> bool:
        return not server._server.server_state.connections

    await eventually(is_left, 60, "the connection is over")
    writer.transport.abort()
    await server.stop()


async def test_whoever_comes_when_all_places_are_taken_is_turned_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "connections_max", lambda: 2)
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with FakeNode(tmp_path).serve() as node, connected(node) as (reader, writer):
        host, port = writer.get_extra_info("peername")[:2]
        assert b" 200 " in await answer(reader, writer, request)
        other_reader, other = await asyncio.open_connection(host, port)
        assert b" 200 " in await answer(other_reader, other, request)
        with suppress(ConnectionError):
            third, third_writer = await asyncio.open_connection(host, port)
            assert await third.read() == b""
            third_writer.close()
        other.close()

        async def is_served() -> bool:
            again, again_writer = await asyncio.open_connection(host, port)
            try:
                return b" 200 " in await answer(again, again_writer, request)
            except (ConnectionError, asyncio.IncompleteReadError):
                return False
            finally:
                again_writer.close()

        await eventually(is_served, 60, "there is a place again")


def test_half_of_the_files_are_for_the_rest_of_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    for files, expected in ((1_024, 512), (1 << 20, 2_000), (resource.RLIM_INFINITY, 2_000)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        assert http_server.connections_max() == expected
