"""Three secure nodes as processes: who gets in where, in which version of TLS, and certificates that change under load."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.pages import blocks_of, page_text
from typer.testing import CliRunner

from horologe.chaos.cluster import eventually
from horologe.client import jobs
from horologe.client.async_client import AsyncClient
from horologe.node.certificates import Role, certificates_in, checked_identity
from horologe.node.local_cluster import LocalCluster, LocalProcess, free_ports, option_of
from horologe.node.tls import peer_options
from horologe.node.tls_commands import app
from horologe.node.tls_folder import CaFolder, read_tls_folder
from horologe.peer.v1 import peer_service_pb2, peer_service_pb2_grpc
from horologe.v1 import worker_pb2, worker_service_pb2, worker_service_pb2_grpc

READY_SECONDS = 60.0
PORTS = ("listen", "worker_listen", "peer_listen", "http_listen")
FOR_ANYBODY = ("listen", "http_listen")
"""Nobody is asked for a certificate there."""
PEER_SERVICE = peer_service_pb2.DESCRIPTOR.services_by_name["PeerService"]
# The first administrator, by certificate.
ADMIN = "admin"
BEAT = jobs.job("beat", jobs.every("1s"), jobs.shell(["true"]))


class SecureCluster:
    """Three nodes, and a client that knows them all."""

    def __init__(self, folder: Path, options: dict[str, str | int | float]) -> None:
        self.local = LocalCluster.prepare(folder, 3, options, usual_ports=False, secure=True)
        self.admin = self.local.certificate(Role.CLIENT, ADMIN)
        self.folders = [*(self.local.certificate(Role.NODE, node.name) for node in self.local.nodes), self.admin]

    def node(self, name: str) -> LocalProcess:
        return next(node for node in self.local.nodes if node.name == name)

    def address(self, option: str, name: str = "n1") -> tuple[str, int]:
        host, _, port = option_of(self.node(name), option).rpartition(":")
        return host, int(port)

    def client(self, *names: str) -> AsyncClient:
        nodes = [self.node(name) for name in names] or self.local.nodes
        return AsyncClient([option_of(node, "worker_listen") for node in nodes], tls_dir=self.admin)

    async def settled(self, *, without: str = "") -> tuple[str, int]:
        """Leader and term, once all nodes (but one) say the same, and each reaches all others."""
        names = [node.name for node in self.local.nodes if node.name != without]

        async def agreed() -> tuple[str, int] | None:
            found = set()
            for name in names:
                async with self.client(name) as client:
                    status = await client.with_timeout(3).cluster_status()
                    members = [member async for member in client.list_members()]
                if not status.leader or sum(member.reachable for member in members) < len(names):
                    return None
                found.add((status.leader, status.term))
            return found.pop() if len(found) == 1 else None

        return await eventually(agreed, READY_SECONDS, "all nodes with one leader", poll_seconds=0.2)


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, patient_elections: dict[str, str | int | float]
) -> Iterator[SecureCluster]:
    cluster = SecureCluster(tmp_path_factory.mktemp("secure"), patient_elections)
    cluster.local.start()
    try:
        yield cluster
    finally:
        codes = cluster.local.stop()
    assert codes == [0, 0, 0]


def credentials_of(folder: Path) -> grpc.ChannelCredentials:
    files = read_tls_folder(folder)
    return grpc.ssl_channel_credentials(files.ca_pem, files.key_pem, files.certificate_pem)


@asynccontextmanager
async def channel(cluster: SecureCluster, option: str, folder: Path | None) -> AsyncIterator[grpc.aio.Channel]:
    """To the first node, with somebody's certificate or none."""
    ca_pem = read_tls_folder(cluster.admin).ca_pem
    credentials = credentials_of(folder) if folder is not None else grpc.ssl_channel_credentials(ca_pem)
    options = [*peer_options("n1"), ("grpc.use_local_subchannel_pool", 1)]
    host, port = cluster.address(option)
    async with grpc.aio.secure_channel(f"{host}:{port}", credentials, options=options) as opened:
        yield opened


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    """What a call that must not succeed ends with."""
    try:
        answer = await (call.read() if hasattr(call, "read") else call)
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    if answer is grpc.aio.EOF:
        return await call.code(), await call.details() or ""
    raise AssertionError(f"answered: {answer!r}")


def spoken(address: tuple[str, int], version: ssl.TLSVersion, folder: Path | None) -> str:
    """The version that a port speaks with somebody; empty if it does not. With TLS 1.3 a refusal shows in the first answer."""
    settings = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    settings.check_hostname = False
    settings.verify_mode = ssl.CERT_NONE
    settings.minimum_version = settings.maximum_version = version
    settings.set_alpn_protocols(["h2", "http/1.1"])
    if folder is not None:
        settings.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    try:
        with socket.create_connection(address, 10) as plain, settings.wrap_socket(plain) as secure:
            # An HTTP server waits for the client to speak first, and then says what it thinks of this.
            secure.sendall(b"\r\n" * 8 + b"nonsense\r\n\r\n")
            return str(secure.version()) if secure.recv(1) else ""
    except OSError:
        return ""


async def test_three_nodes_know_each_other(cluster: SecureCluster) -> None:
    leader, _ = await cluster.settled()
    follower = next(node.name for node in cluster.local.nodes if node.name != leader)
    async with cluster.client(follower) as client:
        await client.create_job(jobs.job("written-on-a-follower", jobs.manual(), jobs.shell(["true"])))
        status = await client.cluster_status()
        assert status.leader == leader and not status.insecure
        addresses = {member.name: (member.address, member.worker_address) async for member in client.list_members()}
    for node in cluster.local.nodes:
        assert addresses[node.name] == (option_of(node, "listen"), option_of(node, "worker_listen"))
    async with cluster.client(leader) as client:
        assert (await client.get_job("written-on-a-follower")).name


async def test_a_client_with_a_certificate_is_shown_the_way_to_a_port_that_knows_it(cluster: SecureCluster) -> None:
    leader, _ = await cluster.settled()
    follower = next(node.name for node in cluster.local.nodes if node.name != leader)
    async with cluster.client(follower) as client:
        # Only the leader can do it, so the client follows its address. It leads already: nothing changes.
        assert (await client.transfer_leader(leader)).leader == leader


@pytest.mark.parametrize("option", PORTS)
async def test_tls_13_on_every_port_and_nothing_else(cluster: SecureCluster, option: str) -> None:
    await cluster.settled()
    own = cluster.local.certificate(Role.NODE, "n2")
    for node in cluster.local.nodes:
        address = cluster.address(option, node.name)
        assert await asyncio.to_thread(spoken, address, ssl.TLSVersion.TLSv1_3, own) == "TLSv1.3"
        assert await asyncio.to_thread(spoken, address, ssl.TLSVersion.TLSv1_2, own) == ""
        without = await asyncio.to_thread(spoken, address, ssl.TLSVersion.TLSv1_3, None)
        assert without == ("TLSv1.3" if option in FOR_ANYBODY else "")


@pytest.mark.parametrize("option", ["worker_listen", "peer_listen"])
async def test_nobody_gets_in_without_a_certificate(cluster: SecureCluster, option: str) -> None:
    await cluster.settled()
    async with channel(cluster, option, None) as opened:
        connect = worker_service_pb2_grpc.WorkerServiceStub(opened).Connect(timeout=10)
        assert (await refusal(connect))[0] is grpc.StatusCode.UNAVAILABLE
        exchange = peer_service_pb2_grpc.PeerServiceStub(opened).Exchange(timeout=10)
        assert (await refusal(exchange))[0] is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(("role", "name"), [(Role.WORKER, "w1"), (Role.CLIENT, ADMIN)])
async def test_no_worker_and_no_client_calls_the_peer_service(cluster: SecureCluster, role: Role, name: str) -> None:
    await cluster.settled()
    async with channel(cluster, "peer_listen", cluster.local.certificate(role, name)) as opened:
        for method in PEER_SERVICE.methods:
            path = f"/{PEER_SERVICE.full_name}/{method.name}"
            if method.client_streaming:
                call: Any = opened.stream_stream(path)(timeout=10)
            else:
                call = (opened.unary_stream if method.server_streaming else opened.unary_unary)(path)(b"", timeout=10)
            expected = f"{role} {name!r} is no node, and this port is for nodes only"
            assert await refusal(call) == (grpc.StatusCode.PERMISSION_DENIED, expected), path


async def test_a_node_speaks_for_itself_only_and_a_stranger_for_nobody(cluster: SecureCluster) -> None:
    await cluster.settled()
    async with channel(cluster, "peer_listen", cluster.local.certificate(Role.NODE, "n2")) as opened:
        stub = peer_service_pb2_grpc.PeerServiceStub(opened)
        exchange = stub.Exchange(timeout=10)
        hello = peer_service_pb2.Hello(node="n3", protocol_version=1)
        await exchange.write(peer_service_pb2.ExchangeRequest(messages=[peer_service_pb2.PeerMessage(hello=hello)]))
        said = grpc.StatusCode.PERMISSION_DENIED, "the certificate is of node 'n2', the hello of 'n3'"
        assert await refusal(exchange) == said
        assert await refusal(stub.FetchSnapshot(peer_service_pb2.FetchSnapshotRequest(node="n3"), timeout=10)) == said
    async with channel(cluster, "peer_listen", cluster.local.certificate(Role.NODE, "n9")) as opened:
        stub = peer_service_pb2_grpc.PeerServiceStub(opened)
        store = stub.StoreOutput(peer_service_pb2.StoreOutputRequest(), timeout=10)
        assert await refusal(store) == (grpc.StatusCode.PERMISSION_DENIED, "node 'n9' is not a member")


async def test_a_worker_connects_as_its_certificate_says_and_to_its_port(cluster: SecureCluster) -> None:
    await cluster.settled()
    pool = cluster.local.certificate(Role.WORKER, "pool", ["reports"])

    async def connect(option: str, folder: Path, worker: str, queue: str) -> tuple[grpc.StatusCode, str] | str:
        async with channel(cluster, option, folder) as opened:
            call = worker_service_pb2_grpc.WorkerServiceStub(opened).Connect(timeout=10)
            hello = worker_pb2.Hello(
                worker=worker, incarnation="1", protocol_version=1, slot_count=1, queues=[queue] if queue else []
            )
            try:
                await call.write(worker_service_pb2.ConnectRequest(hello=hello))
                welcome = await call.read()
            except grpc.aio.AioRpcError as error:
                return error.code(), error.details() or ""
            return str(welcome.WhichOneof("kind"))

    assert await connect("worker_listen", pool, "pool-7", "reports") == "welcome"
    for worker, queue, words in (
        ("pool-7", "default", "allows the queues reports, not default"),
        ("pool-7", "", "allows the queues reports, not default"),
        ("other", "reports", "is of worker 'pool', the hello of 'other'"),
    ):
        refused = await connect("worker_listen", pool, worker, queue)
        assert refused[0] is grpc.StatusCode.PERMISSION_DENIED and words in refused[1]
    for role, name in ((Role.NODE, "n2"), (Role.CLIENT, ADMIN)):
        refused = await connect("worker_listen", cluster.local.certificate(role, name), name, "default")
        assert refused[0] is grpc.StatusCode.PERMISSION_DENIED, (role, refused)
    refused = await connect("listen", pool, "pool-7", "reports")
    assert refused != "welcome"


# Changes under load


class Load:
    """Writes one after another, beside a job that fires; everything has to be there afterwards."""

    def __init__(self, cluster: SecureCluster) -> None:
        self._cluster = cluster
        self.written: list[str] = []
        self._writing = asyncio.create_task(self._write_for_ever())

    async def _write_for_ever(self) -> None:
        # Each with a connection of its own, so that every moment of the change is met.
        while True:
            async with self._cluster.client() as client:
                name = f"load-{len(self.written)}"
                await client.create_job(jobs.job(name, jobs.manual(), jobs.shell(["true"])))
                self.written.append(name)

    async def more(self, count: int = 5) -> None:
        """Until some more has been written."""
        goal = len(self.written) + count

        async def reached() -> bool:
            return self._writing.done() or len(self.written) >= goal

        await eventually(reached, READY_SECONDS, f"{count} more jobs")
        if self._writing.done():
            self._writing.result()

    async def stop(self) -> None:
        """Raises what has ended it, if anything has."""
        self._writing.cancel()
        with suppress(asyncio.CancelledError):
            await self._writing


def tls(cluster: SecureCluster, *words: str | Path) -> None:
    result = CliRunner().invoke(app, [*map(str, words), "--dir", str(cluster.local.folder / "tls")])
    assert result.exit_code == 0, result.output


async def shows(cluster: SecureCluster, name: str) -> bool:
    """Whether a node shows on its ports for everybody what is in its folder."""
    right = (cluster.local.certificate(Role.NODE, name) / "cert.pem").read_text()
    shown = [
        await asyncio.to_thread(ssl.get_server_certificate, cluster.address(option, name), timeout=10)
        for option in FOR_ANYBODY
    ]
    return shown == [right, right]


@pytest.mark.timeout(300)
async def test_certificates_and_the_ca_change_under_load_and_the_leader_stays(
    tmp_path: Path, patient_elections: dict[str, str | int | float]
) -> None:
    cluster = SecureCluster(tmp_path, patient_elections)
    worker = cluster.local.worker("w1")
    folders = [*cluster.folders, cluster.local.certificate(Role.WORKER, "w1")]
    cluster.local.start()
    worker.start()
    try:
        leader, term = await cluster.settled()
        follower = next(node for node in cluster.local.nodes if node.name != leader)
        async with cluster.client() as client:
            await client.create_job(BEAT)
        load = Load(cluster)
        await load.more()
        steps: list[tuple[str | Path, ...]] = [
            ("rotate", *folders),
            ("rotate", "--ca", *folders),
            ("rotate", *folders),
            ("rotate", "--drop-old", *folders),
        ]
        for step in steps:
            await asyncio.to_thread(tls, cluster, *step)
            for node in cluster.local.nodes:
                await eventually(
                    partial(shows, cluster, node.name), READY_SECONDS, f"{node.name} shows the new certificate"
                )
            await load.more()
            # Whoever comes new meets those who were there before, and a worker too finds its way back.
            assert await asyncio.to_thread(follower.stop) == 0
            await asyncio.to_thread(follower.start)
            assert await cluster.settled() == (leader, term), step
            await load.more()
        async with cluster.client() as client:
            before = (await client.cluster_status()).completed_count

            async def fires() -> bool:
                return (await client.cluster_status()).completed_count > before

            await eventually(fires, READY_SECONDS, "executions with the newest certificates")
            await load.stop()
            assert {job.name.rpartition("/")[2] async for job in client.list_jobs()} >= set(load.written)
    finally:
        worker.stop()
        codes = cluster.local.stop()
    assert codes == [0, 0, 0]
    taken = [
        line
        for line in (cluster.node(leader).folder / "node.log").read_text().splitlines()
        if "certificates taken" in line
    ]
    assert len(taken) >= len(steps) and all(json.loads(line)["level"] == "info" for line in taken)


# One node


async def test_a_node_alone_makes_its_own_ca_and_lets_in_whom_that_vouches_for(tmp_path: Path) -> None:
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    lines = ['name = "n1"', *(f'{option} = "127.0.0.1:{port}"' for option, port in ports.items())]
    (tmp_path / "node.toml").write_text("\n".join(lines))
    node = LocalProcess("n1", tmp_path, ("node", "run", "--config", str(tmp_path / "node.toml")))
    node.start()
    try:
        log_file = tmp_path / "node.log"

        async def started() -> dict[str, str] | None:
            # The last line may be one that is being written.
            whole = log_file.read_text().rpartition("\n")[0].splitlines()
            lines = [json.loads(line) for line in whole if line.startswith("{")]
            return next((line for line in lines if line["event"] == "node started"), None)

        said = await eventually(started, READY_SECONDS, "the node's first words")
        assert said["ca_file"] == str(tmp_path / "data" / "tls" / "node" / "ca.pem")
        issued = CliRunner().invoke(app, ["issue", "client", ADMIN, "--dir", str(tmp_path / "data" / "tls")])
        assert issued.exit_code == 0
        own = tmp_path / "data" / "tls" / "clients" / ADMIN
        async with AsyncClient(f"127.0.0.1:{ports['worker_listen']}", tls_dir=own) as client:

            async def leads() -> bool:
                return (await client.cluster_status()).leader == "n1"

            assert await eventually(leads, READY_SECONDS, "the node leads")
    finally:
        assert node.stop() == 0


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ('listen = "0.0.0.0:1"', 2, "listens beyond this machine (listen 0.0.0.0:1) and has no certificates"),
        ('tls_dir = "nowhere"', 1, "nowhere/ca.pem: is missing"),
        ('tls_dir = "w1"', 1, "is the certificate of worker 'w1', this is node 'n1'"),
    ],
)
async def test_a_node_that_cannot_be_secure_does_not_start(tmp_path: Path, options: str, code: int, words: str) -> None:
    CaFolder.create(tmp_path / "ca").issue(tmp_path / "w1", checked_identity(Role.WORKER, "w1"))
    (tmp_path / "node.toml").write_text(f'name = "n1"\n{options}\n')
    node = LocalProcess("n1", tmp_path, ("node", "run", "--config", str(tmp_path / "node.toml")))
    node.start()
    assert await asyncio.to_thread(node.wait_stopped) == code
    [complaint] = [line for line in (tmp_path / "node.log").read_text().splitlines() if line.startswith("horologe: ")]
    assert words in complaint
    assert not (tmp_path / "data" / "state").exists()


@pytest.mark.timeout(300)
def test_the_page_about_tls_does_what_it_says(tmp_path: Path) -> None:
    script = "\n".join(block.text for block in blocks_of(page_text("docs/tls.md")) if block.mark == "tls")
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    assert "Hosts:        n1.example.org" in done.stdout
    authorities = (tmp_path / "tls" / "ca.pem").read_bytes()
    assert len(certificates_in(authorities)) == 1
    for folder in ("nodes/n1", "nodes/n2", "nodes/n3", "workers/w1", "workers/pool", "clients/dev"):
        assert read_tls_folder(tmp_path / "tls" / folder).ca_pem == authorities
