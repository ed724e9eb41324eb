"""Versions of resources over HTTP: `ETag`, `If-None-Match`, and `If-Match` as the etag of a request.

The etag of a job or calendar changes with its definition. Its counters and its next due time change without it, so it is a weak
one in the words of RFC 9110; here it counts for `If-Match` nevertheless, since it is the definition that a write replaces.
"""

from __future__ import annotations

import re
from typing import Any

from fastapi import Request
from google.protobuf.message import Message

from horologe.node.http.endpoints import Endpoint
from horologe.node.http.problems import HTTP_REASONS, Problem

_MISMATCH = "ETAG_MISMATCH"
_TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"')
_TAGS = re.compile(rf"{_TAG.pattern}(?:[ \t]*,[ \t]*{_TAG.pattern})*")


def of_answer(endpoint: Endpoint, answer: Message) -> dict[str, str]:
    """The header, if the answer is about one thing that has an etag."""
    owner = endpoint.etag_owner
    etag = str(getattr(answer, owner).etag) if owner and answer.HasField(owner) else ""
    return {"ETag": f'W/"{etag}"'} if etag else {}


def is_known(request: Request, headers: dict[str, str]) -> bool:
    """Whether the caller has this one already."""
    given, own = request.headers.get("if-none-match"), headers.get("ETag")
    if given is None or own is None:
        return False
    return given.strip() == "*" or own.removeprefix("W/").strip('"') in _read("If-None-Match", given)


def set_precondition(request: Request, endpoint: Endpoint, message: Message) -> None:
    """What `If-Match` says becomes the etag of the request. Raises Problem if it cannot be kept."""
    given = request.headers.get("if-match")
    if given is None or endpoint.is_read:
        return
    if not endpoint.etag_path:
        raise Problem.of_http("INVALID_HEADER", "If-Match is not for this method: what it changes has no etag")
    if given.strip() == "*":
        return
    tags = _read("If-Match", given)
    if len(tags) != 1:
        raise Problem.of_http("INVALID_HEADER", "If-Match has more than one etag; send the one that was read")
    *parents, name = endpoint.etag_path.split(".")
    target: Any = message
    for parent in parents:
        target = getattr(target, parent)
    if getattr(target, name) not in ("", tags[0]):
        raise Problem.of_http("INVALID_HEADER", f"If-Match and {endpoint.etag_path} differ; send one of them")
    setattr(target, name, tags[0])


def judged(request: Request, problem: Problem) -> Problem:
    """A mismatch is the header's if the caller has sent one."""
    if problem.reason == _MISMATCH and "if-match" in request.headers:
        problem.status = HTTP_REASONS[_MISMATCH]
    return problem


def _read(header: str, text: str) -> list[str]:
    if not _TAGS.fullmatch(text.strip()):
        raise Problem.of_http("INVALID_HEADER", f'{header} is no etag, as W/"..." or "..."')
    return [found[1] for found in _TAG.finditer(text)]
