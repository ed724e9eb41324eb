"""The API's DiagnosticsService: what this one process knows of itself, for who looks for a fault. None of it is replicated."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import logging
import platform
import ssl
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import fields
from types import FrameType

import structlog

from horologe.node import errors, views
from horologe.node.callers import current_caller
from horologe.node.config_report import effective_options
from horologe.node.context import NodeContext
from horologe.node.log_levels import USUAL_SECONDS, LogLevelError, LogLevels, name_of
from horologe.node.member_conditions import program_version
from horologe.node.recent_log import recent_log
from horologe.node.writes import Context
from horologe.raft.model import Counters
from horologe.v1 import diagnostics_service_pb2, diagnostics_service_pb2_grpc

TASKS_MAX = 200
TASK_FRAMES_MAX = 10
LIBRARIES = (
    "pysyncobj",
    "lmdb",
    "grpcio",
    "protobuf",
    "cryptography",
    "uvloop",
    "tzdata",
    "croniter",
    "fastapi",
    "uvicorn",
)

log = structlog.get_logger(__name__)


class DiagnosticsService(diagnostics_service_pb2_grpc.DiagnosticsServiceServicer):
    """See diagnostics_service.proto."""

    def __init__(self, context: NodeContext, levels: LogLevels) -> None:
        self._node = context
        self._levels = levels

    async def ListLogLevels(
        self, request: diagnostics_service_pb2.ListLogLevelsRequest, context: Context
    ) -> diagnostics_service_pb2.ListLogLevelsResponse:
        del request, context
        return diagnostics_service_pb2.ListLogLevelsResponse(node=self._node.config.name, levels=self._views())

    async def SetLogLevel(
        self, request: diagnostics_service_pb2.SetLogLevelRequest, context: Context
    ) -> diagnostics_service_pb2.SetLogLevelResponse:
        del context
        duration = request.duration
        seconds = duration.seconds + duration.nanos / 1e9 if request.HasField("duration") else USUAL_SECONDS
        try:
            self._levels.set(request.logger, request.level, seconds)
        except LogLevelError as error:
            raise errors.invalid_field(error.field, str(error)) from error
        # A moment later, so that it is surely over then.
        asyncio.get_running_loop().call_later(seconds + 0.01, self._levels.expire)
        log.warning(
            "log level changed",
            logger_changed=request.logger or "all",
            level_now=request.level or "as usual",
            seconds=seconds,
            principal=current_caller().principal,
        )
        return diagnostics_service_pb2.SetLogLevelResponse(node=self._node.config.name, levels=self._views())

    async def GetDiagnostics(
        self, request: diagnostics_service_pb2.GetDiagnosticsRequest, context: Context
    ) -> diagnostics_service_pb2.GetDiagnosticsResponse:
        del request, context
        response = diagnostics_service_pb2.GetDiagnosticsResponse(
            node=self._node.config.name,
            time=views.timestamp(self._node.clock.wall_ms()),
            threads=_threads(),
            tasks=_tasks(),
        )
        for option in effective_options(self._node.config):
            response.options.add(name=option.name, value_json=json.dumps(option.value), origin=option.origin)
        await asyncio.to_thread(self._add_slow, response)
        return response

    def _add_slow(self, response: diagnostics_service_pb2.GetDiagnosticsResponse) -> None:
        """What takes some milliseconds."""
        response.log_lines.extend(recent_log.lines())
        response.versions.update(_versions())
        with self._node.store.read() as tables:
            counters = Counters.load(tables)
        response.counters.update({field.name: int(getattr(counters, field.name)) for field in fields(counters)})
        page, _ = self._node.metrics.page("text/plain")
        response.metrics = page.decode()

    def _views(self) -> Iterator[diagnostics_service_pb2.LogLevel]:
        now, wall_ms = self._node.clock.monotonic(), self._node.clock.wall_ms()
        changes = self._levels.changes()
        if not any(change.logger == "" for change in changes):
            level = name_of(logging.getLogger().level)
            yield diagnostics_service_pb2.LogLevel(level=level, usual_level=level)
        for change in changes:
            ends_ms = wall_ms + int(1000 * (change.ends_at - now))
            yield diagnostics_service_pb2.LogLevel(
                logger=change.logger,
                level=name_of(change.level),
                usual_level=name_of(change.usual),
                expire_time=views.timestamp(ends_ms),
            )


def _threads() -> Iterator[diagnostics_service_pb2.StackTrace]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for number, frame in sys._current_frames().items():
        frames = [_place(each, line) for each, line in traceback.walk_stack(frame)]
        yield diagnostics_service_pb2.StackTrace(name=names.get(number, str(number)), frames=reversed(frames))


def _tasks() -> Iterator[diagnostics_service_pb2.StackTrace]:
    for task in sorted(asyncio.all_tasks(), key=lambda task: task.get_name())[:TASKS_MAX]:
        frames = [_place(frame, frame.f_lineno) for frame in task.get_stack(limit=TASK_FRAMES_MAX)]
        yield diagnostics_service_pb2.StackTrace(name=task.get_name(), frames=frames)


def _place(frame: FrameType, line: int) -> str:
    return f"{frame.f_code.co_filename}:{line} {frame.f_code.co_qualname}"


def _versions() -> dict[str, str]:
    found = {
        "horologe": program_version(),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "platform": platform.platform(),
    }
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found
