"""A TCP proxy with weather: what is between two processes when the network has its day.

It runs on the caller's event loop. Silent, it keeps all connections and delivers nothing, as a cable that was pulled does;
what was sent meanwhile arrives when it speaks again. Cut, it ends all connections and takes no new ones. In bad weather it
delivers late, loses connections, and closes them slowly. links.py runs proxies in processes of their own.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

PIECE_BYTES = 64 * 1024
WATCH_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Weather:
    """What a proxy does to what passes through it."""

    delay_ms: float = 0
    """Each piece waits so long, and what comes meanwhile waits with the next one: at most twice as long."""
    jitter_ms: float = 0
    """And by chance up to this much more."""
    losses_per_second: float = 0
    """So many times a second, on average, one connection is lost."""
    close_seconds: float = 0
    """After one side has closed, the other hears of it so much later."""


CLEAR = Weather()


class Proxy:
    """Between anybody who connects to `address` and one target."""

    def __init__(self, target: str, listen: str = "127.0.0.1:0") -> None:
        """Both are `host:port`; port 0 of `listen` is any free one."""
        self._target = _host_and_port(target)
        self._listen = _host_and_port(listen)
        self._speaking = asyncio.Event()
        self._speaking.set()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self.weather = CLEAR
        self.bytes_forwarded = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, *self._listen)
        self._watch = asyncio.create_task(self._lose())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        if self._watch is not None:
            self._watch.cancel()
        self.cut()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def address(self) -> str:
        """`host:port` to connect to."""
        if self._server is None:
            raise RuntimeError("the proxy is not open: use `async with`")
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    def fall_silent(self) -> None:
        """Delivers nothing from now on, in either direction."""
        self._speaking.clear()

    def speak(self) -> None:
        """Delivers again, beginning with what was held back."""
        self._speaking.set()

    def cut(self) -> None:
        """Ends all connections."""
        for connection in self._connections:
            connection.cancel()

    async def _lose(self) -> None:
        """Loses connections as often as the weather says."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._connections and random.random() < self.weather.losses_per_second * WATCH_SECONDS:
                random.choice(sorted(self._connections, key=id)).cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._speaking.wait()
            target_reader, target_writer = await asyncio.open_connection(*self._target)
            try:
                await self._join(reader, writer, target_reader, target_writer)
            finally:
                target_writer.close()
        except OSError:
            # The target is gone; so is this connection.
            return
        except asyncio.CancelledError:
            # Cut. The server's own task must end quietly.
            return
        finally:
            writer.close()
            self._connections.discard(task)

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        target_reader: asyncio.StreamReader,
        target_writer: asyncio.StreamWriter,
    ) -> None:
        pipes = [
            asyncio.create_task(self._pipe(reader, target_writer)),
            asyncio.create_task(self._pipe(target_reader, writer)),
        ]
        try:
            await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(self.weather.close_seconds)
        finally:
            for pipe in pipes:
                pipe.cancel()
            await asyncio.gather(*pipes, return_exceptions=True)

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(PIECE_BYTES):
                await self._speaking.wait()
                if self.weather != CLEAR:
                    wait_ms = self.weather.delay_ms + random.random() * self.weather.jitter_ms
                    await asyncio.sleep(wait_ms / 1000)
                writer.write(data)
                await writer.drain()
                self.bytes_forwarded += len(data)


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
