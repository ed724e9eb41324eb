"""How notifications leave a node: real requests to a real receiver, real mails to a real sink, nothing to forbidden places."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from support.certificates import TestAuthority

from horologe.node.channels import NetworkSender, SendError
from horologe.node.config import NodeConfig

HERE = "127.0.0.2"


def sender(folder: Path, *networks: str, names: dict[str, list[str]] | None = None, **options: Any) -> NetworkSender:
    config = NodeConfig(
        name="n1", data_dir=folder, insecure=True, http_listen="", notification_networks=networks, **options
    )

    async def lookup(host: str, port: int) -> list[str]:
        return (names or {}).get(host, [host])

    return NetworkSender(config, lookup)


class Receiver:
    """Gives the same answer to everybody and remembers the requests."""

    def __init__(self) -> None:
        self.port = 0
        self.answer = b"HTTP/1.1 204 No Content\r\n\r\n"
        self.requests: list[tuple[str, bytes]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            int(line.split(":")[1]) for line in head.lower().splitlines() if line.startswith("content-length")
        )
        self.requests.append((head, await reader.readexactly(length)))
        writer.write(self.answer)
        writer.close()


@asynccontextmanager
async def receiving(host: str = HERE) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver, host, 0)
    receiver.port = server.sockets[0].getsockname()[1]
    async with server:
        yield receiver


async def test_a_request_arrives_whole(tmp_path: Path) -> None:
    async with receiving() as receiver:
        carrier = sender(tmp_path, "127.0.0.2/32")
        await carrier.post(f"http://{HERE}:{receiver.port}/hook?x=1", b'{"a":1}', {"Horologe-Signature": "t=1,v1=ab"})
        await carrier.close()
    ((head, body),) = receiver.requests
    assert head.startswith("POST /hook?x=1 HTTP/1.1\r\n")
    assert "horologe-signature: t=1,v1=ab" in head.lower()
    assert body == b'{"a":1}'


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "the receiver answered with status 503"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n", "status 302"),
        (b"nonsense\r\n\r\n", "could not be reached, or broke off"),
        (b"", "could not be reached, or broke off"),
    ],
)
async def test_what_is_no_receipt_is_none(tmp_path: Path, answer: bytes, said: str) -> None:
    async with receiving() as receiver:
        receiver.answer = answer
        with pytest.raises(SendError, match=said):
            await sender(tmp_path, "127.0.0.2/32").post(f"http://{HERE}:{receiver.port}/", b"{}", {})


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "inside"])
async def test_what_is_not_public_is_not_reached(tmp_path: Path, host: str) -> None:
    async with receiving("127.0.0.1") as receiver:
        carrier = sender(tmp_path, "127.0.0.2/32", names={"inside": ["127.0.0.1"]})
        with pytest.raises(SendError, match="is not a public address; the nodes' owner can allow it with"):
            await carrier.post(f"http://{host}:{receiver.port}/", b"{}", {})
    assert not receiver.requests


@pytest.mark.parametrize("url", ["hunter2", "file:///etc/passwd", "https://", "ftp://example.com/", "http://[::1"])
async def test_what_is_no_url_is_not_quoted(tmp_path: Path, url: str) -> None:
    with pytest.raises(SendError) as failure:
        await sender(tmp_path).post(url, b"{}", {})
    assert str(failure.value) == "the URL is not one of http or https with a host"


async def test_an_error_says_nothing_of_the_address(tmp_path: Path) -> None:
    """A URL out of a secret must not come to light in what is recorded."""
    async with receiving() as receiver:
        port = receiver.port
    with pytest.raises(SendError) as failure:
        await sender(tmp_path, "127.0.0.2/32").post(f"http://{HERE}:{port}/T000/hush", b"{}", {})
    assert "hush" not in str(failure.value)


# Mail


class MailServer:
    """As much of SMTP as it takes, with what it was told."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.port = 0
        self.refused: set[str] = set()
        self.receivers: list[str] = []
        self.mails: list[EmailMessage] = []
        self.words: list[str] = []
        self.was_secure = False

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while line := (await reader.readline()).decode().strip():
            word = line.partition(" ")[0].upper()
            self.words.append(word)
            if word == "EHLO":
                offers = "STARTTLS" if self.tls is not None and not self.was_secure else "AUTH PLAIN"
                writer.write(f"250-here\r\n250 {offers}\r\n".encode())
            elif word == "STARTTLS":
                writer.write(b"220 go on\r\n")
                assert self.tls is not None
                await writer.start_tls(self.tls)
                self.was_secure = True
            elif word == "AUTH":
                writer.write(b"235 welcome\r\n" if line.endswith("AGFubgBodXNo") else b"535 no\r\n")
            elif word == "RCPT":
                who = line.partition("<")[2].rstrip(">")
                self.receivers.append(who)
                writer.write(b"550 nobody\r\n" if who in self.refused else b"250 ok\r\n")
            elif word == "DATA":
                writer.write(b"354 go on\r\n")
                content = await reader.readuntil(b"\r\n.\r\n")
                self.mails.append(message_from_bytes(content[:-5], policy=policy.default))  # type: ignore[arg-type]
                writer.write(b"250 taken\r\n")
            elif word == "QUIT":
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(b"250 ok\r\n")
        writer.close()


@asynccontextmanager
async def mail_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[MailServer]:
    here = MailServer(tls)
    server = await asyncio.start_server(here, "127.0.0.1", 0)
    here.port = server.sockets[0].getsockname()[1]
    async with server:
        yield here


def a_mail(*to: str) -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = (
        "horologe@example.com",
        ", ".join(to or ("ops@example.com",)),
        "it failed",
    )
    made.set_content("größer\n")
    return made


def mail_options(server: MailServer, security: str = "none", **options: Any) -> dict[str, Any]:
    host = "localhost" if security != "none" else "127.0.0.1"
    return {
        "smtp_server": f"{host}:{server.port}",
        "smtp_from": "horologe@example.com",
        "smtp_security": security,
        **options,
    }


async def test_a_mail_arrives(tmp_path: Path) -> None:
    async with mail_server() as server:
        await sender(tmp_path, **mail_options(server)).mail(a_mail("a@example.com", "b@example.com"))
    (mail,) = server.mails
    assert (mail["Subject"], mail.get_content().strip()) == ("it failed", "größer")
    assert server.receivers == ["a@example.com", "b@example.com"]


async def test_one_receiver_that_is_not_taken_is_no_delivery(tmp_path: Path) -> None:
    async with mail_server() as server:
        server.refused = {"b@example.com"}
        with pytest.raises(SendError, match=r"the mail server does not take mail for b@example\.com"):
            await sender(tmp_path, **mail_options(server)).mail(a_mail("a@example.com", "b@example.com"))


async def test_starttls_and_a_password_from_a_file(tmp_path: Path) -> None:
    authority = TestAuthority()
    folder = authority.write(tmp_path / "mail", name="localhost")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    password = tmp_path / "password"
    password.write_text("hush\n")
    ca_file = authority.write_ca(tmp_path / "ca.pem")
    async with mail_server(tls) as server:
        options = mail_options(server, "starttls", smtp_user="ann", smtp_password_file=password, smtp_ca_file=ca_file)
        await sender(tmp_path, **options).mail(a_mail())
    assert server.was_secure
    assert len(server.mails) == 1
    assert server.words.index("STARTTLS") < server.words.index("AUTH")


async def test_a_server_that_speaks_no_tls_gets_nothing(tmp_path: Path) -> None:
    async with mail_server() as server:
        options = mail_options(server, "starttls", smtp_user="ann", smtp_password="hush")
        with pytest.raises(SendError, match="STARTTLS"):
            await sender(tmp_path, **options).mail(a_mail())
    assert "AUTH" not in server.words
    assert not server.mails


async def test_a_server_of_another_authority_gets_nothing(tmp_path: Path) -> None:
    folder = TestAuthority().write(tmp_path / "mail", name="localhost")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    async with mail_server(tls) as server:
        with pytest.raises(SendError, match="CERTIFICATE_VERIFY_FAILED"):
            await sender(tmp_path, **mail_options(server, "starttls")).mail(a_mail())
    assert not server.mails


async def test_without_a_mail_server_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SendError, match="set smtp_server and smtp_from on every node"):
        await sender(tmp_path).mail(a_mail())
