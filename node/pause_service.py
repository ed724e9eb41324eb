"""The API's PauseService: pauses of whole namespaces, and of the cluster."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.node import errors, views
from horologe.node.callers import current_caller
from horologe.node.context import NodeContext
from horologe.node.names import read_namespace
from horologe.node.writes import Context, Writer, WriteRequest, author_of
from horologe.raft.access import Verb
from horologe.raft.pauses import pauses_by_name
from horologe.v1 import pause_service_pb2, pause_service_pb2_grpc


class PauseService(pause_service_pb2_grpc.PauseServiceServicer):
    """See pause_service.proto."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._writer = Writer(context)

    async def Pause(self, request: pause_service_pb2.PauseRequest, context: Context) -> pause_service_pb2.PauseResponse:
        if len(request.reason) > errors.MESSAGE_LENGTH_MAX:
            raise errors.invalid_field(
                "reason", f"{len(request.reason)} characters are too many; at most {errors.MESSAGE_LENGTH_MAX}"
            )
        pause = log_pb2.PauseScope(
            namespace=_read_scope(request.scope), paused=True, reason=request.reason, by=author_of(context)
        )
        await self._writer.settle(log_pb2.Command(pause_scope=pause), WriteRequest.of("Pause", request), context)
        return pause_service_pb2.PauseResponse(revision=self._node.status().revision)

    async def Resume(
        self, request: pause_service_pb2.ResumeRequest, context: Context
    ) -> pause_service_pb2.ResumeResponse:
        pause = log_pb2.PauseScope(namespace=_read_scope(request.scope), paused=False, catchup=request.catchup)
        await self._writer.settle(log_pb2.Command(pause_scope=pause), WriteRequest.of("Resume", request), context)
        return pause_service_pb2.ResumeResponse(revision=self._node.status().revision)

    async def ListPauses(
        self, request: pause_service_pb2.ListPausesRequest, context: Context
    ) -> pause_service_pb2.ListPausesResponse:
        del request, context
        rights = current_caller().rights
        with self._node.store.read() as tables:
            pauses = [
                pause_service_pb2.ScopePause(
                    scope=f"namespaces/{name}" if name else "",
                    reason=pause.reason,
                    author=pause.by,
                    time=views.timestamp(pause.time_ms),
                )
                for name, pause in sorted(pauses_by_name(tables).items())
                if not name or rights.may(Verb.JOB_READ, name)
            ]
            return pause_service_pb2.ListPausesResponse(pauses=pauses, revision=views.revision(tables))


def _read_scope(scope: str) -> str:
    """The namespace; empty for the cluster."""
    return read_namespace(scope, "scope") if scope else ""
