"""The ids of an execution's trace. They follow from the cluster's identity and the execution's number, so that all nodes agree on
them and nobody has to remember any. Needs nothing of OpenTelemetry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.util import find_spec

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1
EXTRA = "horologe[tracing]"


@cache
def is_installed() -> bool:
    """Whether what sends traces is there."""
    try:
        return (
            find_spec("opentelemetry.sdk") is not None
            and find_spec("opentelemetry.exporter.otlp.proto.http") is not None
        )
    except ModuleNotFoundError:
        return False


@dataclass(frozen=True, slots=True)
class TraceIds:
    """Of all executions of one cluster."""

    cluster: str
    """The identity that the cluster was born with: a recovery does not change it."""

    def trace(self, run: int) -> int:
        """The trace of a run: of an execution that stands alone, or of all that belong to one."""
        return self._number(f"trace/{run}", 16)

    def execution(self, number: int) -> int:
        """The span of an execution."""
        return self._number(f"execution/{number}", 8)

    def attempt(self, number: int, attempt: int) -> int:
        """The span of an attempt, which is what its handler goes on from."""
        return self._number(f"execution/{number}/attempt/{attempt}", 8)

    def part(self, number: int, part: str) -> int:
        """The span of another part of an execution."""
        return self._number(f"execution/{number}/{part}", 8)

    def _number(self, of: str, size: int) -> int:
        # Zero is no id.
        return int.from_bytes(sha256(f"horologe/{self.cluster}/{of}".encode()).digest()[:size], "big") or 1


def is_sampled(trace: int, ratio: float) -> bool:
    """Whether a trace is among the part of them that is sent: all who ask agree. As OpenTelemetry's TraceIdRatioBased has it."""
    return trace & ((1 << 64) - 1) < round(ratio * (1 << 64))


def traceparent(trace: int, span: int) -> str:
    """As the W3C writes it, for a trace that is sampled."""
    return f"00-{trace:032x}-{span:016x}-{_SAMPLED:02x}"


@dataclass(frozen=True, slots=True)
class Parent:
    """What a caller says of the trace that it is in."""

    trace: int
    span: int
    is_sampled: bool


def read_traceparent(text: str) -> Parent | None:
    """None for what is none: it is not the caller's call that must fail for it."""
    found = _TRACEPARENT.fullmatch(text)
    if found is None or text.startswith("ff") or (text.startswith("00") and found[4]):
        return None
    trace, span = int(found[1], 16), int(found[2], 16)
    return Parent(trace, span, bool(int(found[3], 16) & _SAMPLED)) if trace and span else None
