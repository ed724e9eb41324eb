"""Certificates of clients and workers: read anew for each connection, and what a failed handshake means.

Nodes are known by a name in their certificates, not by their addresses: `server_name` of the context. What a context says is
in `cluster_context.py`; who is refused after the handshake is told by the node itself.
"""

from __future__ import annotations

import stat
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from horologe.client.cluster_context import ClusterContext
from horologe.client.errors import InvalidContext

if TYPE_CHECKING:
    # Imported where it is used: clear text must not wait for it.
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

__all__ = [
    "CA_FILE",
    "CERTIFICATE_FILE",
    "KEY_FILE",
    "Identity",
    "Options",
    "Stamp",
    "expiry_warning",
    "explain",
    "file_stamp",
    "secure",
    "utc_now",
    "worker_name",
]

CA_FILE, CERTIFICATE_FILE, KEY_FILE = "ca.pem", "cert.pem", "key.pem"

WORKER_URI = "horologe://worker/"
"""How certificates say that they are a worker's: a URI among the names of whom they are for."""

WARN_LIFETIME_SHARE = 5
"""A certificate is old when less than this part of its life is left: a fifth. Whoever renews them does it earlier."""
WARN_TIME_MAX = timedelta(days=14)
"""But nobody wants to hear of it earlier than this."""

REPLACED_SECONDS_MAX = 0.5
"""Key and certificate are two files. Where one was written so lately, the other may be about to come."""
LOOK_AGAIN_SECONDS = 0.005
_pauses = threading.Event()

Options = Sequence[tuple[str, int]]
Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """The files that prove who is who."""

    ca: Path | None
    certificate: Path | None
    key: Path | None

    @classmethod
    def of(cls, context: ClusterContext) -> Identity:
        """Those that a context names."""
        folder = context.tls_dir
        if folder is None:
            return cls(context.ca_file, None, None)
        return cls(context.ca_file or folder / CA_FILE, folder / CERTIFICATE_FILE, folder / KEY_FILE)

    def stamp(self) -> Stamp:
        """Differs once a file was replaced."""
        files = (self.ca, self.certificate, self.key)
        return tuple(file_stamp(file) for file in files if file is not None)

    def _replaced_at(self) -> float:
        """When the newer one of key and certificate was written, in seconds of the Unix epoch."""
        files = (self.certificate, self.key)
        return max(file_stamp(file)[1] for file in files if file is not None) / 1e9

    def credentials(self) -> grpc.ChannelCredentials:
        """As the files are now. InvalidContext says which one is wrong: gRPC itself would not."""
        while True:
            ca = None if self.ca is None else _read(self.ca)
            if self.ca is not None and ca is not None:
                _certificates(ca, self.ca)
            if self.certificate is None or self.key is None:
                return grpc.ssl_channel_credentials(root_certificates=ca)
            certificate, key = _read(self.certificate), _read_key(self.key)
            own = _certificates(certificate, self.certificate)[0]
            if own.public_key() == _private_key(key, self.key).public_key():
                break
            # Perhaps they are being replaced right now, and one of them is there already.
            if not 0 <= time.time() - self._replaced_at() < REPLACED_SECONDS_MAX:
                raise InvalidContext(f"{self.key} is not the key of the certificate {self.certificate}")
            _pauses.wait(LOOK_AGAIN_SECONDS)
        return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=certificate)


def secure(context: ClusterContext, options: Options) -> tuple[grpc.ChannelCredentials, list[tuple[str, int | str]]]:
    """What a channel with TLS is made of, with the files as they are now."""
    named: list[tuple[str, int | str]] = [*options]
    if context.server_name:
        named.append(("grpc.ssl_target_name_override", context.server_name))
    return Identity.of(context).credentials(), named


def worker_name(context: ClusterContext) -> str:
    """For which worker, or which pool of them, the own certificate is; empty without one, or for one of another kind."""
    file = Identity.of(context).certificate
    if file is None:
        return ""
    from cryptography import x509

    try:
        found = _certificates(_read(file), file)[0].extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ""
    uris = found.value.get_values_for_type(x509.UniformResourceIdentifier)
    names = [uri.removeprefix(WORKER_URI).partition("?")[0] for uri in uris if uri.startswith(WORKER_URI)]
    return names[0] if names else ""


def expiry_warning(context: ClusterContext, now: datetime) -> str:
    """What to say of the own certificate when it has little time left, or none; empty if all is well."""
    file = Identity.of(context).certificate
    if file is None:
        return ""
    certificate = _certificates(_read(file), file)[0]
    end, life = certificate.not_valid_after_utc, certificate.not_valid_after_utc - certificate.not_valid_before_utc
    if end <= now:
        return f"the certificate {file} expired on {end:%Y-%m-%d %H:%M} UTC; have a new one made"
    if end - now > min(life / WARN_LIFETIME_SHARE, WARN_TIME_MAX):
        return ""
    return f"the certificate {file} expires on {end:%Y-%m-%d %H:%M} UTC; have a new one made and put it there"


_NOT_A_TLS_PORT = (
    "it speaks clear text and not TLS there; if the cluster runs without security say so (--insecure, insecure=True, or "
    "`insecure = true` in the context), else the address is that of another port"
)
_PERHAPS_A_TLS_PORT = (
    "it closed the connection at the first word in clear text; if the cluster has security leave insecure out, and name "
    "its CA (ca_file)"
)
_OTHER_PROTOCOL = (
    "something answers there, but not with this protocol (gRPC): perhaps it is the port for browsers (`http_listen`); people "
    "and programs go to `listen`, and workers to `worker_listen`"
)
_NOT_TRUSTED = (
    "its certificate is not signed by a CA that is trusted here (those of {cas}); name the CA of the cluster (`horologe login "
    "--ca-file`, ca_file, or ca.pem in tls_dir), and if that is done, ask whether it is still the same CA, and whether this is "
    "the right cluster"
)
_OTHER_NAME = (
    'its certificate is of another name; server_name has to be a name in it ("horologe" where the CA is the cluster\'s own, '
    'or "" for the host of the address)'
)
_REFUSED = (
    "it broke off the handshake; the port of workers wants a certificate that its CA has signed, that has not expired and is "
    "on no deny list (tls_dir), and the port of people wants none"
)

# What gRPC says -> what that means; the first that fits. All of these texts were seen with grpcio 1.85.
_HANDSHAKES: Sequence[tuple[str, str]] = (
    ("WRONG_VERSION_NUMBER", _NOT_A_TLS_PORT),
    ("missing selected ALPN property", _OTHER_PROTOCOL),
    (
        "certificate has expired",
        "its certificate has expired; its operator has to renew it (or the clock here is wrong)",
    ),
    ("certificate is not yet valid", "its certificate is not valid yet: a clock is wrong, there or here"),
    ("Hostname Verification", _OTHER_NAME),
    ("CERTIFICATE_VERIFY_FAILED", _NOT_TRUSTED),
    ("BAD_SIGNATURE", _NOT_TRUSTED),
    ("certificate signature failure", _NOT_TRUSTED),
    ("Tls handshake failed", "the TLS handshake failed"),
    ("Failed to create security handshaker", "the certificates here are of no use (ca_file, tls_dir)"),
)


def explain(details: str, context: ClusterContext, now: datetime) -> tuple[str, bool]:
    """What a connection that was never made failed of, and whether trying again can be of use. Empty: not of TLS.

    `details` are those of gRPC.
    """
    if context.insecure:
        if "Failed parsing HTTP/2" in details:
            return _OTHER_PROTOCOL, False
        return (_PERHAPS_A_TLS_PORT if "Socket closed" in details else "", True)
    for sign, meaning in _HANDSHAKES:
        if sign in details:
            return meaning.replace("{cas}", str(Identity.of(context).ca or "this system")), False
    if "Socket closed" not in details:
        return "", True
    # The node may as well be on its way down. With TLS 1.3 it judges a certificate when the client believes to be through.
    own = _expired(context, now)
    return own or _REFUSED, True


def _expired(context: ClusterContext, now: datetime) -> str:
    try:
        warning = expiry_warning(context, now)
    except InvalidContext as error:
        return str(error)
    return warning if "expired on" in warning else ""


def utc_now() -> datetime:
    """The wall clock: certificates are of the calendar."""
    return datetime.now(UTC)


def file_stamp(file: Path) -> tuple[str, int, int, int]:
    """Differs once the file was replaced; also for one that is not there."""
    try:
        found = file.stat()
    except OSError:
        return str(file), 0, 0, 0
    return str(file), found.st_mtime_ns, found.st_size, found.st_ino


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidContext(f"{file} cannot be read: {error.strerror or error}") from error


def _read_key(file: Path) -> bytes:
    key = _read(file)
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & stat.S_IRWXO:
        raise InvalidContext(
            f"{file} can be read by everybody on this machine (mode {mode:04o}): `chmod 600 {file}`, and think of a new key"
        )
    return key


def _certificates(pem: bytes, file: Path) -> list[x509.Certificate]:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise InvalidContext(f"{file} holds no certificate in PEM") from error


def _private_key(pem: bytes, file: Path) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        return serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidContext(f"{file} holds no private key in PEM without a password") from error
