"""An execution that is over, as spans of OpenTelemetry: when it was due and fired, how long it waited, each attempt, its end.

Everything is read from the state, so whoever exports needs to have seen nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from horologe.node import views
from horologe.node.catalog import Catalog
from horologe.node.trace_ids import Parent, TraceIds
from horologe.raft.model import AttemptState, ExecutionState, Trigger
from horologe.raft.tables import Tables
from horologe.v1 import execution_pb2

SCOPE = InstrumentationScope("horologe")
TEXT_LENGTH_MAX = 500
_BAD_ENDS = (ExecutionState.FAILED, ExecutionState.DEAD)
_BAD_ATTEMPTS = (AttemptState.FAILED, AttemptState.TIMED_OUT, AttemptState.LOST)
Attributes = Mapping[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class SpanMaker:
    """Makes the spans of one cluster's executions, as one node sends them."""

    ids: TraceIds
    resource: Resource

    def context(self, trace: int, span: int, *, is_remote: bool = False) -> SpanContext:
        """Of a span that is sampled."""
        return SpanContext(trace, span, is_remote, TraceFlags(TraceFlags.SAMPLED))

    def span(
        self,
        name: str,
        trace: int,
        span: int,
        times_ns: tuple[int, int],
        *,
        parent: SpanContext | None = None,
        attributes: Attributes | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        error: str | None = None,
        events: Sequence[Event] = (),
        links: Sequence[Link] = (),
    ) -> ReadableSpan:
        """`error`: it went wrong, and the text says how."""
        begin, end = times_ns
        return ReadableSpan(
            name,
            context=self.context(trace, span),
            parent=parent,
            resource=self.resource,
            attributes=attributes,
            events=events,
            links=links,
            kind=kind,
            status=Status(StatusCode.UNSET) if error is None else Status(StatusCode.ERROR, error[:TEXT_LENGTH_MAX]),
            start_time=begin,
            end_time=max(begin, end),
            instrumentation_scope=SCOPE,
        )

    def of_execution(self, tables: Tables, catalog: Catalog, number: int) -> list[ReadableSpan]:
        """All spans of an execution that has ended; none if it is gone, or goes on again."""
        execution = views.read_execution(tables, number)
        if execution is None or not execution.end_ms:
            return []
        ids, view = self.ids, views.execution_view(tables, catalog, number, execution, full=True)
        trace = ids.trace(execution.root or number)
        here = self.context(trace, ids.execution(number))
        state = ExecutionState(execution.state)
        _, namespace, _, job, *_ = view.name.split("/")
        common: Attributes = {
            "horologe.namespace": namespace,
            "horologe.job": job,
            "horologe.execution": number,
            "messaging.system": "horologe",
            "messaging.destination.name": view.queue,
        }
        begin_ms = min(execution.planned_ms or execution.due_ms, execution.create_ms)
        is_bad = state in _BAD_ENDS
        is_part = execution.root not in (0, number)
        spans = [
            self.span(
                f"execution {job}",
                trace,
                ids.execution(number),
                (_ns(begin_ms), _ns(execution.end_ms)),
                parent=self.context(trace, ids.execution(execution.root), is_remote=True) if is_part else None,
                attributes={
                    **common,
                    "horologe.state": state.name.lower(),
                    "horologe.trigger": Trigger(execution.trigger).name.lower(),
                    "horologe.due_time": view.due_time.ToJsonString(),
                    "horologe.attempts": len(view.attempts),
                    **({"error.type": state.name.lower()} if is_bad else {}),
                },
                error=view.reason or "the last attempt failed" if is_bad else None,
                events=[Event(state.name.lower(), timestamp=_ns(execution.end_ms))],
            ),
            self.span(
                "fire",
                trace,
                ids.part(number, "fire"),
                (_ns(begin_ms), _ns(execution.create_ms)),
                parent=here,
                attributes=common,
            ),
        ]
        waits_from = _ns(execution.create_ms)
        for attempt in view.attempts:
            begin = attempt.assign_time.ToNanoseconds()
            part = ids.part(number, f"wait/{attempt.number}")
            spans.append(self.span("wait", trace, part, (waits_from, begin), parent=here, attributes=common))
            spans.append(self._attempt(trace, number, attempt, here, common, _ns(execution.end_ms)))
            waits_from = spans[-1].end_time or begin
        return spans

    def _attempt(
        self, trace: int, number: int, attempt: execution_pb2.Attempt, parent: SpanContext, common: Attributes, end: int
    ) -> ReadableSpan:
        state = AttemptState(attempt.state)
        attributes: dict[str, str | int | bool] = {
            **common,
            "horologe.attempt": attempt.number,
            "horologe.attempt_state": state.name.lower(),
            "horologe.worker": attempt.worker,
            "horologe.fencing_token": attempt.fencing_token,
        }
        if attempt.HasField("exit_code"):
            attributes["process.exit.code"] = attempt.exit_code
        if attempt.HasField("http_status"):
            attributes["http.response.status_code"] = attempt.http_status
        is_bad = state in _BAD_ATTEMPTS
        if is_bad:
            attributes["error.type"] = attempt.error_kind or state.name.lower()
        began = attempt.start_time if attempt.HasField("start_time") else attempt.assign_time
        return self.span(
            f"attempt {attempt.number}",
            trace,
            self.ids.attempt(number, attempt.number),
            (attempt.assign_time.ToNanoseconds(), _time_ns(attempt.end_time) or end),
            parent=parent,
            kind=SpanKind.PRODUCER,
            attributes=attributes,
            error=(attempt.error or state.name.lower()) if is_bad else None,
            events=[Event("started", timestamp=began.ToNanoseconds())],
        )

    def of_submission(
        self,
        method: str,
        attributes: Attributes,
        times_ns: tuple[int, int],
        number: int,
        caller: Parent | None,
        error: str | None,
    ) -> ReadableSpan:
        """A call that makes an execution (`number`) or a job (0): in the caller's trace, with a link to the execution's, or in
        that one if the caller has none."""
        trace, links, parent = self.ids.trace(number), [], None
        execution = self.context(trace, self.ids.execution(number), is_remote=True)
        if caller is not None:
            parent = self.context(caller.trace, caller.span, is_remote=True)
            links = [Link(execution)] if number else []
        elif number:
            parent = execution
        return self.span(
            method,
            trace if caller is None else caller.trace,
            self.ids.part(number, f"submit/{times_ns[0]}"),
            times_ns,
            parent=parent,
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", **attributes},
            error=error,
            links=links,
        )


def _ns(time_ms: int) -> int:
    return time_ms * 1_000_000


def _time_ns(time: Timestamp) -> int:
    return time.ToNanoseconds() if time.seconds else 0
