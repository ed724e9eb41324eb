"""A TCP proxy that can fall silent: what is between two processes when the network has its day.

It runs on the caller's event loop. Silent, it keeps all connections and delivers nothing, as a cable that was pulled does;
what was sent meanwhile arrives when it speaks again. Cut, it ends all connections and takes no new ones.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self

PIECE_BYTES = 64 * 1024


class Proxy:
    """Between anybody who connects to `address` and one target."""

    def __init__(self, target: str) -> None:
        """`target` is `host:port`."""
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._speaking = asyncio.Event()
        self._speaking.set()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.bytes_forwarded = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def address(self) -> str:
        """`host:port` to connect to."""
        if self._server is None:
            raise RuntimeError("the proxy is not open: use `async with`")
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

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

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._speaking.wait()
            target_reader, target_writer = await asyncio.open_connection(*self._target)
            try:
                pipes = [
                    asyncio.create_task(self._pipe(reader, target_writer)),
                    asyncio.create_task(self._pipe(target_reader, writer)),
                ]
                try:
                    await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pipe in pipes:
                        pipe.cancel()
                    await asyncio.gather(*pipes, return_exceptions=True)
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

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(PIECE_BYTES):
                await self._speaking.wait()
                writer.write(data)
                await writer.drain()
                self.bytes_forwarded += len(data)
