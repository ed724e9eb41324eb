"""Workers and certificates: they show one, they take a new one without a restart, and they say when it gets old."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fake_gateway import FakeGateway
from structlog.testing import capture_logs
from support.certificates import DAY, TestAuthority, server_credentials
from typer.testing import CliRunner

from horologe.client import tls
from horologe.client.cli.main import build
from horologe.client.cluster_context import ClusterContext
from horologe.client.errors import InvalidContext
from horologe.client.worker import Worker


async def start(authority: TestAuthority, folder: Path, port: int = 0) -> FakeGateway:
    gateway = FakeGateway()
    await gateway.start(server_credentials(authority.write(folder), asks_for_certificates=True), port)
    return gateway


async def test_a_worker_shows_its_certificate_and_takes_a_new_one_for_the_next_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explain, failed = tls.explain, asyncio.Event()

    def explain_and_tell(details: str, context: ClusterContext, now: datetime) -> tuple[str, bool]:
        meaning = explain(details, context, now)
        if "not signed by a CA" in meaning[0]:
            failed.set()
        return meaning

    monkeypatch.setattr(tls, "explain", explain_and_tell)
    authority, successor = TestAuthority(), TestAuthority()
    gateway = await start(authority, tmp_path / "node")
    worker = Worker(gateway.address, name="w1", tls_dir=authority.write(tmp_path / "own"))
    serving = asyncio.create_task(worker.serve())
    assert (await gateway.stream()).hello.worker == "w1"
    await gateway.stop()
    # The CA of the cluster is another one now.
    later = await start(successor, tmp_path / "node", int(gateway.address.rpartition(":")[2]))
    await failed.wait()
    successor.write(tmp_path / "own")
    assert (await later.stream()).hello.worker == "w1"
    worker.stop()
    await serving
    await later.stop()


async def test_a_worker_without_a_good_certificate_does_not_begin(tmp_path: Path) -> None:
    with pytest.raises(InvalidContext, match="a worker needs a certificate"):
        Worker("127.0.0.1:1")
    with pytest.raises(InvalidContext, match=r"ca\.pem cannot be read"):
        Worker("127.0.0.1:1", tls_dir=tmp_path)
    folder = TestAuthority().write(tmp_path / "own")
    context = tmp_path / "context.toml"
    context.write_text('addresses = ["127.0.0.1:1"]\ntls_dir = "own"\n')
    with pytest.raises(InvalidContext, match="has no worker_addresses"):
        Worker(context_file=context)
    context.write_text('addresses = ["127.0.0.1:1"]\nworker_addresses = ["127.0.0.1:2"]\ntls_dir = "own"\n')
    Worker(context_file=context)
    Worker("127.0.0.1:1", tls_dir=folder)


def test_the_command_names_the_folder_too(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(build(), ["worker", "run", "--address", "127.0.0.1:1"])
    assert (outcome.exit_code, "a worker needs a certificate" in outcome.stderr) == (2, True)
    where = ["worker", "run", "--address", "127.0.0.1:1"]
    outcome = CliRunner().invoke(build(), [*where, "--tls-dir", str(tmp_path / "absent")])
    assert (outcome.exit_code, f"{tmp_path / 'absent' / 'ca.pem'} cannot be read" in outcome.stderr) == (2, True)
    config = tmp_path / "worker.toml"
    config.write_text('tls_dir = "of-the-file"\n')
    outcome = CliRunner().invoke(build(), [*where, "--config", str(config)])
    assert (outcome.exit_code, f"{tmp_path / 'of-the-file' / 'ca.pem'} cannot be read" in outcome.stderr) == (2, True)


@pytest.mark.parametrize(("days", "said"), [(0, ""), (7, "expires on"), (11, "expired on")])
async def test_a_worker_says_that_its_certificate_gets_old(tmp_path: Path, days: int, said: str) -> None:
    authority = TestAuthority()
    gateway = await start(authority, tmp_path / "node")
    own = authority.write(tmp_path / "own")
    worker = Worker(gateway.address, tls_dir=own, wall_clock=lambda: datetime.now(UTC) + days * DAY)
    with capture_logs() as logs:
        serving = asyncio.create_task(worker.serve())
        await gateway.stream()
    warnings = [entry["event"] for entry in logs if entry["log_level"] == "warning"]
    assert [said in warning for warning in warnings] == ([True] if said else [])
    worker.stop()
    await serving
    await gateway.stop()


def test_a_worker_is_called_what_its_certificate_allows(tmp_path: Path) -> None:
    authority = TestAuthority()
    pool = authority.write(tmp_path / "pool", uri="horologe://worker/reports?queue=a")
    assert Worker("127.0.0.1:1", tls_dir=pool).name.startswith(f"reports-{os.getpid()}-")
    assert Worker("127.0.0.1:1", tls_dir=pool, name="reports-7").name == "reports-7"
    other = authority.write(tmp_path / "other", uri="horologe://client/ada")
    assert not Worker("127.0.0.1:1", tls_dir=other).name.startswith("ada")
