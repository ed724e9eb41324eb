"""The small CA: what it signs, and what a certificate says of its owner.

ECDSA on P-256. The owner's part is a URI among the certificate's names: `horologe://node/NAME`, `horologe://worker/NAME`, with
the queues that it may take from (`?queue=a&queue=b`), or `horologe://client/NAME`. Files are read and written in tls_folder.py.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from horologe.node.config import checked_name
from horologe.node.validation import QUEUE_RULE, is_queue

CA_DAYS = 3_650
LEAF_DAYS = 90
LEAF_DAYS_MAX = 825
SERVER_NAME = "horologe"
"""The name under which clients and workers check any node: they need not know which one they reach."""
CLOCKS_APART = timedelta(hours=1)
"""A certificate is valid from so long ago, for clocks that are behind that of the CA."""
_SCHEME = "horologe"
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_NAME_RULE = "letters, digits, '.', '_' and '-', at most 128, with a letter or a digit at both ends"
_HOST = re.compile(
    r"(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*"
)


class CertificateError(Exception):
    """Something is no certificate, no key, or not what it should be; or a certificate cannot be made. The text says why."""


class Role(StrEnum):
    """What the owner of a certificate is to the cluster."""

    NODE = "node"
    WORKER = "worker"
    CLIENT = "client"


class Identity(NamedTuple):
    """Whose certificate it is."""

    role: Role
    name: str
    queues: tuple[str, ...] = ()
    """Of a worker: the only queues that it may take from; empty: any."""
    fingerprint: str = ""
    """SHA-256 of the certificate, hexadecimal."""

    @property
    def uri(self) -> str:
        """As it stands in the certificate."""
        query = urlencode([("queue", queue) for queue in self.queues])
        return f"{_SCHEME}://{self.role}/{quote(self.name)}" + (f"?{query}" if query else "")


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return pem_of(self.certificate)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def node_server_name(name: str) -> str:
    """The DNS name by which the other nodes check this one: its identity is its name, wherever it is reached."""
    return f"{name}.node.{SERVER_NAME}"


def checked_identity(role: Role, name: str, queues: Sequence[str] = ()) -> Identity:
    """Raises CertificateError if nobody can be called so."""
    if role is Role.NODE:
        try:
            checked_name(name)
        except ValueError as error:
            raise CertificateError(str(error)) from error
    elif not _NAME.fullmatch(name):
        raise CertificateError(f"{name[:140]!r} is no name of a {role}; use {_NAME_RULE}")
    if queues and role is not Role.WORKER:
        raise CertificateError(f"a {role} takes from no queue; only a worker's certificate names queues")
    for queue in queues:
        if not is_queue(queue):
            raise CertificateError(f"{queue[:80]!r} is no queue; use {QUEUE_RULE}")
    return Identity(role, name, tuple(dict.fromkeys(queues)))


# Making


def make_ca(now: datetime | None = None) -> Pair:
    """A new CA, with a name of its own, so that nobody mistakes it for the one before."""
    now = now or datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Horologe CA {serial & 0xFFFF_FFFF:08x}")])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), serial)
        .not_valid_before(now - CLOCKS_APART)
        .not_valid_after(now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate, key)


def issue(
    ca: Pair, identity: Identity, hosts: Sequence[str] = (), days: int = LEAF_DAYS, now: datetime | None = None
) -> Pair:
    """A certificate with a new key. `hosts`: names and addresses by which a node is also found. Raises CertificateError."""
    now = now or datetime.now(UTC)
    if not 1 <= days <= LEAF_DAYS_MAX:
        raise CertificateError(f"a certificate is valid for 1 to {LEAF_DAYS_MAX} days, not for {days}")
    if hosts and identity.role is not Role.NODE:
        raise CertificateError(f"nobody connects to a {identity.role}; only a node's certificate names hosts")
    end = min(now + timedelta(days=days), ca.certificate.not_valid_after_utc)
    if end <= now:
        raise CertificateError("the CA's own certificate has expired: make a new CA with `horologe tls rotate --ca`")
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.uri)]
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if identity.role is Role.NODE:
        names += [x509.DNSName(node_server_name(identity.name)), x509.DNSName(SERVER_NAME), *map(_host, hosts)]
        usages.insert(0, ExtendedKeyUsageOID.SERVER_AUTH)
    key = ec.generate_private_key(ec.SECP256R1())
    # The role is in the URI; the common name is for people, and may have at most 64 characters.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{identity.role} {identity.name}"[:64])])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder(ca.certificate.subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - CLOCKS_APART)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False)
        .sign(ca.key, hashes.SHA256())
    )
    return Pair(certificate, key)


def renew(ca: Pair, old: x509.Certificate, days: int = LEAF_DAYS, now: datetime | None = None) -> Pair:
    """One for the same owner and the same hosts, with a new key. Raises CertificateError."""
    identity = identity_in(old)
    if identity is None:
        raise CertificateError("the certificate to be renewed says of nobody that it is a node, a worker or a client")
    return issue(ca, identity, hosts_in(old), days, now)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise CertificateError(f"{host[:80]!r} is neither the name of a host nor an IP address; give it without a port")
    return x509.DNSName(host)


# Reading


def certificates_in(pem: bytes) -> list[x509.Certificate]:
    """All certificates of a bundle. Raises CertificateError if there is none."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise CertificateError("holds no certificate in PEM") from error


def key_in(pem: bytes) -> PrivateKeyTypes:
    """Of any kind: a certificate may come from somebody else's CA. Raises CertificateError."""
    try:
        return serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise CertificateError("holds no private key in PEM, or one with a password") from error


def pem_of(*certificates: x509.Certificate) -> bytes:
    """A bundle."""
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def belongs_to(key: PrivateKeyTypes, certificate: x509.Certificate) -> bool:
    """Whether it is the certificate's key."""
    return key.public_key() == certificate.public_key()


def is_signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether this authority vouches for the certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def identity_in(certificate: x509.Certificate) -> Identity | None:
    """Whose certificate it is; None if it does not say, or says it of several."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return None
    uris = [uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if uri.startswith(f"{_SCHEME}:")]
    if len(uris) != 1:
        return None
    identity = identity_from(uris[0])
    return identity._replace(fingerprint=fingerprint_of(certificate)) if identity is not None else None


def identity_from(uri: str) -> Identity | None:
    """Whom a name means; None if it means nobody."""
    parts = urlsplit(uri)
    try:
        queues = [value for _, value in parse_qsl(parts.query, keep_blank_values=True)]
        identity = checked_identity(Role(parts.netloc), parts.path.removeprefix("/"), queues)
    except (ValueError, CertificateError):
        return None
    # Whatever it says beside that we do not understand: a limit that we overlook would be none.
    return identity if identity.uri == uri else None


@lru_cache(maxsize=4_096)
def identity_in_pem(pem: bytes) -> Identity | None:
    """The same, of a certificate as gRPC hands it over."""
    try:
        return identity_in(x509.load_pem_x509_certificate(pem))
    except ValueError:
        return None


def hosts_in(certificate: x509.Certificate) -> list[str]:
    """The names and addresses that were given when it was made."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = [name for name in names.get_values_for_type(x509.DNSName) if not _is_ours(name)]
    return hosts + [str(address) for address in names.get_values_for_type(x509.IPAddress)]


def _is_ours(name: str) -> bool:
    return name == SERVER_NAME or name.endswith(f".node.{SERVER_NAME}")


def fingerprint_of(certificate: x509.Certificate) -> str:
    """SHA-256, hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()
