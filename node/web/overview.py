"""The first page: how the cluster stands, what it does now, and what went wrong lately. Each figure leads to its list."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import grpc.aio
from fastapi import APIRouter, Request, Response
from google.protobuf.duration_pb2 import Duration

from horologe.node.local_calls import LocalCallError
from horologe.node.web.view import View, Web
from horologe.node.web.words import epoch_seconds, seconds_of
from horologe.raft.access import Verb
from horologe.v1 import (
    activity_service_pb2,
    activity_service_pb2_grpc,
    cluster_service_pb2,
    cluster_service_pb2_grpc,
    execution_pb2,
    execution_service_pb2,
    execution_service_pb2_grpc,
    queue_service_pb2,
    queue_service_pb2_grpc,
)

WINDOW_SECONDS = 300
STEP_SECONDS = 5
"""Of one point in a chart: a second is too restless to see anything."""
LATEST_MAX = 8
"""Failed and late executions each. Every one of them is read anew with each change."""
QUEUES_MAX = 20

Sample = activity_service_pb2.ActivitySample


@dataclass(frozen=True, slots=True)
class Overview:
    """What the page shows; None and nothing for what its reader may not see."""

    cluster: cluster_service_pb2.GetClusterStatusResponse | None = None
    activity: activity_service_pb2.GetActivityResponse | None = None
    queues: Sequence[queue_service_pb2.Queue] = ()
    failed: Sequence[execution_pb2.Execution] = ()
    late: Sequence[execution_pb2.Execution] = ()


def router(web: Web) -> APIRouter:
    """`/`"""
    routes = APIRouter()

    @routes.get("/")
    async def overview(request: Request) -> Response:
        view = web.view(request)
        found = await _read(view)
        return await view.page(
            "overview_part.html" if view.wants_part else "overview.html",
            overview=found,
            charts=() if found.activity is None else charts_of(found.activity.samples),
            starts_per_second=0 if found.activity is None else starts_per_second(found.activity),
        )

    return routes


async def _read(view: View) -> Overview:
    reader = await view.reader()
    if not reader.may_somewhere(Verb.CLUSTER_READ):
        return Overview()
    window, step = Duration(seconds=WINDOW_SECONDS), Duration(seconds=STEP_SECONDS)
    cluster = await cluster_service_pb2_grpc.ClusterServiceStub(view.channel).GetClusterStatus(
        cluster_service_pb2.GetClusterStatusRequest()
    )
    activity = await activity_service_pb2_grpc.ActivityServiceStub(view.channel).GetActivity(
        activity_service_pb2.GetActivityRequest(window=window, step=step)
    )
    queues: Sequence[queue_service_pb2.Queue] = ()
    if reader.may_somewhere(Verb.QUEUE_READ):
        stub = queue_service_pb2_grpc.QueueServiceStub(view.channel)
        queues = (await stub.ListQueues(queue_service_pb2.ListQueuesRequest(page_size=QUEUES_MAX))).queues
    return Overview(
        cluster,
        activity,
        queues,
        await _executions(view.channel, activity.failed_executions),
        await _executions(view.channel, activity.late_executions),
    )


async def _executions(channel: grpc.aio.Channel, names: Iterable[str]) -> list[execution_pb2.Execution]:
    """The first few of those that are still there."""
    stub = execution_service_pb2_grpc.ExecutionServiceStub(channel)

    async def read(name: str) -> execution_pb2.Execution | None:
        try:
            return (await stub.GetExecution(execution_service_pb2.GetExecutionRequest(name=name))).execution
        except LocalCallError as error:
            if error.code is grpc.StatusCode.NOT_FOUND:
                return None
            raise

    found = await asyncio.gather(*(read(name) for name in [*names][:LATEST_MAX]))
    return [execution for execution in found if execution is not None]


def starts_per_second(activity: activity_service_pb2.GetActivityResponse) -> float:
    """Over what the node has seen: one that was just started knows less than the window."""
    return activity.total.started_count / (max(1, len(activity.samples)) * STEP_SECONDS)


def charts_of(samples: Sequence[Sample]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Executions a second, and how late their starts were."""
    times = [epoch_seconds(sample.start_time) for sample in samples]
    per_second = {
        "x": times,
        "unit": "/s",
        "series": [
            _series("started", "chart-1", [sample.started_count / STEP_SECONDS for sample in samples]),
            _series("ended well", "chart-3", [sample.succeeded_count / STEP_SECONDS for sample in samples]),
            _series("failed", "chart-2", [sample.failed_count / STEP_SECONDS for sample in samples]),
        ],
    }
    delays = {
        "x": times,
        "unit": "ms",
        "series": [
            _series("half within", "chart-1", [_milliseconds(sample, "start_delay_p50") for sample in samples]),
            _series("99 of 100 within", "chart-4", [_milliseconds(sample, "start_delay_p99") for sample in samples]),
        ],
    }
    return per_second, delays


def _series(label: str, ink: str, values: Sequence[float | None]) -> dict[str, Any]:
    return {"label": label, "ink": ink, "values": values}


def _milliseconds(sample: Sample, field: Literal["start_delay_p50", "start_delay_p99"]) -> float | None:
    return round(seconds_of(getattr(sample, field)) * 1_000, 3) if sample.HasField(field) else None
