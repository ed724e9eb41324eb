"""Certificates in files: the folder of a CA, and the folder of a node, a worker or a client.

CA        ca.pem (what is trusted; the first one signs), ca.key
others    ca.pem (what is trusted), cert.pem, key.pem

Whatever is wrong with them becomes one line that names the file and says what to do. Folders are 0700, keys 0600.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from horologe.node import certificates
from horologe.node.certificates import LEAF_DAYS, CertificateError, Identity, Pair

CA_FILE, CA_KEY_FILE, CERTIFICATE_FILE, KEY_FILE = "ca.pem", "ca.key", "cert.pem", "key.pem"


class TlsError(Exception):
    """A folder with certificates cannot be used. The text is one line: which file, what is wrong, what to do."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What a folder held when it was read: a whole set that fits together."""

    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes
    certificate: x509.Certificate
    identity: Identity

    @property
    def expires(self) -> datetime:
        return self.certificate.not_valid_after_utc


def read_tls_folder(folder: Path, now: datetime | None = None) -> TlsFiles:
    """Raises TlsError if a file is missing or wrong, or if they do not fit together."""
    now = now or datetime.now(UTC)
    ca_pem, certificate_pem = _read(folder / CA_FILE), _read(folder / CERTIFICATE_FILE)
    key_pem = _read_key(folder / KEY_FILE)
    with _told(folder / CA_FILE):
        authorities = certificates.certificates_in(ca_pem)
    with _told(folder / CERTIFICATE_FILE):
        chain = certificates.certificates_in(certificate_pem)
    with _told(folder / KEY_FILE):
        key = certificates.key_in(key_pem)
    leaf = chain[0]
    where = folder / CERTIFICATE_FILE
    if not certificates.belongs_to(key, leaf):
        raise TlsError(f"{folder / KEY_FILE}: is not the key of {CERTIFICATE_FILE}; put both there as they were issued")
    if not any(certificates.is_signed_by(chain[-1], authority) for authority in authorities):
        raise TlsError(
            f"{where}: is signed by no CA in {CA_FILE}; issue it by one of these, or add that CA to {CA_FILE}"
        )
    if leaf.not_valid_after_utc <= now:
        raise TlsError(
            f"{where}: expired {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it: `horologe tls rotate {folder}`"
        )
    if leaf.not_valid_before_utc > now:
        raise TlsError(
            f"{where}: is valid from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on; set this machine's clock right"
        )
    identity = certificates.identity_in(leaf)
    if identity is None:
        raise TlsError(
            f"{where}: does not say of one owner that it is a node, a worker or a client: among its names must be exactly "
            "one URI like horologe://node/n1"
        )
    return TlsFiles(ca_pem, certificate_pem, key_pem, leaf, identity)


def expiry_of(folder: Path) -> datetime:
    """When its certificate ends, or has ended. Raises TlsError."""
    return _certificates_at(folder / CERTIFICATE_FILE)[0].not_valid_after_utc


def write_tls_folder(folder: Path, pair: Pair, ca_pem: bytes) -> None:
    """A set of three. Whoever reads meanwhile may see a key that does not fit its certificate, and must read again."""
    _make_folder(folder)
    _write(
        {
            folder / CA_FILE: (ca_pem, 0o644),
            folder / KEY_FILE: (pair.key_pem, 0o600),
            folder / CERTIFICATE_FILE: (pair.certificate_pem, 0o644),
        }
    )


@dataclass(frozen=True, slots=True)
class CaFolder:
    """A CA with its key, and what it trusts beside itself while certificates of the CA before are in use."""

    folder: Path
    pair: Pair
    older: tuple[x509.Certificate, ...] = ()

    @classmethod
    def create(cls, folder: Path) -> Self:
        """A new CA. Raises TlsError if there is one."""
        if (folder / CA_KEY_FILE).exists() or (folder / CA_FILE).exists():
            raise TlsError(f"{folder}: has a CA already; `horologe tls rotate --ca` makes a new one beside it")
        ca = cls(folder, certificates.make_ca())
        ca._save()
        return ca

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Raises TlsError."""
        if not (folder / CA_KEY_FILE).exists():
            raise TlsError(
                f"{folder / CA_KEY_FILE}: there is no CA here; make one with `horologe tls init --dir {folder}`"
            )
        with _told(folder / CA_KEY_FILE):
            key = certificates.key_in(_read_key(folder / CA_KEY_FILE))
        found = _certificates_at(folder / CA_FILE)
        own = [one for one in found if certificates.belongs_to(key, one)]
        if not own or not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TlsError(f"{folder / CA_KEY_FILE}: is not the key of a CA in {CA_FILE}; put the one there that is")
        return cls(folder, Pair(own[0], key), tuple(one for one in found if one != own[0]))

    @property
    def bundle_pem(self) -> bytes:
        """What those who trust this CA shall trust now."""
        return certificates.pem_of(self.pair.certificate, *self.older)

    def issue(
        self, out: Path, identity: Identity, hosts: Sequence[str] = (), days: int = LEAF_DAYS
    ) -> x509.Certificate:
        """Makes a folder with a certificate. Raises TlsError."""
        if (out / CERTIFICATE_FILE).exists():
            raise TlsError(f"{out}: has a certificate already; `horologe tls rotate {out}` renews it")
        with _told(out):
            pair = certificates.issue(self.pair, identity, hosts, days)
        write_tls_folder(out, pair, self.bundle_pem)
        return pair.certificate

    def renew(self, out: Path, days: int = LEAF_DAYS) -> x509.Certificate:
        """A new key and certificate for the same owner, signed by the newest CA. Raises TlsError."""
        path = out / CERTIFICATE_FILE
        [old, *_] = _certificates_at(path)
        with _told(path):
            pair = certificates.renew(self.pair, old, days)
        write_tls_folder(out, pair, self.bundle_pem)
        return pair.certificate

    def succeeded(self, folders: Sequence[Path] = ()) -> Self:
        """A new CA beside this one. Who has one of these folders trusts both from now on. Raises TlsError."""
        if self.older:
            raise TlsError(
                f"{self.folder / CA_FILE}: a change of the CA is under way; end it first: `horologe tls rotate FOLDER...` and "
                "then `horologe tls rotate --drop-old FOLDER...`, with the folders of all certificates"
            )
        new = type(self)(self.folder, certificates.make_ca(), (self.pair.certificate,))
        new._save_and_spread(folders)
        return new

    def without_older(self, folders: Sequence[Path] = ()) -> Self:
        """Only the newest CA is trusted from now on. Raises TlsError if a certificate of an older one is still there."""
        for folder in folders:
            path = folder / CERTIFICATE_FILE
            [leaf, *_] = _certificates_at(path)
            if not certificates.is_signed_by(leaf, self.pair.certificate):
                raise TlsError(
                    f"{path}: is not signed by the newest CA; renew it first: `horologe tls rotate {folder}`"
                )
        new = type(self)(self.folder, self.pair)
        new._save_and_spread(folders)
        return new

    def _save_and_spread(self, folders: Sequence[Path]) -> None:
        """Also tells those who have these folders whom to trust."""
        for folder in folders:
            if not (folder / CERTIFICATE_FILE).exists():
                raise TlsError(f"{folder}: has no {CERTIFICATE_FILE}; give folders that `horologe tls issue` has made")
        self._save()
        for folder in folders:
            _write({folder / CA_FILE: (self.bundle_pem, 0o644)})

    def _save(self) -> None:
        _make_folder(self.folder)
        # The bundle first: a key without its certificate would be of no use, a certificate without its key does no harm.
        _write(
            {
                self.folder / CA_FILE: (self.bundle_pem, 0o644),
                self.folder / CA_KEY_FILE: (self.pair.key_pem, 0o600),
            }
        )


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Whoever hears that something is wrong hears where."""
    try:
        yield
    except CertificateError as error:
        raise TlsError(f"{path}: {error}") from error


def _certificates_at(path: Path) -> list[x509.Certificate]:
    with _told(path):
        return certificates.certificates_in(_read(path))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise TlsError(
            f"{path}: is missing; `horologe tls issue` makes a folder with {CA_FILE}, {CERTIFICATE_FILE} and {KEY_FILE}"
        ) from error
    except OSError as error:
        raise TlsError(f"{path}: cannot be read ({error.strerror}); let this user read it") from error


def _read_key(path: Path) -> bytes:
    data = _read(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & stat.S_IRWXO:
        raise TlsError(f"{path}: everybody on this machine may read the key (mode {mode:04o}); `chmod 600 {path}`")
    return data


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise TlsError(f"{folder}: cannot be made ({error.strerror}); choose another place") from error


def _write(files: Mapping[Path, tuple[bytes, int]]) -> None:
    """Each as a whole and never readable for others in between, and all within a moment, in this order."""
    path = Path()
    try:
        for path, (data, mode) in files.items():
            temporary = _temporary(path)
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path in files:
            _temporary(path).replace(path)
    except OSError as error:
        raise TlsError(f"{path}: cannot be written ({error.strerror}); let this user write there") from error


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")
