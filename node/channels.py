"""How notifications leave a node: by HTTP, to addresses that the guard lets through, and by mail, to the configured server.

What is in them is said in `messages`; this file only carries. It is the one place, beside `dev`, that knows a part of the client:
the guard of HTTP jobs decides about its addresses too, so that there is one table of what is no public address.
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol

import httpx

from horologe.client.executors.address_guard import AddressGuard, Lookup, RefusedAddressError, look_up
from horologe.client.executors.guarded_transport import GuardedTransport
from horologe.node.config import Address, NodeConfig

SEND_SECONDS_MAX = 10.0
MAIL_SECONDS_MAX = 60.0
"""The library gives each step of the conversation SEND_SECONDS_MAX."""
MAILS_AT_A_TIME = 2
"""In threads of their own: a mail server that says nothing holds up nothing else of the node."""
_ADVICE = "the nodes' owner can allow it with notification_networks"


class SendError(Exception):
    """The receiver has not taken it, as far as is known. The text says why, and has no piece of a secret."""


class Sender(Protocol):
    """What carries messages away. The simulator has one of its own."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Raises SendError unless the receiver says that it has it."""

    async def mail(self, message: EmailMessage) -> None:
        """Raises SendError unless the server has taken it for all receivers."""

    async def close(self) -> None:
        """Closes what is open."""


class NetworkSender:
    """See Sender."""

    def __init__(self, config: NodeConfig, lookup: Lookup = look_up) -> None:
        self._config = config
        self._lookup = lookup
        self._client: httpx.AsyncClient | None = None
        self._mails = ThreadPoolExecutor(MAILS_AT_A_TIME, "mail")

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        try:
            target = httpx.URL(url)
        except httpx.InvalidURL:
            target = httpx.URL("")
        if target.scheme not in ("https", "http") or not target.host:
            # It may be a secret, and is not quoted.
            raise SendError("the URL is not one of http or https with a host")
        try:
            async with asyncio.timeout(SEND_SECONDS_MAX):
                request = self._http().build_request("POST", target, content=body, headers=dict(headers))
                response = await self._http().send(request, stream=True)
                await response.aclose()
        except TimeoutError:
            raise SendError(f"no answer within {SEND_SECONDS_MAX:g} s") from None
        except RefusedAddressError as error:
            raise SendError(str(error)) from error
        except (httpx.HTTPError, OSError, UnicodeError) as error:
            raise SendError(
                f"{type(error).__name__}: {error}" if isinstance(error, OSError) else _name(error)
            ) from error
        if not response.is_success:
            raise SendError(f"the receiver answered with status {response.status_code}")

    def _http(self) -> httpx.AsyncClient:
        """Made when something is sent for the first time: it reads the certificates of this machine."""
        if self._client is None:
            guard = AddressGuard(self._config.notification_networks, lookup=self._lookup, advice=_ADVICE)
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
            transport = httpx.AsyncHTTPTransport(trust_env=False, limits=limits)
            self._client = httpx.AsyncClient(
                transport=GuardedTransport(guard, transport), trust_env=False, follow_redirects=False
            )
        return self._client

    async def mail(self, message: EmailMessage) -> None:
        if not self._config.smtp_server:
            raise SendError("no mail server is configured; set smtp_server and smtp_from on every node")
        try:
            password = _password(self._config)
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(MAIL_SECONDS_MAX):
                await loop.run_in_executor(self._mails, _send_mail, self._config, password, message)
        except TimeoutError:
            raise SendError(f"the mail server did not take it within {MAIL_SECONDS_MAX:g} s") from None
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise SendError(_mail_error(error)) from error

    async def close(self) -> None:
        self._mails.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            await self._client.aclose()


def _name(error: BaseException) -> str:
    """What kind of error it was, in one line. Its text may quote the URL."""
    cause = error.__cause__ or error.__context__
    inner = f" ({cause.__class__.__name__})" if cause is not None else ""
    return f"{type(error).__name__}{inner}: the receiver could not be reached, or broke off"


def _password(config: NodeConfig) -> str:
    if config.smtp_password is not None:
        return config.smtp_password.get_secret_value()
    return "" if config.smtp_password_file is None else _first_line(config.smtp_password_file)


def _first_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines:
        raise ValueError("smtp_password_file is empty")
    return lines[0].strip()


def _send_mail(config: NodeConfig, password: str, message: EmailMessage) -> None:
    """On a thread of its own. A server that takes it for some receivers only has not taken it: they get it again."""
    host, port = Address.parse(config.smtp_server)
    trusted = ssl.create_default_context(cafile=None if config.smtp_ca_file is None else str(config.smtp_ca_file))
    if config.smtp_security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=SEND_SECONDS_MAX, context=trusted)
    else:
        server = smtplib.SMTP(host, port, timeout=SEND_SECONDS_MAX)
    with server:
        if config.smtp_security == "starttls":
            server.starttls(context=trusted)
        if config.smtp_user:
            server.login(config.smtp_user, password)
        refused = server.send_message(message)
    if refused:
        raise smtplib.SMTPRecipientsRefused(refused)


def _mail_error(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return f"the mail server does not take mail for {', '.join(sorted(error.recipients))}"
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        return f"the mail server answered {error.smtp_code}: {said}"
    return f"{type(error).__name__}: {error}"
