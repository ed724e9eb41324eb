"""The methods of DiagnosticsService, as `calls.py` has those of the other services: what the node that answers knows of itself.

Each node has its own log: `client.at(address)` asks one of them.
"""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from horologe.client.calls import Call, Method, itself
from horologe.v1 import diagnostics_service_pb2 as diagnostics
from horologe.v1.diagnostics_service_pb2 import GetDiagnosticsResponse, ListLogLevelsResponse, SetLogLevelResponse

__all__ = ["get_diagnostics", "list_log_levels", "set_log_level"]

_SERVICE = "DiagnosticsService"
LIST_LOG_LEVELS = Method(_SERVICE, "ListLogLevels", diagnostics.ListLogLevelsRequest, ListLogLevelsResponse)
SET_LOG_LEVEL = Method(_SERVICE, "SetLogLevel", diagnostics.SetLogLevelRequest, SetLogLevelResponse, is_write=True)
GET_DIAGNOSTICS = Method(_SERVICE, "GetDiagnostics", diagnostics.GetDiagnosticsRequest, GetDiagnosticsResponse)


def list_log_levels(namespace: str) -> Call[ListLogLevelsResponse]:
    """How important log lines of the node must be, where that was changed."""
    del namespace
    return Call(LIST_LOG_LEVELS, diagnostics.ListLogLevelsRequest(), itself)


def set_log_level(
    namespace: str, level: str, *, logger: str = "", seconds: float | None = None
) -> Call[SetLogLevelResponse]:
    """Changes that for a time: 10 minutes unless `seconds` says otherwise. Harmless to repeat.

    `level`: `debug`, `info`, `warning` or `error`; empty: as usual again. `logger`: that of a module, and those below it; by
    default all that have no level of their own.
    """
    del namespace
    request = diagnostics.SetLogLevelRequest(logger=logger, level=level)
    if seconds is not None:
        duration = Duration()
        duration.FromMicroseconds(round(seconds * 1_000_000))
        request.duration.CopyFrom(duration)
    return Call(SET_LOG_LEVEL, request, itself)


def get_diagnostics(namespace: str) -> Call[GetDiagnosticsResponse]:
    """Options, last log lines, threads, versions, counters and metrics of the node; nothing secret."""
    del namespace
    return Call(GET_DIAGNOSTICS, diagnostics.GetDiagnosticsRequest(), itself)
