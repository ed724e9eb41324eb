"""Failures: how an attempt failed, and whether a retry policy wants another attempt after that.

A pattern of a policy is `exit:CODE`, `exit:FROM-TO`, `http:STATUS`, `http:5xx`, or a kind: EXIT, HTTP, TIMEOUT, CONNECTION, LOST,
or the class of an exception. Kinds are compared as they are written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from horologe.v1 import job_pb2

EXIT: Final = "exit"
HTTP: Final = "http"
TIMEOUT: Final = "timeout"
CONNECTION: Final = "connection"
LOST: Final = "lost"

PATTERN_RULE = (
    "exit:CODE, exit:FROM-TO (0 to 255), http:STATUS (100 to 599), http:5xx, exit, http, timeout, connection, lost, "
    "or the class of an exception"
)
KIND_LENGTH_MAX = 100


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known of a failed attempt."""

    kind: str
    exit_code: int | None = None
    http_status: int | None = None


def is_pattern(text: str) -> bool:
    """Whether a retry policy may say this."""
    kind, colon, codes = text.partition(":")
    if not colon:
        return len(text) <= KIND_LENGTH_MAX and text.isascii() and text.replace(".", "_").isidentifier()
    if kind == EXIT:
        first, last = _range(codes)
        return 0 <= first <= last <= 255
    if kind == HTTP and codes.endswith("xx"):
        return codes in ("1xx", "2xx", "3xx", "4xx", "5xx")
    return kind == HTTP and 100 <= _number(codes) <= 599


def is_retried(policy: job_pb2.RetryPolicy, failure: Failure) -> bool:
    """Whether such a failure may be followed by another attempt, as far as `retry_on` and `do_not_retry_on` go."""
    if policy.do_not_retry_on and _any_fits(policy.do_not_retry_on, failure):
        return False
    return not policy.retry_on or _any_fits(policy.retry_on, failure)


def _any_fits(patterns: Iterable[str], failure: Failure) -> bool:
    return any(_fits(pattern, failure) for pattern in patterns)


def _fits(pattern: str, failure: Failure) -> bool:
    kind, _, codes = pattern.partition(":")
    if kind != failure.kind:
        return False
    if not codes:
        return True
    if kind == EXIT:
        first, last = _range(codes)
        return failure.exit_code is not None and first <= failure.exit_code <= last
    status = failure.http_status or 0
    return status // 100 == _number(codes[0]) if codes.endswith("xx") else status == _number(codes)


def _range(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    return _number(first), _number(last if dash else first)


def _number(text: str) -> int:
    """-1 for what is no number of one to three digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 3 else -1
