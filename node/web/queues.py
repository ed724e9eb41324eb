"""Queues: what waits and runs in each, how fast it starts, and whether it is paused."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import FormData

from horologe.node.web.forms import Fields
from horologe.node.web.view import View, Web
from horologe.v1 import queue_service_pb2 as api
from horologe.v1.queue_service_pb2_grpc import QueueServiceStub

PAGE_SIZE = 100


def router(web: Web) -> APIRouter:
    """`/queues`"""
    routes = APIRouter()

    @routes.get("/queues")
    async def queues(request: Request) -> Response:
        view = web.view(request)
        edited = request.query_params.get("edit", "")
        return await _page(view, edited)

    @routes.post("/queues/pause")
    async def pause(request: Request) -> Response:
        view = web.view(request)
        form = await view.form()
        await QueueServiceStub(view.channel).PauseQueue(
            api.PauseQueueRequest(name=_name(form), reason=str(form.get("reason", "")).strip())
        )
        return RedirectResponse("/queues", 303)

    @routes.post("/queues/resume")
    async def resume(request: Request) -> Response:
        view = web.view(request)
        form = await view.form()
        await QueueServiceStub(view.channel).ResumeQueue(api.ResumeQueueRequest(name=_name(form)))
        return RedirectResponse("/queues", 303)

    @routes.post("/queues/settings")
    async def settings(request: Request) -> Response:
        view = web.view(request)
        form = await view.form()
        fields = Fields(form)
        queue = api.Queue(name=_name(form))
        count = fields.whole("count")
        if count is not None:
            queue.start_rate.count = count
            per_ms, burst = fields.milliseconds("per"), fields.whole("burst")
            if per_ms is not None:
                queue.start_rate.per.FromMilliseconds(per_ms)
            queue.start_rate.burst = burst or 0
        aging_ms = fields.milliseconds("aging")
        if aging_ms is not None:
            queue.aging.FromMilliseconds(aging_ms)
        if fields.errors:
            return await _page(view, queue.name.removeprefix("queues/"), fields, 400)
        update = api.UpdateQueueRequest(queue=queue)
        update.update_mask.paths.extend(["start_rate", "aging"])
        await QueueServiceStub(view.channel).UpdateQueue(update)
        return RedirectResponse("/queues", 303)

    return routes


async def _page(view: View, edited: str, fields: Fields | None = None, status: int = 200) -> Response:
    stub = QueueServiceStub(view.channel)
    token = view.request.query_params.get("page", "")
    answer = await stub.ListQueues(api.ListQueuesRequest(page_size=PAGE_SIZE, page_token=token))
    values: dict[str, Any] = {"queues": answer.queues, "next_token": answer.next_page_token, "edited": edited}
    if view.wants_part:
        return await view.page("queues_part.html", **values)
    queue = await _queue(view, edited) if edited and (await view.reader()).may("queue.write") else None
    return await view.page("queues.html", status, queue=queue, fields=fields or Fields.of(_values(queue)), **values)


async def _queue(view: View, name: str) -> api.Queue:
    stub = QueueServiceStub(view.channel)
    return (await stub.GetQueue(api.GetQueueRequest(name=f"queues/{name}"))).queue


def _values(queue: api.Queue | None) -> dict[str, str]:
    """What the form begins with."""
    if queue is None:
        return {}
    rate = queue.start_rate
    values = {"aging": f"{queue.aging.ToMilliseconds() / 1000:g}"}
    if queue.HasField("start_rate"):
        values |= {"count": str(rate.count), "per": f"{rate.per.ToMilliseconds() / 1000:g}", "burst": str(rate.burst)}
    return values


def _name(form: FormData) -> str:
    return f"queues/{form.get('queue', '')}"
