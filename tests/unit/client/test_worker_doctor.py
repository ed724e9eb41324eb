"""`horologe worker doctor`: what a worker's machine needs, and whether the nodes take its certificate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from support.certificates import DAY, TestAuthority, server_credentials
from support.machines import FakeMachine
from typer.testing import CliRunner

from horologe.client.cli.main import app
from horologe.client.cluster_context import ClusterContext
from horologe.client.findings import Finding, Grade
from horologe.client.machine import FileLimit
from horologe.client.worker_checks import examine


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers here may share its processor with many others."""
    monkeypatch.setattr("horologe.client.worker_checks.ANSWER_SECONDS_MAX", 30.0)


@contextmanager
def node(credentials: grpc.ServerCredentials | None = None) -> Iterator[str]:
    """As much of one as a worker's doctor asks."""
    servicer = health.HealthServicer()
    servicer.set("horologe.v1.WorkerService", health_pb2.HealthCheckResponse.SERVING)
    server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    place = "127.0.0.1:0"
    port = server.add_insecure_port(place) if credentials is None else server.add_secure_port(place, credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def grades(findings: list[Finding]) -> dict[str, Grade]:
    return {finding.check: finding.grade for finding in findings}


def test_a_worker_that_is_well_and_one_that_nobody_takes(tmp_path: Path) -> None:
    authority = TestAuthority()
    own = authority.write(tmp_path / "w1", name="w1", uri="horologe://worker/w1")
    credentials = server_credentials(authority.write(tmp_path / "n1"), asks_for_certificates=True)
    with node(credentials) as address:
        context = ClusterContext(tls_dir=own, worker_addresses=(address, "127.0.0.1:1"))
        found = examine(context, 100, FakeMachine())
        foreign = TestAuthority().write(tmp_path / "w2", name="w2", uri="horologe://worker/w2")
        stranger = examine(ClusterContext(tls_dir=foreign, worker_addresses=(address,)), 100, FakeMachine())
    assert grades(found)["certificate"] is Grade.OK
    assert grades(found)[f"node {address}"] is Grade.OK
    assert grades(found)["node 127.0.0.1:1"] is Grade.WARNING
    assert grades(stranger)[f"node {address}"] is Grade.FAILURE


@pytest.mark.parametrize(
    ("options", "check", "grade"),
    [
        ({"uri": "horologe://client/c1"}, "certificate", Grade.FAILURE),
        ({"uri": "horologe://worker/w1", "until": DAY}, "certificate expiry", Grade.WARNING),
        ({"uri": "horologe://worker/w1", "until": -DAY}, "certificate expiry", Grade.FAILURE),
    ],
)  # fmt: skip
def test_certificates(tmp_path: Path, options: dict[str, str], check: str, grade: Grade) -> None:
    own = TestAuthority().write(tmp_path / "w1", **options)  # type: ignore[arg-type]
    found = grades(examine(ClusterContext(tls_dir=own, worker_addresses=("127.0.0.1:1",)), 100, FakeMachine()))
    assert found[check] is grade


def test_a_context_without_a_certificate_and_too_few_files() -> None:
    machine = FakeMachine(limit=FileLimit(256, 256, "this shell"))
    found = grades(examine(ClusterContext(), 100, machine))
    assert (found["certificate"], found["open files"]) == (Grade.FAILURE, Grade.WARNING)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("horologe.client.machine.ThisMachine", FakeMachine)
    with node() as address:
        result = CliRunner().invoke(app, ["worker", "doctor", "--address", address, "--insecure", "-o", "json"])
    told = json.loads(result.output)
    assert (result.exit_code, told["grade"]) == (1, "warning")
    assert {each["check"] for each in told["findings"] if each["grade"] != "ok"} == {"certificate"}
    result = CliRunner().invoke(app, ["worker", "doctor", "--context", str(tmp_path / "none.toml")])
    assert (result.exit_code, "failure  configuration" in result.output) == (2, True)
