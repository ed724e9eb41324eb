"""A node's side of TLS: its certificates as they are now, what its servers and connections are made with, and who calls.

Certificates are read again whenever somebody connects, and now and then. A set that is not whole, or not this node's, changes
nothing: the old one stays in use, and the log says why. Connections that exist go on with what they began with.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import structlog

from horologe.node.certificates import Identity, Role, checked_identity, identity_in_pem, node_server_name
from horologe.node.config import EVERY_ADDRESS, Address, NodeConfig
from horologe.node.tls_folder import (
    CA_FILE,
    CA_KEY_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    CaFolder,
    TlsError,
    TlsFiles,
    expiry_of,
    read_tls_folder,
)

OWN_CA_FOLDER = "tls"
OWN_HOSTS = ("localhost", "127.0.0.1", "::1")
OWN_RENEWAL = timedelta(days=30)
"""A node that has a CA of its own renews its certificate when it is valid for less than this."""
EXPIRY_WARNING = timedelta(days=14)
WATCH_SECONDS = 60.0
WARNING_SECONDS = 86_400.0
PROBE_SECONDS = 5.0

log = structlog.get_logger(__name__)


class NodeTls:
    """The certificates of a node. Its methods may be called from any thread."""

    def __init__(self, folder: Path, name: str, own_ca: CaFolder | None = None) -> None:
        """Raises TlsError if the folder cannot be used."""
        self.folder = folder
        self._name = name
        self._own_ca = own_ca
        self._lock = threading.Lock()
        self._signature = self._sign()
        self._complaint = ""
        self.files = self._read()
        self.generation = 1
        """Grows with each change of the files."""

    @classmethod
    def of_node(cls, config: NodeConfig) -> NodeTls | None:
        """None for a node without security. A node alone on loopback gets a CA of its own. Raises TlsError."""
        if config.insecure:
            return None
        if config.tls_dir is not None:
            return cls(config.tls_dir, config.name)
        folder = config.data_dir / OWN_CA_FOLDER
        ca = CaFolder.open(folder) if (folder / CA_KEY_FILE).exists() else CaFolder.create(folder)
        own = folder / Role.NODE
        if not (own / CERTIFICATE_FILE).exists():
            ca.issue(own, checked_identity(Role.NODE, config.name), OWN_HOSTS)
        _renew_own(ca, own)
        return cls(own, config.name, ca)

    def refresh(self) -> None:
        """Looks whether the files have changed, and takes them if they are whole. Never raises."""
        with self._lock:
            signature = self._sign()
            if signature == self._signature and not self._complaint:
                return
            try:
                files = self._read()
            except TlsError as error:
                if str(error) != self._complaint:
                    log.warning("certificates not taken; the old ones stay in use", error=str(error))
                self._complaint = str(error)
                return
            self._signature, self._complaint = signature, ""
            if files != self.files:
                self.files = files
                self.generation += 1
                log.info("certificates taken", folder=str(self.folder), expires=files.expires.isoformat())

    def server_credentials(self, *, client_certificates: bool) -> grpc.ServerCredentials:
        """For a port; what it shows follows the files. `client_certificates`: nobody gets in without one."""
        shown = self.generation

        def configuration() -> grpc.ServerCertificateConfiguration:
            files = self.files
            authorities = files.ca_pem if client_certificates else None
            return grpc.ssl_server_certificate_configuration([(files.key_pem, files.certificate_pem)], authorities)

        def changed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal shown
            self.refresh()
            if self.generation == shown:
                return None
            shown = self.generation
            return configuration()

        return grpc.dynamic_ssl_server_credentials(
            configuration(),
            changed,  # type: ignore[arg-type] # the stub does not know that None means: no change
            client_certificates,
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a connection that is made now."""
        self.refresh()
        files = self.files
        return grpc.ssl_channel_credentials(files.ca_pem, files.key_pem, files.certificate_pem)

    async def keep(self) -> None:
        """Looks at the files also while nobody connects, renews what this node has made itself, and warns in time."""
        loop = asyncio.get_running_loop()
        warned_at = -WARNING_SECONDS
        while True:
            await asyncio.to_thread(self._look_after)
            left = self.files.expires - datetime.now(UTC)
            if left < EXPIRY_WARNING and loop.time() - warned_at >= WARNING_SECONDS:
                warned_at = loop.time()
                log.warning(
                    "the certificate expires soon; renew it with `horologe tls rotate`",
                    folder=str(self.folder),
                    expires=self.files.expires.isoformat(),
                )
            await asyncio.sleep(WATCH_SECONDS)

    def _look_after(self) -> None:
        if self._own_ca is not None:
            try:
                _renew_own(self._own_ca, self.folder)
            except TlsError as error:
                log.warning("certificate not renewed", error=str(error))
        self.refresh()

    def _read(self) -> TlsFiles:
        files = read_tls_folder(self.folder)
        role, name, _, _ = files.identity
        if (role, name) != (Role.NODE, self._name):
            raise TlsError(
                f"{self.folder / CERTIFICATE_FILE}: is the certificate of {role} {name!r}, this is node {self._name!r}; make one "
                f"with `horologe tls issue node {self._name}`"
            )
        return files

    def _sign(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_signature_of(self.folder / name) for name in (CA_FILE, CERTIFICATE_FILE, KEY_FILE))


def _renew_own(ca: CaFolder, folder: Path) -> None:
    if expiry_of(folder) - datetime.now(UTC) < OWN_RENEWAL:
        ca.renew(folder)


def _signature_of(path: Path) -> tuple[int, int, int] | None:
    """Changes when the file does, or who may read it."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_ctime_ns


def peer_options(peer: str) -> list[tuple[str, Any]]:
    """Options of a connection to another node: it is checked by its name, wherever it is."""
    return [("grpc.ssl_target_name_override", node_server_name(peer))]


def identity_of(context: Any) -> Identity | None:
    """Whose certificate the caller has shown: role, name, queues, fingerprint. None if it has shown none, or one that says of
    nobody that it is a node, a worker or a client."""
    found = context.auth_context().get("x509_pem_cert")
    return identity_in_pem(bytes(found[0])) if found else None


def check_tls_versions(address: str, port: int) -> None:
    """Tries to speak TLS 1.2 with a port of this node. Raises TlsError if that works."""
    settings = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    settings.check_hostname = False
    settings.verify_mode = ssl.CERT_NONE
    settings.minimum_version = settings.maximum_version = ssl.TLSVersion.TLSv1_2
    settings.set_alpn_protocols(["h2"])
    host = Address.parse(address).host
    target = "127.0.0.1" if host in EVERY_ADDRESS else host
    try:
        with socket.create_connection((target, port), PROBE_SECONDS) as plain, settings.wrap_socket(plain) as spoken:
            version = spoken.version()
    except OSError:
        return
    raise TlsError(
        f"{address}: speaks {version}, because this process used gRPC before it imported {__name__}; import it first"
    )
