"""The forecast: starts planned for each minute of the hours ahead, the spikes with their causes, and how to spread them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from fastapi import APIRouter, Request, Response
from google.protobuf.timestamp_pb2 import Timestamp

from horologe.node.local_calls import LocalCallError
from horologe.node.web.view import View, Web
from horologe.v1 import forecast_service_pb2 as api
from horologe.v1 import job_pb2, job_service_pb2
from horologe.v1.forecast_service_pb2_grpc import ForecastServiceStub
from horologe.v1.job_service_pb2_grpc import JobServiceStub

WINDOWS = {"3h": 3, "6h": 6, "12h": 12, "24h": 24}
CHANGES_MAX = 500
"""As many as one page shows, and as many fields as one form may have, with room to spare."""
AT_A_TIME = 16
"""Jobs that are changed at the same time: others want to write, too."""
UNDER_WAY = "FORECAST_UNDER_WAY"


@dataclass(slots=True)
class Applied:
    """What became of a proposal."""

    done: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    """With the reason."""
    is_denied: bool = False
    """Of one of them: the reader may not."""


def router(web: Web) -> APIRouter:
    """`/forecast`"""
    routes = APIRouter()

    @routes.get("/forecast")
    async def forecast(request: Request) -> Response:
        view = web.view(request)
        hours = WINDOWS.get(request.query_params.get("window", ""), 24)
        namespace = await _namespace(view)
        wanted = api.GetForecastRequest(parent=f"namespaces/{namespace or '-'}")
        wanted.window.FromSeconds(hours * 3_600)
        values: dict[str, Any] = {"windows": list(WINDOWS), "window": f"{hours}h", "namespace": namespace}
        values |= {"forecast": None, "chart": None}
        try:
            found = await ForecastServiceStub(view.channel).GetForecast(wanted)
            values |= {"forecast": found, "chart": chart(found.start_time, (("starts", found.start_counts),))}
        except LocalCallError as error:
            if error.reason != UNDER_WAY:
                raise
        return await view.page("forecast_part.html" if view.wants_part else "forecast.html", **values)

    @routes.get("/forecast/spread")
    async def spread(request: Request) -> Response:
        view = web.view(request)
        return await _proposal(view)

    @routes.post("/forecast/spread")
    async def apply(request: Request) -> Response:
        view = web.view(request)
        form = await view.form()
        chosen = {tuple(str(each).rsplit(" ", 1)) for each in form.getlist("change")}
        proposal = await ForecastServiceStub(view.channel).ProposeSpread(await _wanted(view))
        changes = [each for each in proposal.changes if (each.job, each.etag) in chosen]
        applied = await _apply(view, changes)
        known = {(each.job, each.etag) for each in changes}
        for missing in sorted(chosen - known):
            applied.refused.append((str(missing[0]), "the proposal has changed since: look at it again"))
        status = 403 if applied.is_denied and not applied.done else 200
        return await view.page("spread_done.html", status, applied=applied)

    return routes


async def _proposal(view: View) -> Response:
    values: dict[str, Any] = {"proposal": None, "chart": None}
    try:
        found = await ForecastServiceStub(view.channel).ProposeSpread(await _wanted(view))
        series = (("as it is", found.counts_before), ("spread", found.counts_after))
        values = {"proposal": found, "chart": chart(found.start_time, series)}
    except LocalCallError as error:
        if error.reason != UNDER_WAY:
            raise
    return await view.page("spread_part.html" if view.wants_part else "spread.html", **values)


async def _apply(view: View, changes: Iterable[api.ProposedChange]) -> Applied:
    """Each by itself: one that is refused holds up no other."""
    applied = Applied()
    turn = asyncio.Semaphore(AT_A_TIME)
    stub = JobServiceStub(view.channel)

    async def one(change: api.ProposedChange) -> None:
        job = job_pb2.Job(name=change.job, etag=change.etag, schedules=change.schedules)
        update = job_service_pb2.UpdateJobRequest(job=job)
        if change.HasField("jitter"):
            update.job.jitter.CopyFrom(change.jitter)
        update.update_mask.paths.append("schedules" if change.schedules else "jitter")
        async with turn:
            try:
                await stub.UpdateJob(update)
            except LocalCallError as error:
                applied.refused.append((change.job, str(error)))
                applied.is_denied |= error.code is grpc.StatusCode.PERMISSION_DENIED
            else:
                applied.done.append(change.job)

    await asyncio.gather(*(one(change) for change in changes))
    applied.done.sort()
    applied.refused.sort()
    return applied


def chart(start: Timestamp, series: Sequence[tuple[str, Sequence[int]]]) -> dict[str, Any]:
    """By the minute, as horologe.js draws it."""
    first = start.seconds
    return {
        "x": [first + 60 * minute for minute in range(len(series[0][1]))],
        "series": [{"label": label, "values": list(values)} for label, values in series],
    }


async def _wanted(view: View) -> api.ProposeSpreadRequest:
    return api.ProposeSpreadRequest(parent=f"namespaces/{await _namespace(view) or '-'}", change_count=CHANGES_MAX)


async def _namespace(view: View) -> str:
    """The one that is asked for; else empty, for all, or the first one that the reader may see."""
    asked = view.request.query_params.get("namespace", "")
    reader = await view.reader()
    if asked or reader.may("job.read"):
        return asked
    return min((namespace for namespace, verbs in reader.rights.items() if "job.read" in verbs), default="")
