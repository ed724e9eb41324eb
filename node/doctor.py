"""`horologe doctor`: everything on a node's machine that a node depends on, before it runs or while it runs.

Here is what is looked at, and what concerns the node's own files. What any machine must have is in `client/machine_checks.py`,
what the network says in `doctor_network.py`. It reads, and writes one small file to see how long the disk takes.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import re
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from horologe.client import machine_checks
from horologe.client.findings import Finding, Grade
from horologe.client.machine import Machine
from horologe.node import doctor_network
from horologe.node.certificates import CertificateError, Role, certificates_in, hosts_in
from horologe.node.config import EVERY_ADDRESS, PID_FILE, Address, NodeConfig, is_loopback
from horologe.node.http.server import connections_max
from horologe.node.key_sources import KEY_ENVIRONMENT, key_source_of
from horologe.node.keyring import FILE_NAME as KEYRING_FILE
from horologe.node.keyring import Keyring
from horologe.node.tls import EXPIRY_WARNING, OWN_CA_FOLDER
from horologe.node.tls_folder import CERTIFICATE_FILE, KEY_FILE, TlsError, TlsFiles, read_tls_folder
from horologe.raft.store import StoreError, check_folder

OWN_FILES = 200
"""What a node has open for itself: its state and output, libraries, logs, connections to other members."""
CONNECTIONS_WANTED = 1_000
CA_EXPIRY_WARNING = timedelta(days=90)
"""To replace a CA takes several steps on every machine."""


def examine(config: NodeConfig, machine: Machine) -> list[Finding]:
    """All findings, in the order in which they are best read."""
    process, is_new = process_of(config), not (config.data_dir / "state" / "data.mdb").exists()
    state_bytes = 0 if is_new else (config.data_dir / "state" / "data.mdb").stat().st_blocks * 512
    certificates, tls = examine_certificates(config)
    answers = asyncio.run(doctor_network.ask_members(config, tls)) if tls is not None or config.insecure else []
    return [
        _running(config, process),
        _data(config, is_new),
        *_security(config),
        machine_checks.check_clock(machine, config.clock_skew_ms_max),
        *machine_checks.check_disk(machine, config.data_dir, config.disk_free_bytes_min),
        machine_checks.check_sync(machine, config.data_dir, config.pulse_ms, config.election_timeout_ms_min),
        machine_checks.check_files(
            machine,
            process,
            used=OWN_FILES + (connections_max() if config.http_listen else 0),
            wanted=CONNECTIONS_WANTED,
            for_what="connections of workers and clients",
        ),
        machine_checks.check_memory(machine, state_bytes),
        *doctor_network.check_ports(config, process),
        *certificates,
        *_keys(config, is_new),
        *doctor_network.check_members(config, answers, is_new=is_new),
        machine_checks.check_versions(machine, _pinned("pysyncobj")),
        machine_checks.check_randomness(machine),
    ]


def process_of(config: NodeConfig) -> int | None:
    """The node's process, if it runs."""
    try:
        process = int((config.data_dir / PID_FILE).read_text())
    except (OSError, ValueError):
        return None
    return process if psutil.pid_exists(process) else None


def _running(config: NodeConfig, process: int | None) -> Finding:
    text = f"{config.name} runs as process {process}" if process is not None else f"{config.name} does not run"
    return Finding("node", Grade.OK, text, "some of what follows can be said only of a node that runs, or of none")


def _data(config: NodeConfig, is_new: bool) -> Finding:
    why = "a node starts only with its own data, in which is what it has promised to the others"
    folder = config.data_dir / "state"
    try:
        check_folder(folder, config.name)
    except StoreError as error:
        do = "correct `name` or `data_dir`, or bring this node's own folder back"
        return Finding("data folder", Grade.FAILURE, str(error), why, do)
    text = f"{folder} is not there yet; the node makes it" if is_new else f"{folder} is that of {config.name}"
    return Finding("data folder", Grade.OK, text, why)


def _security(config: NodeConfig) -> Iterator[Finding]:
    if config.insecure:
        why = "without TLS and authentication whoever reaches a port may do everything, and runs code on every worker"
        do = "make certificates with `horologe tls init` and `horologe tls issue node`, and take `insecure` out"
        yield Finding("security", Grade.WARNING, "the node is `insecure`", why, do)


# Certificates


def examine_certificates(config: NodeConfig, now: datetime | None = None) -> tuple[list[Finding], TlsFiles | None]:
    """What there is to say of the node's certificate, and the certificate itself if it can be used."""
    if config.insecure:
        return [], None
    now = now or datetime.now(UTC)
    why = "nodes, workers and clients know a node by its certificate, and turn away one that is not right"
    folder = config.tls_dir or config.data_dir / OWN_CA_FOLDER / Role.NODE
    if config.tls_dir is None and not (folder / CERTIFICATE_FILE).exists():
        text = "there is none; the node makes itself a CA and a certificate when it starts"
        return [Finding("certificate", Grade.OK, text, why)], None
    try:
        files = read_tls_folder(folder, now)
    except TlsError as error:
        return [Finding("certificate", Grade.FAILURE, str(error), why, "see docs/tls.md")], None
    return [
        _owner(config, files, folder, why),
        _expiry(files, folder, now),
        *_authorities(files, now),
        _hosts(config, files),
        _key_mode(folder),
    ], files


def _owner(config: NodeConfig, files: TlsFiles, folder: Path, why: str) -> Finding:
    role, name, *_ = files.identity
    found = f"{folder / CERTIFICATE_FILE} is of {role} {name}, and signed by a CA that is trusted"
    if (role, name) == (Role.NODE, config.name):
        return Finding("certificate", Grade.OK, found, why)
    do = f"make one for this node: `horologe tls issue node {config.name}`"
    return Finding("certificate", Grade.FAILURE, f"{found}; this is node {config.name}", why, do)


def _expiry(files: TlsFiles, folder: Path, now: datetime) -> Finding:
    why = "nobody speaks with a node whose certificate has ended"
    left = files.expires - now
    found = f"it ends on {files.expires:%Y-%m-%d %H:%M} UTC, in {left.days} days"
    if left < EXPIRY_WARNING:
        return Finding("certificate expiry", Grade.WARNING, found, why, f"renew it: `horologe tls rotate {folder}`")
    return Finding("certificate expiry", Grade.OK, found, why)


def _authorities(files: TlsFiles, now: datetime) -> Iterator[Finding]:
    why = "when the CA ends, no certificate that it has signed counts any more"
    try:
        ends = min(each.not_valid_after_utc for each in certificates_in(files.ca_pem))
    except CertificateError:
        return
    found = f"the first CA that is trusted ends on {ends:%Y-%m-%d}"
    if ends <= now:
        do = "take it out of ca.pem if nothing needs it: `horologe tls rotate --drop-old`"
        yield Finding("CA expiry", Grade.WARNING, f"{found}, which is over", why, do)
    elif ends - now < CA_EXPIRY_WARNING:
        do = "begin to replace it now: `horologe tls rotate --ca`"
        yield Finding("CA expiry", Grade.WARNING, found, why, do)
    else:
        yield Finding("CA expiry", Grade.OK, found, why)


def _hosts(config: NodeConfig, files: TlsFiles) -> Finding:
    why = "browsers, and programs that check hosts, want the host of the address among the certificate's names"
    hosts = hosts_in(files.certificate)
    asked = {Address.parse(text).host for text in (config.advertised, config.http_listen) if text}
    missing = sorted(host for host in asked - EVERY_ADDRESS if host not in hosts and not is_loopback(host))
    if missing:
        do = f"issue it with `--host {missing[0]}`: `horologe tls issue node {config.name}`"
        text = f"it is not for {', '.join(missing)}; it has {', '.join(hosts) or 'no host'}"
        return Finding("certificate names", Grade.WARNING, text, why, do)
    return Finding("certificate names", Grade.OK, f"it has {', '.join(hosts) or 'no host'}", why)


def _key_mode(folder: Path) -> Finding:
    why = "who has the key is the node"
    mode = stat.S_IMODE((folder / KEY_FILE).stat().st_mode)
    found = f"{folder / KEY_FILE} has mode {mode:04o}"
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return Finding("certificate key", Grade.WARNING, found, why, f"`chmod 600 {folder / KEY_FILE}`")
    return Finding("certificate key", Grade.OK, found, why)


# Keys of the data


def _keys(config: NodeConfig, is_new: bool) -> Iterator[Finding]:
    why = "without the key-encryption key nobody can read this node's data, not even the node"
    source = key_source_of(config)
    if source.name == "file" and is_new and config.key_file is None and not (config.data_dir / "node.key").exists():
        text = "there is none yet; the node makes node.key in `data_dir` when it starts"
        do = "keep a copy of it somewhere else once it is there"
        yield Finding("encryption key", Grade.OK, text, why, do)
        return
    folder = config.data_dir / "state"
    try:
        if (folder / KEYRING_FILE).exists():
            keyring = Keyring(folder, source, lambda: 0)
            keyring.open()
            text = f"{len(keyring.entries)} data keys unwrap with that of the {source.name}, {source.current}"
        else:
            source.reload()
            text = f"that of the {source.name} is {source.current}"
    except StoreError as error:
        do = f"bring the right key back (`key_file`, `key_command` or {KEY_ENVIRONMENT}): see docs/encryption.md"
        yield Finding("encryption key", Grade.FAILURE, str(error), why, do)
        return
    yield Finding("encryption key", Grade.OK, text, why)


def _pinned(library: str) -> str:
    """The only version of it that the program takes."""
    try:
        needed = importlib.metadata.requires("horologe") or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    found = (re.fullmatch(rf"{library}==([\w.]+)", text.replace(" ", "")) for text in needed)
    return next((match[1] for match in found if match), "")
