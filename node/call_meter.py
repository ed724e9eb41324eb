"""Counts the calls of the API by method and status, whatever way they came in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from time import perf_counter
from types import TracebackType
from typing import Any

import grpc
import grpc.aio

from horologe.node.authentication import short_name
from horologe.node.errors import ApiError
from horologe.node.interceptors import Context, Guard
from horologe.node.metrics import Metrics


class CallMeter(Guard):
    """Counts the calls of the API. Goes right inside of what translates errors."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

        # The series of each method, as far as calls have asked for them: finding one by its labels costs as much as counting.
        self._count = cache(metrics.calls.labels)
        self._duration = cache(metrics.call_duration.labels)
        self._name = cache(short_name)

    def _around(self, method: str, request: Any, context: Context) -> AbstractAsyncContextManager[None]:
        return _Measurement(self, self._name(method))

    def note(self, name: str, code: grpc.StatusCode, seconds: float) -> None:
        """A call has ended."""
        self._count(name, code.name).inc()
        self._duration(name).observe(seconds)

    @asynccontextmanager
    async def _around_stream(self, method: str, request: Any, context: Context) -> AsyncIterator[None]:
        name, code = short_name(method), grpc.StatusCode.OK
        self._metrics.open_streams.labels(name).inc()
        try:
            yield
        except BaseException as error:
            code = _code_of(error)
            raise
        finally:
            self._metrics.open_streams.labels(name).dec()
            self._metrics.calls.labels(name, code.name).inc()


class _Measurement:
    """Of one call."""

    __slots__ = ("_began", "_meter", "_name")

    def __init__(self, meter: CallMeter, name: str) -> None:
        self._meter = meter
        self._name = name
        self._began = perf_counter()

    async def __aenter__(self) -> None:
        """It has begun already."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        code = grpc.StatusCode.OK if error is None else _code_of(error)
        self._meter.note(self._name, code, perf_counter() - self._began)


def _code_of(error: BaseException) -> grpc.StatusCode:
    if isinstance(error, ApiError):
        return error.code
    if isinstance(error, Exception) and not isinstance(error, grpc.aio.BaseError):
        return grpc.StatusCode.INTERNAL
    # The caller is gone, or was told to go.
    return grpc.StatusCode.CANCELLED
