"""A node's servers and connections with TLS: which version, whose certificates, what happens when they change, and who calls."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from service_harness import FakeNode
from structlog.testing import capture_logs

from horologe.chaos.cluster import eventually
from horologe.node.certificates import Role, checked_identity
from horologe.node.clock import SystemClock
from horologe.node.config import NodeConfig
from horologe.node.peer_access import MEMBERS_ONLY, PeerAccessInterceptor, hello_complaint
from horologe.node.peers import PeerNetwork
from horologe.node.surroundings import Surroundings
from horologe.node.tls import NodeTls, check_tls_versions, identity_of, peer_options
from horologe.node.tls_folder import CaFolder, TlsError, read_tls_folder
from horologe.node.worker_service import certificate_complaint
from horologe.peer.v1 import peer_service_pb2, peer_service_pb2_grpc
from horologe.v1 import worker_pb2

PEER_SERVICE = peer_service_pb2.DESCRIPTOR.services_by_name["PeerService"]


@pytest.fixture
def ca(tmp_path: Path) -> CaFolder:
    ca = CaFolder.create(tmp_path / "tls")
    for role, name in ((Role.NODE, "n1"), (Role.NODE, "n2"), (Role.WORKER, "w1"), (Role.CLIENT, "dev")):
        ca.issue(folder_of(ca, name), checked_identity(role, name))
    return ca


def folder_of(ca: CaFolder, name: str) -> Path:
    return ca.folder / name


class Peers(peer_service_pb2_grpc.PeerServiceServicer):
    """Answers who has called."""

    async def StoreOutput(self, request: Any, context: Any) -> peer_service_pb2.StoreOutputResponse:
        identity = identity_of(context)
        context.set_trailing_metadata((("caller", "nobody" if identity is None else identity.uri),))
        return peer_service_pb2.StoreOutputResponse()


@asynccontextmanager
async def serving(tls: NodeTls, *, client_certificates: bool, interceptors: Any = ()) -> AsyncIterator[int]:
    server = grpc.aio.server(interceptors=interceptors)
    peer_service_pb2_grpc.add_PeerServiceServicer_to_server(Peers(), server)
    port = server.add_secure_port("127.0.0.1:0", tls.server_credentials(client_certificates=client_certificates))
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


def credentials_of(folder: Path) -> grpc.ChannelCredentials:
    files = read_tls_folder(folder)
    return grpc.ssl_channel_credentials(files.ca_pem, files.key_pem, files.certificate_pem)


async def call(port: int, credentials: grpc.ChannelCredentials, name: str = "horologe") -> str:
    """Whom the server took us for, on a connection of its own; or why there was no answer."""
    options = [("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        stub = peer_service_pb2_grpc.PeerServiceStub(channel)
        answering = stub.StoreOutput(peer_service_pb2.StoreOutputRequest(), timeout=10)
        try:
            await answering
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name} {error.details()}"
        return dict(await answering.trailing_metadata())["caller"]


def handshake(port: int, version: ssl.TLSVersion, folder: Path | None = None) -> str:
    """The version that was spoken, or nothing. Reads too: with TLS 1.3 a refused certificate shows only then."""
    settings = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    settings.check_hostname = False
    settings.verify_mode = ssl.CERT_NONE
    settings.minimum_version = settings.maximum_version = version
    settings.set_alpn_protocols(["h2"])
    if folder is not None:
        settings.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as plain, settings.wrap_socket(plain) as spoken:
            return str(spoken.version()) if spoken.recv(1) else ""
    except OSError:
        return ""


@pytest.mark.parametrize("client_certificates", [False, True])
async def test_tls_13_only(ca: CaFolder, client_certificates: bool) -> None:
    tls = NodeTls(folder_of(ca, "n1"), "n1")
    async with serving(tls, client_certificates=client_certificates) as port:
        own = folder_of(ca, "w1")
        assert await asyncio.to_thread(handshake, port, ssl.TLSVersion.TLSv1_3, own) == "TLSv1.3"
        assert await asyncio.to_thread(handshake, port, ssl.TLSVersion.TLSv1_2, own) == ""
        without = await asyncio.to_thread(handshake, port, ssl.TLSVersion.TLSv1_3)
        assert without == ("" if client_certificates else "TLSv1.3")
        await asyncio.to_thread(check_tls_versions, "127.0.0.1:0", port)


async def test_a_port_that_speaks_an_older_version_is_found(ca: CaFolder) -> None:
    settings = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    settings.load_cert_chain(folder_of(ca, "n1") / "cert.pem", folder_of(ca, "n1") / "key.pem")
    settings.set_alpn_protocols(["h2"])
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=settings)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TlsError, match=r"speaks TLSv1\.2"):
            await asyncio.to_thread(check_tls_versions, "0.0.0.0:0", port)


async def test_whose_certificate_the_caller_has(ca: CaFolder, tmp_path: Path) -> None:
    tls = NodeTls(folder_of(ca, "n1"), "n1")
    async with serving(tls, client_certificates=True) as port:
        for name, uri in (
            ("w1", "horologe://worker/w1"),
            ("dev", "horologe://client/dev"),
            ("n2", "horologe://node/n2"),
        ):
            assert await call(port, credentials_of(folder_of(ca, name))) == uri
        assert (await call(port, grpc.ssl_channel_credentials(tls.files.ca_pem))).startswith("UNAVAILABLE")
        stranger = CaFolder.create(tmp_path / "stranger")
        stranger.issue(tmp_path / "admin", checked_identity(Role.CLIENT, "admin"))
        files = read_tls_folder(tmp_path / "admin")
        foreign = grpc.ssl_channel_credentials(tls.files.ca_pem, files.key_pem, files.certificate_pem)
        assert (await call(port, foreign)).startswith("UNAVAILABLE")
    async with serving(tls, client_certificates=False) as port:
        # Nobody is asked for one, so one that is offered proves nothing.
        assert await call(port, credentials_of(folder_of(ca, "dev"))) == "nobody"


async def test_a_node_is_known_by_its_name_and_nobody_else_may_serve(ca: CaFolder) -> None:
    [(_, name)] = peer_options("n1")
    assert name == "n1.node.horologe"
    client = NodeTls(folder_of(ca, "n2"), "n2")
    async with serving(NodeTls(folder_of(ca, "n1"), "n1"), client_certificates=True) as port:
        assert await call(port, client.channel_credentials(), name) == "horologe://node/n2"
        assert (await call(port, client.channel_credentials(), "n3.node.horologe")).startswith("UNAVAILABLE")
    server = grpc.aio.server()
    files = read_tls_folder(folder_of(ca, "w1"))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(files.key_pem, files.certificate_pem)]))
    await server.start()
    assert (await call(port, client.channel_credentials())).startswith("UNAVAILABLE")
    await server.stop(0)


async def test_new_certificates_are_taken_when_they_are_whole(ca: CaFolder) -> None:
    folder = folder_of(ca, "n1")
    tls = NodeTls(folder, "n1")
    async with serving(tls, client_certificates=True) as first, serving(tls, client_certificates=False) as second:

        async def shown(port: int) -> bytes:
            return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port), timeout=10)

        old = tls.files
        assert await shown(second) == old.certificate_pem.decode()
        # Half of a rotation, and things that are none: the old ones stay.
        key = (folder / "key.pem").read_bytes()
        shutil.copy(folder_of(ca, "n2") / "key.pem", folder / "key.pem")
        assert await shown(second) == old.certificate_pem.decode()
        assert await call(first, credentials_of(folder_of(ca, "w1"))) == "horologe://worker/w1"
        (folder / "cert.pem").unlink()
        assert await shown(second) == old.certificate_pem.decode()
        shutil.copy(folder_of(ca, "n2") / "cert.pem", folder / "cert.pem")
        assert await shown(second) == old.certificate_pem.decode()
        assert (tls.files, tls.generation) == (old, 1)
        (folder / "key.pem").write_bytes(key)
        (folder / "cert.pem").write_bytes(old.certificate_pem)
        ca.renew(folder)
        new = read_tls_folder(folder).certificate_pem.decode()
        assert await shown(second) == new != old.certificate_pem.decode()
        assert await call(first, credentials_of(folder_of(ca, "w1"))) == "horologe://worker/w1"
        assert (tls.files.certificate_pem.decode(), tls.generation) == (new, 2)


async def test_a_new_ca_reaches_a_server_that_runs(ca: CaFolder) -> None:
    tls = NodeTls(folder_of(ca, "n1"), "n1")
    worker = folder_of(ca, "w1")
    async with serving(tls, client_certificates=True) as port:
        both = [folder_of(ca, "n1"), worker]
        old_pair = [(worker / name).read_bytes() for name in ("key.pem", "cert.pem")]
        new = ca.succeeded(both)
        assert await call(port, credentials_of(worker)) == "horologe://worker/w1"
        for folder in both:
            new.renew(folder)
            assert await call(port, credentials_of(worker)) == "horologe://worker/w1"
        # Both CAs are trusted, so who has not been renewed yet still gets in, by what it trusts now.
        late = grpc.ssl_channel_credentials((worker / "ca.pem").read_bytes(), *old_pair)
        assert await call(port, late) == "horologe://worker/w1"
        new.without_older(both)
        assert await call(port, credentials_of(worker)) == "horologe://worker/w1"
        assert (await call(port, late)).startswith("UNAVAILABLE")


def test_what_is_wrong_is_logged_once(ca: CaFolder) -> None:
    folder = folder_of(ca, "n1")
    tls = NodeTls(folder, "n1")
    with structlog.testing.capture_logs() as logs:
        (folder / "key.pem").chmod(0o644)
        for _ in range(3):
            tls.refresh()
        assert [(entry["log_level"], entry["event"]) for entry in logs] == [
            ("warning", "certificates not taken; the old ones stay in use")
        ]
        assert "chmod 600" in logs[0]["error"]
        (folder / "key.pem").chmod(0o600)
        tls.refresh()
        ca.renew(folder)
        tls.refresh()
        assert [entry["event"] for entry in logs[1:]] == ["certificates taken"]


def test_a_folder_of_somebody_else_is_refused(ca: CaFolder) -> None:
    for name, whose in (("n2", "node 'n2'"), ("w1", "worker 'w1'"), ("dev", "client 'dev'")):
        with pytest.raises(TlsError, match=f"is the certificate of {whose}, this is node 'n1'"):
            NodeTls(folder_of(ca, name), "n1")


def test_a_node_alone_makes_itself_a_ca(tmp_path: Path) -> None:
    config = NodeConfig(name="n1", data_dir=tmp_path)
    made = NodeTls.of_node(config)
    assert made is not None
    assert made.files.identity[:2] == (Role.NODE, "n1")
    again = NodeTls.of_node(config)
    assert again is not None and again.files == made.files
    # With that CA it lets others in.
    CaFolder.open(tmp_path / "tls").issue(tmp_path / "w1", checked_identity(Role.WORKER, "w1"))
    assert read_tls_folder(tmp_path / "w1").ca_pem == made.files.ca_pem
    # What it made itself it renews itself.
    CaFolder.open(tmp_path / "tls").renew(made.folder, days=20)
    renewed = NodeTls.of_node(config)
    assert renewed is not None and renewed.files.expires > made.files.expires.replace(hour=0, minute=0)
    assert NodeTls.of_node(NodeConfig(name="n1", data_dir=tmp_path, insecure=True)) is None


async def test_a_warning_comes_before_the_end(ca: CaFolder) -> None:
    folder = folder_of(ca, "n1")
    ca.renew(folder, days=5)
    tls = NodeTls(folder, "n1")
    with structlog.testing.capture_logs() as logs:
        keeping = asyncio.create_task(tls.keep())

        async def warned() -> bool:
            return bool(logs)

        await eventually(warned, 60, "a warning")
        keeping.cancel()
    assert [(entry["log_level"], entry["event"]) for entry in logs] == [
        ("warning", "the certificate expires soon; renew it with `horologe tls rotate`")
    ]
    assert logs[0]["expires"] == tls.files.expires.isoformat()


async def test_calls_beside_the_stream_take_new_certificates_too(ca: CaFolder, tmp_path: Path) -> None:
    node = FakeNode(tmp_path / "data", ("n1", "n2"))
    tls = NodeTls(folder_of(ca, "n1"), "n1")
    made: list[tuple[str, Any]] = []

    class Counting(Surroundings):
        def channel(self, address: str, options: Any, credentials: Any = None) -> grpc.aio.Channel:
            made.append((address, dict(options)["grpc.ssl_target_name_override"]))
            return super().channel(address, options, credentials)

    unused: Any = None
    network = PeerNetwork(node.context, unused, unused, unused, Counting(), tls, unused)
    for _ in range(2):
        network.stub_of("n2")
    assert made == [("127.0.0.1:7501", "n2.node.horologe")]
    ca.renew(folder_of(ca, "n1"))
    tls.refresh()
    for _ in range(2):
        network.stub_of("n2")
    assert made == 2 * [("127.0.0.1:7501", "n2.node.horologe")]
    await network.stop()
    node.store.close()


# Who may call the peer service


def test_every_method_of_the_peer_service_has_an_entry() -> None:
    assert set(MEMBERS_ONLY) == {method.name for method in PEER_SERVICE.methods}


async def test_only_nodes_call_the_peer_service(ca: CaFolder) -> None:
    members = {"n2"}
    access = [PeerAccessInterceptor(lambda: members, SystemClock())]
    async with serving(NodeTls(folder_of(ca, "n1"), "n1"), client_certificates=True, interceptors=access) as port:
        assert await call(port, credentials_of(folder_of(ca, "n2"))) == "horologe://node/n2"
        members.clear()
        assert await call(port, credentials_of(folder_of(ca, "n2"))) == "PERMISSION_DENIED node 'n2' is not a member"
        options = [("grpc.ssl_target_name_override", "horologe")]
        for name, whose in (("w1", "worker 'w1'"), ("dev", "client 'dev'")):
            target, credentials = f"127.0.0.1:{port}", credentials_of(folder_of(ca, name))
            async with grpc.aio.secure_channel(target, credentials, options=options) as channel:
                for method in PEER_SERVICE.methods:
                    path = f"/{PEER_SERVICE.full_name}/{method.name}"
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await _first_answer(channel, path, method)
                    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED, path
                    assert caught.value.details() == f"{whose} is no node, and this port is for nodes only"


async def test_whoever_has_a_wrong_certificate_fills_no_log(ca: CaFolder) -> None:
    access = [PeerAccessInterceptor(set, SystemClock())]
    options = [("grpc.ssl_target_name_override", "horologe")]
    method = PEER_SERVICE.methods_by_name["FetchSnapshot"]
    with capture_logs() as lines:
        async with serving(NodeTls(folder_of(ca, "n1"), "n1"), client_certificates=True, interceptors=access) as port:
            credentials = credentials_of(folder_of(ca, "w1"))
            async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
                for _ in range(200):
                    with pytest.raises(grpc.aio.AioRpcError):
                        await _first_answer(channel, f"/{PEER_SERVICE.full_name}/{method.name}", method)
    assert 0 < sum(line["event"] == "peer refused" for line in lines) < 200


async def _first_answer(channel: grpc.aio.Channel, path: str, method: Any) -> None:
    if method.client_streaming:
        await channel.stream_stream(path)().read()
    elif method.server_streaming:
        await channel.unary_stream(path)(b"").read()
    else:
        await channel.unary_unary(path)(b"")


def test_what_is_not_listed_is_for_nobody(ca: CaFolder) -> None:
    access = PeerAccessInterceptor(lambda: {"n2"}, SystemClock())
    node = read_tls_folder(folder_of(ca, "n2")).identity
    assert access._complaint("/horologe.peer.v1.PeerService/Exchange", node) == ""
    assert (
        access._complaint("/horologe.peer.v1.PeerService/New", node)
        == "/horologe.peer.v1.PeerService/New is for nobody"
    )
    assert "does not say whose it is" in access._complaint("/horologe.peer.v1.PeerService/Exchange", None)


class Shown:
    """A context in which somebody has shown a certificate."""

    def __init__(self, folder: Path | None) -> None:
        self._pem = (folder / "cert.pem").read_bytes() if folder is not None else None

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_pem_cert": [self._pem]} if self._pem is not None else {}


def test_a_node_is_the_one_that_its_hello_says(ca: CaFolder) -> None:
    assert hello_complaint(Shown(folder_of(ca, "n2")), "n2") == ""
    assert hello_complaint(Shown(folder_of(ca, "n2")), "n1") == "the certificate is of node 'n2', the hello of 'n1'"
    assert hello_complaint(Shown(None), "") == "the certificate is of node '', the hello of ''"


# Workers


@pytest.mark.parametrize(
    ("name", "queues", "words"),
    [
        ("pool", ["a"], None),
        ("pool-7", ["a", "b"], None),
        ("pool7", ["a"], "must be that of the certificate"),
        ("other", ["a"], "must be that of the certificate"),
        ("pool", ["a", "c"], "allows the queues a, b, not c"),
        ("pool", [], "allows the queues a, b, not default"),
    ],
)
def test_a_worker_is_what_its_certificate_says(name: str, queues: list[str], words: str | None) -> None:
    identity = checked_identity(Role.WORKER, "pool", ["a", "b"])
    complaint = certificate_complaint(worker_pb2.Hello(worker=name, queues=queues), identity)
    assert complaint is None if words is None else words in str(complaint)


def test_a_worker_without_named_queues_takes_from_any_and_others_are_no_workers() -> None:
    hello = worker_pb2.Hello(worker="w1", queues=["any"])
    assert certificate_complaint(hello, checked_identity(Role.WORKER, "w1")) is None
    for identity in (checked_identity(Role.NODE, "w1"), checked_identity(Role.CLIENT, "w1"), None):
        assert "not of a worker" in str(certificate_complaint(hello, identity))
