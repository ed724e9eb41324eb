"""The instruments of a node: what is measured while it happens. What is read from the state is in metrics_collector.py.

Instruments may be used on any thread.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from horologe.node.metrics_catalog import CATALOG

DISK_BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
CALL_BOUNDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# They tell when each series began, which nobody asks for, and double the page.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """Of one node, with a registry of its own: several nodes may live in one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.commit_latency = _histogram("horologe_commit_latency_seconds", registry, DISK_BOUNDS)
        self.refused_writes = Counter(*_words("horologe_writes_refused_total"), registry=registry)
        self.fsync = _histogram("horologe_fsync_duration_seconds", registry, DISK_BOUNDS)
        self.step = _histogram("horologe_step_duration_seconds", registry, DISK_BOUNDS)
        self.calls = Counter(*_words("horologe_api_calls_total"), registry=registry)
        self.call_duration = _histogram("horologe_api_call_duration_seconds", registry, CALL_BOUNDS)
        self.open_streams = Gauge(*_words("horologe_api_open_streams"), registry=registry)
        self.requests = Counter(*_words("horologe_http_requests_total"), registry=registry)
        self.request_duration = _histogram("horologe_http_request_duration_seconds", registry, CALL_BOUNDS)
        self.traced = Counter(*_words("horologe_traces_total"), registry=registry)
        self.stepped_at: float | None = None
        """When the step thread came round last, on the node's monotonic clock."""

    def add(self, collector: Collector) -> None:
        """What is read when somebody asks."""
        self.registry.register(collector)

    def page(self, accept: str) -> tuple[bytes, str]:
        """All metrics, in the format that is asked for, and its content type. Takes some milliseconds; for any thread."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type

    def stepped(self, began: float, ended: float, *, wrote: bool) -> None:
        """The step thread has come round."""
        self.stepped_at = ended
        if wrote:
            self.step.observe(ended - began)

    def timed_commit(self, monotonic: Callable[[], float]) -> Callable[[Callable[[], None]], None]:
        """What runs a commit and notes how long it took."""

        def commit(work: Callable[[], None]) -> None:
            began = monotonic()
            work()
            self.fsync.observe(monotonic() - began)

        return commit


def _words(name: str) -> tuple[str, str, tuple[str, ...]]:
    described = CATALOG[name]
    return described.name, described.help, described.labels


def _histogram(name: str, registry: CollectorRegistry, bounds: tuple[float, ...]) -> Histogram:
    return Histogram(*_words(name), buckets=bounds, registry=registry)
