"""The API's NamespaceService: what is said of all jobs in a namespace."""

# ruff: noqa: N802 - the methods have the names of the proto

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from horologe.log.v1 import log_pb2
from horologe.node import errors, paging, views
from horologe.node.callers import current_caller
from horologe.node.context import NodeContext
from horologe.node.errors import ApiError
from horologe.node.masks import changed_fields
from horologe.node.names import read_namespace
from horologe.node.schedule import duration_ms
from horologe.node.start_rates import rate_view, read_rate
from horologe.node.validation import MAX_RUNNING_MAX
from horologe.node.writes import Context, Writer, WriteRequest
from horologe.raft.access import Verb
from horologe.raft.keeping import read_kept
from horologe.raft.permits import LimitKind, Permits, limit_of
from horologe.raft.tables import Tables
from horologe.v1 import namespace_service_pb2, namespace_service_pb2_grpc

CHANGEABLE = frozenset(
    {
        "max_running",
        "history_retention",
        "history_count_max",
        "dead_letter_retention",
        "job_count_max",
        "start_rate",
    }
)
RETENTION_MS_MIN = 3_600_000
RETENTION_MS_MAX = 36_500 * 86_400_000
HISTORY_COUNT_MAX = 1_000_000_000
JOB_COUNT_MAX = 1_000_000_000


class NamespaceService(namespace_service_pb2_grpc.NamespaceServiceServicer):
    """See namespace_service.proto."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._writer = Writer(context)

    async def ListNamespaces(
        self, request: namespace_service_pb2.ListNamespacesRequest, context: Context
    ) -> namespace_service_pb2.ListNamespacesResponse:
        del context
        size, start = paging.page_size(request), paging.start_key(request)
        rights = current_caller().rights
        response = namespace_service_pb2.ListNamespacesResponse()
        with self._node.store.read() as tables:
            response.revision = views.revision(tables)
            for looked_at, (key, value) in enumerate(tables.namespace.scan(start or b"")):
                is_shown = rights.may(Verb.JOB_READ, key.decode())
                # A page token can be read: it names nothing that is not shown.
                if (is_shown and len(response.namespaces) >= size) or looked_at >= paging.SCAN_ROWS_MAX:
                    response.next_page_token = paging.next_token(request, bytes(key))
                    break
                if is_shown:
                    record = log_pb2.NamespaceRecord.FromString(bytes(value))
                    response.namespaces.append(_view(tables, key.decode(), record))
        return response

    async def GetNamespace(
        self, request: namespace_service_pb2.GetNamespaceRequest, context: Context
    ) -> namespace_service_pb2.GetNamespaceResponse:
        del context
        name = read_namespace(request.name, "name")
        with self._node.store.read() as tables:
            return namespace_service_pb2.GetNamespaceResponse(
                namespace=_find(tables, name), revision=views.revision(tables)
            )

    async def UpdateNamespace(
        self, request: namespace_service_pb2.UpdateNamespaceRequest, context: Context
    ) -> namespace_service_pb2.UpdateNamespaceResponse:
        name = read_namespace(request.namespace.name, "namespace.name")
        command = log_pb2.SetNamespace(name=name)
        wanted = request.namespace
        changed = changed_fields(wanted, request.update_mask, CHANGEABLE)
        if "max_running" in changed:
            command.max_running = _read_limit(wanted.max_running, "max_running", MAX_RUNNING_MAX)
        if "history_count_max" in changed:
            command.history_count_max = _read_limit(wanted.history_count_max, "history_count_max", HISTORY_COUNT_MAX)
        if "history_retention" in changed:
            command.history_ms = _read_retention(wanted, "history_retention")
        if "dead_letter_retention" in changed:
            command.dead_letters_ms = _read_retention(wanted, "dead_letter_retention")
        if "job_count_max" in changed:
            command.job_count_max = _read_limit(wanted.job_count_max, "job_count_max", JOB_COUNT_MAX)
        if "start_rate" in changed:
            command.start_rate.SetInParent()
            if wanted.HasField("start_rate"):
                command.start_rate.CopyFrom(read_rate(wanted.start_rate, "namespace.start_rate"))
        write = WriteRequest.of("UpdateNamespace", request)
        await self._writer.settle(log_pb2.Command(set_namespace=command), write, context, needs_space=True)
        with self._node.store.read() as tables:
            return namespace_service_pb2.UpdateNamespaceResponse(
                namespace=_find(tables, name), revision=views.revision(tables)
            )


def _read_limit(wanted: int, field: str, highest: int) -> int:
    if not 0 <= wanted <= highest:
        raise errors.invalid_field(f"namespace.{field}", f"{wanted} is outside 0 (no limit) to {highest}")
    return wanted


def _read_retention(namespace: namespace_service_pb2.Namespace, field: str) -> int:
    """In milliseconds; 0 if the default is wanted back, which is said by leaving it out."""
    if not namespace.HasField(field):  # type: ignore[arg-type]
        return 0
    found: Duration = getattr(namespace, field)
    if not RETENTION_MS_MIN <= duration_ms(found) <= RETENTION_MS_MAX:
        raise errors.invalid_field(f"namespace.{field}", f"{found.seconds} s are outside 1 hour to 36,500 days")
    return duration_ms(found)


def _find(tables: Tables, name: str) -> namespace_service_pb2.Namespace:
    raw = tables.namespace.get(name.encode())
    if raw is None:
        raise ApiError(
            "NAMESPACE_NOT_FOUND",
            f"namespaces/{name} does not exist; it is made with its first job, or when something is set for it",
            metadata={"name": f"namespaces/{name}"},
        )
    return _view(tables, name, log_pb2.NamespaceRecord.FromString(bytes(raw)))


def _view(tables: Tables, name: str, record: log_pb2.NamespaceRecord) -> namespace_service_pb2.Namespace:
    kept = read_kept(tables, record.id)
    view = namespace_service_pb2.Namespace(
        name=f"namespaces/{name}",
        max_running=record.max_running,
        running_count=Permits(tables).running(limit_of(LimitKind.NAMESPACE, record.id)),
        history_count_max=kept.count_max,
        finished_count=kept.executions,
        not_run_count=kept.idle,
        job_count_max=record.job_count_max,
        job_count=record.job_count,
    )
    if record.HasField("start_rate"):
        view.start_rate.CopyFrom(rate_view(record.start_rate))
    if kept.history_ms:
        view.history_retention.FromMilliseconds(kept.history_ms)
    if kept.dead_letters_ms:
        view.dead_letter_retention.FromMilliseconds(kept.dead_letters_ms)
    return view
