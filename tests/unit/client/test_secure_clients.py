"""Clients and TLS: who is believed, what is sent, what failures say, and certificates that are replaced."""

from __future__ import annotations

import logging
import os
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import FakeCluster, failure
from support.certificates import DAY, TestAuthority, server_credentials

from horologe.client import cluster_context, errors, tls
from horologe.client.async_client import AsyncClient
from horologe.client.client import Client
from horologe.client.cluster_context import ClusterContext

TOKEN = "hlg_0123456789abcdef_secret"

StartNode = Callable[..., FakeCluster]


@pytest.fixture(scope="module")
def authority() -> TestAuthority:
    return TestAuthority()


@pytest.fixture
def start(authority: TestAuthority, tmp_path: Path) -> Iterator[StartNode]:
    """Starts nodes with a certificate in `node`."""
    nodes: list[FakeCluster] = []

    def start(*, asks_for_certificates: bool = False, port: int = 0, **certificate: object) -> FakeCluster:
        signer = certificate.pop("signer", authority)
        assert isinstance(signer, TestAuthority)
        folder = signer.write(tmp_path / "node", **certificate)  # type: ignore[arg-type]
        credentials = server_credentials(folder, asks_for_certificates=asks_for_certificates)
        nodes.append(FakeCluster(credentials, port))
        nodes[-1].add_job("hello")
        return nodes[-1]

    authority.write_ca(tmp_path / "ca.pem")
    yield start
    for node in nodes:
        node.stop()


def authorization(node: FakeCluster) -> list[str]:
    return [metadata.get("authorization", "") for _, _, metadata in node.received]


def test_a_token_goes_with_every_call(start: StartNode, tmp_path: Path) -> None:
    node = start()
    with Client(node.address, ca_file=tmp_path / "ca.pem", token=TOKEN) as client:
        client.get_job("hello")
        client.run_job("hello")
        client.linearizable().get_job("hello")
        client.cluster_status()
        list(client.list_jobs())
        list(client.watch_executions())
        assert "secret" not in repr(client)
        assert "secret" not in repr(vars(client))
    assert authorization(node) == [f"Bearer {TOKEN}"] * 6


async def test_the_same_with_asyncio(start: StartNode, tmp_path: Path) -> None:
    node = start()
    async with AsyncClient(node.address, ca_file=tmp_path / "ca.pem", token=TOKEN) as client:
        await client.get_job("hello")
        assert [execution async for execution in client.watch_executions()] == []
    assert authorization(node) == [f"Bearer {TOKEN}"] * 2


def test_clear_text_sends_a_token_only_when_told(fake: FakeCluster) -> None:
    fake.add_job("hello")
    with Client(fake.address, insecure=True) as client:
        client.get_job("hello")
    with Client(fake.address, insecure=True, token=TOKEN) as client:
        client.get_job("hello")
    assert authorization(fake) == ["", f"Bearer {TOKEN}"]


@pytest.mark.parametrize(
    ("kind", "certificate", "said"),
    [
        ("expired", {"until": -DAY}, "its certificate has expired; its operator has to renew it"),
        ("early", {"since": DAY}, "its certificate is not valid yet: a clock is wrong"),
        ("name", {"name": "somebody"}, "its certificate is of another name; server_name has to be"),
        ("ca", {"signer": TestAuthority()}, "by a CA that is trusted here (those of {folder}/ca.pem)"),
    ],
)
async def test_nodes_that_are_not_believed(
    start: StartNode, tmp_path: Path, kind: str, certificate: dict[str, object], said: str
) -> None:
    node, said = start(**certificate), re.escape(said.format(folder=tmp_path))
    addresses, ca_file = [node.address, "127.0.0.1:1"], tmp_path / "ca.pem"
    several = Client(addresses, ca_file=ca_file, token=TOKEN, unreachable_seconds=0.0)
    with several as client, pytest.raises(errors.Unavailable, match=said) as caught:
        client.get_job("hello")
    assert "secret" not in str(caught.value)
    # With nobody else to ask, waiting for the end of the time would be in vain.
    async with AsyncClient(node.address, ca_file=tmp_path / "ca.pem", token=TOKEN, timeout_seconds=3600) as other:
        with pytest.raises(errors.Unavailable, match=said):
            await other.get_job("hello")
    assert node.received == []


def test_without_a_ca_only_those_of_the_system_are_trusted(start: StartNode) -> None:
    with (
        Client(start().address) as client,
        pytest.raises(errors.Unavailable, match=r"\(those of this system\); name the CA .*--ca-file") as caught,
    ):
        client.get_job("hello")
    assert caught.value.reason == "HANDSHAKE_FAILED"


def test_tls_to_a_port_of_clear_text(fake: FakeCluster) -> None:
    with Client(fake.address) as client, pytest.raises(errors.Unavailable, match=r"speaks clear text.*--insecure"):
        client.get_job("hello")


@pytest.mark.parametrize("insecure", [False, True])
def test_a_port_for_browsers(authority: TestAuthority, tmp_path: Path, insecure: bool) -> None:
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    if not insecure:
        folder = authority.write(tmp_path / "node")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        context.set_alpn_protocols(["http/1.1"])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    authority.write_ca(tmp_path / "ca.pem")
    proof: dict[str, Any] = {"insecure": True} if insecure else {"ca_file": tmp_path / "ca.pem"}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        client = Client(f"127.0.0.1:{server.server_port}", unreachable_seconds=0.0, **proof)
        with client, pytest.raises(errors.Unavailable, match=r"something answers there.*`http_listen`.*`listen`"):
            client.get_job("hello")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_clear_text_to_a_port_of_tls(start: StartNode) -> None:
    said = "if the cluster has security leave insecure out"
    client = Client(start().address, insecure=True, unreachable_seconds=0.0)
    with client, pytest.raises(errors.Unavailable, match=said):
        client.get_job("hello")


def test_a_name_of_somebody_elses_ca(start: StartNode, tmp_path: Path) -> None:
    node = start(name="localhost")
    address = node.address.replace("127.0.0.1", "localhost")
    with Client(address, ca_file=tmp_path / "ca.pem", server_name="") as client:
        assert client.get_job("hello").name.endswith("hello")
    with Client(node.address, ca_file=tmp_path / "ca.pem", server_name="localhost") as client:
        assert client.get_job("hello").name.endswith("hello")


def test_a_client_with_a_certificate(start: StartNode, authority: TestAuthority, tmp_path: Path) -> None:
    node = start(asks_for_certificates=True)
    with Client(node.address, tls_dir=authority.write(tmp_path / "own")) as client:
        assert client.get_job("hello").name.endswith("hello")
    expired = authority.write(tmp_path / "old", until=-DAY)
    foreign = TestAuthority().write(tmp_path / "foreign")
    for options, said in (
        ({"ca_file": tmp_path / "ca.pem"}, "wants a certificate that its CA has signed"),
        ({"ca_file": tmp_path / "ca.pem", "tls_dir": foreign}, "wants a certificate that its CA has signed"),
        ({"tls_dir": expired}, f"the certificate {expired / 'cert.pem'} expired on"),
    ):
        client = Client(node.address, unreachable_seconds=0.0, **options)  # type: ignore[arg-type]
        with client, pytest.raises(errors.Unavailable, match=said):
            client.get_job("hello")


def test_a_certificate_that_comes_after_its_key_is_waited_for(
    authority: TestAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever replaces both may be held up after the first, and nothing changes meanwhile."""
    folder = authority.write(tmp_path / "own")
    other = authority.write(tmp_path / "other")
    (folder / "key.pem").write_bytes((other / "key.pem").read_bytes())
    read_key, looks = tls._read_key, 0

    def read_again(file: Path) -> bytes:
        nonlocal looks
        looks += 1
        if looks == 3:
            (folder / "cert.pem").write_bytes((other / "cert.pem").read_bytes())
        return read_key(file)

    monkeypatch.setattr(tls, "_read_key", read_again)
    monkeypatch.setattr(tls, "REPLACED_SECONDS_MAX", 3600.0)
    assert tls.Identity(folder / "ca.pem", folder / "cert.pem", folder / "key.pem").credentials()
    assert looks == 4


def test_a_pair_that_has_not_matched_for_long_is_not_waited_for(
    authority: TestAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials are made on event loops: none of them may stand still each time."""
    folder = authority.write(tmp_path / "own")
    (folder / "key.pem").write_bytes((authority.write(tmp_path / "other") / "key.pem").read_bytes())
    for file in folder.iterdir():
        os.utime(file, (1.0, 1.0))
    monkeypatch.setattr(tls, "_pauses", None)
    with pytest.raises(errors.InvalidContext, match="is not the key of the certificate"):
        tls.Identity(folder / "ca.pem", folder / "cert.pem", folder / "key.pem").credentials()


def test_certificates_of_no_use_are_named(authority: TestAuthority, tmp_path: Path) -> None:
    folder = authority.write(tmp_path / "own")
    other = authority.write(tmp_path / "other")
    (folder / "key.pem").write_bytes((other / "key.pem").read_bytes())
    cases = [(f"{folder / 'key.pem'} is not the key of the certificate", None)]
    cases += [(f"{folder / name} holds no", folder / name) for name in ("key.pem", "cert.pem", "ca.pem")]
    for said, damaged in cases:
        if damaged is not None:
            damaged.write_text("hello")
        with Client("127.0.0.1:1", tls_dir=folder) as client, pytest.raises(errors.InvalidContext, match=said):
            client.get_job("hello")
    (folder / "key.pem").chmod(0o604)
    said = r"key\.pem can be read by everybody on this machine \(mode 0604\): `chmod 600 "
    authority.write_ca(folder / "ca.pem")
    with Client("127.0.0.1:1", tls_dir=folder) as client, pytest.raises(errors.InvalidContext, match=said):
        client.get_job("hello")
    (folder / "ca.pem").unlink()
    said = r"ca\.pem cannot be read: No such file"
    with Client("127.0.0.1:1", tls_dir=folder) as client, pytest.raises(errors.InvalidContext, match=said):
        client.get_job("hello")


@pytest.mark.parametrize("is_async", [False, True])
async def test_replaced_certificates_are_used_once_the_old_ones_fail(
    start: StartNode, authority: TestAuthority, tmp_path: Path, is_async: bool
) -> None:
    node = start(asks_for_certificates=True)
    port = int(node.address.rpartition(":")[2])
    own = authority.write(tmp_path / "own")
    client, async_client = Client(node.address, tls_dir=own), AsyncClient(node.address, tls_dir=own)

    async def get() -> str:
        found = await async_client.get_job("hello") if is_async else client.get_job("hello")
        return found.name

    assert (await get()).endswith("hello")
    node.stop()
    successor = TestAuthority()
    node = start(asks_for_certificates=True, port=port, signer=successor)
    with pytest.raises(errors.Unavailable, match="not signed by a CA that is trusted"):
        await get()
    successor.write(own)
    assert (await get()).endswith("hello")
    client.close()
    await async_client.close()


def test_refusals_of_the_cluster(start: StartNode, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    node = start()
    node.failures["GetJob"] += [
        failure("UNAUTHENTICATED", "UNAUTHENTICATED", "this token is unknown"),
        failure("PERMISSION_DENIED", "PERMISSION_DENIED", "ada may not job.read in default"),
        failure("RESOURCE_EXHAUSTED", "RATE_LIMITED", "too many", retry_after="10m"),
    ]
    with caplog.at_level(logging.DEBUG), Client(node.address, ca_file=tmp_path / "ca.pem", token=TOKEN) as client:
        with pytest.raises(errors.Unauthenticated, match="this token is unknown"):
            client.get_job("hello")
        with pytest.raises(errors.PermissionDenied, match="ada may not"):
            client.get_job("hello")
        with pytest.raises(errors.ResourceExhausted) as caught:
            client.get_job("hello")
    assert caught.value.retry_after == 600
    assert "secret" not in caplog.text


def test_one_node_is_asked_with_the_same_credentials(start: StartNode, tmp_path: Path) -> None:
    first, second = start(), start()
    with Client(first.address, ca_file=tmp_path / "ca.pem", token=TOKEN) as client:
        client.get_job("hello")
        client.at(second.address).get_job("hello")
        assert client.addresses == (first.address,)
        client.get_job("hello")
    assert authorization(first) == [f"Bearer {TOKEN}"] * 2
    assert authorization(second) == [f"Bearer {TOKEN}"]


def test_the_age_of_a_certificate(authority: TestAuthority, tmp_path: Path) -> None:
    folder = authority.write(tmp_path / "own", since=-10 * DAY, until=10 * DAY)
    context = cluster_context.load("h:1", tls_dir=folder)
    now = datetime.now(UTC)
    assert tls.expiry_warning(context, now + timedelta(days=5)) == ""
    assert "cert.pem expires on" in tls.expiry_warning(context, now + timedelta(days=7))
    assert "cert.pem expired on" in tls.expiry_warning(context, now + timedelta(days=11))
    assert tls.expiry_warning(ClusterContext(), now) == ""
    # Nobody renews a certificate of ten years two years before its end.
    context = cluster_context.load(
        "h:1", tls_dir=authority.write(tmp_path / "long", since=-9 * 365 * DAY, until=365 * DAY)
    )
    assert tls.expiry_warning(context, now) == ""


def test_texts_of_grpc_that_nobody_knows_say_nothing_of_tls() -> None:
    assert tls.explain("Connection refused", ClusterContext(), datetime.now(UTC)) == ("", True)
    assert tls.explain("Connection refused", ClusterContext(insecure=True), datetime.now(UTC)) == ("", True)
