"""The HTTP server of a node: uvicorn on the node's own event loop, over TLS unless the node is insecure.

All bounds here are for callers of whom nothing is known yet: what they keep open is missing for the log and for other members.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from horologe.node.config import Address
from horologe.node.tls import NodeTls
from horologe.node.tls_folder import CERTIFICATE_FILE, KEY_FILE

GOODBYE_SECONDS = 1
"""Answers that are under way when the node stops get so long; streams of events have no end of their own."""
REQUEST_HEAD_BYTES_MAX = 32 << 10
REQUEST_HEAD_SECONDS_MAX = 30.0
"""From the first byte of a request, or from the connection's begin, to the end of its head."""
PIPELINED_MAX = 32
"""Requests of one connection that wait for the answer to the one before."""
STALLED_SECONDS_MAX = 60.0
"""So long an answer waits for a reader who takes nothing of it."""
CONNECTIONS_MAX = 2_000
IDLE_SECONDS = 75
BACKLOG = 512
TLS_WATCH_SECONDS = 1.0

log = structlog.get_logger(__name__)


class _Server(uvicorn.Server):
    """Signals are the business of the process, not of one of its servers, and it ends when it is told to."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._exit = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        """uvicorn looks ten times a second whether it shall end; ours is told."""
        await self.on_tick(0)
        await self._exit.wait()

    def end(self) -> None:
        """Takes nothing new, and lets `serve` return when what is under way has ended."""
        self.should_exit = True
        self._exit.set()


class _Door(socket.socket):
    """Listens. Whoever comes when all places are taken is turned away: before TLS, for which a place is needed, too."""

    def __init__(self, family: int, most: int) -> None:
        super().__init__(family)
        self._most = most
        self._taken: list[socket.socket] = []

    def accept(self) -> tuple[socket.socket, Any]:
        connection, address = super().accept()
        if len(self._taken) >= self._most:
            self._taken = [each for each in self._taken if each.fileno() >= 0]
        if len(self._taken) >= self._most:
            connection.close()
            raise ConnectionAbortedError("all connections are taken")
        self._taken.append(connection)
        return connection, address


def connections_max() -> int:
    """At most half of the files that the process may have open: the other half is for the node's work."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS_MAX if files == resource.RLIM_INFINITY else min(CONNECTIONS_MAX, files // 2)


class _Connection(HttpToolsProtocol):
    """Ends connections that say more, or take longer to say it, than a request's head may, and those of readers who do not
    read; uvicorn bounds none of it."""

    _unread_bytes = 0
    """What has come since something was complete: a head, a piece of a body, a request."""
    _patience: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._be_patient()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_patience()
        self._forget_stall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._unread_bytes and (self.cycle is None or self.cycle.response_complete):
            self._be_patient()
        self._unread_bytes += len(data)
        super().data_received(data)
        if self._unread_bytes > REQUEST_HEAD_BYTES_MAX and not self.transport.is_closing():
            self.transport.close()

    def on_headers_complete(self) -> None:
        self._forget_patience()
        self._unread_bytes = 0
        if len(self.pipeline) >= PIPELINED_MAX:
            # The parser answers this with 400, and the connection ends.
            raise BufferError("too many requests wait")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unread_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread_bytes = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED_SECONDS_MAX, self.transport.abort)

    def resume_writing(self) -> None:
        self._forget_stall()
        super().resume_writing()

    def _forget_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _be_patient(self) -> None:
        self._forget_patience()
        self._patience = self.loop.call_later(REQUEST_HEAD_SECONDS_MAX, self.transport.close)

    def _forget_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


class HttpServer:
    """Binds at once, and answers from `start` to `stop`."""

    def __init__(self, app: Any, address: str, tls: NodeTls | None) -> None:
        """Raises OSError if the address cannot be bound."""
        self._tls = tls
        self._settings = None if tls is None else _tls_settings(tls)
        self._socket = _bound(Address.parse(address))
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            lifespan="off",
            loop="none",
            http=_Connection,
            ws="none",
            proxy_headers=False,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=GOODBYE_SECONDS,
            backlog=BACKLOG,
        )
        config.load()
        if tls is not None:
            config.ssl = _tls_settings(tls)
            config.ssl.sni_callback = self._choose
        self._server = _Server(config)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Serves from now on; whoever connects before the server's task has begun waits for it."""
        self._socket.listen(BACKLOG)
        self._tasks = [asyncio.create_task(self._server.serve([self._socket]), name="http server")]
        self._tasks[0].add_done_callback(_tell)
        if self._tls is not None:
            self._tasks.append(asyncio.create_task(self._follow_certificates(self._tls), name="http certificates"))

    async def stop(self) -> None:
        """Takes nothing new, and ends what is under way."""
        self._server.end()
        for task in self._tasks[1:]:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.close()

    async def _follow_certificates(self, tls: NodeTls) -> None:
        """New connections get the new certificate, once the node has taken it."""
        shown = tls.generation
        while True:
            await asyncio.sleep(TLS_WATCH_SECONDS)
            taken = tls.generation
            if taken != shown:
                # The files may just be changing once more; then the node takes them once more, too.
                with suppress(OSError):
                    self._settings = await asyncio.to_thread(_tls_settings, tls)
                    shown = taken

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _first: ssl.SSLContext) -> None:
        """What a new connection is shown. Settings that are in use are never changed: for a moment, the certificate would be a
        new one and its key the old one."""
        assert self._settings is not None
        connection.context = self._settings


def _tell(ended: asyncio.Task[None]) -> None:
    """What has ended the server, if that was not the node."""
    error = None if ended.cancelled() else ended.exception()
    if error is not None:
        log.error("the HTTP server has failed, and this node shows no pages any more", exc_info=error)


def _bound(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    found = _Door(family, connections_max())
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((address.host, address.port))
    except BaseException:
        found.close()
        raise
    found.setblocking(False)
    return found


def _tls_settings(tls: NodeTls) -> ssl.SSLContext:
    settings = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    settings.minimum_version = ssl.TLSVersion.TLSv1_3
    settings.set_alpn_protocols(["http/1.1"])
    settings.load_cert_chain(tls.folder / CERTIFICATE_FILE, tls.folder / KEY_FILE)
    return settings
