"""`/healthz` and `/readyz`, for who watches over the process and who sends it work. Open to all: they tell nothing else."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from horologe.node.context import NodeContext
from horologe.node.http.parts import HttpParts

STUCK_SECONDS = 30.0
"""The step thread comes round fifty times a second; a slow disk may hold it up for a while, but not for so long."""
BEHIND_ENTRIES_MAX = 100
"""Who is not further behind than this has the rest in a moment."""


def router(parts: HttpParts) -> APIRouter:
    """Both answers have the status 200 or 503, and reasons."""
    routes = APIRouter()

    @routes.get("/healthz")
    async def alive() -> JSONResponse:
        # That this is answered at all says that the event loop goes round.
        return _answer("ok", "failing", illnesses(parts.context))

    @routes.get("/readyz")
    async def ready() -> JSONResponse:
        return _answer("ready", "not ready", [*illnesses(parts.context), *obstacles(parts.context)])

    return routes


def illnesses(node: NodeContext) -> list[dict[str, str]]:
    """Why this process should be started again."""
    stepped_at = node.metrics.stepped_at
    if stepped_at is not None and node.clock.monotonic() - stepped_at > STUCK_SECONDS:
        return [
            _reason("STUCK", f"the thread that steps has not come round for {STUCK_SECONDS:g} s; is the disk stuck?")
        ]
    return []


def obstacles(node: NodeContext) -> list[dict[str, str]]:
    """Why this node should get no work now."""
    status, found = node.status(), []
    if node.is_draining:
        found.append(_reason("STOPPING", "the node stops"))
    if not status.leader:
        found.append(_reason("NO_LEADER", "this node knows no leader"))
    elif status.is_leader and not status.may_serve:
        found.append(_reason("NO_QUORUM", "this node leads, and no majority of the members has answered it lately"))
    behind = status.leader_commit_index - status.revision
    if behind > BEHIND_ENTRIES_MAX:
        found.append(_reason("BEHIND", f"the node has {behind} entries to catch up with"))
    return found


def _reason(reason: str, message: str) -> dict[str, str]:
    return {"reason": reason, "message": message}


def _answer(good: str, bad: str, reasons: list[dict[str, str]]) -> JSONResponse:
    return JSONResponse(
        {"status": bad if reasons else good, "reasons": reasons},
        503 if reasons else 200,
        headers={"Cache-Control": "no-store"},
    )
