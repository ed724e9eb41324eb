"""The methods of PauseService, as `calls.py` has those of the other services. A scope is a namespace; empty: the cluster."""

from __future__ import annotations

from horologe.client import names
from horologe.client.calls import Call, Method, request_id_or_new
from horologe.v1 import pause_service_pb2 as pauses
from horologe.v1.pause_service_pb2 import ScopePause

__all__ = ["list_pauses", "pause_scope", "resume_scope"]

_SERVICE = "PauseService"
PAUSE = Method(_SERVICE, "Pause", pauses.PauseRequest, pauses.PauseResponse, is_write=True)
RESUME = Method(_SERVICE, "Resume", pauses.ResumeRequest, pauses.ResumeResponse, is_write=True)
LIST_PAUSES = Method(_SERVICE, "ListPauses", pauses.ListPausesRequest, pauses.ListPausesResponse)


def pause_scope(namespace: str, scope: str = "", *, reason: str = "", request_id: str = "") -> Call[None]:
    """Nothing of a namespace, or of the cluster, comes due until it is resumed. FailedPrecondition if it is paused already."""
    del namespace  # The client's own is no reason to pause it.
    request = pauses.PauseRequest(scope=_scope(scope), reason=reason, request_id=request_id_or_new(request_id))

    def pick(_: pauses.PauseResponse) -> None:
        return None

    return Call(PAUSE, request, pick)


def resume_scope(namespace: str, scope: str = "", *, catchup: bool = False, request_id: str = "") -> Call[None]:
    """Ends a pause; with `catchup` what it swallowed is caught up instead of skipped. FailedPrecondition if there is none."""
    del namespace
    request = pauses.ResumeRequest(scope=_scope(scope), catchup=catchup, request_id=request_id_or_new(request_id))

    def pick(_: pauses.ResumeResponse) -> None:
        return None

    return Call(RESUME, request, pick)


def list_pauses(namespace: str) -> Call[list[ScopePause]]:
    """The pauses in force."""
    del namespace

    def pick(answer: pauses.ListPausesResponse) -> list[ScopePause]:
        return list(answer.pauses)

    return Call(LIST_PAUSES, pauses.ListPausesRequest(), pick)


def _scope(scope: str) -> str:
    return names.namespace_name(scope) if scope else ""
