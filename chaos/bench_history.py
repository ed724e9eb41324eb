"""How long a step of dropping history takes when there is much: a store is filled, and walked over as a leader does.

No cluster: what is measured is the walk, the entry that drops, and its commit. The store is made for the purpose and removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from horologe.chaos.bench_search import PERIOD_MS, START_MS, Filling
from horologe.log.v1 import log_pb2
from horologe.node.retention import REST_SECONDS, WALK_SECONDS, Retention
from horologe.raft.history import RECENT_MS
from horologe.raft.keeping import read_kept
from horologe.raft.records import U64
from horologe.raft.store import Store

RETENTION_SECONDS = 30 * 86_400.0
STEPS_MAX = 200
"""Measured of each walk."""


@dataclass(slots=True)
class Walk:
    """The steps of one walk, in milliseconds of processor time, and of the clock for what is written."""

    name: str
    executions: int
    """In the store when it began."""
    dropped: int = 0
    plan_ms: list[float] = field(default_factory=list)
    write_ms: list[float] = field(default_factory=list)

    def to_record(self) -> dict[str, object]:
        return {
            "walk": self.name,
            "executions": self.executions,
            "dropped": self.dropped,
            "steps": len(self.plan_ms),
            "plan_ms_median": round(median(self.plan_ms), 2),
            "plan_ms_max": round(max(self.plan_ms), 2),
            "write_ms_median": round(median(self.write_ms), 1) if self.write_ms else None,
            "write_ms_max": round(max(self.write_ms), 1) if self.write_ms else None,
        }


def run(folder: Path, jobs: int, executions: int, say: Callable[[str], None]) -> list[Walk]:
    """Fills a store in `folder` and measures. Takes some minutes for a million executions."""
    store = Store(folder / "history", "bench")
    try:
        filling = Filling(store)
        filling.make_jobs(jobs)
        filling.run_all(executions, say)
        late_ms = START_MS + (executions // jobs + 2) * PERIOD_MS + RECENT_MS
        walks = [_walk("nothing may go", store, filling, late_ms)]
        keep = log_pb2.SetNamespace(name="space-3", history_count_max=max(1, executions // 10))
        filling.apply(log_pb2.Command(set_namespace=keep), late_ms)
        store.commit()
        walks.append(_walk("one namespace has too many", store, filling, late_ms))
        walks.append(_walk("everything is too old", store, filling, late_ms + int(RETENTION_SECONDS * 1000)))
        return walks
    finally:
        store.close()


def _walk(name: str, store: Store, filling: Filling, now_ms: int) -> Walk:
    retention, seconds = Retention(RETENTION_SECONDS), REST_SECONDS
    retention.begin(0.0)
    walk = Walk(name, _count(store))
    while len(walk.plan_ms) < STEPS_MAX and retention.is_late(seconds + WALK_SECONDS + REST_SECONDS / 2):
        with store.read() as tables:
            begun = time.thread_time()
            made = retention.plan(tables, seconds, now_ms)
            walk.plan_ms.append((time.thread_time() - begun) * 1000)
        if made is not None:
            begun = time.perf_counter()
            filling.apply(log_pb2.Command(prune=made), now_ms)
            store.commit()
            walk.write_ms.append((time.perf_counter() - begun) * 1000)
        seconds += WALK_SECONDS
    walk.dropped = walk.executions - _count(store)
    return walk


def _count(store: Store) -> int:
    with store.read() as tables:
        return sum(read_kept(tables, U64.unpack(key)[0]).executions for key, _ in tables.kept.scan())
