"""What proxies do to what passes through them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from horologe.chaos.proxy import CLEAR, Proxy, Weather


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def _echo_behind_a_proxy() -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    async with server, Proxy("{}:{}".format(*server.sockets[0].getsockname())) as proxy:
        yield proxy


async def _connect(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = proxy.address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def test_everything_arrives_in_order_whatever_the_weather() -> None:
    async with _echo_behind_a_proxy() as proxy:
        reader, writer = await _connect(proxy)
        for weather in (CLEAR, Weather(delay_ms=5, jitter_ms=5)):
            proxy.weather = weather
            sent = b"".join(number.to_bytes(2) for number in range(500))
            for position in range(0, len(sent), 10):
                writer.write(sent[position : position + 10])
            assert await reader.readexactly(len(sent)) == sent
        writer.close()


async def test_delay_is_at_least_what_the_weather_says() -> None:
    async with _echo_behind_a_proxy() as proxy:
        proxy.weather = Weather(delay_ms=30)
        reader, writer = await _connect(proxy)
        begin = asyncio.get_running_loop().time()
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        assert asyncio.get_running_loop().time() - begin >= 0.06
        writer.close()


async def test_connections_are_lost() -> None:
    async with _echo_behind_a_proxy() as proxy:
        reader, writer = await _connect(proxy)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        proxy.weather = Weather(losses_per_second=1_000)
        assert await reader.read() == b""
        writer.close()


async def test_what_is_held_back_in_silence_arrives_afterwards() -> None:
    async with _echo_behind_a_proxy() as proxy:
        reader, writer = await _connect(proxy)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        proxy.fall_silent()
        writer.write(b"y")
        waiting = asyncio.ensure_future(reader.readexactly(1))
        await asyncio.wait([waiting], timeout=0.05)
        assert not waiting.done()
        proxy.speak()
        assert await waiting == b"y"
        writer.close()
