"""`horologe dev`: a cluster and a worker on this machine, and a view of what they do.

The one file of this package that also knows the client. With one node everything runs in this process; with more, each
node and the worker are processes of their own, laid out as local_cluster.py says.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from horologe.client import crontab, jobfile
from horologe.client.accounting import JobAccount, account
from horologe.client.async_client import AsyncClient
from horologe.client.cluster_context import of_table
from horologe.client.errors import HorologeError, InvalidContext, Unauthenticated
from horologe.node.certificates import Role
from horologe.node.config import PID_FILE, ConfigError
from horologe.node.config_sources import load_config
from horologe.node.first_administrator import ADMINISTRATOR
from horologe.node.local_cluster import (
    TOKEN_FILE,
    LocalCluster,
    LocalProcess,
    count_in,
    free_port,
    option_of,
    running_in,
)
from horologe.node.logging_setup import configure
from horologe.node.node import Node, NodeFailedError, NodeRemovedError, PortInUseError
from horologe.node.private_files import replace_durably
from horologe.node.tls_folder import TlsError
from horologe.raft.journal import CorruptLogError
from horologe.raft.store import StoreError
from horologe.v1 import execution_pb2, job_pb2

READY_SECONDS = 30.0
POLL_SECONDS = 0.05
DRAIN_SECONDS = 5.0
SETTLE_SECONDS = 15.0
"""How long executions that were fired in time may take to end before the summary."""
TOKEN_LIFE = "30d"
WORKER_SLOTS = 200
DEMO_DATABASE, DEMO_URL = "HOROLOGE_DEMO_DATABASE", "HOROLOGE_DEMO_URL"

_State = execution_pb2.Execution
_STYLES = {
    _State.STATE_RUNNING: "cyan",
    _State.STATE_COMPLETED: "green",
    _State.STATE_FAILED: "red",
    _State.STATE_DEAD: "bold red",
    _State.STATE_CANCELLED: "yellow",
}


__all__ = ["FAILURES", "DevError", "run"]


class DevError(Exception):
    """The cluster cannot be started, did not come up, or ended by itself."""


FAILURES = (
    DevError,
    HorologeError,
    ConfigError,
    StoreError,
    CorruptLogError,
    TlsError,
    PortInUseError,
    NodeFailedError,
    NodeRemovedError,
    OSError,
)
"""What says in one line what is wrong, and to whom."""


async def run(count: int | None, folder: Path | None, seconds: float, examples: Path | None) -> int:
    """Runs `count` nodes until a signal, or for `seconds` if that is not 0; answers the exit code.

    0 if every due time is accounted for exactly once, 1 if not.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="horologe-dev-")))
        _insist_on_nobody_in(folder)
        nodes = _checked_count(folder, count)
        cluster = LocalCluster.prepare(folder, nodes, secure=True)
        is_new = not (cluster.nodes[0].folder / "state").exists()
        demo = _demo_environment(cluster)
        start = _in_this_process if nodes == 1 else _as_processes
        ended = await stack.enter_async_context(start(cluster, _worker_toml(demo, examples), demo))
        client = await stack.enter_async_context(AsyncClient(context_file=cluster.context_file))
        await _first_of(stop.wait(), _wait_ready(client, cluster, is_new=is_new), ended())
        if stop.is_set():
            return 0
        _print_welcome(console, cluster, nodes)
        if examples is not None:
            await _load_examples(console, client, examples, demo)
        watch = asyncio.create_task(_watch(console, client))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds or None):
                # Of several nodes somebody may kill one, to see what happens.
                await (_first_of(stop.wait(), ended()) if nodes == 1 else stop.wait())
        until = datetime.now(UTC)
        watch.cancel()
        if not seconds:
            return 0
        return await _summarise(console, client, until)


def _insist_on_nobody_in(folder: Path) -> None:
    """Before anything is written there: its clients go by its context.toml."""
    running = running_in(folder)
    if running:
        raise DevError(
            f"a cluster runs in {folder} already, {', '.join(running)}: use it (HOROLOGE_CONTEXT={folder}/context.toml), "
            "or give another --dir"
        )


def _checked_count(folder: Path, wanted: int | None) -> int:
    """How many nodes to run: those that a folder was made with, and no others."""
    found = count_in(folder)
    if wanted is not None and found not in (0, wanted):
        raise DevError(
            f"{folder} is a cluster of {found} node{'s' if found > 1 else ''}: give --nodes {found}, or another --dir"
        )
    return found or wanted or 1


async def _first_of(*works: Awaitable[object]) -> None:
    """Until one of them is done; raises what that one raises. If several are done at once, the first of them in this order."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _failure_of(task: asyncio.Task[None]) -> None:
    """Returns never, and raises what the task raises. One that ends in good order, as a drained worker, ends nothing else."""
    await asyncio.shield(task)
    await asyncio.Event().wait()


# The cluster. Both ways give a function that returns never, and raises when a part of it has ended by itself.

_Ended = Callable[[], Awaitable[None]]


@asynccontextmanager
async def _in_this_process(cluster: LocalCluster, worker_config: str, demo: dict[str, str]) -> AsyncIterator[_Ended]:
    from horologe.client.cli.worker_run import build_worker

    folder = cluster.nodes[0].folder
    config = load_config(folder / "node.toml", {"log_file": folder / "node.log"})
    configure(config)
    node = Node(config)
    await node.start()
    pid_file = folder / PID_FILE
    pid_file.write_text(f"{os.getpid()}\n")
    path = cluster.worker("w1", config=worker_config).folder / "worker.toml"
    os.environ.update(demo)
    worker = build_worker(
        path,
        context_file=cluster.context_file,
        tls_dir=cluster.certificate(Role.WORKER, "w1") if cluster.is_secure else None,
        name="w1",
    )
    serving = asyncio.create_task(worker.serve())
    try:
        yield lambda: _first_of(node.wait_failed(), _failure_of(serving))
    finally:
        worker.drain()
        await asyncio.wait({serving}, timeout=DRAIN_SECONDS)
        # What still runs must have ended before the folder that it may write to goes.
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await node.stop()
        pid_file.unlink(missing_ok=True)


@asynccontextmanager
async def _as_processes(cluster: LocalCluster, worker_config: str, demo: dict[str, str]) -> AsyncIterator[_Ended]:
    worker = cluster.worker("w1", config=worker_config)
    worker.environment.update(demo)
    try:
        cluster.start()
        worker.start()
        yield lambda: _wait_ended([*cluster.nodes, worker])
    finally:
        await asyncio.to_thread(_stop_all, worker, cluster)


async def _wait_ended(processes: list[LocalProcess]) -> None:
    while True:
        for one in processes:
            if not one.is_running:
                log = one.folder / one.log_name
                raise DevError(f"{one.name} has ended by itself; {log} ends with\n{one.last_words()}")
        await asyncio.sleep(POLL_SECONDS)


def _stop_all(worker: LocalProcess, cluster: LocalCluster) -> None:
    worker.stop()
    cluster.stop()


def _demo_environment(cluster: LocalCluster) -> dict[str, str]:
    """What examples may count on: a database file, and an address for a server of their own."""
    database = cluster.folder / "w1" / "demo.db"
    return {DEMO_DATABASE: str(database), DEMO_URL: f"http://127.0.0.1:{free_port()}"}


def _worker_toml(demo: dict[str, str], examples: Path | None) -> str:
    lines = [f"slots = {WORKER_SLOTS}"]
    handlers = examples.resolve() / "handlers.py" if examples is not None else None
    if handlers is not None and handlers.exists():
        lines.append(f'handlers = ["{handlers}"]')
    # Whoever tries it out looks for what jobs write to /tmp where it is.
    lines += ["[shell]", 'sandbox = "off"']
    lines += ["[http]", "allow_loopback = true", "[sql.connections]", f'demo = "sqlite:///{demo[DEMO_DATABASE]}"']
    return "\n".join(lines) + "\n"


async def _wait_ready(client: AsyncClient, cluster: LocalCluster, *, is_new: bool) -> None:
    try:
        async with asyncio.timeout(READY_SECONDS):
            while True:
                with suppress(HorologeError):
                    try:
                        if await _is_ready(client, len(cluster.nodes)):
                            return
                    except (InvalidContext, Unauthenticated):
                        # A new cluster makes the token by itself.
                        if not is_new:
                            await _replace_token(cluster)
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise DevError(f"the cluster was not ready after {READY_SECONDS:.0f} s; the node.log files say more") from None


async def _is_ready(client: AsyncClient, nodes: int) -> bool:
    status = await client.with_timeout(2.0).cluster_status()
    members = [member async for member in client.list_members()]
    reachable = sum(member.reachable for member in members)
    return bool(status.leader and status.worker_count and status.cluster_id and reachable == nodes)


async def _replace_token(cluster: LocalCluster) -> None:
    """Another token for the administrator, if that of the folder is gone or has expired: whoever has the CA may be anybody."""
    table = {
        "worker_addresses": [option_of(node, "worker_listen") for node in cluster.nodes],
        "tls_dir": str(cluster.certificate(Role.CLIENT, ADMINISTRATOR)),
    }
    async with AsyncClient(of_table(table, cluster.folder, "horologe dev")) as administrator:
        made = await administrator.with_timeout(2.0).create_token(time_to_live=TOKEN_LIFE)
    replace_durably(cluster.folder / TOKEN_FILE, made.secret.encode() + b"\n")


# What is seen


def _print_welcome(console: Console, cluster: LocalCluster, nodes: int) -> None:
    console.print(
        f"[bold]Horologe[/bold] with {nodes} node{'s' if nodes > 1 else ''} and a worker; not for production."
    )
    for node, address in zip(cluster.nodes, cluster.addresses, strict=True):
        console.print(f"  {node.name}  {address}  {node.folder}")
    _print_dashboard(console, cluster)
    console.print("In another terminal:")
    console.print(f"  export HOROLOGE_CONTEXT={cluster.context_file}", soft_wrap=True)
    console.print("  horologe job create hello --every 5s --shell 'echo hello'")
    console.print("  horologe execution list")


def _print_dashboard(console: Console, cluster: LocalCluster) -> None:
    # A folder of an earlier version has nodes without pages.
    pages = [address for node in cluster.nodes if (address := option_of(node, "http_listen", default=""))]
    if not pages:
        return
    scheme = "https" if cluster.is_secure else "http"
    console.print(f"Dashboard: {scheme}://{pages[0]}/", soft_wrap=True)
    if cluster.is_secure:
        console.print(f"  sign in with the token in {cluster.folder / TOKEN_FILE}", soft_wrap=True)


def _read_examples(folder: Path, demo: dict[str, str]) -> list[job_pb2.Job]:
    jobs: list[job_pb2.Job] = []
    if (folder / "crontab").exists():
        jobs += crontab.load(folder / "crontab", system=True).jobs
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.json")]):
        content = path.read_text().replace(f"${{{DEMO_URL}}}", demo[DEMO_URL])
        jobs += [sourced.job for sourced in jobfile.loads(content, str(path))]
    return jobs


async def _load_examples(console: Console, client: AsyncClient, folder: Path, demo: dict[str, str]) -> None:
    jobs = await asyncio.to_thread(_read_examples, folder, demo)
    applied = await client.apply_jobs(jobs)
    console.print(f"{len(applied)} jobs from {folder}:")
    for entry in applied:
        due = entry.job.next_due_time.ToDatetime(UTC)
        console.print(f"  {entry.job.name.rpartition('/')[2]:<28} next due {due:%Y-%m-%d %H:%M:%S} UTC")


async def _watch(console: Console, client: AsyncClient) -> None:
    """Prints executions as they start and end; goes on with another node when one goes away."""
    while True:
        with suppress(HorologeError):
            async for batch in client.watch_executions():
                for execution in batch.executions:
                    _print_execution(console, execution)
        await asyncio.sleep(0.2)


def _print_execution(console: Console, execution: _State) -> None:
    style = _STYLES.get(execution.state)
    if style is None:
        return
    state = _State.State.Name(execution.state).removeprefix("STATE_").lower()
    _, _, _, job, _, number = execution.name.split("/")
    due = execution.due_time.ToDatetime(UTC)
    delay = ""
    if execution.attempts and execution.state == _State.STATE_RUNNING:
        late_ms = execution.attempts[-1].assign_time.ToMilliseconds() - execution.due_time.ToMilliseconds()
        delay = f"+{late_ms} ms"
    line = f"[{style}]{state:<10}[/{style}] {job:<28} #{number:<6} due {due:%H:%M:%S}.{due.microsecond // 1000:03}"
    console.print(line, delay, escape(execution.reason), soft_wrap=True)


async def _summarise(console: Console, client: AsyncClient, until: datetime) -> int:
    accounts = await _settled_accounts(client, until)
    table = Table(
        Column("Job", no_wrap=True), "Due", "Ran", "OK", "Failed", "Skipped", "Missed", "Coalesced", "Missing", "Double"
    )
    for one in accounts:
        failed = one.states["failed"] + one.states["dead"] + one.states["cancelled"]
        numbers = (
            one.due,
            one.outcomes["ran"],
            one.states["completed"],
            failed,
            one.outcomes["skipped"],
            one.outcomes["missed"],
            one.outcomes["coalesced"],
            len(one.missing),
            len(one.double),
        )
        table.add_row(one.name.rpartition("/")[2], *(str(number) for number in numbers))
    console.print(table)
    due = sum(one.due for one in accounts)
    missing = sum(len(one.missing) for one in accounts)
    double = sum(len(one.double) for one in accounts)
    console.print(f"{due} due times: {due - missing} accounted for, {missing} missing, {double} double.")
    return 0 if due and all(one.is_sound for one in accounts) else 1


async def _settled_accounts(client: AsyncClient, until: datetime) -> list[JobAccount]:
    """The accounts once everything that was due has been fired and has ended, or after a while as they are."""
    deadline = datetime.now(UTC) + timedelta(seconds=SETTLE_SECONDS)
    while True:
        accounts = await account(client, until)
        open_states = ("running", "queued", "scheduled")
        settled = all(one.is_sound and not any(one.states[state] for state in open_states) for one in accounts)
        if settled or datetime.now(UTC) > deadline:
            return accounts
        await asyncio.sleep(0.2)
