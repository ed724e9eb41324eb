"""From what workers report to what the log records: outcomes packed, and the delay before the next attempt."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from google.protobuf import json_format

from horologe.log.v1 import log_pb2
from horologe.node.fingerprints import fingerprint_of
from horologe.node.json_values import NESTING_RULE, is_too_deep
from horologe.node.sessions import HeldAttempt, WorkerSession
from horologe.raft.commands import COMMAND_BYTES_MAX, GIVE_UP, NO_RETRY, OUTCOME, Outcome, OutcomeFlag
from horologe.raft.failures import EXIT, HTTP, TIMEOUT, Failure, is_retried
from horologe.raft.retry import backoff_ms
from horologe.v1 import job_pb2, worker_pb2

OUTCOMES_PER_COMMAND = 1_000
OUTCOME_BYTES_PER_COMMAND = COMMAND_BYTES_MAX // 2
"""As the workers say them; the log's form takes a little more, and one large result may come on top."""
ERROR_CHARACTERS_MAX = 4_096
ERROR_KIND_CHARACTERS_MAX = 100
RESULT_BYTES_MAX = 64 << 10
Reported = tuple[WorkerSession, worker_pb2.AttemptResult, HeldAttempt | None]
_INT64_MAX = (1 << 63) - 1
_INT32_MAX = (1 << 31) - 1
_UINT16_MAX = (1 << 16) - 1
_OUTCOMES = frozenset(int(outcome) for outcome in Outcome)
_UINT32_MAX = (1 << 32) - 1


def is_plausible(outcome: worker_pb2.AttemptResult) -> bool:
    """Whether the numbers are such as a worker could have been given, and the outcome is a known one."""
    return (
        0 < outcome.execution <= _INT64_MAX
        and 0 < outcome.fencing_token <= _INT64_MAX
        and 0 < outcome.attempt <= _UINT16_MAX
        and outcome.outcome in _OUTCOMES
    )


def batches(reported: Sequence[Reported]) -> Iterator[list[Reported]]:
    """Parts in order that make one command each: what they say fits, even if all of it is kept."""
    batch: list[Reported] = []
    size = 0
    for entry in reported:
        entry_size = entry[1].ByteSize()
        if batch and (len(batch) >= OUTCOMES_PER_COMMAND or size + entry_size > OUTCOME_BYTES_PER_COMMAND):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry_size
    if batch:
        yield batch


def failure_of(outcome: worker_pb2.AttemptResult) -> Failure:
    """What the worker says of a failure. One that does not know the kinds of failures tells them by what it measured."""
    exit_code = outcome.exit_code if outcome.HasField("exit_code") else None
    http_status = outcome.http_status if outcome.HasField("http_status") else None
    kind = outcome.error_kind
    if outcome.outcome == worker_pb2.AttemptResult.OUTCOME_TIMED_OUT:
        kind = TIMEOUT
    elif not kind:
        kind = EXIT if exit_code is not None else HTTP if http_status is not None else ""
    return Failure(kind, exit_code, http_status)


def retry_delay_ms(
    outcome: worker_pb2.AttemptResult, policy: job_pb2.RetryPolicy, attempts: int, randomness: random.Random
) -> int:
    """How long until the next attempt, if this one failed, which was number `attempts` of those that count.

    Milliseconds, or NO_RETRY, or GIVE_UP. The server's Retry-After makes it longer, never shorter.
    """
    if outcome.permanent or not is_retried(policy, failure_of(outcome)):
        return GIVE_UP
    if attempts >= policy.max_attempts:
        return NO_RETRY
    delay_ms = backoff_ms(policy, max(attempts, 1), randomness.random())
    if outcome.HasField("retry_after"):
        delay_ms = max(delay_ms, outcome.retry_after.ToMilliseconds())
    return min(delay_ms, _INT32_MAX)


def pack_outcomes(reported: Sequence[Reported], delays_ms: Sequence[int]) -> log_pb2.Complete:
    """One command for many outcomes."""
    command = log_pb2.Complete()
    packed = bytearray()
    for position, ((_, outcome, held), delay_ms) in enumerate(zip(reported, delays_ms, strict=True)):
        flags = 0
        detail = _detail(outcome, held)
        if detail is not None:
            flags |= OutcomeFlag.HAS_DETAIL
            detail.position = position
            command.details.append(detail)
        if outcome.HasField("exit_code"):
            flags |= OutcomeFlag.HAS_EXIT_CODE
        packed += OUTCOME.pack(
            outcome.execution,
            outcome.fencing_token,
            outcome.attempt,
            outcome.outcome,
            flags,
            outcome.exit_code,
            min(max(outcome.start_delay_ms, 0), _UINT32_MAX),
            min(max(outcome.duration_ms, 0), _UINT32_MAX),
            delay_ms,
        )
    command.outcomes = bytes(packed)
    return command


def _detail(outcome: worker_pb2.AttemptResult, held: HeldAttempt | None) -> log_pb2.OutcomeDetail | None:
    """None for an attempt that has nothing to say, which is the rule."""
    output = held.output if held is not None else None
    if outcome.outcome == worker_pb2.AttemptResult.OUTCOME_SUCCEEDED and output is None and _says_nothing(outcome):
        return None
    detail = log_pb2.OutcomeDetail()
    if outcome.outcome in (worker_pb2.AttemptResult.OUTCOME_FAILED, worker_pb2.AttemptResult.OUTCOME_TIMED_OUT):
        failure = failure_of(outcome)
        detail.error_kind = failure.kind[:ERROR_KIND_CHARACTERS_MAX]
        detail.fingerprint = fingerprint_of(failure, outcome.error[:ERROR_CHARACTERS_MAX])
    if outcome.error:
        detail.error = outcome.error[:ERROR_CHARACTERS_MAX]
    if outcome.HasField("result"):
        complaint = _result_complaint(outcome)
        if complaint:
            detail.error = complaint
        else:
            detail.result.CopyFrom(outcome.result)
    if outcome.HasField("http_status"):
        detail.http_status = outcome.http_status
    if output is not None and output.bytes_taken:
        detail.output_nodes.extend(output.nodes)
        detail.output_bytes = output.bytes_taken
    if outcome.output_truncated or (output is not None and output.is_truncated):
        detail.output_truncated = True
    return detail if detail.ByteSize() else None


def _says_nothing(outcome: worker_pb2.AttemptResult) -> bool:
    said = outcome.error or outcome.output_truncated or outcome.HasField("result") or outcome.HasField("http_status")
    return not said


def _result_complaint(outcome: worker_pb2.AttemptResult) -> str:
    """Why a result cannot be kept; empty if it can."""
    if is_too_deep(outcome.result):
        return f"the result was dropped: {NESTING_RULE}"
    try:
        size = len(json_format.MessageToJson(outcome.result, indent=None))
    except (json_format.Error, ValueError, RecursionError) as error:
        # NaN and the infinities fit a Value, but JSON has no words for them.
        return f"the result is not JSON and was dropped: {error}"
    return f"the result is larger than {RESULT_BYTES_MAX} bytes and was dropped" if size > RESULT_BYTES_MAX else ""
