"""One real node that sends traces: from the call that asks for an execution, through its handler, to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from one_node import OneNode, one_node
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from horologe.chaos.cluster import eventually
from horologe.client import jobs
from horologe.client.worker import Context
from horologe.node.node import Node
from horologe.node.surroundings import Surroundings

CALLER = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


class TracedSurroundings(Surroundings):
    exporter = InMemorySpanExporter()

    def span_exporter(self, config: Any) -> SpanExporter | None:
        return self.exporter


async def test_from_the_call_to_the_end(tmp_path: Path, monkeypatch: Any) -> None:
    TracedSurroundings.exporter = exporter = InMemorySpanExporter()
    monkeypatch.setattr(OneNode, "make_node", lambda here: Node(here._config, TracedSurroundings(here.clock)))
    async with one_node(tmp_path) as here:
        seen: list[str] = []

        @here.worker.handler("note")
        async def note(context: Context) -> None:
            seen.append(context.traceparent)

        await here.client.create_job(jobs.job("traced", jobs.manual(), jobs.python("note")))
        await here.client.create_job(jobs.job("script", jobs.manual(), jobs.shell("echo $TRACEPARENT")))
        with trace.use_span(NonRecordingSpan(CALLER)):
            execution = (await here.client.run_job("traced")).name
        script = (await here.client.run_job("script")).name
        for name in (execution, script):
            await here.client.wait_execution(name, timeout=60)

        def of(job: str) -> list[ReadableSpan]:
            return [
                span for span in exporter.get_finished_spans() if (span.attributes or {}).get("horologe.job") == job
            ]

        async def complete() -> bool:
            names = [span.name for span in exporter.get_finished_spans()]
            return names.count("RunJob") == 2 and {"execution traced", "execution script"} <= set(names)

        await eventually(complete, 60, "the spans of two calls and two executions")
        spans = {span.name: span for span in of("traced")}
        whole, attempt = spans["execution traced"], spans["attempt 1"]
        assert whole.context is not None and attempt.context is not None
        assert seen == [f"00-{attempt.context.trace_id:032x}-{attempt.context.span_id:016x}-01"]
        calls = [span for span in exporter.get_finished_spans() if span.name == "RunJob"]
        [mine] = [span for span in calls if span.parent is not None and span.parent.trace_id == CALLER.trace_id]
        assert mine.context is not None and mine.parent is not None
        assert (mine.context.trace_id, mine.parent.span_id) == (CALLER.trace_id, CALLER.span_id)
        [link] = mine.links
        assert (link.context.trace_id, link.context.span_id) == (whole.context.trace_id, whole.context.span_id)
        # Without a trace of the caller's, the call belongs to that of the execution.
        [other] = [span for span in calls if span is not mine]
        [script_span] = [span for span in exporter.get_finished_spans() if span.name == "execution script"]
        assert other.context is not None and script_span.context is not None
        assert other.context.trace_id == script_span.context.trace_id
        printed = (await here.output(script))["STDOUT"].decode().strip()
        assert printed.split("-")[1] == f"{script_span.context.trace_id:032x}"
        # Once each.
        assert len({span.context.span_id for span in exporter.get_finished_spans() if span.context}) == len(
            exporter.get_finished_spans()
        )
