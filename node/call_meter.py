"""Counts the calls of the API by method and status, whatever way they came in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
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

    @asynccontextmanager
    async def _around(self, method: str, request: Any, context: Context) -> AsyncIterator[None]:
        name, began, code = short_name(method), perf_counter(), grpc.StatusCode.OK
        try:
            yield
        except BaseException as error:
            code = _code_of(error)
            raise
        finally:
            self._metrics.calls.labels(name, code.name).inc()
            self._metrics.call_duration.labels(name).observe(perf_counter() - began)

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


def _code_of(error: BaseException) -> grpc.StatusCode:
    if isinstance(error, ApiError):
        return error.code
    if isinstance(error, Exception) and not isinstance(error, grpc.aio.BaseError):
        return grpc.StatusCode.INTERNAL
    # The caller is gone, or was told to go.
    return grpc.StatusCode.CANCELLED
