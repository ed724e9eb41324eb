"""`horologe doctor`: what is well on a node's machine and what is not, on machines that a test makes up and on this one."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.machines import GIB, FakeMachine
from typer.testing import CliRunner

from horologe.client.findings import Finding, Grade
from horologe.client.machine import ClockState, FileLimit, Space, ThisMachine
from horologe.node import doctor, doctor_network
from horologe.node.certificates import Role, checked_identity
from horologe.node.config import MemberConfig, NodeConfig
from horologe.node.local_cluster import free_port, free_ports
from horologe.node.tls_folder import CaFolder, read_tls_folder
from horologe.peer.v1 import peer_service_pb2, peer_service_pb2_grpc
from horologe.raft.store import Store, StoreError
from horologe.v1 import cluster_service_pb2


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers here may share its processor with many others."""
    monkeypatch.setattr(doctor_network, "ANSWER_SECONDS_MAX", 30.0)


def config_of(folder: Path, **options: Any) -> NodeConfig:
    listen, peer, worker, http = (f"127.0.0.1:{port}" for port in free_ports(4))
    values = {"listen": listen, "peer_listen": peer, "worker_listen": worker, "http_listen": http, "insecure": True}
    return NodeConfig(name="n1", data_dir=folder / "data", **(values | options))


def by_check(findings: list[Finding]) -> dict[str, Finding]:
    found = {finding.check: finding for finding in findings}
    assert len(found) == len(findings)
    for finding in findings:
        assert finding.found
        assert finding.why
        assert finding.do or finding.grade is Grade.OK, finding
    return found


def test_all_is_well_on_a_good_machine(tmp_path: Path) -> None:
    found = by_check(doctor.examine(config_of(tmp_path), FakeMachine()))
    bad = {check for check, finding in found.items() if finding.grade is not Grade.OK}
    assert bad == {"security"}
    assert {
        "clock",
        "disk space",
        "file system",
        "disk sync",
        "open files",
        "memory",
        "port listen",
        "versions",
    } <= set(found)
    assert not (tmp_path / "data").exists()


def spoil(**values: Any) -> Callable[[FakeMachine], None]:
    def change(machine: FakeMachine) -> None:
        for name, value in values.items():
            setattr(machine, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "check", "grade", "text"),
    [
        (spoil(clock_state=ClockState(False, 16e6)), "clock", Grade.WARNING, "nothing synchronises"),
        (spoil(clock_state=ClockState(None, 0)), "clock", Grade.WARNING, "does not tell"),
        (spoil(clock_state=ClockState(True, 5_000)), "clock", Grade.WARNING, "5000 ms"),
        (spoil(disk=Space(GIB, 100 * GIB)), "disk space", Grade.WARNING, "1.0 GiB of 100.0 GiB"),
        (spoil(disk=Space(1 << 20, 100 * GIB)), "disk space", Grade.FAILURE, "256.0 MiB are needed"),
        (spoil(kind="nfs4"), "file system", Grade.FAILURE, "network file system"),
        (spoil(kind="tmpfs"), "file system", Grade.FAILURE, "gone after a restart"),
        (spoil(kind="overlay"), "file system", Grade.WARNING, "container"),
        (spoil(syncs=[0.001] * 98 + [0.03] * 2), "disk sync", Grade.WARNING, "1.00 ms (p50) and 30.00 ms (p99)"),
        (spoil(syncs=[0.6] * 10), "disk sync", Grade.FAILURE, "600.00 ms"),
        (spoil(error=OSError(errno.EROFS, "Read-only file system")), "disk sync", Grade.FAILURE, "Read-only"),
        (spoil(limit=FileLimit(1_024, 4_096, "this shell")), "open files", Grade.FAILURE, "1,024"),
        (spoil(limit=FileLimit(2_500, 4_096, "this shell")), "open files", Grade.WARNING, "room for"),
        (spoil(ram=Space(1 << 20, GIB)), "memory", Grade.FAILURE, "1.0 MiB of 1.0 GiB"),
        (spoil(ram=Space(200 << 20, GIB)), "memory", Grade.WARNING, "200.0 MiB"),
        (spoil(random=False), "randomness", Grade.FAILURE, "no random bytes"),
        (spoil(libraries={"python": "3.10.2", "pysyncobj": "0.3.17"}), "versions", Grade.FAILURE, "3.10.2"),
        (spoil(libraries={"python": "3.12.0", "pysyncobj": "0.3.16"}), "versions", Grade.FAILURE, "0.3.16"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_machine(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[FakeMachine], None],
    check: str,
    grade: Grade,
    text: str,
) -> None:
    # Half of the files go to the pages; here the limit of this test's own process does not count.
    monkeypatch.setattr(doctor, "connections_max", lambda: 2_000)
    machine = FakeMachine()
    change(machine)
    finding = by_check(doctor.examine(config_of(tmp_path), machine))[check]
    assert (finding.grade, text in finding.found) == (grade, True), finding


def test_this_machine_can_be_examined(tmp_path: Path) -> None:
    machine = ThisMachine()
    machine.clock()
    assert 0 < machine.space(tmp_path / "not" / "there").free < machine.space(tmp_path).total
    assert machine.file_system(tmp_path)
    assert len(machine.sync_seconds(tmp_path, 20, 60.0)) == 20
    assert list(tmp_path.iterdir()) == []
    assert machine.file_limit(os.getpid()).soft == machine.file_limit(None).soft
    assert 0 < machine.memory().free <= machine.memory().total
    assert machine.has_randomness()
    assert machine.versions()["pysyncobj"] == "0.3.17"


# Ports


def test_ports(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    (tmp_path / "data").mkdir()
    with socket.create_server(("127.0.0.1", int(config.listen.rpartition(":")[2]))):
        taken = by_check(list(doctor_network.check_ports(config, None)))
        own = by_check(list(doctor_network.check_ports(config, os.getpid())))
    assert taken["port listen"].grade is Grade.FAILURE
    assert "in use" in taken["port listen"].found
    assert (taken["port peer_listen"].grade, own["port listen"].grade) == (Grade.OK, Grade.OK)
    assert "held by this node" in own["port listen"].found
    assert own["port peer_listen"].grade is Grade.WARNING
    assert "port worker_listen" not in own

    assert doctor.process_of(config) is None
    (tmp_path / "data" / "node.pid").write_text(f"{os.getpid()}\n")
    assert doctor.process_of(config) == os.getpid()


# Certificates


def test_certificates(tmp_path: Path) -> None:
    ca = CaFolder.create(tmp_path / "ca")
    folder = tmp_path / "n1"
    ca.issue(folder, checked_identity(Role.NODE, "n1"), ["node1.example"])
    listen = {"advertise": "node1.example:7400", "http_listen": ""}
    config = config_of(tmp_path, insecure=False, tls_dir=folder, **listen)
    found, tls = doctor.examine_certificates(config)
    assert tls is not None
    assert {finding.grade for finding in found} == {Grade.OK}

    later = datetime.now(UTC) + timedelta(days=80)
    found, _ = doctor.examine_certificates(config, later)
    assert by_check(found)["certificate expiry"].grade is Grade.WARNING
    found, _ = doctor.examine_certificates(config, later + timedelta(days=30))
    assert by_check(found)["certificate"].grade is Grade.FAILURE
    assert "expired" in found[0].found

    elsewhere = config_of(tmp_path, insecure=False, tls_dir=folder, advertise="other.example:1")
    assert by_check(doctor.examine_certificates(elsewhere)[0])["certificate names"].grade is Grade.WARNING
    (folder / "key.pem").chmod(0o640)
    assert by_check(doctor.examine_certificates(config)[0])["certificate key"].grade is Grade.WARNING
    (folder / "key.pem").chmod(0o644)
    [finding] = doctor.examine_certificates(config)[0]
    assert "chmod 600" in finding.found

    ca.issue(tmp_path / "n2", checked_identity(Role.NODE, "n2"))
    other = config_of(tmp_path, insecure=False, tls_dir=tmp_path / "n2")
    assert by_check(doctor.examine_certificates(other)[0])["certificate"].grade is Grade.FAILURE


def test_keys_that_are_not_there(tmp_path: Path) -> None:
    found = by_check(doctor.examine(config_of(tmp_path, key_file=tmp_path / "gone"), FakeMachine()))
    assert found["encryption key"].grade is Grade.FAILURE
    assert "does not exist" in found["encryption key"].found


def test_a_data_folder_that_the_node_would_not_take(tmp_path: Path) -> None:
    """What the store itself says of it, without opening it: a node may run there."""
    config = config_of(tmp_path)
    folder = config.data_dir / "state"

    def finding(config: NodeConfig) -> Finding:
        return by_check(doctor.examine(config, FakeMachine()))["data folder"]

    assert (finding(config).grade, folder.exists()) == (Grade.OK, False)
    store = Store(folder, "n1")
    try:
        assert finding(config).grade is Grade.OK
        other = finding(config.model_copy(update={"name": "n2"}))
        assert other.grade is Grade.FAILURE
    finally:
        store.close()
    with pytest.raises(StoreError) as refused:
        Store(folder, "n2")
    assert other.found == str(refused.value)

    (folder / "data.mdb").unlink()
    with pytest.raises(StoreError) as refused:
        Store(folder, "n1")
    assert finding(config).found == str(refused.value)
    assert finding(config).grade is Grade.FAILURE


# Other members


class Peer(peer_service_pb2_grpc.PeerServiceServicer):
    """Another member, with a clock of its own."""

    def __init__(self, *, ahead_ms: int = 0, cluster_id: str = "c1", refuses: bool = False) -> None:
        self.ahead_ms, self.cluster_id, self.refuses = ahead_ms, cluster_id, refuses

    async def GetCondition(
        self, request: peer_service_pb2.GetConditionRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> peer_service_pb2.GetConditionResponse:
        if self.refuses:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "node 'n1' is not a member")
        return peer_service_pb2.GetConditionResponse(
            condition=cluster_service_pb2.MemberCondition(version="0.1.0"),
            wall_ms=time.time_ns() // 1_000_000 + self.ahead_ms,
            cluster_id=self.cluster_id,
        )


@asynccontextmanager
async def served(peer: Peer, credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[str]:
    server = grpc.aio.server()
    peer_service_pb2_grpc.add_PeerServiceServicer_to_server(peer, server)
    place = "127.0.0.1:0"
    port = server.add_insecure_port(place) if credentials is None else server.add_secure_port(place, credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def three(folder: Path, second: str, third: str, **options: Any) -> NodeConfig:
    members = [("n1", "127.0.0.1:1"), ("n2", second), ("n3", third)]
    return config_of(
        folder, members=[MemberConfig(name=name, peer_address=address) for name, address in members], **options
    )


async def test_members_that_answer_and_one_that_does_not(tmp_path: Path) -> None:
    async with served(Peer(ahead_ms=100)) as second:
        config = three(tmp_path, second, f"127.0.0.1:{free_port()}")
        answers = await doctor_network.ask_members(config, None)
    found = by_check(list(doctor_network.check_members(config, answers, is_new=False)))
    assert {check: finding.grade for check, finding in found.items()} == {
        "member n2": Grade.OK,
        "member n3": Grade.WARNING,
        "majority": Grade.OK,
        "cluster": Grade.OK,
        "clocks of members": Grade.OK,
    }
    assert "version 0.1.0" in found["member n2"].found


async def test_members_of_other_clusters_and_other_times(tmp_path: Path) -> None:
    hour_ms = 3_600_000
    async with served(Peer(cluster_id="c2")) as second, served(Peer(ahead_ms=-hour_ms, cluster_id="c1")) as third:
        config = three(tmp_path, second, third)
        answers = await doctor_network.ask_members(config, None)
    found = by_check(list(doctor_network.check_members(config, answers, is_new=False)))
    assert found["cluster"].grade is Grade.FAILURE
    assert found["clocks of members"].grade is Grade.FAILURE
    assert "n3" in found["clocks of members"].found


async def test_a_majority_that_is_not_there(tmp_path: Path) -> None:
    gone = [f"127.0.0.1:{port}" for port in free_ports(2)]
    config = three(tmp_path, *gone)
    answers = await doctor_network.ask_members(config, None)
    for is_new, grade in ((True, Grade.WARNING), (False, Grade.FAILURE)):
        found = by_check(list(doctor_network.check_members(config, answers, is_new=is_new)))
        assert found["majority"].grade is grade


async def test_certificates_that_members_take_and_do_not(tmp_path: Path) -> None:
    ca, other = CaFolder.create(tmp_path / "ca"), CaFolder.create(tmp_path / "other")
    for authority, name in ((ca, "n1"), (ca, "n2"), (other, "n3")):
        authority.issue(tmp_path / name, checked_identity(Role.NODE, name))
    own = read_tls_folder(tmp_path / "n1")

    def credentials(name: str) -> grpc.ServerCredentials:
        files = read_tls_folder(tmp_path / name)
        pair = [(files.key_pem, files.certificate_pem)]
        return grpc.ssl_server_credentials(pair, files.ca_pem, require_client_auth=True)

    async with (
        served(Peer(refuses=True), credentials("n2")) as second,
        served(Peer(), credentials("n3")) as third,
    ):
        config = three(tmp_path, second, third, insecure=False, tls_dir=tmp_path / "n1")
        second_answer, third_answer = await doctor_network.ask_members(config, own)
        swapped = three(tmp_path, f"127.0.0.1:{free_port()}", second, insecure=False, tls_dir=tmp_path / "n1")
        _, wrong_name = await doctor_network.ask_members(swapped, own)
    assert (second_answer.is_refused, "not a member" in second_answer.complaint) == (True, True)
    assert third_answer.complaint == "its certificate is not signed by a CA that this node trusts"
    assert wrong_name.complaint == "it has the certificate of another node"
    found = by_check(list(doctor_network.check_members(config, [second_answer], is_new=False)))
    assert "horologe cluster add" in found["member n2"].do


# The command


def run(file: Path, *arguments: str) -> tuple[int, str]:
    from horologe.client.cli.main import app

    result = CliRunner().invoke(app, ["doctor", "--config", str(file), *arguments])
    return result.exit_code, result.output


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("horologe.client.machine.ThisMachine", FakeMachine)
    file = tmp_path / "node.toml"
    options = zip(("listen", "peer_listen", "http_listen"), free_ports(3), strict=True)
    listen = "".join(f'{name} = "127.0.0.1:{port}"\n' for name, port in options)
    file.write_text(f'name = "n1"\ninsecure = true\n{listen}')
    code, text = run(file)
    assert (code, "warning  security" in text, "0 failures" in text) == (1, True, True)
    code, text = run(file, "-o", "json")
    told = json.loads(text)
    assert (code, told["grade"], told["node"]) == (1, "warning", "n1")
    assert {"check", "grade", "found", "why", "do"} == set(told["findings"][0])
    file.write_text('name = "n1"\nnonsense = 1\n')
    code, text = run(file)
    assert (code, "failure  configuration" in text) == (2, True)
