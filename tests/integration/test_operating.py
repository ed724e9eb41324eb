"""A secure node and what its operators ask: log levels, health, and a bundle in which nothing secret is."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import subprocess
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from support.governed_node import GovernedNode, governed_node

from horologe.chaos.cluster import eventually
from horologe.client import jobs
from horologe.client.async_client import AsyncClient
from horologe.client.errors import InvalidArgument
from horologe.client.executors.shell import ShellExecutor
from horologe.client.worker import Worker
from horologe.node.local_cluster import COMMAND
from horologe.node.logging_setup import configure

MARKER = "MARKER-of-something-secret"
LOGGER = "horologe.test.operating"


class Plant:
    """The node, a client of its administrator, and the command line."""

    def __init__(self, governed: GovernedNode, client: AsyncClient, folder: Path) -> None:
        self.governed = governed
        self.client = client
        self.folder = folder

    async def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """In a process of its own, since the node of this one logs to the same output."""
        context = {"HOROLOGE_CONTEXT": str(self.folder / "context.toml"), "HOROLOGE_TOKEN": self.governed.admin}
        return await asyncio.to_thread(
            subprocess.run,
            [*COMMAND, *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env={**os.environ, **context},
        )


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Plant]:
    options = {"oidc_issuer": "https://issuer.invalid", "oidc_audience": "a", "oidc_client_secret": MARKER}
    options |= {"smtp_server": "mail.invalid:25", "smtp_from": "a@b.example", "smtp_password": MARKER}
    async with governed_node(tmp_path, **options) as governed:
        ca = governed.config.data_dir / "tls" / "ca.pem"
        (tmp_path / "context.toml").write_text(f'addresses = ["{governed.config.listen}"]\nca_file = "{ca}"\n')
        async with AsyncClient(governed.config.listen, ca_file=ca, token=governed.admin) as client:
            yield Plant(governed, client, tmp_path)


async def test_log_levels_change_for_a_time_and_health_is_seen_from_outside(plant: Plant) -> None:
    logger = logging.getLogger(LOGGER)
    set_to = await plant.command("cluster", "log-level", LOGGER, "debug", "--for", "1h", "--node", "n1", "-o", "json")
    assert set_to.returncode == 0, set_to.stderr
    found = {row["logger"]: row for row in json.loads(set_to.stdout)}
    assert (found[LOGGER]["level"], found[LOGGER]["usual_level"], found[LOGGER]["node"]) == ("debug", "", "n1")
    assert found[LOGGER]["expire_time"]
    assert found[""]["expire_time"] is None
    assert logger.isEnabledFor(logging.DEBUG)

    usual = await plant.client.set_log_level("", logger=LOGGER)
    assert ([level.logger for level in usual.levels], logger.level) == ([""], logging.NOTSET)
    await plant.client.set_log_level("error", logger=LOGGER, seconds=0.05)

    async def is_usual() -> bool:
        return logger.level == logging.NOTSET

    await eventually(is_usual, 60, "the level is as usual again")
    with pytest.raises(InvalidArgument, match="no level"):
        await plant.client.set_log_level("loud", logger=LOGGER)

    async def is_told() -> bool:
        records = [record async for record in plant.client.list_audit_records()]
        done = [record for record in records if record.method.endswith("SetLogLevel")]
        return any(record.allowed and record.principal == "admin" for record in done)

    await eventually(is_told, 60, "the audit log tells of it")

    answer = await plant.command("cluster", "health", "-o", "json")
    told = json.loads(answer.stdout)
    grades = {finding["check"]: finding["grade"] for finding in told["findings"]}
    # Nobody has connected a worker. What the disk of this machine is like, nobody knows.
    assert (grades["leader"], grades["quorum"], grades["workers"]) == ("ok", "ok", "warning")
    assert answer.returncode == {"ok": 0, "warning": 1, "failure": 2}[told["grade"]]


async def fill(plant: Plant) -> None:
    """Something secret wherever there is a place for it."""
    client, governed = plant.client, plant.governed
    await client.set_secret("s", MARKER)
    shell = jobs.shell(
        'printf %s "$SECRET" >&2; echo $TEXT; cat', env={"SECRET": "${{ secrets.s }}", "TEXT": MARKER}, stdin=MARKER
    )
    await client.create_job(jobs.job("a", jobs.manual(), shell))
    await client.create_job(jobs.job("b", jobs.manual(), jobs.python("handler", payload={"p": MARKER})))
    governed.worker_credentials("w1", "default")
    folder = governed.config.data_dir / "workers" / "w1"
    worker = Worker(governed.config.worker_listen, name="w1", tls_dir=folder, drain_seconds=1.0)
    worker.add_executor("shell", ShellExecutor(worker.lease))

    @worker.handler("handler")
    def handler(context: object) -> dict[str, str]:
        raise ValueError(MARKER)

    serving = asyncio.create_task(worker.serve())
    try:
        for job in ("a", "b"):
            await client.wait_execution((await client.run_job(job)).name, timeout=60)
    finally:
        worker.stop()
        await asyncio.wait_for(serving, 60)
    log = structlog.get_logger(LOGGER)
    log.warning(
        "a library was careless", header=f"Bearer {MARKER}", url=f"https://hooks.invalid/{MARKER}", token=governed.admin
    )


def secrets_of(plant: Plant) -> set[str]:
    """All that must not be in a bundle, in the forms in which it might be."""
    data = plant.governed.config.data_dir
    found = {MARKER, MARKER[3:-3], base64.b64encode(MARKER.encode()).decode(), plant.governed.admin.split("_", 2)[2]}
    for file in (data / "node.key", *data.rglob("*key.pem"), *data.rglob("ca.key")):
        found |= {line for line in file.read_text().splitlines() if len(line) > 20 and "-----" not in line}
    for key in json.loads((data / "state" / "keyring").read_text())["keys"]:
        found.add(key["wrapped"])
    assert len(found) > 10
    return found


async def test_nothing_secret_is_in_a_bundle(plant: Plant) -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    settings = structlog.get_config()
    try:
        configure(plant.governed.config.model_copy(update={"log_file": plant.folder / "log"}))
        await fill(plant)
        made = await plant.command("debug", "bundle", "--file", "bundle.tar.gz", "-o", "json")
    finally:
        structlog.configure(**settings)
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers, root.level = handlers, level
        logging.getLogger("httpx").setLevel(logging.NOTSET)
        root.setLevel(level)
    assert made.returncode == 0, made.stdout + made.stderr
    path = plant.folder / "bundle.tar.gz"
    assert path.stat().st_mode & 0o077 == 0
    with tarfile.open(path) as archive:
        files = {name.partition("/")[2]: archive.extractfile(name).read().decode() for name in archive.getnames()}  # type: ignore[union-attr]
    everything = "\n".join(files.values())
    for secret in secrets_of(plant):
        assert secret not in everything
    # The file of the log has what is hidden in the bundle: so the marker was there.
    assert MARKER in (plant.folder / "log").read_text()

    assert {
        "status.json",
        "members.json",
        "activity.json",
        "queues.json",
        "workers.json",
        "health.json",
    } <= files.keys()
    of_node = {name.removeprefix("nodes/n1/") for name in files if name.startswith("nodes/n1/")}
    assert of_node == {
        *("options.json", "log.jsonl", "threads.txt", "tasks.txt", "versions.json", "counters.json", "metrics.txt"),
        *("log-levels.json", "encryption.json"),
    }
    assert json.loads(files["errors.json"]) == {}
    options = {option["name"]: option["value"] for option in json.loads(files["nodes/n1/options.json"])}
    assert (options["name"], options["smtp_password"]) == ("n1", "(set, not shown)")
    assert "a library was careless" in files["nodes/n1/log.jsonl"]
    assert all(json.loads(line) for line in files["nodes/n1/log.jsonl"].splitlines())
    assert "horologe_raft_term" in files["nodes/n1/metrics.txt"]
    assert "stepper.py" in files["nodes/n1/threads.txt"]
    assert json.loads(files["nodes/n1/counters.json"])["jobs"] == 2
