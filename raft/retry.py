"""Backoff: how long a failed attempt waits for the next one. Pure arithmetic; the dice are thrown by the caller."""

from __future__ import annotations

from horologe.v1 import job_pb2


def backoff_ms(policy: job_pb2.RetryPolicy, attempt: int, chance: float) -> int:
    """The delay after attempt number `attempt` (from 1), in milliseconds; `chance` is in [0, 1).

    Full jitter (uniform between zero and the delay) spreads retries of jobs that failed together; see Marc Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    base_ms = policy.base.ToMilliseconds()
    cap_ms = policy.cap.ToMilliseconds()
    match policy.backoff:
        case job_pb2.RetryPolicy.BACKOFF_FIXED:
            delay_ms = float(base_ms)
        case job_pb2.RetryPolicy.BACKOFF_LINEAR:
            delay_ms = float(base_ms * attempt)
        case _:
            # Above 2**64 the cap decides anyway, and the power would overflow.
            factor = policy.factor or 2.0
            delay_ms = min(base_ms * factor ** min(attempt - 1, 64), 2.0**64)
    delay_ms = min(delay_ms, float(cap_ms))
    if policy.jitter != job_pb2.RetryPolicy.JITTER_NONE:
        delay_ms *= chance
    return max(1, int(delay_ms))
