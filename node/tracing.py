"""Traces of executions on their way out: collected on the event loop, made into spans and sent by a thread of their own.

Nobody waits for it. What comes while too much waits is dropped, and counted. The node that leads when an execution ends sends its
trace; a call's span is sent by the node that took the call. Imported only where tracing is on: it needs OpenTelemetry.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable
from queue import Empty, Full, Queue
from typing import Any

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from horologe.node.catalog import Catalog
from horologe.node.clock import Clock
from horologe.node.config import NodeConfig
from horologe.node.errors import ApiError
from horologe.node.interceptors import Context, Guard
from horologe.node.member_conditions import program_version
from horologe.node.metrics import Metrics
from horologe.node.trace_ids import Parent, TraceIds, is_sampled, read_traceparent, traceparent
from horologe.node.trace_spans import TEXT_LENGTH_MAX, SpanMaker
from horologe.raft.machine import first_cluster_id_of
from horologe.raft.model import Effects
from horologe.raft.store import Store, StoreError
from horologe.raft.tables import Tables

WAITING_MAX = 1_000
"""Batches of executions, or calls."""
EXECUTIONS_PER_EXPORT = 200
EXPORT_SECONDS_MAX = 10.0
LOOK_SECONDS = 0.5
"""The thread looks this often whether it is to end."""
STOP_SECONDS = 3.0
TRACEPARENT_KEY = "traceparent"
SUBMISSIONS = frozenset({"RunJob", "CreateJob"})

log = structlog.get_logger(__name__)
Made = Callable[[SpanMaker], ReadableSpan]


class Tracing:
    """Of one node."""

    def __init__(
        self, store: Store, clock: Clock, config: NodeConfig, metrics: Metrics, exporter: SpanExporter
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._ratio = config.tracing_ratio
        self.clock = clock
        self._exporter = exporter
        self._resource = Resource(
            {"service.name": "horologe", "service.instance.id": config.name, "service.version": program_version()}
        )
        self._maker: SpanMaker | None = None
        self._catalog = Catalog(records_max=1_000)
        self._waiting: Queue[list[int] | Made] = Queue(WAITING_MAX)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tracing", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Sends what waits, if it goes fast. For another thread than the event loop's."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)
        self._exporter.shutdown()

    def guards(self) -> list[Guard]:
        """What calls pass."""
        return [SubmitTracer(self)]

    # For the event loop

    def traceparent(self, tables: Tables, run: int, number: int, attempt: int) -> str:
        """What the handler of an attempt goes on from; empty if the trace is not among those that are sent."""
        maker = self._maker_of(tables)
        if maker is None or not is_sampled(maker.ids.trace(run), self._ratio):
            return ""
        return traceparent(maker.ids.trace(run), maker.ids.attempt(number, attempt))

    def note(self, applied: Iterable[Effects]) -> None:
        """What entries did while this node leads."""
        numbers = [number for effects in applied for number, _, _ in effects.ended]
        if numbers:
            self._add(numbers, len(numbers))

    def note_call(self, made: Made) -> None:
        """A call that made something."""
        self._add(made, 1)

    def _add(self, what: list[int] | Made, count: int) -> None:
        try:
            self._waiting.put_nowait(what)
        except Full:
            self._metrics.traced.labels("dropped").inc(count)

    # The thread

    def _run(self) -> None:
        while True:
            try:
                batch = self._waiting.get(timeout=LOOK_SECONDS)
            except Empty:
                if self._stopping.is_set():
                    return
                continue
            try:
                if isinstance(batch, list):
                    for start in range(0, len(batch), EXECUTIONS_PER_EXPORT):
                        self._send_executions(batch[start : start + EXECUTIONS_PER_EXPORT])
                else:
                    self._send_call(batch)
            except StoreError:
                return  # the node ends
            except Exception:
                # A defect here is none of the cluster's business.
                log.exception("traces not sent")
                self._metrics.traced.labels("failed").inc(len(batch) if isinstance(batch, list) else 1)

    def _send_executions(self, numbers: list[int]) -> None:
        spans: list[ReadableSpan] = []
        count = 0
        with self._store.read() as tables:
            maker = self._maker_of(tables)
            for number in numbers if maker is not None else ():
                made = maker.of_execution(tables, self._catalog, number) if maker is not None else []
                if made and made[0].context is not None and is_sampled(made[0].context.trace_id, self._ratio):
                    spans += made
                    count += 1
        self._export(spans, count)

    def _send_call(self, made: Made) -> None:
        with self._store.read() as tables:
            maker = self._maker_of(tables)
        if maker is not None:
            span = made(maker)
            if span.context is not None and (span.links or is_sampled(span.context.trace_id, self._ratio)):
                self._export([span], 1)

    def _export(self, spans: list[ReadableSpan], count: int) -> None:
        if spans:
            result = self._exporter.export(spans)
            self._metrics.traced.labels("sent" if result is SpanExportResult.SUCCESS else "failed").inc(count)

    def _maker_of(self, tables: Tables) -> SpanMaker | None:
        """None before the cluster has its identity."""
        if self._maker is None and (cluster := first_cluster_id_of(tables)):
            self._maker = SpanMaker(TraceIds(cluster), self._resource)
        return self._maker


def otlp_exporter(config: NodeConfig) -> SpanExporter:
    """To where the node's options say. Headers and certificates come from OpenTelemetry's own variables,
    `OTEL_EXPORTER_OTLP_HEADERS` and the like."""
    return OTLPSpanExporter(endpoint=config.tracing_endpoint, timeout=EXPORT_SECONDS_MAX)


class SubmitTracer(Guard):
    """Notes the calls that make executions and jobs, with the trace that their caller says to be in (`traceparent`)."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def _guard_call(self, method: str, call: Callable[[Any, Context], Any]) -> Callable[[Any, Context], Awaitable[Any]]:
        service, _, name = method.rpartition("/")
        if name not in SUBMISSIONS:
            return call

        async def traced(request: Any, context: Context) -> Any:
            caller = _caller_of(context)
            began, answer, error = self._tracing.clock.wall_ms(), None, None
            try:
                answer = await call(request, context)
                return answer
            except ApiError as refused:
                error = refused.reason
                raise
            finally:
                times = (began * 1_000_000, self._tracing.clock.wall_ms() * 1_000_000)
                number = _number_in(answer)
                if (caller is not None and caller.is_sampled) or (caller is None and number):
                    attributes = {
                        "rpc.service": service.removeprefix("/"),
                        "rpc.method": name,
                        # Not checked yet by anybody, and kept until it is sent.
                        "horologe.job": (getattr(request, "name", "") or getattr(request, "job_id", ""))[
                            :TEXT_LENGTH_MAX
                        ],
                    }
                    self._tracing.note_call(
                        lambda maker: maker.of_submission(name, attributes, times, number, caller, error)
                    )

        return traced

    def _guard_stream(self, method: str, call: Callable[[Any, Context], Any]) -> Callable[[Any, Context], Any]:
        return call


def _caller_of(context: Context) -> Parent | None:
    for key, value in context.invocation_metadata() or ():
        if key == TRACEPARENT_KEY:
            return read_traceparent(value.decode(errors="replace") if isinstance(value, bytes) else str(value))
    return None


def _number_in(answer: Any) -> int:
    """Of the execution that an answer tells of; 0 if it tells of none."""
    name = getattr(getattr(answer, "execution", None), "name", "")
    return int(name.rpartition("/")[2]) if name else 0
