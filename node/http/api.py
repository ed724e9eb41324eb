"""The API over HTTP: takes requests for `/v1`, makes the call of each in the name of whoever asks, and answers as JSON.

It decides nothing: every call goes through the node's own interceptors and services (local_calls.py), so that rights, limits
and the audit log are those of gRPC. What is where is in routes.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import parse_qsl

import grpc
import structlog
from fastapi import Request, Response
from google.protobuf.message import Message
from starlette.types import Receive, Scope, Send

from horologe.node.http import credentials, etags, json_reader, streams
from horologe.node.http.endpoints import NO_BODY, REQUEST_ID, Endpoint, Router
from horologe.node.http.json_writer import LARGE_BYTES, write
from horologe.node.http.parts import HttpParts
from horologe.node.http.problems import Problem
from horologe.node.interceptors import MIN_REVISION_KEY, READ_KEY
from horologe.node.local_calls import LocalCallError
from horologe.v1 import access_service_pb2, access_service_pb2_grpc

BODY_BYTES_MAX = 4 << 20
BODY_SECONDS_MAX = 30.0
MEDIA_TYPE = "application/json"
NODE_HEADER = "Horologe-Node"
IDEMPOTENCY_HEADER = "idempotency-key"
_PASSED_ON = (MIN_REVISION_KEY, READ_KEY, "traceparent")
_BLIND = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED})

log = structlog.get_logger(__name__)


class Api:
    """The ASGI application below `/v1`."""

    def __init__(self, parts: HttpParts) -> None:
        self._parts = parts
        self.router = Router()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Problem as problem:
            response = problem.response()
        except LocalCallError as error:
            response = Problem.of_call(error).response()
        except Exception:
            log.exception("request failed", method=request.method)
            response = Problem(500, "INTERNAL", "the node failed on this request; its log says why").response()
        response.headers[NODE_HEADER] = self._parts.context.config.name
        response.headers["Cache-Control"] = "no-store"
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        endpoint, path = self.router.find(request.method, _raw_path(request))
        credentials.check_origin(request)
        metadata = (*credentials.of_request(self._parts, request, endpoint), *_passed_on(request))
        channel = self._parts.channel(request, metadata)
        if not self._parts.insecure and not any(key == "authorization" for key, _ in metadata):
            # Who says nothing of himself is refused before anything that he sends is looked at.
            return await self._call(request, endpoint, channel, endpoint.request_class())
        try:
            streams.check_accept(request, endpoint)
            if _may_be_large(request):
                await self._see_whether_known(channel)
            message = await self._message(request, endpoint, path)
        except Problem:
            await self._see_whether_known(channel)
            raise
        return await self._call(request, endpoint, channel, message)

    async def _call(
        self, request: Request, endpoint: Endpoint, channel: grpc.aio.Channel, message: Message
    ) -> Response:
        if endpoint.is_stream:
            return await streams.begin(request, endpoint, channel, message)
        try:
            answer: Message = await cast(Any, channel).unary_unary(endpoint.path)(message)
        except LocalCallError as error:
            raise etags.judged(request, Problem.of_call(error)) from None
        headers = etags.of_answer(endpoint, answer)
        if endpoint.is_read and etags.is_known(request, headers):
            return Response(status_code=304, headers=headers)
        return Response(await write(answer), media_type=MEDIA_TYPE, headers=headers)

    async def _see_whether_known(self, channel: grpc.aio.Channel) -> None:
        """Whoever cannot prove who he is hears that, and not what is wrong with his request."""
        try:
            await access_service_pb2_grpc.AccessServiceStub(channel).WhoAmI(access_service_pb2.WhoAmIRequest())
        except LocalCallError as error:
            if error.code in _BLIND:
                raise

    async def _message(self, request: Request, endpoint: Endpoint, path: dict[str, str]) -> Message:
        query = _query(request)
        body = await _body(request)
        if body:
            if endpoint.body is None:
                raise Problem.of_http("INVALID_JSON", f"{request.method} takes no body here; use query parameters")
            _check_content_type(request)

        def read() -> Message:
            try:
                value = json_reader.parse(body) if body else NO_BODY
            except ValueError as error:
                raise Problem.of_http("INVALID_JSON", str(error)) from None
            return endpoint.request(path, query, value)

        message = read() if len(body) <= LARGE_BYTES else await asyncio.to_thread(read)
        _set_request_id(request, endpoint, message)
        etags.set_precondition(request, endpoint, message)
        streams.set_resumption(request, endpoint, message)
        return message


def _may_be_large(request: Request) -> bool:
    """Whether its body is, or is not said to be small."""
    length = request.headers.get("content-length", "0")
    return (
        "transfer-encoding" in request.headers or not length.isdigit() or len(length) > 9 or int(length) > LARGE_BYTES
    )


def _raw_path(request: Request) -> str:
    """Not decoded: a name may have a slash in it."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return raw.partition(b"?")[0].decode("latin-1")


def _query(request: Request) -> list[tuple[str, str]]:
    try:
        text = request.scope["query_string"].decode("ascii")
        return parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict")
    except (UnicodeDecodeError, ValueError):
        raise Problem.of_http("INVALID_PATH", "the query is not `name=value` in percent-encoded UTF-8") from None


async def _body(request: Request) -> bytes:
    """Raises Problem if it is too large, before it is read where its length is said."""
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or len(length) > 19 or int(length) > BODY_BYTES_MAX:
        raise _too_large()
    pieces, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            async for piece in request.stream():
                size += len(piece)
                if size > BODY_BYTES_MAX:
                    raise _too_large()
                pieces.append(piece)
    except TimeoutError:
        text = f"the body did not come within {BODY_SECONDS_MAX:g} s"
        raise Problem.of_http("BODY_TIMEOUT", text, {"Connection": "close"}) from None
    return b"".join(pieces)


def _too_large() -> Problem:
    text = f"the body has more than {BODY_BYTES_MAX >> 20} MiB; send less at a time"
    return Problem.of_http("BODY_TOO_LARGE", text, {"Connection": "close"})


def _check_content_type(request: Request) -> None:
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if kind.strip().lower() != MEDIA_TYPE or charset not in ("", "utf-8"):
        raise Problem.of_http(
            "UNSUPPORTED_MEDIA_TYPE", f"the body must be {MEDIA_TYPE} in UTF-8, and say so: Content-Type"
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem.of_http("UNSUPPORTED_MEDIA_TYPE", "the body must not be compressed: Content-Encoding")


def _passed_on(request: Request) -> Iterator[tuple[str, str]]:
    for key in _PASSED_ON:
        value = request.headers.get(key)
        if value is not None:
            yield key, value


def _set_request_id(request: Request, endpoint: Endpoint, message: Message) -> None:
    key = request.headers.get(IDEMPOTENCY_HEADER)
    if key is None or not endpoint.has_request_id:
        return
    given = getattr(message, REQUEST_ID)
    if given and given != key:
        raise Problem.of_http("INVALID_HEADER", "Idempotency-Key and request_id differ; send one of them")
    setattr(message, REQUEST_ID, key)
