"""What runs outside the cluster: the SDK, the worker, the command line.

    from horologe.client import connect, jobs

    with connect() as client:
        client.create_job(jobs.job("hello", jobs.every("5s"), jobs.shell(["echo", "hello"])))

Names are imported when they are first used, so that a program (the command line, say) loads gRPC only if it calls.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from horologe.client import jobs
    from horologe.client.async_client import AsyncClient
    from horologe.client.calls import AppliedJob
    from horologe.client.client import Client, connect
    from horologe.client.cluster_context import ClusterContext
    from horologe.client.context import AttemptCancelledError, Context, PermanentError
    from horologe.client.errors import (
        AlreadyExists,
        Conflict,
        DeadlineExceeded,
        FailedPrecondition,
        HorologeError,
        Internal,
        InvalidArgument,
        InvalidBackup,
        InvalidContext,
        InvalidFile,
        NotFound,
        OutcomeUnknown,
        OutOfRange,
        PermissionDenied,
        Problem,
        ResourceExhausted,
        Unauthenticated,
        Unavailable,
        Violation,
    )
    from horologe.client.worker import Handlers, Worker, WorkerRefusedError

__all__ = [
    "AlreadyExists",
    "AppliedJob",
    "AsyncClient",
    "AttemptCancelledError",
    "Client",
    "ClusterContext",
    "Conflict",
    "Context",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Handlers",
    "HorologeError",
    "Internal",
    "InvalidArgument",
    "InvalidBackup",
    "InvalidContext",
    "InvalidFile",
    "NotFound",
    "OutOfRange",
    "OutcomeUnknown",
    "PermanentError",
    "PermissionDenied",
    "Problem",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
    "Violation",
    "Worker",
    "WorkerRefusedError",
    "connect",
    "jobs",
]

# Where a name lives, unless it is an error.
_HOMES = {
    "AppliedJob": "calls",
    "AsyncClient": "async_client",
    "AttemptCancelledError": "context",
    "Client": "client",
    "ClusterContext": "cluster_context",
    "Context": "context",
    "Handlers": "worker",
    "PermanentError": "context",
    "Worker": "worker",
    "WorkerRefusedError": "worker",
    "connect": "client",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "jobs":
        return importlib.import_module(f"{__name__}.jobs")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return __all__
