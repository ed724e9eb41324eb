"""A certificate authority for tests of those who connect, and servers' and workers' folders that it signs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(slots=True)
class TestAuthority:
    """Signs whatever a test wants."""

    __test__ = False
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    certificate: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        # Two authorities of a test have the same name, as those of a cluster whose CA was replaced.
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
        builder = _builder(name, self.key, datetime.now(UTC) - 30 * DAY, datetime.now(UTC) + 30 * DAY)
        builder = builder.issuer_name(name).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.certificate = builder.sign(self.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def write_ca(self, file: Path) -> Path:
        """The file that clients are told of."""
        file.write_bytes(self.pem)
        return file

    def write(
        self,
        folder: Path,
        *,
        name: str = "horologe",
        uri: str = "",
        since: timedelta = -10 * DAY,
        until: timedelta = 10 * DAY,
    ) -> Path:
        """A folder with ca.pem, cert.pem and key.pem; times are from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = _builder(x509.Name([]), key, now + since, now + until).issuer_name(self.certificate.subject)
        names: list[x509.GeneralName] = [x509.DNSName(name)]
        names += [x509.UniformResourceIdentifier(uri)] if uri else []
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
        folder.mkdir(parents=True, exist_ok=True)
        self.write_ca(folder / "ca.pem")
        certificate = builder.sign(self.key, hashes.SHA256())
        (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / "key.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        (folder / "key.pem").chmod(0o600)
        return folder


def server_credentials(folder: Path, *, asks_for_certificates: bool = False) -> grpc.ServerCredentials:
    """Of a server with the certificate in a folder."""
    pairs: Sequence[tuple[bytes, bytes]] = [
        ((folder / "key.pem").read_bytes(), (folder / "cert.pem").read_bytes()),
    ]
    ca = (folder / "ca.pem").read_bytes() if asks_for_certificates else None
    return grpc.ssl_server_credentials(pairs, root_certificates=ca, require_client_auth=asks_for_certificates)


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, since: datetime, until: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).public_key(key.public_key())
    return builder.serial_number(x509.random_serial_number()).not_valid_before(since).not_valid_after(until)
