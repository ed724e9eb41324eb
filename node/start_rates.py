"""How fast executions start, of a queue or of a namespace: what callers may ask for, and how it is shown."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from horologe.log.v1 import log_pb2
from horologe.node import errors
from horologe.raft.rates import BURST_MAX, COUNT_MAX, PER_MS_MAX
from horologe.v1 import queue_service_pb2

PER_MS_MIN = 100
PER_DEFAULT_MS = 1_000


def read_rate(rate: queue_service_pb2.StartRate, field: str) -> log_pb2.StartRate:
    """With its defaults, checked. Raises an ApiError about `field`."""
    per_ms = PER_DEFAULT_MS
    if rate.HasField("per"):
        per_ms = read_span(rate.per, f"{field}.per", PER_MS_MIN, PER_MS_MAX)
    if not 1 <= rate.count <= COUNT_MAX:
        raise errors.invalid_field(f"{field}.count", f"{rate.count} is outside 1 to {COUNT_MAX}")
    if not 0 <= rate.burst <= BURST_MAX:
        raise errors.invalid_field(f"{field}.burst", f"{rate.burst} is outside 0 (the default) to {BURST_MAX}")
    burst = rate.burst or min(BURST_MAX, max(1, rate.count * 1_000 // per_ms))
    return log_pb2.StartRate(count=rate.count, per_ms=per_ms, burst=burst)


def read_span(span: Duration, field: str, low_ms: int, high_ms: int) -> int:
    """In milliseconds, checked. Raises an ApiError about `field`."""
    # By seconds first: a duration from outside may be too large for everything else.
    total_ms = span.seconds * 1000 + span.nanos // 1_000_000
    if not low_ms <= total_ms <= high_ms:
        raise errors.invalid_field(
            field, f"{total_ms / 1000:g} s is outside {low_ms / 1000:g} s to {high_ms / 1000:g} s"
        )
    return total_ms


def rate_view(stored: log_pb2.StartRate) -> queue_service_pb2.StartRate:
    view = queue_service_pb2.StartRate(count=stored.count, burst=stored.burst)
    view.per.FromMilliseconds(stored.per_ms)
    return view
