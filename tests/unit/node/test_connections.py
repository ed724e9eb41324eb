"""What one connection may take of a node, at each limit and one beyond it; and that a node's ports have these limits."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from horologe.node import connections
from horologe.node.config import NodeConfig
from horologe.node.connections import MESSAGE_BYTES_MAX, METADATA_BYTES_MAX, WORKER_MESSAGE_BYTES_MAX, api_options
from horologe.node.node import Node
from horologe.node.surroundings import Surroundings

METHOD = "/horologe.test/Take"


class Server:
    """Tells how large what it got was, and holds streams open."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.open = 0
        self.changed = asyncio.Event()

    async def take(self, request: bytes, context: Any) -> bytes:
        self.sizes.append(len(request))
        return b""

    async def hold(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.open += 1
        try:
            yield b"open"
            await asyncio.Event().wait()
        finally:
            self.open -= 1


@asynccontextmanager
async def serving(**limits: Any) -> AsyncIterator[tuple[Server, int]]:
    it = Server()
    server = grpc.aio.server(options=api_options(limits.pop("message_bytes_max", MESSAGE_BYTES_MAX), **limits))
    methods = {
        "Take": grpc.unary_unary_rpc_method_handler(it.take),
        "Hold": grpc.unary_stream_rpc_method_handler(it.hold),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("horologe.test", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield it, port
    finally:
        await server.stop(None)


def channel_to(port: int, **options: Any) -> grpc.aio.Channel:
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_metadata_size", 1 << 20)]
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=unlimited, **options)


async def code_of(call: Any) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("bytes_max", [MESSAGE_BYTES_MAX, WORKER_MESSAGE_BYTES_MAX])
@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_messages(bytes_max: int, compression: grpc.Compression) -> None:
    """What is compressed counts as what it becomes."""
    async with (
        serving(message_bytes_max=bytes_max) as (server, port),
        channel_to(port, compression=compression) as channel,
    ):
        take = channel.unary_unary(METHOD)
        assert await code_of(take(b"\0" * bytes_max)) is grpc.StatusCode.OK
        assert await code_of(take(b"\0" * (bytes_max + 1))) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.sizes == [bytes_max]


async def test_headers() -> None:
    """The library's own take some of it too."""
    async with serving() as (server, port), channel_to(port) as channel:
        take = channel.unary_unary(METHOD)
        few = (("text", "x" * (METADATA_BYTES_MAX - 1_000)),)
        many = (("text", "x" * METADATA_BYTES_MAX),)
        assert await code_of(take(b"", metadata=few)) is grpc.StatusCode.OK
        assert await code_of(take(b"", metadata=many)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(server.sizes) == 1


async def test_calls_at_a_time() -> None:
    """One more than the limit begins when another one ends."""
    async with serving(streams_max=3) as (server, port), channel_to(port) as channel:
        # The first answer has brought the limit with it.
        assert await code_of(channel.unary_unary(METHOD)(b"")) is grpc.StatusCode.OK
        streams = [channel.unary_stream("/horologe.test/Hold")(b"") for _ in range(3)]
        for stream in streams:
            assert await stream.read() == b"open"
        late = channel.unary_unary(METHOD)(b"")
        done, _ = await asyncio.wait({asyncio.ensure_future(late.code())}, timeout=0.1)
        assert (done, server.open, len(server.sizes)) == (set(), 3, 1)
        streams[0].cancel()
        assert await code_of(late) is grpc.StatusCode.OK


def frame(kind: int, payload: bytes = b"") -> bytes:
    """Of HTTP/2, for the connection as a whole."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, 0, 0) + payload


SETTINGS, PING, GOAWAY = 4, 6, 7
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS)


async def frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    while head := await reader.read(1):
        head += await reader.readexactly(8)
        length = int.from_bytes(head[:3], "big")
        yield head[3], await reader.readexactly(length)


async def test_a_client_that_pings_too_often_is_sent_away() -> None:
    async with serving() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(PREFACE + frame(PING, b"12345678") * (connections.PINGS_TOO_OFTEN_MAX + 2))
        found = [(kind, payload) async for kind, payload in frames(reader)]
        writer.close()
    settings = next(payload for kind, payload in found if kind == SETTINGS and payload)
    pairs = dict(struct.iter_unpack(">HI", settings))
    # SETTINGS_MAX_CONCURRENT_STREAMS
    assert pairs[3] == connections.STREAMS_PER_CONNECTION_MAX
    reason = next(payload for kind, payload in found if kind == GOAWAY)
    # ENHANCE_YOUR_CALM
    assert int.from_bytes(reason[4:8], "big") == 11


@pytest.mark.parametrize("said", [b"", b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\n"])
async def test_a_client_that_does_not_say_what_it_wants_is_sent_away(said: bytes) -> None:
    async with serving(handshake_seconds=0.2) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        async with asyncio.timeout(60):
            while await reader.read(1000):
                pass
        writer.close()


class Watched(Surroundings):
    """Writes down with which options a node makes its servers."""

    def __init__(self) -> None:
        super().__init__()
        self.options: list[dict[str, Any]] = []

    def server(self, interceptors: Any, options: Any) -> grpc.aio.Server:
        self.options.append(dict(options))
        return super().server(interceptors, options)


@pytest.mark.parametrize(
    ("insecure", "sizes"),
    [(True, [WORKER_MESSAGE_BYTES_MAX]), (False, [MESSAGE_BYTES_MAX, WORKER_MESSAGE_BYTES_MAX])],
)
async def test_the_ports_of_a_node_have_these_limits(tmp_path: Path, insecure: bool, sizes: list[int]) -> None:
    """Without security workers come to the same port as everybody else."""
    surroundings = Watched()
    ports = dict.fromkeys(("listen", "worker_listen", "peer_listen"), "127.0.0.1:0") | {"http_listen": ""}
    node = Node(NodeConfig(name="n1", data_dir=tmp_path, insecure=insecure, **ports), surroundings)  # type: ignore[arg-type]
    await node.start()
    await node.stop(0)
    *api, peer = surroundings.options
    assert [options["grpc.max_receive_message_length"] for options in api] == sizes
    assert api == [dict(api_options(size)) for size in sizes]
    assert peer["grpc.server_handshake_timeout_ms"] == 10_000
