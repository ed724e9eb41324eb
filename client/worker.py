"""The worker: a program that runs attempts for a cluster.

    from horologe.client.worker import Context, PermanentError, Worker

    worker = Worker(queues=["reports"], tls_dir="/etc/horologe/tls")

    @worker.handler("send-report")
    async def send_report(context: Context) -> dict[str, int]:
        ...

    worker.run()

This file keeps a session open, drains, and stops. The stream itself is in `session.py`, the attempts are in `runner.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import secrets
import signal
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Unpack

import structlog
import uvloop

from horologe.client import cluster_context, jobs, tls
from horologe.client.attempts import AttemptTable, StopReason
from horologe.client.context import AttemptCancelledError, Context, PermanentError
from horologe.client.errors import HorologeError, InvalidContext
from horologe.client.executors.executor import Executor
from horologe.client.executors.python import Handlers, PythonExecutor, _Function
from horologe.client.lease import NEVER, Clock, Lease, boot_time_seconds
from horologe.client.outbox import Outbox
from horologe.client.runner import Runner
from horologe.client.session import Connect, DisconnectedError, Ending, Identity, RefusedError, Session, connector
from horologe.v1.job_pb2 import Schedule

__all__ = ["AttemptCancelledError", "Context", "Handlers", "PermanentError", "Worker", "WorkerRefusedError"]

log = structlog.get_logger(__name__)

DEFAULT_SLOT_COUNT = 100
SLOT_COUNT_MAX = 10_000
OUTPUT_BYTES_MAX = 10 * 1024 * 1024

# Sync handlers wait for each other rather than for a thousand threads to be made.
THREAD_COUNT_MAX = 100

# The pause before the next address. Short, because a new node has to be found within a lease.
RECONNECT_SECONDS_FIRST = 0.05
RECONNECT_SECONDS_MAX = 2.0

# How often a worker that finds no node says so.
COMPLAINT_SECONDS = 10.0

# How long results may wait for their acknowledgement when everything has ended and the worker wants to leave.
ACKNOWLEDGEMENT_SECONDS_MAX = 10.0

# How long the cluster may take to confirm that it sends nothing new.
DRAIN_CONFIRMATION_SECONDS_MAX = 2.0

# How often the age of the certificate is looked at. It may have been replaced long before the next connection.
CERTIFICATE_WATCH_SECONDS = 6 * 3600.0

# How often the lease is looked at, at most: timers of the loop do not count the time in which the machine slept.
LEASE_WATCH_SECONDS = 0.25


class WorkerRefusedError(HorologeError):
    """The cluster refuses this worker as it is: its name, its queues or its slots are wrong."""


def default_name(pool: str = "") -> str:
    """A name nobody else has: host, or the pool that the certificate is for, process id and something random."""
    host = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().lower()).strip("-") or "worker"
    if not host[0].isalpha():
        host = f"w-{host}"
    suffix = f"-{os.getpid()}-{secrets.token_hex(3)}"
    return pool + suffix if pool else host[: 63 - len(suffix)].rstrip("-") + suffix


class Worker:
    """Takes attempts from queues and runs them.

    Nothing happens before `run` or `serve`; a worker serves once.

    addresses: where the nodes of the cluster have their port for workers, `host:port`; any of them will do, others are
        tried when it is lost. By default the `worker_addresses` of the context.
    name: stable and unique in the cluster, and what the certificate says, or that with something behind a `-`; by default
        made of what the certificate says, or the host, and of process id and something random.
    queues: the queues it takes from.
    slot_count: how many attempts it takes at a time, 0 to 10,000.
    labels: what jobs may ask for in their `worker_labels`; shown by `horologe worker list`.
    executors: further kinds of actions beside `python`, by kind.
    handlers: those of a program that keeps them by themselves; by default none, until `handler` and `job` add some.
    drain_seconds: how long attempts may go on after the first signal.
    output_bytes_max: captured output of one attempt beyond this is dropped.
    context_file: the file or the name of the context; by default what HOROLOGE_CONTEXT names, or the current one.
    tls_dir: the folder with the worker's certificate: ca.pem, cert.pem and key.pem. They are read for each connection, so
        they may be replaced at any time. `ca_file` and `server_name` as for `Client`.
    insecure: clear text, for a cluster without security.
    clock: seconds that never go back, for tests; `wall_clock`, for the age of the certificate, `randomness` for ids and
        pauses, and `connect`, which makes the channel to an address, are too.
    """

    def __init__(
        self,
        addresses: Sequence[str] | str | None = None,
        *,
        name: str | None = None,
        queues: Sequence[str] = ("default",),
        slot_count: int = DEFAULT_SLOT_COUNT,
        labels: Mapping[str, str] | None = None,
        executors: Mapping[str, Executor] | None = None,
        handlers: Handlers | None = None,
        drain_seconds: float = 30.0,
        output_bytes_max: int = OUTPUT_BYTES_MAX,
        context_file: str | os.PathLike[str] | None = None,
        tls_dir: str | os.PathLike[str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        server_name: str | None = None,
        insecure: bool | None = None,
        clock: Clock = boot_time_seconds,
        wall_clock: Callable[[], datetime] = tls.utc_now,
        randomness: random.Random | None = None,
        connect: Connect | None = None,
    ) -> None:
        if not 0 <= slot_count <= SLOT_COUNT_MAX:
            raise ValueError(f"slot_count is {slot_count}; it has to be from 0 to {SLOT_COUNT_MAX}")
        if not queues:
            raise ValueError("a worker needs at least one queue")
        self.handlers = Handlers() if handlers is None else handlers
        self.lease = Lease(clock)
        self.stopped_at_once = False
        self._context = cluster_context.load(
            addresses,
            context_file=context_file,
            ca_file=ca_file,
            tls_dir=tls_dir,
            server_name=server_name,
            insecure=insecure,
        )
        self._addresses = self._context.addresses if addresses is not None else self._context.for_workers()
        self._randomness = randomness or random.SystemRandom()
        self._connect = connect or connector(self._context)
        self._wall_clock = wall_clock
        if connect is None:
            self._check_certificate()
        self.name = name or default_name(tls.worker_name(self._context))
        self._identity = Identity(self.name, self._new_incarnation(), tuple(queues), slot_count, dict(labels or {}))
        self._executors: dict[str, Executor] = {
            "python": PythonExecutor(self.handlers, min(max(slot_count, 1), THREAD_COUNT_MAX)),
            **(executors or {}),
        }
        self._drain_seconds = drain_seconds
        self._output_bytes_max = output_bytes_max
        self._draining = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._connected = asyncio.Event()
        self._session: Session | None = None

    def handler(self, name: str, *, inline: bool = False) -> Callable[[_Function], _Function]:
        """Registers the decorated function, sync or async, for Python actions that name `name`.

        It is called with a `Context` and returns a JSON-able result or None. `inline` runs a sync function in the event
        loop: only for functions that take microseconds.
        """
        return self.handlers.handler(name, inline=inline)

    def job(
        self,
        name: str,
        schedule: Schedule | Iterable[Schedule],
        *,
        payload: object = None,
        inline: bool = False,
        **policies: Unpack[jobs.Policies],
    ) -> Callable[[_Function], _Function]:
        """Registers the decorated function, and declares the job that runs it: see `Handlers.job`."""
        return self.handlers.job(name, schedule, payload=payload, inline=inline, **policies)

    @property
    def private_files(self) -> list[Path]:
        """Where this worker's key and token are, if it has them: none of the jobs' business."""
        return [path for path in (self._context.tls_dir, self._context.token_file) if path is not None]

    def add_executor(self, kind: str, executor: Executor) -> None:
        """Makes this worker run actions of another kind. ValueError if it already does."""
        if kind in self._executors:
            raise ValueError(f"this worker already has an executor for {kind!r}")
        self._executors[kind] = executor

    def run(self) -> None:
        """Serves until the process is told to stop, on a loop of its own.

        SIGTERM or SIGINT drains: nothing new is taken, and what runs may end within `drain_seconds`. A second one stops
        at once; `stopped_at_once` is True then. Raises `WorkerRefusedError` when the cluster does not want this worker.
        """
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve_with_signals())

    async def _serve_with_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            await self.serve()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _on_signal(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._draining.is_set():
            log.warning("stopping at once", signal=name)
            self.stop()
        else:
            log.info("draining; a second signal stops at once", signal=name, seconds=self._drain_seconds)
            self.drain()

    def drain(self) -> None:
        """Takes nothing new from now on; `serve` returns when everything has ended and was acknowledged."""
        self._draining.set()

    def stop(self) -> None:
        """Kills what runs, reports nothing more, and makes `serve` return. The cluster finds the attempts lost."""
        self.stopped_at_once = True
        self._draining.set()
        self._stop_now.set()

    async def connected(self) -> None:
        """Waits until the worker has been welcomed for the first time."""
        await self._connected.wait()

    async def serve(self) -> None:
        """Serves until it was drained or stopped, in the running loop."""
        table, outbox = AttemptTable(), Outbox()
        runner = Runner(table, outbox, self.lease, self._executors, self._output_bytes_max, self._begin_anew)
        connection = asyncio.create_task(self._keep_connected(table, runner, outbox))
        departure = asyncio.create_task(self._depart(table, runner))
        watch = asyncio.create_task(self._watch_lease(runner))
        certificate = asyncio.create_task(self._watch_certificate())
        try:
            await asyncio.wait({connection, departure}, return_when=asyncio.FIRST_COMPLETED)
            if connection.done():
                connection.result()
        finally:
            runner.kill_all()
            helpers = (departure, watch, certificate, connection)
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await runner.close()
            for executor in self._executors.values():
                await executor.close()

    async def _keep_connected(self, table: AttemptTable, runner: Runner, outbox: Outbox) -> None:
        """Reconnects for ever, to one address after the other, with growing pauses while nobody welcomes us for long.

        Two processes under one name take the session from each other; pauses that grow keep them from doing little else.
        """
        position = self._randomness.randrange(len(self._addresses))
        pause_seconds = RECONNECT_SECONDS_FIRST
        complain_at = -NEVER
        while True:
            address = self._addresses[position % len(self._addresses)]
            position += 1
            session = Session(
                address,
                self._identity,
                table,
                runner,
                outbox,
                self.lease,
                self._draining,
                self._connect,
                self._explain,
                self._connected.set,
            )
            self._session = session
            try:
                ending = await session.run()
                if ending is Ending.LEFT:
                    return
                if ending is Ending.DRAINED:
                    self._draining.set()
                    if table.idle.is_set():
                        return
            except RefusedError as refusal:
                raise WorkerRefusedError(f"{address} refuses this worker: {refusal}") from refusal
            except DisconnectedError as error:
                # While nobody is there every failure is like the last one: one line now and then is enough.
                if session.welcome is not None or self.lease.clock() >= complain_at:
                    log.warning("disconnected", address=address, reason=str(error))
                    complain_at = self.lease.clock() + COMPLAINT_SECONDS
            if self.lease.clock() - session.welcomed_at >= RECONNECT_SECONDS_MAX:
                pause_seconds = RECONNECT_SECONDS_FIRST
            await asyncio.sleep(self._randomness.uniform(0, pause_seconds))
            pause_seconds = min(pause_seconds * 2, RECONNECT_SECONDS_MAX)

    def _check_certificate(self) -> None:
        """What is wrong from the start is said at once; what becomes so later is only a reason to come again."""
        if self._context.insecure:
            return
        if self._context.tls_dir is None:
            raise InvalidContext(
                "a worker needs a certificate: name the folder with its ca.pem, cert.pem and key.pem (--tls-dir, or tls_dir), "
                "or, for a cluster that runs without security, say insecure"
            )
        tls.secure(self._context, ())

    def _explain(self, details: str) -> str:
        return tls.explain(details, self._context, self._wall_clock())[0]

    async def _watch_certificate(self) -> None:
        """Says while there is time that the certificate will expire."""
        while not self._context.insecure:
            try:
                warning = tls.expiry_warning(self._context, self._wall_clock())
            except InvalidContext as error:
                warning = str(error)
            if warning:
                log.warning(warning)
            await asyncio.sleep(CERTIFICATE_WATCH_SECONDS)

    def _new_incarnation(self) -> str:
        return f"{self._randomness.getrandbits(128):032x}"

    def _begin_anew(self) -> None:
        """The lease ended. For the cluster this is now another process: what the last one had is lost.

        Under the same incarnation the cluster would send the killed attempts again with the tokens they had, and for one
        token code is started at most once.
        """
        self._identity.incarnation = self._new_incarnation()
        if self._session is not None:
            self._session.close("the lease ended")

    async def _watch_lease(self, runner: Runner) -> None:
        while True:
            remaining_seconds = self.lease.ends_at - self.lease.clock()
            await asyncio.sleep(min(max(remaining_seconds, 0.0), LEASE_WATCH_SECONDS))
            runner.check_lease()

    async def _depart(self, table: AttemptTable, runner: Runner) -> None:
        """Returns when the worker may leave: drained within its time, or told to stop."""
        await self._draining.wait()
        stop_now = asyncio.create_task(self._stop_now.wait())
        ended = asyncio.create_task(self._finish_all(table, runner))
        try:
            await asyncio.wait({stop_now, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not self._stop_now.is_set():
                ended.result()
                # Said before the goodbye: the end of the stream may end this task first.
                log.info("drained", worker=self.name)
                if self._session is not None:
                    await self._session.leave()
        finally:
            for task in (stop_now, ended):
                task.cancel()

    async def _settle(self, table: AttemptTable) -> None:
        """Waits until nothing is left, also of what was on its way when the cluster heard of the drain."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_CONFIRMATION_SECONDS_MAX):
                if self._session is not None:
                    await self._session.drain()
        await table.idle.wait()

    async def _finish_all(self, table: AttemptTable, runner: Runner) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_seconds):
                await self._settle(table)
        if table.running:
            log.warning("attempts did not end in time and are stopped", count=len(table.running))
            grace_seconds = max(attempt.definition.grace_seconds for attempt in table.running.values())
            runner.stop_all(StopReason.SHUT_DOWN, "the worker was shut down before the attempt ended")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_seconds + ACKNOWLEDGEMENT_SECONDS_MAX):
                    await table.idle.wait()
        if table.unacknowledged:
            log.error("results were not acknowledged before the worker left", count=len(table.unacknowledged))
