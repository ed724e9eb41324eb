"""Lengths of time as definitions say them."""

from __future__ import annotations

from typing import Protocol


class Span(Protocol):
    """A google.protobuf.Duration, which the core does not import."""

    @property
    def seconds(self) -> int: ...
    @property
    def nanos(self) -> int: ...


def milliseconds(span: Span) -> int:
    """Of one that is not negative: as its `ToMilliseconds` says, at a third of the price."""
    return span.seconds * 1_000 + span.nanos // 1_000_000
