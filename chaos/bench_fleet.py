"""The processes of a benchmark: nodes, workers, and their scratch folder. All of them end with the `with` block.

Nothing here waits for good manners: what a benchmark leaves behind is thrown away, so everything is killed by its pid.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from horologe.chaos import plain_node
from horologe.chaos.bench_evidence import Evidence, read_starts
from horologe.client import cluster_context, own_program
from horologe.client.cluster_context import ClusterContext
from horologe.node.certificates import Role
from horologe.node.local_cluster import LocalCluster, option_of

CALLS_PER_SECOND_MAX = 1_000_000
STATE_FILE = Path("state", "data.mdb")
WORKER_END_SECONDS = 20.0
"""A worker drains for up to 10 s and then waits for its last acknowledgements."""
PLAIN_COMMAND = tuple(own_program.run_module(plain_node.__name__))


class BenchError(Exception):
    """The benchmark could not be carried out; the text says what was in the way."""


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """Which processes to start, and which to watch."""

    nodes: int = 3
    workers: int = 1
    slots: int = 1_000
    """Of each worker."""
    addresses: tuple[str, ...] = ()
    """A cluster that exists already; then no node is started."""
    pids: tuple[int, ...] = ()
    """Its node processes, when they run on this machine and shall be measured."""
    secure: bool = False
    """Whether the cluster that is started has TLS and asks everybody who they are."""
    encrypted: bool = True
    """Whether its nodes encrypt what they write. Nodes that do not exist for measurements only: see plain_node.py."""
    lease_term_ms: int = 0
    """Of the cluster that is started; 0: as by default."""
    folder: Path | None = None
    """Where the scratch folder is made; its disk is the one that is measured."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process has used so far."""

    cpu_seconds: float
    rss_bytes: int
    file_backed_bytes: int
    """The part of it that is pages of files, the node's data above all: the kernel can take it back at any time."""
    data_bytes: int = 0
    """What its state takes on the disk."""


class Fleet:
    """Starts nodes on entry and kills everything on exit."""

    def __init__(self, options: FleetOptions, run: str) -> None:
        """`run` is unique to this run and becomes part of names."""
        self.options = options
        self.run = run
        self.addresses = list(options.addresses)
        self._cluster: LocalCluster | None = None
        self._workers: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        parent = self.options.folder
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="horologe-bench-", dir=parent))
        try:
            if not self.addresses:
                # What one caller may do in a second is a limit for callers that are not measured.
                options = {"calls_per_second_max": CALLS_PER_SECOND_MAX}
                if self.options.lease_term_ms:
                    options["lease_term_ms"] = self.options.lease_term_ms
                self._cluster = LocalCluster.prepare(
                    self.folder, self.options.nodes, options, usual_ports=False, secure=self.options.secure
                )
                self.addresses = self._cluster.addresses
                if not self.options.encrypted:
                    for node in self._cluster.nodes:
                        node.command = PLAIN_COMMAND
                self._cluster.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def is_own(self) -> bool:
        """Whether the cluster was started for this run, and so holds nothing else."""
        return not self.options.addresses

    @property
    def node_names(self) -> list[str]:
        """Of the nodes that were started, in the order of their addresses."""
        return [node.name for node in self._cluster.nodes] if self._cluster is not None else []

    @property
    def page_addresses(self) -> list[str]:
        """Where the nodes that were started show pages to anybody; a secure node does not."""
        if self._cluster is None or self._cluster.is_secure:
            return []
        return [f"http://{option_of(node, 'http_listen')}" for node in self._cluster.nodes]

    @property
    def context(self) -> ClusterContext:
        """How to speak with it: clear text, unless it was started as a secure one."""
        if self._cluster is None:
            return ClusterContext(tuple(self.addresses), insecure=True)
        return cluster_context.load(context_file=self._cluster.context_file)

    def start_workers(self, queue: str) -> list[str]:
        """Starts the workers; answers their names."""
        for number in range(1, self.options.workers + 1):
            name = f"{self.run}-w{number}"
            command = own_program.run_module("horologe.chaos.bench_worker", name, queue, str(self.options.slots))
            tls_dir, addresses = "-", tuple(self.addresses)
            if self._cluster is not None and self._cluster.is_secure:
                tls_dir, addresses = str(self._cluster.certificate(Role.WORKER, name)), self.context.worker_addresses
            with self._log_of(name).open("wb") as log:
                self._workers[name] = subprocess.Popen(
                    [*command, str(self._evidence_of(name)), tls_dir, *addresses],
                    # It ends when this pipe is closed, however this process ends.
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        return list(self._workers)

    def stop_workers(self) -> Evidence:
        """Lets the workers drain and answers what they wrote down. Raises BenchError if one did not end well."""
        for worker in self._workers.values():
            worker.send_signal(signal.SIGTERM)
        written: list[Path] = []
        for name, worker in self._workers.items():
            try:
                code = worker.wait(WORKER_END_SECONDS)
            except subprocess.TimeoutExpired:
                raise BenchError(
                    f"worker {name} did not end within {WORKER_END_SECONDS:.0f} s; its evidence is lost"
                ) from None
            if code != 0:
                raise BenchError(f"worker {name} ended with code {code}: {_last_lines(self._log_of(name))}")
            written.append(self._evidence_of(name))
        return Evidence(start for path in written for start in read_starts(path))

    def check(self) -> None:
        """Raises BenchError if a process has ended by itself."""
        for node in self._cluster.nodes if self._cluster is not None else ():
            if not node.is_running:
                raise BenchError(f"node {node.name} ended by itself: {node.last_words()}")
        for name, worker in self._workers.items():
            if worker.poll() is not None:
                raise BenchError(
                    f"worker {name} ended by itself with code {worker.returncode}: {_last_lines(self._log_of(name))}"
                )

    def node_usage(self) -> dict[str, Usage]:
        """By node; empty for a cluster that was not started here and whose pids were not given."""
        if self._cluster is not None:
            return {
                node.name: replace(_usage(node.pid, node.name), data_bytes=_size_on_disk(node.folder / STATE_FILE))
                for node in self._cluster.nodes
            }
        return {f"pid {pid}": _usage(pid, f"pid {pid}") for pid in self.options.pids}

    def restart(self, position: int) -> float:
        """Kills a node of the cluster that was started here, and starts it again; answers when, in monotonic seconds."""
        if self._cluster is None:
            raise BenchError("a cluster that exists already is not restarted; leave --address out")
        node = self._cluster.nodes[position]
        node.kill()
        begun = time.monotonic()
        node.start()
        return begun

    def worker_cpu_seconds(self) -> float:
        return sum(_usage(worker.pid, name).cpu_seconds for name, worker in self._workers.items())

    def _end(self) -> None:
        for worker in self._workers.values():
            worker.kill()
        for node in self._cluster.nodes if self._cluster is not None else ():
            node.signal(signal.SIGKILL)
        for worker in self._workers.values():
            worker.wait()
            if worker.stdin is not None:
                worker.stdin.close()
        if self._cluster is not None:
            self._cluster.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _evidence_of(self, worker: str) -> Path:
        return self.folder / f"{worker}.evidence"

    def _log_of(self, worker: str) -> Path:
        return self.folder / f"{worker}.log"


def _usage(pid: int, name: str) -> Usage:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times, memory = process.cpu_times(), process.memory_info()
    except psutil.NoSuchProcess:
        raise BenchError(f"{name} is gone: there is no process {pid}") from None
    return Usage(times.user + times.system, memory.rss, getattr(memory, "shared", 0))


def _size_on_disk(path: Path) -> int:
    """In blocks that are taken, since a file of LMDB may have holes."""
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0


def _last_lines(path: Path, count: int = 5) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-count:])
