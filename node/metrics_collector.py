"""What is read when somebody asks for the metrics: the state, what the node has seen, its disk, its certificates.

Runs on a thread beside the node's work, inside short read transactions. Labels are bounded: what is beyond is `other`.
"""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from pathlib import Path

import psutil
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from horologe.log.v1 import log_pb2
from horologe.node.access_control import AccessControl
from horologe.node.context import NodeContext
from horologe.node.gateway import Gateway
from horologe.node.member_conditions import program_version
from horologe.node.metrics_catalog import CATALOG, NAMESPACES_MAX, OTHER, QUEUES_MAX
from horologe.node.observations import DELAY_BOUNDS_MS, ENTRY_BOUNDS, Totals
from horologe.node.tls import NodeTls
from horologe.raft.cluster_version import THIS_PROGRAM, version_of
from horologe.raft.lanes import LANE_USE, SEPARATOR
from horologe.raft.model import Counters, ExecutionState, LedgerOutcome
from horologe.raft.priorities import due_times
from horologe.raft.tables import Tables

LANES_READ_MAX = 10_000
NAMESPACES_READ_MAX = 10_000
DELAY_BOUNDS_SHOWN_MS = (5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 3_000_000)
"""Some of the bounds that observations.py keeps."""
ENDED_STATES = {
    ExecutionState.COMPLETED: "completed",
    ExecutionState.FAILED: "failed",
    ExecutionState.CANCELLED: "cancelled",
    ExecutionState.DEAD: "dead",
    ExecutionState.SKIPPED: "skipped",
}
NOT_RUN_OUTCOMES = {
    LedgerOutcome.SKIPPED: "skipped",
    LedgerOutcome.MISSED: "missed",
    LedgerOutcome.COALESCED: "coalesced",
}
Rows = Iterable[tuple[Sequence[str], float]]


class NodeCollector(Collector):
    """Of one node."""

    def __init__(
        self,
        context: NodeContext,
        gateway: Gateway,
        access: AccessControl | None,
        tls: NodeTls | None,
    ) -> None:
        self._node = context
        self._gateway = gateway
        self._access = access
        self._tls = tls

    def collect(self) -> Iterator[Metric]:
        with self._node.store.read() as tables:
            yield from self._of_the_cluster(Counters.load(tables))
            yield _one("horologe_cluster_version", version_of(tables))
            yield from self._of_queues(tables)
            namespaces = dict(_namespaces(tables))
            yield from self._of_namespaces(namespaces)
        yield from self._seen({record.id: name for name, record in namespaces.items()})
        yield from self._of_raft()
        yield from self._of_the_disk()
        yield from self._of_the_process()

    def _of_the_cluster(self, counters: Counters) -> Iterator[Metric]:
        yield _one("horologe_jobs", counters.jobs)
        states = ((("queued",), counters.queued), (("running",), counters.running))
        yield _gauge("horologe_executions", states)
        yield _one("horologe_executions_created_total", counters.fired)
        yield _one("horologe_dead_letters", counters.dead_letters)
        yield _one("horologe_sessions", counters.workers)
        yield _one("horologe_refused_tokens_total", counters.refused_tokens)
        yield _one("horologe_log_entries_total", counters.entries)
        yield _one("horologe_audit_records_total", counters.last_audit)

    def _of_queues(self, tables: Tables) -> Iterator[Metric]:
        waiting: defaultdict[str, int] = defaultdict(int)
        running: defaultdict[str, int] = defaultdict(int)
        oldest_ms: dict[str, int] = {}
        named: set[str] = set()
        for key, lane in islice(tables.queue.scan(), LANES_READ_MAX):
            name = key.decode().partition(SEPARATOR)[0]
            if name not in named and len(named) >= QUEUES_MAX:
                name = OTHER
            named.add(name)
            uses = LANE_USE.unpack(tables.lane_use.get(bytes(lane)) or bytes(LANE_USE.size))
            waiting[name] += uses[0]
            running[name] += uses[1]
            for due_ms in due_times(tables.ready, bytes(lane)) if uses[0] else ():
                oldest_ms[name] = min(due_ms, oldest_ms.get(name, due_ms))
        now_ms = self._node.clock.wall_ms()
        ages = {name: max(0, now_ms - oldest_ms.get(name, now_ms)) / 1000 for name in waiting}
        for metric, values in (
            ("waiting_executions", waiting),
            ("running_executions", running),
            ("oldest_age_seconds", ages),
        ):
            yield _gauge(f"horologe_queue_{metric}", (((name,), value) for name, value in values.items()))

    def _of_namespaces(self, namespaces: dict[str, log_pb2.NamespaceRecord]) -> Iterator[Metric]:
        jobs: defaultdict[str, int] = defaultdict(int)
        for position, (name, record) in enumerate(namespaces.items()):
            jobs[name if position < NAMESPACES_MAX else OTHER] += record.job_count
        yield _gauge("horologe_namespace_jobs", (((name,), count) for name, count in jobs.items()))

    def _seen(self, names: dict[int, str]) -> Iterator[Metric]:
        totals = self._node.observations.totals
        told = dict(islice(names.items(), NAMESPACES_MAX))
        yield _one("horologe_attempts_started_total", totals.started)
        yield _counter("horologe_executions_ended_total", _by_namespace(totals.ended, told, ENDED_STATES))
        yield _counter("horologe_due_times_not_run_total", _by_namespace(totals.not_run, told, NOT_RUN_OUTCOMES))
        yield _one("horologe_late_starts_total", totals.late)
        yield _one("horologe_leases_expired_total", totals.leases_expired)
        yield _delays(totals)
        buckets = list(zip((*map(str, ENTRY_BOUNDS), "+Inf"), accumulate(totals.entries), strict=True))
        yield _histogram("horologe_entry_executions", buckets, totals.entry_executions)

    def _of_raft(self) -> Iterator[Metric]:
        status = self._node.status()
        voters = status.configuration.voters
        here = self._node.config.name
        yield _one("horologe_newest_cluster_version", THIS_PROGRAM.versions.newest)
        yield _one("horologe_raft_term", status.term)
        yield _one("horologe_raft_is_leader", status.is_leader)
        yield _one("horologe_raft_has_leader", bool(status.leader))
        yield _one("horologe_raft_has_quorum", status.has_quorum)
        yield _one("horologe_raft_voters", len(voters))
        yield _one("horologe_raft_reachable_voters", sum(name == here or name in status.connected for name in voters))
        yield _one("horologe_raft_commit_index", status.commit_index)
        yield _one("horologe_raft_applied_index", status.revision)
        yield _one("horologe_raft_log_entries", max(0, status.last_index - status.first_index + 1))
        others = sorted(status.match_indexes.items()) if status.is_leader else ()
        yield _gauge(
            "horologe_raft_lag_entries", (((name,), max(0, status.last_index - index)) for name, index in others)
        )
        yield _one("horologe_clock_correction_seconds", status.clock_correction_ms / 1000)

    def _of_the_disk(self) -> Iterator[Metric]:
        config, usage = self._node.config, self._node.store.usage()
        yield _one("horologe_store_file_bytes", usage.file_bytes)
        yield _one("horologe_store_limit_bytes", usage.limit_bytes)
        yield _one("horologe_store_page_bytes", usage.page_bytes)
        yield _one("horologe_store_pages", usage.pages)
        yield _one("horologe_store_free_pages", usage.free_pages)
        yield _one("horologe_output_store_bytes", _bytes_on_disk(config.data_dir / "outputs"))
        yield _one("horologe_disk_free_bytes", psutil.disk_usage(str(config.data_dir)).free)
        yield _one("horologe_disk_free_minimum_bytes", config.disk_free_bytes_min)

    def _of_the_process(self) -> Iterator[Metric]:
        labels = (self._node.config.name, program_version(), platform.python_version())
        yield _gauge("horologe_build_info", [(labels, 1)])
        yield _one("horologe_start_time_seconds", self._node.observations.since_ms / 1000)
        yield _one("horologe_gateway_sessions", len(self._gateway.numbers()))
        yield _one("horologe_audit_records_waiting", 0 if self._access is None else self._access.denials.waiting_count)
        ends: Rows = () if self._tls is None else [(("node",), self._tls.files.expires.timestamp())]
        yield _gauge("horologe_certificate_expiry_timestamp_seconds", ends)


def _namespaces(tables: Tables) -> Iterator[tuple[str, log_pb2.NamespaceRecord]]:
    for key, raw in islice(tables.namespace.scan(), NAMESPACES_READ_MAX):
        yield key.decode(), log_pb2.NamespaceRecord.FromString(bytes(raw))


def _by_namespace(
    counts: dict[int, list[int]], told: dict[int, str], words: dict[ExecutionState, str] | dict[LedgerOutcome, str]
) -> Rows:
    sums: defaultdict[tuple[str, str], int] = defaultdict(int)
    # A copy: the event loop goes on counting.
    for namespace, by_state in list(counts.items()):
        for state, word in words.items():
            sums[told.get(namespace, OTHER), word] += by_state[state]
    return sorted(sums.items())


def _delays(totals: Totals) -> Metric:
    counts = list(accumulate(totals.delays))
    buckets = [(str(bound / 1000), counts[DELAY_BOUNDS_MS.index(bound)]) for bound in DELAY_BOUNDS_SHOWN_MS]
    return _histogram("horologe_start_delay_seconds", [*buckets, ("+Inf", counts[-1])], totals.delay_ms / 1000)


def _bytes_on_disk(folder: Path) -> int:
    """What its files take, not how long they are: they have holes."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())


def _one(name: str, value: float) -> Metric:
    rows: Rows = [((), value)]
    return _counter(name, rows) if CATALOG[name].kind == "counter" else _gauge(name, rows)


def _gauge(name: str, rows: Rows) -> Metric:
    family = GaugeMetricFamily(name, CATALOG[name].help, labels=CATALOG[name].labels)
    for labels, value in rows:
        family.add_metric(labels, float(value))
    return family


def _counter(name: str, rows: Rows) -> Metric:
    family = CounterMetricFamily(name, CATALOG[name].help, labels=CATALOG[name].labels)
    for labels, value in rows:
        family.add_metric(labels, float(value))
    return family


def _histogram(name: str, buckets: Sequence[tuple[str, float]], total: float) -> Metric:
    family = HistogramMetricFamily(name, CATALOG[name].help)
    family.add_metric((), buckets, total)
    return family
