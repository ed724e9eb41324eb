"""Workers: what each takes and has, which node it is connected to, and how it is told to go."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from horologe.node.web.view import Web
from horologe.v1 import worker_service_pb2 as api
from horologe.v1.worker_service_pb2_grpc import WorkerServiceStub

PAGE_SIZE = 100


def router(web: Web) -> APIRouter:
    """`/workers`"""
    routes = APIRouter()

    @routes.get("/workers")
    async def workers(request: Request) -> Response:
        view = web.view(request)
        token = request.query_params.get("page", "")
        answer = await WorkerServiceStub(view.channel).ListWorkers(
            api.ListWorkersRequest(page_size=PAGE_SIZE, page_token=token)
        )
        template = "workers_part.html" if view.wants_part else "workers.html"
        return await view.page(template, workers=answer.workers, next_token=answer.next_page_token)

    @routes.post("/workers/drain")
    async def drain(request: Request) -> Response:
        view = web.view(request)
        form = await view.form()
        await WorkerServiceStub(view.channel).DrainWorker(api.DrainWorkerRequest(name=f"workers/{form.get('worker')}"))
        return RedirectResponse("/workers", 303)

    return routes
