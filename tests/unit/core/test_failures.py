"""Which failures a retry policy takes: the grammar of its patterns, and what they fit."""

from __future__ import annotations

import random

import pytest

from horologe.node.outcomes import retry_delay_ms
from horologe.raft.commands import GIVE_UP, NO_RETRY
from horologe.raft.failures import EXIT, HTTP, LOST, TIMEOUT, Failure, is_pattern, is_retried
from horologe.v1 import job_pb2, worker_pb2

Result = worker_pb2.AttemptResult


KINDS = ["timeout", "lost", "connection", "ValueError", "sqlalchemy.exc.OperationalError", "_Private"]


@pytest.mark.parametrize(
    "text",
    [*KINDS, "exit", "exit:0", "exit:255", "exit:70-79", "exit:5-5", "http", "http:100", "http:599", "http:5xx"],
)
def test_patterns(text: str) -> None:
    assert is_pattern(text)


NO_CODES = ["exit:", "exit:256", "exit:9-3", "exit:-1", "exit:1-", "exit:1-300", "exit:1000", "exit:1:2", "exit:\u0661"]
NO_STATUSES = ["http:", "http:99", "http:600", "http:6xx", "http:xx", "http:5x", "5xx"]


@pytest.mark.parametrize("text", [*NO_CODES, *NO_STATUSES, "", ":", "timeout:5", "not a word", "é", "x" * 101])
def test_what_is_no_pattern(text: str) -> None:
    assert not is_pattern(text)


@pytest.mark.parametrize(
    ("pattern", "failure", "fits"),
    [
        ("exit", Failure(EXIT, 1), True),
        ("exit:3", Failure(EXIT, 3), True),
        ("exit:3", Failure(EXIT, 4), False),
        ("exit:3-5", Failure(EXIT, 5), True),
        ("exit:3-5", Failure(EXIT, 6), False),
        ("exit:5", Failure(TIMEOUT, 5), False),  # cut down by its timeout, whatever it said then
        ("http", Failure(HTTP, None, 404), True),
        ("http:404", Failure(HTTP, None, 404), True),
        ("http:404", Failure(HTTP, None, 400), False),
        ("http:5xx", Failure(HTTP, None, 503), True),
        ("http:5xx", Failure(HTTP, None, 499), False),
        ("timeout", Failure(TIMEOUT), True),
        ("lost", Failure(LOST), True),
        ("ValueError", Failure("ValueError"), True),
        ("Error", Failure("ValueError"), False),
        ("ValueError", Failure(""), False),
    ],
)
def test_what_patterns_fit(pattern: str, failure: Failure, fits: bool) -> None:
    assert is_retried(job_pb2.RetryPolicy(retry_on=[pattern]), failure) is fits
    assert is_retried(job_pb2.RetryPolicy(do_not_retry_on=[pattern]), failure) is not fits
    assert not is_retried(job_pb2.RetryPolicy(retry_on=[pattern], do_not_retry_on=[pattern]), failure)


def test_a_policy_without_patterns_takes_everything() -> None:
    assert is_retried(job_pb2.RetryPolicy(), Failure(""))


def policy(**fields: object) -> job_pb2.RetryPolicy:
    made = job_pb2.RetryPolicy(max_attempts=3, backoff=job_pb2.RetryPolicy.BACKOFF_FIXED, **fields)  # type: ignore[arg-type]
    made.jitter = job_pb2.RetryPolicy.JITTER_NONE
    made.base.FromMilliseconds(5_000)
    made.cap.FromMilliseconds(60_000)
    return made


def delay_ms(result: Result, attempts: int = 1, **fields: object) -> int:
    return retry_delay_ms(result, policy(**fields), attempts, random.Random(1))


def test_the_delay_after_an_outcome() -> None:
    failed = Result(outcome=Result.OUTCOME_FAILED, attempt=7, exit_code=3)
    assert delay_ms(failed) == 5_000
    assert delay_ms(failed, attempts=3) == NO_RETRY
    assert delay_ms(failed, do_not_retry_on=["exit:3"]) == GIVE_UP
    assert delay_ms(Result(outcome=Result.OUTCOME_FAILED, permanent=True)) == GIVE_UP
    # An exit code that a process gave when it was cut down is a timeout all the same.
    late = Result(outcome=Result.OUTCOME_TIMED_OUT, exit_code=3)
    assert delay_ms(late, do_not_retry_on=["exit:3"]) == 5_000
    assert delay_ms(late, do_not_retry_on=["timeout"]) == GIVE_UP


@pytest.mark.parametrize(("seconds", "expected_ms"), [(2, 5_000), (30, 30_000), (3_600, 3_600_000)])
def test_retry_after_is_waited_for(seconds: int, expected_ms: int) -> None:
    """Also beyond the cap, which is about our own guesses."""
    busy = Result(outcome=Result.OUTCOME_FAILED, http_status=503, error_kind="http")
    busy.retry_after.FromSeconds(seconds)
    assert delay_ms(busy, retry_on=["http:503"]) == expected_ms
    assert delay_ms(busy, retry_on=["http:429"]) == GIVE_UP
