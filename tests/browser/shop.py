"""A secure cluster of three nodes with a worker, and jobs in every state that a page can show; it waits for conditions only."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import httpx

from horologe.client import Client, jobs, names
from horologe.client.errors import HorologeError
from horologe.node.local_cluster import TLS_FOLDER, TOKEN_FILE, LocalCluster, LocalProcess, option_of
from horologe.node.tls_folder import CA_FILE
from horologe.v1.cluster_service_pb2 import GetClusterStatusResponse
from horologe.v1.execution_pb2 import Execution
from horologe.v1.execution_service_pb2 import LedgerRow
from horologe.v1.job_pb2 import Job

Found = TypeVar("Found")

SECONDS = 60.0
WORKER_TOML = 'slots = 50\nqueues = ["default", "mail"]\n[shell]\nsandbox = "off"\n'
HOSTILE = "<img src=x onerror=alert(1)> & 'quotes' \u202ereversed"
"""A text as people write it who mean harm: it has to be shown, and nothing else."""

ELECTIONS = {"election_timeout_ms_min": 1_500, "election_timeout_ms_max": 3_000, "lease_term_ms": 20_000}
"""Only what a test does costs a leader its office, and not that a browser has taken the machine for a second."""

_pauses = threading.Event()


def eventually(condition: Callable[[], Found | None], what: str, seconds: float = SECONDS) -> Found:
    """The first true answer; errors of the cluster are none."""
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            found = condition()
            if found:
                return found
            last = found
        except (HorologeError, httpx.TransportError) as error:
            last = error
        _pauses.wait(0.05)
    raise AssertionError(f"{what}: not within {seconds:g} s (last: {last!r})")


class Shop:
    """The cluster, its administrator's client, and where its pages are."""

    def __init__(self, cluster: LocalCluster, worker: LocalProcess) -> None:
        self.cluster = cluster
        self.worker = worker
        self.client = Client(context_file=cluster.context_file)

    @property
    def token(self) -> str:
        """That of the administrator."""
        return (self.cluster.folder / TOKEN_FILE).read_text().strip()

    def node(self, name: str) -> LocalProcess:
        return next(node for node in self.cluster.nodes if node.name == name)

    def address(self, name: str = "n1") -> str:
        """Of a node's first page, without a slash at the end."""
        return f"https://{option_of(self.node(name), 'http_listen')}"

    def leader(self) -> str:
        return eventually(lambda: self.client.cluster_status().leader, "a leader")

    def follower(self) -> str:
        leader = self.leader()
        return next(node.name for node in self.cluster.nodes if node.name != leader)

    def wait_ready(self) -> None:
        """Every node shows pages, by a certificate of the cluster's CA, and knows a leader; the worker is there."""
        eventually((self.cluster.folder / TOKEN_FILE).exists, "the administrator's token")
        for node in self.cluster.nodes:
            eventually(lambda node=node: self.shows_pages(node.name), f"pages of {node.name}")  # type: ignore[misc]
        eventually(lambda: list(self.client.list_workers()), "a worker")

    def shows_pages(self, name: str) -> bool:
        trusted = ssl.create_default_context(cafile=str(self.cluster.folder / TLS_FOLDER / CA_FILE))
        with httpx.Client(verify=trusted, timeout=5.0) as browser:
            if browser.get(f"{self.address(name)}/sign-in").status_code != 200:
                return False
        return bool(self.status(name).leader)

    def status(self, name: str) -> GetClusterStatusResponse:
        """In a node's own words."""
        at = self.client.at(option_of(self.node(name), "listen"), unreachable_seconds=1.0)
        return at.with_timeout(5.0).cluster_status()

    def wait_everywhere(self) -> None:
        """All nodes that run have what was done and seen so far, so that it is on a page of whichever of them is opened now."""
        seen = self.client.revision
        for node in self.cluster.nodes:
            if node.is_running:
                eventually(
                    lambda node=node: self.status(node.name).revision >= seen,  # type: ignore[misc]
                    f"{node.name} at revision {seen}",
                )

    def wait_state(self, execution: str, state: Execution.State.ValueType) -> Execution:
        def reached() -> Execution | None:
            found = self.client.get_execution(execution)
            return found if found.state == state else None

        there = eventually(reached, f"{execution} {Execution.State.Name(state)}")
        self.wait_everywhere()
        return there

    def running(self, job: str) -> Execution:
        """A new execution of a job, which runs."""
        return self.wait_state(self.client.run_job(job, force=True).name, Execution.STATE_RUNNING)

    def skipped(self, job: str) -> LedgerRow:
        """A due time of a job that was left out."""

        def found() -> LedgerRow | None:
            rows = self.client.list_ledger(job)
            return next((row for row in rows if row.outcome == LedgerRow.OUTCOME_SKIPPED), None)

        row = eventually(found, f"a due time of {job} that is skipped")
        self.wait_everywhere()
        return row

    def stored(self, job: str) -> Job:
        """A job that a page shows; another node may have it a moment later."""
        return eventually(lambda: self.client.get_job(job), f"the job {job}")

    def stock(self) -> None:
        """Jobs of all kinds, and something in every list."""
        wait = 'while [ ! -e "$HOME/go-on" ]; do sleep 0.2; done'
        self.client.apply_jobs(
            [
                jobs.job("place-order", jobs.every("2s"), jobs.shell("echo an order"), labels={"team": "shop"}),
                jobs.job("nightly-backup", jobs.cron("0 2 * * *", time_zone="Europe/Berlin"), jobs.shell("echo saved")),
                jobs.job(
                    "import-catalog",
                    jobs.manual(),
                    jobs.shell(f"echo first line; echo second line >&2; {wait}"),
                    description="Takes until somebody ends it.",
                    labels={"team": "catalog", "note": "long"},
                ),
                jobs.job("slow-report", jobs.every("1s"), jobs.shell(wait), overlap="skip"),
                jobs.job(
                    "send-invoices",
                    jobs.manual(),
                    jobs.shell("echo the printer is on fire >&2; exit 7"),
                    retry=jobs.retry(max_attempts=1),
                    queue="mail",
                ),
                jobs.job(
                    "gated",
                    jobs.manual(),
                    jobs.shell(
                        'echo waits at the gate; while [ ! -e "$HOME/gate" ]; do sleep 0.1; done; echo goes through'
                    ),
                ),
                jobs.job("hostile", jobs.manual(), jobs.shell("true"), description=HOSTILE, owner=HOSTILE[:60]),
                jobs.job("sales", jobs.manual(), jobs.workflow()),
                jobs.job("sales-extract", jobs.manual(), jobs.shell("echo extracted"), workflow="sales"),
                jobs.job("sales-load", jobs.after("sales-extract"), jobs.shell("echo loaded"), workflow="sales"),
                # All at the same minute, as people write them.
                *(
                    jobs.job(f"night/report-{number}", jobs.cron("0 2 * * *"), jobs.shell("true"))
                    for number in range(1, 13)
                ),
            ]
        )
        letters = [self.dead_letter() for _ in range(3)]
        self.dead = letters[0]
        self.client.wait_execution(self.client.run_job("sales").name, SECONDS)
        self.running("import-catalog")
        self.skipped("slow-report")

    def dead_letter(self) -> Execution:
        """A new one, of `send-invoices`."""
        return self.wait_state(self.client.run_job("send-invoices", force=True).name, Execution.STATE_DEAD)

    def number(self, execution: Execution) -> int:
        return names.execution_number(execution.name)


@contextmanager
def open_shop(folder: Path) -> Iterator[Shop]:
    """A cluster that is ready and stocked."""
    options = {"log_level": "info", **ELECTIONS}
    cluster = LocalCluster.prepare(folder, 3, options, usual_ports=False, secure=True)
    worker = cluster.worker("w1", config=WORKER_TOML)
    worker.environment["HOME"] = str(worker.folder)
    try:
        cluster.start()
        worker.start()
        shop = Shop(cluster, worker)
        shop.wait_ready()
        shop.stock()
        yield shop
        shop.client.close()
    finally:
        with suppress(ProcessLookupError):
            worker.kill()
        cluster.kill()
