"""Traces of executions: ids that everybody agrees on, spans that tell what happened, and nobody who waits for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from pydantic import ValidationError
from service_harness import FakeNode, interval_job

from horologe.chaos.cluster import eventually
from horologe.log.v1 import log_pb2
from horologe.node import trace_ids, tracing
from horologe.node.config import NodeConfig
from horologe.node.gateway import Gateway
from horologe.node.output_copies import OutputCopies
from horologe.node.sessions import WorkerSession
from horologe.node.trace_ids import Parent, TraceIds, is_sampled, read_traceparent, traceparent
from horologe.node.tracing import Tracing
from horologe.raft.commands import NO_RETRY, Outcome
from horologe.raft.model import Effects
from horologe.v1 import job_service_pb2 as jobs

IDS = TraceIds("00000000-0000-4000-8000-000000000001")


def test_ids_follow_from_the_cluster_and_the_number() -> None:
    again = TraceIds(IDS.cluster)
    assert (again.trace(7), again.attempt(7, 1)) == (IDS.trace(7), IDS.attempt(7, 1))
    assert TraceIds("another").trace(7) != IDS.trace(7)
    spans = [IDS.execution(7), IDS.attempt(7, 1), IDS.attempt(7, 2), IDS.execution(8), IDS.part(7, "fire")]
    assert len(set(spans)) == len(spans)
    assert all(0 < span < 1 << 64 for span in spans)
    assert 0 < IDS.trace(7) < 1 << 128


def test_a_part_of_all_traces() -> None:
    traces = [IDS.trace(number) for number in range(2_000)]
    assert all(is_sampled(trace, 1.0) for trace in traces)
    assert not any(is_sampled(trace, 0.0) for trace in traces)
    some = {trace for trace in traces if is_sampled(trace, 0.25)}
    assert 400 < len(some) < 600
    # Who is in a small part is in a larger one.
    assert some <= {trace for trace in traces if is_sampled(trace, 0.5)}


def test_traceparent_there_and_back() -> None:
    text = traceparent(IDS.trace(7), IDS.execution(7))
    assert read_traceparent(text) == Parent(IDS.trace(7), IDS.execution(7), True)
    assert read_traceparent(text[:-2] + "00") == Parent(IDS.trace(7), IDS.execution(7), False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        f"00-{0:032x}-{1:016x}-01",
        f"00-{1:032x}-{0:016x}-01",
        f"ff-{1:032x}-{1:016x}-01",
        f"00-{1:032x}-{1:016x}-01-more",
        f"00-{1:032X}-{1:016x}-0G",
        f"00-{1:032x}-{1:016x}",
    ],
)
def test_what_is_no_traceparent(text: str) -> None:
    assert read_traceparent(text) is None


def test_a_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trace_ids.is_installed()
    endpoint = "http://collector:4318/v1/traces"
    assert NodeConfig(name="n1", tracing_endpoint=endpoint).tracing_endpoint == endpoint
    with pytest.raises(ValidationError, match="no address of http"):
        NodeConfig(name="n1", tracing_endpoint="collector:4317")
    monkeypatch.setattr(trace_ids, "is_installed", lambda: False)
    with pytest.raises(ValidationError, match=r"pip install 'horologe\[tracing\]'"):
        NodeConfig(name="n1", tracing_endpoint=endpoint)
    assert NodeConfig(name="n1").tracing_endpoint == ""


# What is sent


class Sent(InMemorySpanExporter):
    def by_name(self) -> dict[str, ReadableSpan]:
        spans = self.get_finished_spans()
        assert len({span.context.span_id for span in spans if span.context}) == len(spans)
        return {span.name: span for span in spans}


@pytest.fixture
def sent(node: FakeNode) -> Iterator[Sent]:
    exporter = Sent()
    node.apply(log_pb2.Command(bootstrap=log_pb2.Bootstrap(cluster_id=IDS.cluster)))
    node.context.tracing = sender = Tracing(node.store, node.clock, node.config, node.context.metrics, exporter)
    yield exporter
    sender.stop()


async def create(node: FakeNode, **options: Any) -> int:
    """The job's number."""
    job = interval_job()
    job.retry.max_attempts = 2
    await node.jobs.CreateJob(jobs.CreateJobRequest(job_id="tick", job=job), **options)
    return node.counters().last_job


async def spans(node: FakeNode, sent: Sent, number: int) -> dict[str, ReadableSpan]:
    assert node.context.tracing is not None
    node.context.tracing.note([Effects(ended=[(number, 1, node.execution(number).state)])])
    return await all_sent(sent)


async def all_sent(sent: Sent) -> dict[str, ReadableSpan]:
    async def came() -> bool:
        return bool(sent.get_finished_spans())

    await eventually(came, 60, "spans")
    return sent.by_name()


async def test_a_good_execution(node: FakeNode, sent: Sent) -> None:
    number = node.fire(await create(node), node.open_session())
    began = node.clock.now_ms
    node.clock.now_ms += 2_500
    node.complete(number)
    found = await spans(node, sent, number)
    assert list(found) == ["execution tick", "fire", "wait", "attempt 1"]
    whole, attempt = found["execution tick"], found["attempt 1"]
    assert whole.context is not None and attempt.context is not None and attempt.parent is not None
    assert {span.context.trace_id for span in found.values() if span.context} == {IDS.trace(number)}
    assert (whole.context.span_id, attempt.context.span_id) == (IDS.execution(number), IDS.attempt(number, 1))
    assert whole.parent is None
    assert attempt.parent.span_id == whole.context.span_id
    assert (whole.start_time, whole.end_time) == (began * 1_000_000, (began + 2_500) * 1_000_000)
    assert whole.attributes is not None and attempt.attributes is not None
    assert whole.attributes["horologe.state"] == "completed"
    assert whole.attributes["messaging.destination.name"] == "default"
    assert attempt.attributes["horologe.worker"] == "w1"
    assert all(span.status.status_code is StatusCode.UNSET for span in found.values())
    assert whole.resource.attributes["service.name"] == "horologe"


async def test_one_that_failed_and_was_tried_again(node: FakeNode, sent: Sent) -> None:
    session = node.open_session()
    number = node.fire(await create(node), session)
    node.clock.now_ms += 1_000
    node.complete(number, Outcome.FAILED, error="disk full", error_kind="OSError", exit_code=3)
    assert not node.execution(number).end_ms
    node.clock.now_ms += 4_000
    node.assign(number, session)
    node.clock.now_ms += 1_000
    node.complete(number, Outcome.FAILED, retry_delay_ms=NO_RETRY, error="disk full", error_kind="OSError")
    found = await spans(node, sent, number)
    whole, first, second = found["execution tick"], found["attempt 1"], found["attempt 2"]
    assert whole.attributes is not None and first.attributes is not None
    assert whole.attributes["error.type"] == whole.attributes["horologe.state"] == "dead"
    assert (first.attributes["process.exit.code"], first.attributes["error.type"]) == (3, "OSError")
    assert first.status.description == "disk full"
    assert all(span.status.status_code is StatusCode.ERROR for span in (whole, first, second))
    assert first.end_time is not None and second.start_time is not None
    assert second.start_time - first.end_time == 4_000 * 1_000_000


async def test_what_goes_on_or_is_gone_is_not_sent(node: FakeNode, sent: Sent) -> None:
    number = node.fire(await create(node), node.open_session())
    assert node.context.tracing is not None
    node.context.tracing.note([Effects(ended=[(number, 1, 3), (999, 1, 4)])])
    # What is noted is looked at in its order, by another thread: with the call's span sent, it has looked at both.
    node.context.tracing.note_call(lambda maker: maker.of_submission("RunJob", {}, (1, 2), number, None, None))
    assert list(await all_sent(sent)) == ["RunJob"]
    sent.clear()
    node.complete(number)
    assert len(await spans(node, sent, number)) == 4


async def test_the_handler_goes_on_from_its_attempt(node: FakeNode, sent: Sent) -> None:
    number = node.fire(await create(node), node.open_session())
    copies = OutputCopies(node.context, node.outputs, node.peers.__getitem__)
    session = WorkerSession(node.execution(number).session, "w1")
    gateway = Gateway(node.context, node.outputs, copies)
    await gateway.open(session, [])
    [assignment] = session.outgoing[-1].assignments.assignments
    assert assignment.traceparent == traceparent(IDS.trace(number), IDS.attempt(number, 1))
    node.context.tracing = None
    again = WorkerSession(node.execution(number).session, "w1")
    await gateway.open(again, [])
    assert again.outgoing[-1].assignments.assignments[0].traceparent == ""


class Stuck(InMemorySpanExporter):
    """A collector that answers nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.goes_on = threading.Event(), threading.Event()

    def export(self, spans: Any) -> SpanExportResult:
        self.entered.set()
        assert self.goes_on.wait(60)
        return SpanExportResult.FAILURE


async def test_nobody_waits_for_the_collector(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "WAITING_MAX", 2)
    node.apply(log_pb2.Command(bootstrap=log_pb2.Bootstrap(cluster_id=IDS.cluster)))
    exporter = Stuck()
    sender = Tracing(node.store, node.clock, node.config, node.context.metrics, exporter)
    number = node.fire(await create(node), node.open_session())
    node.complete(number)
    ended = [Effects(ended=[(number, 1, 4)])]
    sender.note(ended)

    async def entered() -> bool:
        return exporter.entered.is_set()

    await eventually(entered, 60, "the exporter is asked")
    for _ in range(5):
        sender.note(ended)
    counted = node.context.metrics.traced
    assert counted.labels("dropped")._value.get() == 3
    exporter.goes_on.set()

    async def all_failed() -> bool:
        return bool(counted.labels("failed")._value.get() == 3)

    await eventually(all_failed, 60, "what was taken has failed")
    sender.stop()


async def test_a_defect_ends_neither_the_thread_nor_the_node(node: FakeNode, sent: Sent) -> None:
    assert node.context.tracing is not None

    def broken(_: Any) -> ReadableSpan:
        raise ZeroDivisionError

    node.context.tracing.note_call(broken)
    number = node.fire(await create(node), node.open_session())
    node.complete(number)
    assert len(await spans(node, sent, number)) == 4
    assert node.context.metrics.traced.labels("failed")._value.get() == 1
