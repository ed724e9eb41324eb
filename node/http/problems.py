"""Errors over HTTP: the one table from gRPC's codes to statuses, and problem documents as RFC 9457 has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from fastapi import Response
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from horologe.node.http.json_writer import dump
from horologe.node.local_calls import LocalCallError
from horologe.node.schedule import Violation

MEDIA_TYPE = "application/problem+json"
STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
"""What the codes of the API are as HTTP statuses; anything else is 500."""
HTTP_REASONS = {
    "INVALID_JSON": 400,
    "INVALID_HEADER": 400,
    "INVALID_PATH": 400,
    "CROSS_ORIGIN": 403,
    "PATH_NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "NOT_ACCEPTABLE": 406,
    "BODY_TIMEOUT": 408,
    "ETAG_MISMATCH": 412,
    "BODY_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
}
"""What only HTTP knows; all other reasons are those of node/errors.py. A mismatch is 412 where `If-Match` was sent, else 409."""
CHALLENGE = 'Bearer realm="horologe"'


class Problem(Exception):  # noqa: N818 - the name of RFC 9457
    """An answer that is an error."""

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_seconds = retry_seconds
        self.headers = dict(headers or {})

    @classmethod
    def of_http(cls, reason: str, detail: str, headers: Mapping[str, str] | None = None) -> Problem:
        """What was wrong before there was a call."""
        return cls(HTTP_REASONS[reason], reason, detail, headers=headers)

    @classmethod
    def of_fields(cls, violations: Sequence[Violation]) -> Problem:
        """Fields of the request that cannot be read; as node/errors.py says it."""
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        return cls(400, "INVALID_FIELD", f"{first.field}: {first.description}{more}", violations=violations)

    @classmethod
    def of_call(cls, error: LocalCallError) -> Problem:
        """What a service has answered."""
        info = _detail(error, error_details_pb2.ErrorInfo())
        fields = _detail(error, error_details_pb2.BadRequest())
        retry = _detail(error, error_details_pb2.RetryInfo())
        return cls(
            STATUSES.get(error.code, 500),
            error.reason,
            str(error),
            metadata=info.metadata if info is not None else {},
            violations=[Violation(each.field, each.description) for each in fields.field_violations] if fields else (),
            retry_seconds=retry.retry_delay.ToTimedelta().total_seconds() if retry is not None else None,
        )

    def document(self) -> dict[str, Any]:
        """As RFC 9457 has it; members that say nothing are left out."""
        found: dict[str, Any] = {
            "type": f"/docs#{self.reason}",
            "title": self.reason.replace("_", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "reason": self.reason,
        }
        if self.metadata:
            found["metadata"] = self.metadata
        if self.violations:
            found["violations"] = [{"field": each.field, "description": each.description} for each in self.violations]
        if self.retry_seconds is not None:
            found["retry_after_seconds"] = self.retry_seconds
        return found

    def response(self) -> Response:
        """The whole answer."""
        response = Response(dump(self.document()), self.status, media_type=MEDIA_TYPE)
        response.headers.update(self.headers)
        if self.status == 401:
            response.headers["WWW-Authenticate"] = CHALLENGE
        if self.retry_seconds is not None:
            response.headers["Retry-After"] = str(max(1, math.ceil(self.retry_seconds)))
        return response


def _detail(error: LocalCallError, kind: Any) -> Any:
    """The first detail of that kind, or None."""
    assert isinstance(kind, Message)
    return next((kind for packed in error.status.details if packed.Unpack(kind)), None)
