"""A cluster on this machine, each node a process of its own, for `horologe dev`, benchmarks and tests.

D/context.toml        what a client needs (HOROLOGE_CONTEXT)
D/tls/                of a secure cluster: its CA (ca.pem, ca.key), and certificates: nodes/n1/, workers/w1/, workers/dev/
D/admin.token         of a secure cluster, once it runs: who has it may do everything
D/n1/node.toml        the node's configuration: `horologe node run --config D/n1/node.toml` restarts it by hand
D/n1/node.pid         while it runs
D/n1/node.log         what it says

The folder may be moved while nothing runs, and taken up again however long after.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from horologe.client import own_program
from horologe.node.certificates import Role, checked_identity
from horologe.node.config import PID_FILE
from horologe.node.tls import OWN_HOSTS, OWN_RENEWAL
from horologe.node.tls_folder import CA_FILE, CERTIFICATE_FILE, CaFolder, expiry_of
from horologe.raft.store import is_in_use

CLIENT_PORT = 7400
PEER_PORT = 7500
WORKER_PORT = 7600
HTTP_PORT = 7700
"""Ports are these plus the node's number, or any free ones if these are taken."""
TLS_FOLDER = "tls"
POOL_NAME = "dev"
"""Whoever has the context may start workers called so, and with something behind a `-`."""
TOKEN_FILE = "admin.token"
"""The first administrator's token, as soon as a node has written it."""
SPARE_PORTS = (10_000, 30_000)
STOP_SECONDS = 20.0
COMMAND = own_program.command()


@dataclass(slots=True)
class LocalProcess:
    """A process of ours with its folder and log."""

    name: str
    folder: Path
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    """Words before the command, of a program that becomes it: `ip netns exec NAME`."""
    command: tuple[str, ...] = COMMAND
    """The program, which takes the arguments of `horologe`."""
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, unless it runs: a second process would be one that nobody ends."""
        if self.is_running:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{self.log_name}").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, *self.command, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                # Not in our group: a Ctrl-C is ours to handle, so that everything ends in good order.
                start_new_session=True,
            )

    @property
    def log_name(self) -> str:
        return "worker.log" if self.arguments[0] == "worker" else "node.log"

    @property
    def pid(self) -> int:
        if self.process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        if self.is_running:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """SIGTERM; answers the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait_stopped()

    def wait_stopped(self) -> int:
        if self.process is None:
            return 0
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return -int(signal.SIGKILL)

    def last_words(self, lines: int = 5) -> str:
        with suppress(OSError):
            return "\n".join((self.folder / self.log_name).read_text(errors="replace").splitlines()[-lines:])
        return ""


@dataclass(frozen=True, slots=True)
class NodeAddresses:
    """Where one node listens, and where the others look for it. Each is `host:port`."""

    listen: str
    peer_listen: str
    peer_address: str
    worker_listen: str = ""
    """Of a secure node; empty: any free port on loopback."""
    http_listen: str = ""
    """Empty: it shows no pages."""

    @classmethod
    def on_loopback(cls, client_port: int, peer_port: int, worker_port: int = 0, http_port: int = 0) -> NodeAddresses:
        peer_listen = f"127.0.0.1:{peer_port}"
        worker_listen = f"127.0.0.1:{worker_port}" if worker_port else ""
        http_listen = f"127.0.0.1:{http_port}" if http_port else ""
        return cls(f"127.0.0.1:{client_port}", peer_listen, peer_listen, worker_listen, http_listen)


@dataclass(slots=True)
class LocalCluster:
    """Nodes n1, n2, ... in one folder, found again by the files in it."""

    folder: Path
    nodes: list[LocalProcess]
    addresses: list[str]

    @classmethod
    def prepare(
        cls,
        folder: Path,
        count: int,
        options: Mapping[str, str | int | float] | None = None,
        *,
        usual_ports: bool = True,
        places: Sequence[NodeAddresses] = (),
        secure: bool = False,
    ) -> LocalCluster:
        """Writes the files, or takes those that are there from an earlier run. `options` are more lines of node.toml.

        `usual_ports=False`: any free ones, so that clusters beside each other stay apart even while nodes are down.
        `places`: where the nodes are, one for each, if not on loopback. `secure`: with a CA and certificates for everybody;
        without, the nodes are insecure.
        """
        folder.mkdir(parents=True, exist_ok=True)
        folder = folder.resolve()
        # What began without security has none: its nodes' files say so.
        if secure and not (folder / TLS_FOLDER).exists() and not (folder / "n1" / "node.toml").exists():
            CaFolder.create(folder / TLS_FOLDER)
        _renew_certificates(folder / TLS_FOLDER)
        places = places or [NodeAddresses.on_loopback(*ports) for ports in _ports(count, usual=usual_ports)]
        names = [f"n{number}" for number in range(1, count + 1)]
        members = dict(zip(names, places, strict=True))
        for name in names:
            path = folder / name / "node.toml"
            path.parent.mkdir(exist_ok=True)
            if not path.exists():
                path.write_text(
                    _node_toml(name, members, {**_security_of(folder, name, members[name]), **(options or {})})
                )
        nodes = [_node_process(folder / name) for name in names]
        cluster = cls(folder, nodes, [option_of(node, "listen") for node in nodes])
        cluster._write_context()
        return cluster

    def next_name(self) -> str:
        """A name that no node of this folder has had."""
        numbers = [int(path.name[1:]) for path in self.folder.glob("n*") if path.name[1:].isdigit()]
        return f"n{max(numbers, default=0) + 1}"

    def new_node(
        self,
        name: str,
        options: Mapping[str, str | int | float] | None = None,
        place: NodeAddresses | None = None,
    ) -> LocalProcess:
        """Writes the files of a node that is to join.

        It finds the cluster by the present nodes. It is not started, not added to the cluster, and not one of `nodes` before
        `take_in`.
        """
        members = {
            node.name: NodeAddresses(
                option_of(node, "listen"), option_of(node, "peer_listen"), option_of(node, "peer_listen")
            )
            for node in self.nodes
        }
        members[name] = place or NodeAddresses.on_loopback(*_ports(1, usual=False)[0])
        folder = self.folder / name
        folder.mkdir()
        security = _security_of(self.folder, name, members[name])
        (folder / "node.toml").write_text(_node_toml(name, members, {**security, **(options or {}), "join": True}))
        return _node_process(folder)

    def take_in(self, node: LocalProcess) -> None:
        """From now on it is one of the nodes, and clients are told of it."""
        self.nodes.append(node)
        self.addresses.append(option_of(node, "listen"))
        self._write_context()

    def leave_out(self, name: str) -> None:
        """It is no node of the cluster any more. Its process and its folder are left as they are."""
        position = [node.name for node in self.nodes].index(name)
        del self.nodes[position], self.addresses[position]
        self._write_context()

    def _write_context(self) -> None:
        lines = [f"addresses = {json.dumps(self.addresses)}", 'namespace = "default"']
        if self.is_secure:
            lines += [
                f"worker_addresses = {json.dumps([option_of(node, 'worker_listen') for node in self.nodes])}",
                f"ca_file = {json.dumps(str(self.folder / TLS_FOLDER / CA_FILE))}",
                f"token_file = {json.dumps(str(self.folder / TOKEN_FILE))}",
                f"tls_dir = {json.dumps(str(self.certificate(Role.WORKER, POOL_NAME)))}",
            ]
        else:
            lines.append("insecure = true")
        self.context_file.write_text("\n".join(lines) + "\n")

    @property
    def is_secure(self) -> bool:
        """Whether it has TLS, and asks everybody who they are."""
        return (self.folder / TLS_FOLDER).exists()

    def certificate(self, role: Role, name: str, queues: Sequence[str] = ()) -> Path:
        """The folder with somebody's certificate, made if there is none."""
        out = self.folder / TLS_FOLDER / f"{role}s" / name
        if not out.exists():
            CaFolder.open(self.folder / TLS_FOLDER).issue(out, checked_identity(role, name, queues))
        return out

    @property
    def context_file(self) -> Path:
        return self.folder / "context.toml"

    def start(self) -> None:
        for node in self.nodes:
            node.start()

    def stop(self) -> list[int]:
        """Stops all nodes in good order; answers their exit codes."""
        for node in self.nodes:
            node.signal(signal.SIGTERM)
        return [node.wait_stopped() for node in self.nodes]

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def worker(self, name: str, *arguments: str, config: str = "") -> LocalProcess:
        """A worker in this cluster's folder, not started; `config` is the text of its worker.toml."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "worker.toml").write_text(config)
        own = ["--context", str(self.context_file), "--config", str(folder / "worker.toml"), "--name", name]
        if self.is_secure:
            own += ["--tls-dir", str(self.certificate(Role.WORKER, name))]
        return LocalProcess(name, folder, ("worker", "run", *own, *arguments))


def running_in(folder: Path) -> tuple[str, ...]:
    """The nodes of a folder that run, each with its process if that is known: `n1 (process 4711)`."""
    return tuple(_with_process(path.parent) for path in sorted(folder.glob("n*/state")) if is_in_use(path))


def count_in(folder: Path) -> int:
    """How many nodes the cluster of a folder began with; 0 if there is none."""
    for path in sorted(folder.glob("n*/node.toml")):
        return len(tomllib.loads(path.read_text())["members"])
    return 0


def _with_process(folder: Path) -> str:
    with suppress(OSError):
        return f"{folder.name} (process {(folder / PID_FILE).read_text().strip()})"
    return folder.name


def _node_toml(name: str, members: Mapping[str, NodeAddresses], options: Mapping[str, str | int | float]) -> str:
    own = members[name]
    listens = {"listen": own.listen, "peer_listen": own.peer_listen, "http_listen": own.http_listen}
    values = {"name": name, "data_dir": ".", **listens, **options}
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    for member, addresses in members.items():
        lines += ["", "[[members]]", f'name = "{member}"', f'peer_address = "{addresses.peer_address}"']
    return "\n".join(lines) + "\n"


def _security_of(folder: Path, name: str, addresses: NodeAddresses) -> dict[str, str | int | float]:
    """A node's options, and if the cluster is secure its certificate."""
    tls = folder / TLS_FOLDER
    if not tls.exists():
        return {"insecure": True}
    out = tls / "nodes" / name
    CaFolder.open(tls).issue(out, checked_identity(Role.NODE, name), OWN_HOSTS)
    worker_listen = addresses.worker_listen or f"127.0.0.1:{free_port()}"
    return {
        # From the file's folder on, so that all of it may be moved.
        "tls_dir": os.path.relpath(out, folder / name),
        "worker_listen": worker_listen,
        "bootstrap_token_file": os.path.relpath(folder / TOKEN_FILE, folder / name),
    }


def _renew_certificates(tls: Path) -> None:
    """Those that end soon: a folder may lie for a long time before somebody starts its cluster again."""
    for certificate in sorted(tls.glob(f"*/*/{CERTIFICATE_FILE}")):
        if expiry_of(certificate.parent) - datetime.now(UTC) < OWN_RENEWAL:
            CaFolder.open(tls).renew(certificate.parent)


def _node_process(folder: Path) -> LocalProcess:
    return LocalProcess(folder.name, folder, ("node", "run", "--config", str(folder / "node.toml")))


def option_of(node: LocalProcess, option: str, default: str | None = None) -> str:
    """What a node's file says. Raises KeyError if it says nothing, and there is no default."""
    options = tomllib.loads((node.folder / "node.toml").read_text())
    return str(options[option] if default is None else options.get(option, default))


def listen_of(node: LocalProcess) -> str:
    """Where clients and workers reach a node, as its file says."""
    return option_of(node, "listen")


def peer_address_of(node: LocalProcess) -> str:
    """Where the other members reach a node, as its file says."""
    return option_of(node, "peer_listen")


def _ports(count: int, *, usual: bool) -> list[tuple[int, ...]]:
    """Ports for clients, peers, workers and pages, of each node: the usual ones if they are wanted and all are free.

    Others are taken from below the range that the kernel gives to outgoing connections, so that a node that was killed
    finds its port free when it comes back.
    """
    bases = (CLIENT_PORT, PEER_PORT, WORKER_PORT, HTTP_PORT)
    usual_ones = [tuple(base + number for base in bases) for number in range(1, count + 1)]
    if usual and all(_is_free(port) for ports in usual_ones for port in ports):
        return usual_ones
    found = free_ports(len(bases) * count)
    return list(zip(*(found[kind * count : (kind + 1) * count] for kind in range(len(bases))), strict=True))


def free_ports(count: int) -> list[int]:
    """So many different ports on loopback that nobody has at the moment."""
    found: list[int] = []
    while len(found) < count:
        port = free_port()
        if port not in found:
            found.append(port)
    return found


def free_port() -> int:
    """A port on loopback that nobody has at the moment."""
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(*SPARE_PORTS)
        if _is_free(port):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
