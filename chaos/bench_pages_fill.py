"""A node with a hundred thousand jobs and a million executions, in minutes instead of hours.

A secure node is started, so that there are a cluster, keys and an administrator, and stopped. Then the state machine applies the
entries that would have come to it, in this process, to its encrypted store; the log begins anew behind them, as it does after a
snapshot. What the node reads afterwards is what it would have after all that time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from horologe.chaos.bench_fleet import CALLS_PER_SECOND_MAX, BenchError
from horologe.chaos.bench_search import Filling
from horologe.node.clock import process_clock
from horologe.node.config import NodeConfig
from horologe.node.config_sources import load_config
from horologe.node.first_administrator import ADMINISTRATOR
from horologe.node.key_sources import key_source_of
from horologe.node.keyring import Keyring
from horologe.node.local_cluster import TOKEN_FILE, LocalCluster
from horologe.raft.journal import Journal
from horologe.raft.model import Counters
from horologe.raft.store import Store

DAY_MS = 86_400_000
READY_SECONDS = 60.0
POLL_SECONDS = 0.05
_FILLED = "filled"


def filled_cluster(folder: Path, jobs: int, executions: int, say: Callable[[str], None]) -> LocalCluster:
    """One node, not started. A folder that was filled before is taken as it is.

    Each job is due once a day, half a day before and after now: nothing starts while pages are measured.
    """
    options = {"calls_per_second_max": CALLS_PER_SECOND_MAX}
    cluster = LocalCluster.prepare(folder, 1, options, usual_ports=False, secure=True)
    mark = folder / _FILLED
    if mark.exists():
        if mark.read_text() != f"{jobs} {executions}":
            raise BenchError(f"{folder} was filled with {mark.read_text()} jobs and executions; remove it")
        return cluster
    _begin(cluster)
    config = load_config(cluster.nodes[0].folder / "node.toml", {})
    rounds = -(-executions // jobs)
    start_ms = time.time_ns() // 1_000_000 - rounds * DAY_MS - DAY_MS // 2
    _fill(config, start_ms, jobs, executions, say)
    mark.write_text(f"{jobs} {executions}")
    return cluster


def _begin(cluster: LocalCluster) -> None:
    """Until there are a leader, the cluster's name, and the administrator's token."""
    node, poll = cluster.nodes[0], threading.Event()
    deadline = time.monotonic() + READY_SECONDS
    cluster.start()
    try:
        while not (cluster.folder / TOKEN_FILE).exists():
            if not node.is_running or time.monotonic() > deadline:
                raise BenchError(f"the node did not come up: {node.last_words()}")
            poll.wait(POLL_SECONDS)
    finally:
        cluster.stop()


def _fill(config: NodeConfig, start_ms: int, jobs: int, executions: int, say: Callable[[str], None]) -> None:
    folder = config.data_dir / "state"
    keyring = Keyring(folder, key_source_of(config), process_clock().wall_ms)
    store = Store(folder, config.name, bytes_max=config.store_bytes_max, open_cipher=keyring.open)
    try:
        journal = Journal(store)
        if journal.applied_index != journal.last_index:
            raise BenchError("the node ended with entries that are not applied; try again")
        # What came before is put back to where the history begins: time in the log never goes back by itself.
        counters = Counters.load(store.tables)
        counters.log_time_ms = start_ms
        store.tables.meta.put(Counters.KEY, counters.pack())
        filling = Filling(store, journal.last_index, start_ms, DAY_MS, ADMINISTRATOR)
        filling.make_jobs(jobs)
        if Counters.load(store.tables).jobs != jobs:
            raise BenchError("the state machine refused the jobs")
        say(f"{jobs} jobs")
        filling.run_all(executions, say)
        own = journal.hard_state
        Journal.reset_to(store, filling.index, journal.last_term, own, journal.configuration)
        store.commit()
    finally:
        store.close()
