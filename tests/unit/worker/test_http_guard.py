"""HTTP jobs that try to get where they must not: every spelling, every detour, and servers that mean no good."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import ssl
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fake_gateway import FakeGateway, Result, Serve, Stream, assignment, definition
from support.timers import hold_timeouts

from horologe.client.executors import http_body
from horologe.client.executors.address_guard import AddressGuard, RefusedAddressError
from horologe.client.executors.http import METHODS, HttpExecutor
from horologe.client.worker import Worker
from horologe.v1 import job_pb2

Http = job_pb2.HttpAction
HERE = "127.0.0.2"
"""An address of this machine that tests allow, while 127.0.0.1 stays out of reach."""


class FakeNames:
    """A resolver that answers one thing after the other, and the last one for ever."""

    def __init__(self, **answers: Sequence[str]) -> None:
        self.answers = {name.replace("_", "."): list(found) for name, found in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        found = self.answers.get(host.rstrip("."), [host])
        return found.pop(0).split() if len(found) > 1 else found[0].split()


class Server:
    """Gives the same answer to everybody and remembers the heads of the requests."""

    def __init__(self) -> None:
        self.port = 0
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
        self.heads: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(self.answer)
        writer.close()


@asynccontextmanager
async def serving(host: str = HERE) -> AsyncIterator[Server]:
    here = Server()
    server = await asyncio.start_server(here, host, 0)
    here.port = server.sockets[0].getsockname()[1]
    async with server:
        yield here


async def run(
    gateway: FakeGateway, serve: Serve, action: Http, executor: HttpExecutor, **limits: float
) -> tuple[Result, Stream]:
    worker = Worker(gateway.address, insecure=True, output_bytes_max=1_000_000)
    worker.add_executor("http", executor)
    stream = await serve(worker)
    stream.assign(assignment(7, token=42), definitions=[definition(http=action, **limits)])
    (result,) = await stream.until_results()
    return result, stream


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "::1", "0.0.0.0", "0.1.2.3", "::"),
        *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.255.255"),
        *("169.254.0.1", "169.254.169.254", "fe80::1", "fe80::1%1", "fd00:ec2::254", "fc00::1", "fec0::1"),
        *("224.0.0.1", "239.255.255.255", "ff02::1", "255.255.255.255", "240.0.0.1"),
        *("192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "100::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::ffff:0:127.0.0.1"),
        *("2002:7f00:1::", "2002:a9fe:a9fe::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1"),
        # The last 32 bits of a Teredo address are those of the client, inverted.
        *("2001:0:808:808::80ff:fffe", "2001:0:808:808::f5ff:fffe"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not AddressGuard().allows(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        # Decimal, octal, hexadecimal and short forms, as this machine's resolver reads them.
        *("http://2130706433/", "http://0x7f000001/", "http://0x7f.0.0.1/", "http://127.1/", "http://017700000001/"),
        *("http://0/", "http://[::ffff:7f00:1]/", "http://[0:0:0:0:0:ffff:127.0.0.1]/", "http://[64:ff9b::127.0.0.1]/"),
        # What stands before the @ is a user, what stands after it is the host.
        *("http://example.com@127.0.0.1/", "http://example.com:80@127.0.0.1/", "http://example.com%23@127.0.0.1/"),
        # The dot of the root, capital letters, and digits and dots of other scripts.
        *(
            "http://localhost./",
            "http://LOCALHOST/",
            "http://\u2460\u2461\u2466.0.0.1/",
            "http://127\u30020\u30020\u30021/",
        ),
    ],
)
async def test_this_machine_in_every_spelling(gateway: FakeGateway, serve: Serve, url: str) -> None:
    """Either it is no host at all, or it is refused for what it is; nothing is sent."""
    async with serving("127.0.0.1") as server:
        port = server.port
        head, _, tail = url.rpartition("/")
        result, _ = await run(gateway, serve, Http(url=f"{head}:{port}/{tail}"), HttpExecutor())
    assert result.outcome == Result.OUTCOME_FAILED
    # A spelling that no resolver knows is no address; any other is told by what it is.
    assert "is not a public address" in result.error or "cannot resolve" in result.error or "nvalid" in result.error
    assert server.heads == []


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "gopher://example.com/", "unix:///run/a.sock", "ftp://a/", "//a/"]
)
async def test_only_http(gateway: FakeGateway, serve: Serve, url: str) -> None:
    result, _ = await run(gateway, serve, Http(url=url), HttpExecutor())
    assert (result.permanent, "is not one of http or https" in result.error) == (True, True)


@pytest.mark.parametrize(
    "answer", ["127.0.0.1", "::1", "169.254.169.254", "fd00:ec2::254", "93.184.216.34 10.0.0.1", "2606:4700::1 ::1"]
)
@pytest.mark.parametrize("name", ["inside.example", "inside.example.", "INSIDE.example"])
async def test_a_name_that_leads_inside(gateway: FakeGateway, serve: Serve, answer: str, name: str) -> None:
    """By an alias, by IPv6 alone, or by one address of several."""
    names = FakeNames(inside_example=[answer])
    result, _ = await run(gateway, serve, Http(url=f"http://{name}/"), HttpExecutor(lookup=names))
    assert (result.permanent, "is not a public address" in result.error) == (True, True)
    assert len(names.asked) == 1


async def test_a_name_that_changes_its_mind(gateway: FakeGateway, serve: Serve) -> None:
    """What was checked is what is connected to, under the name that the job gave; the next hop is checked again."""
    async with serving() as server:
        names = FakeNames(rebind_example=[HERE, "127.0.0.1"])
        executor = HttpExecutor([f"{HERE}/32"], lookup=names)
        url = f"http://rebind.example:{server.port}/"
        result, stream = await run(gateway, serve, Http(url=url), executor)
        assert (result.outcome, stream.text(), names.asked) == (Result.OUTCOME_SUCCEEDED, "ok\n", ["rebind.example"])
        assert f"Host: rebind.example:{server.port}" in server.heads[0]

        stream.assign(assignment(8))
        _, second = await stream.until_results(2)
    assert "'rebind.example' is 127.0.0.1, which is not a public address" in second.error
    assert len(server.heads) == 1


async def test_a_name_that_changes_its_mind_between_redirects(gateway: FakeGateway, serve: Serve) -> None:
    async with serving() as server:
        server.answer = b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n"
        executor = HttpExecutor([f"{HERE}/32"], lookup=FakeNames(rebind_example=[HERE, HERE, "127.0.0.1"]))
        action = Http(url=f"http://rebind.example:{server.port}/", follow_redirects=True)
        result, _ = await run(gateway, serve, action, executor)
    assert (result.permanent, len(server.heads)) == (True, 2)


async def test_the_name_is_what_certificates_are_checked_against(
    gateway: FakeGateway, serve: Serve, tmp_path: Path
) -> None:
    """The name goes into the handshake, and a certificate that nobody vouches for ends it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed(tmp_path, "shop.example"))
    asked: list[str | None] = []
    context.sni_callback = lambda connection, name, _: asked.append(name)
    here = Server()
    server = await asyncio.start_server(here, HERE, 0, ssl=context)
    async with server:
        url = f"https://shop.example:{server.sockets[0].getsockname()[1]}/"
        executor = HttpExecutor([f"{HERE}/32"], lookup=FakeNames(shop_example=[HERE]))
        result, _ = await run(gateway, serve, Http(url=url), executor)
    assert asked == ["shop.example"]
    assert ("CERTIFICATE_VERIFY_FAILED" in result.error, here.heads) == (True, [])


def self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


async def test_what_the_job_confides_does_not_go_to_another_host(gateway: FakeGateway, serve: Serve) -> None:
    async with serving() as first, serving() as second:
        first.answer = (
            f"HTTP/1.1 302 Found\r\nLocation: http://other.example:{second.port}/\r\nContent-Length: 0\r\n\r\n".encode()
        )
        executor = HttpExecutor([f"{HERE}/32"], lookup=FakeNames(first_example=[HERE], other_example=[HERE]))
        action = Http(
            url=f"http://user:password@first.example:{first.port}/",
            headers={"X-Api-Key": "hidden", "Cookie": "a=b", "Accept": "text/plain"},
            follow_redirects=True,
        )
        result, _ = await run(gateway, serve, action, executor)
    assert result.outcome == Result.OUTCOME_SUCCEEDED
    (before,), (after,) = first.heads, second.heads
    sent = [{line.split(":")[0].lower() for line in head.splitlines()[1:] if line} for head in (before, after)]
    assert {"authorization", "x-api-key", "cookie", "horologe-fencing-token", "idempotency-key"} <= sent[0]
    assert sent[1] == {"host", "accept", "accept-encoding", "user-agent"}
    assert f"Host: other.example:{second.port}" in after


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254 is not a public address"),
        ("http://inside.example/", "'inside.example' is 10.0.0.1, which is not a public address"),
        ("http://other.example/", "a redirect of a body to another host is not followed"),
        ("file:///etc/passwd", "a redirect to file: is not followed"),
    ],
)
async def test_redirects_that_are_not_followed(gateway: FakeGateway, serve: Serve, location: str, error: str) -> None:
    async with serving() as server:
        server.answer = f"HTTP/1.1 307 Over There\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        names = FakeNames(first_example=[HERE], inside_example=["10.0.0.1"], other_example=[HERE])
        body = b"body" if "body" in error else b""
        action = Http(url=f"http://first.example:{server.port}/", method="POST", body=body, follow_redirects=True)
        result, _ = await run(gateway, serve, action, HttpExecutor([f"{HERE}/32"], lookup=names))
    assert (result.permanent, len(server.heads)) == (True, 1)
    assert error in result.error


@pytest.mark.parametrize(
    ("host", "port", "refusal"),
    [
        ("api.example", 443, ""),
        ("API.example.", 443, ""),
        ("a.b.partner.example", 8443, ""),
        ("partner.example", 443, "is not among the hosts"),
        ("evilpartner.example", 443, "is not among the hosts"),
        ("api.example.evil.example", 443, "is not among the hosts"),
        ("b\u00fccher.example", 443, ""),
        ("xn--bcher-kva.example", 443, ""),
        ("api.example", 25, "port 25 is not among"),
    ],
)
async def test_hosts_and_ports_that_the_owner_lists(host: str, port: int, refusal: str) -> None:
    async def lookup(host: str, port: int) -> list[str]:
        return ["93.184.216.34"]

    hosts = ["api.example", "*.partner.example", "B\u00fccher.example"]
    guard = AddressGuard(hosts=hosts, ports=[443, 8443], lookup=lookup)
    if refusal:
        with pytest.raises(RefusedAddressError, match=refusal):
            await guard.resolve(host, port)
    else:
        assert await guard.resolve(host, port) == ["93.184.216.34"]


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "PURGE", "GET /x HTTP/1.1\r\nA: b"])
async def test_methods_of_jobs(gateway: FakeGateway, serve: Serve, method: str) -> None:
    assert method not in METHODS
    result, _ = await run(gateway, serve, Http(url="http://a.example/", method=method), HttpExecutor())
    assert (result.permanent, "is none of GET, HEAD" in result.error) == (True, True)


@pytest.mark.parametrize(
    "name",
    [
        *("Host", "content-length", "Transfer-Encoding", "Connection", "Upgrade", "TE", "Proxy-Authorization"),
        *("Idempotency-Key", "Horologe-Fencing-Token", "HOROLOGE-ANYTHING"),
    ],
)
async def test_headers_that_are_not_the_jobs(gateway: FakeGateway, serve: Serve, name: str) -> None:
    action = Http(url="http://a.example/", headers={name: "x"})
    result, _ = await run(gateway, serve, action, HttpExecutor())
    assert (result.permanent, f"the header '{name}'" in result.error) == (True, True)


async def test_a_server_that_never_ends_is_left_at_the_timeout(
    gateway: FakeGateway, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends a byte whenever the last one was read, so that no wait is ever long."""
    begun, gone = asyncio.Event(), asyncio.Event()
    hold_timeouts(monkeypatch, begun.wait)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while not writer.is_closing():
                writer.write(b".")
                await writer.drain()
                begun.set()
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass
        finally:
            gone.set()

    server = await asyncio.start_server(drip, HERE, 0)
    async with server:
        action = Http(url=f"http://{HERE}:{server.sockets[0].getsockname()[1]}/")
        result, _ = await run(gateway, serve, action, HttpExecutor([f"{HERE}/32"]), timeout_seconds=0.2)
        await gone.wait()
    assert result.outcome == Result.OUTCOME_TIMED_OUT


async def test_a_head_without_end_is_refused(gateway: FakeGateway, serve: Serve) -> None:
    async with serving() as server:
        server.answer = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % count for count in range(100_000))
        result, _ = await run(gateway, serve, Http(url=f"http://{HERE}:{server.port}/"), HttpExecutor([f"{HERE}/32"]))
    assert (result.outcome, result.error_kind) == (Result.OUTCOME_FAILED, "connection")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_bomb_is_cut_like_any_other_answer(gateway: FakeGateway, serve: Serve, encoding: str) -> None:
    zeros = b"0" * 50_000_000
    bomb = gzip.compress(zeros) if encoding == "gzip" else zlib.compress(zeros)
    async with serving() as server:
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(bomb)}\r\n\r\n"
        server.answer = head.encode() + bomb
        result, stream = await run(
            gateway, serve, Http(url=f"http://{HERE}:{server.port}/"), HttpExecutor([f"{HERE}/32"])
        )
    assert (len(bomb) < 60_000, result.output_truncated, len(stream.text())) == (True, True, 1_000_000)


@pytest.mark.parametrize(
    ("encoding", "compressed"),
    [
        ("gzip", gzip.compress(b"text" * 50_000)),
        ("deflate", zlib.compress(b"text" * 50_000)),
        ("deflate", zlib.compress(b"text" * 50_000)[2:-4]),
        ("identity", b"text" * 50_000),
        ("", b"text" * 50_000),
    ],
)
def test_bodies_are_decompressed_in_small_pieces(encoding: str, compressed: bytes) -> None:
    decoder = http_body.BodyDecoder(encoding)
    pieces = [
        piece for start in range(0, len(compressed), 50) for piece in decoder.pieces(compressed[start : start + 50])
    ]
    assert b"".join(pieces) == b"text" * 50_000
    assert max(len(piece) for piece in pieces) <= http_body.PIECE_BYTES_MAX


def test_what_is_not_compressed_is_an_error_and_what_is_unknown_stays() -> None:
    with pytest.raises(http_body.BodyError, match="the body is not gzip"):
        list(http_body.BodyDecoder("gzip").pieces(b"plain text"))
    assert list(http_body.BodyDecoder("br, gzip").pieces(b"\x01\x02")) == [b"\x01\x02"]
