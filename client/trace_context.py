"""The trace that a caller is in, if its program uses OpenTelemetry: goes along with what it asks of the cluster."""

from __future__ import annotations

import sys

TRACEPARENT_KEY = "traceparent"


def current_traceparent() -> str:
    """As the W3C writes it; empty if there is none. Imports nothing: who has no tracing pays nothing for it."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return ""
    context = trace.get_current_span().get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}" if context.is_valid else ""
