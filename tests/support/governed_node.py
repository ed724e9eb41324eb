"""A whole secure node in the test's own process, alone on loopback with a CA of its own, and its first administrator's token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from horologe.chaos.cluster import eventually
from horologe.node.certificates import Identity, Role
from horologe.node.config import NodeConfig
from horologe.node.local_cluster import free_ports
from horologe.node.node import Node
from horologe.node.tls_folder import CA_FILE, CERTIFICATE_FILE, KEY_FILE, CaFolder
from horologe.raft.access import is_secure
from horologe.v1 import audit_service_pb2


@dataclass(slots=True)
class GovernedNode:
    """The node and what is needed to call it."""

    node: Node
    config: NodeConfig
    admin: str
    """The first administrator's token."""
    channel: grpc.aio.Channel
    """To the port for people and programs."""

    def worker_credentials(self, name: str, *queues: str) -> grpc.ChannelCredentials:
        """Of a new worker's certificate, for the workers' port."""
        folder = self.config.data_dir / "workers" / name
        CaFolder.open(self.config.data_dir / "tls").issue(folder, Identity(Role.WORKER, name, queues))
        ca, key, certificate = ((folder / file).read_bytes() for file in (CA_FILE, KEY_FILE, CERTIFICATE_FILE))
        return grpc.ssl_channel_credentials(ca, key, certificate)

    async def refusals(self) -> list[audit_service_pb2.AuditRecord]:
        """All that was refused, when everything that waits is written down."""
        access = self.node._access
        assert access is not None
        await access.denials.flush_all(20)
        with self.node.context.store.read() as tables:
            found = [audit_service_pb2.AuditRecord.FromString(bytes(raw)) for _, raw in tables.audit.scan()]
        return [record for record in found if not record.allowed]


@asynccontextmanager
async def governed_node(folder: Path, **options: Any) -> AsyncIterator[GovernedNode]:
    """Leads, and has its administrator; gone afterwards."""
    file = folder / "token"
    listens = ("listen", "worker_listen", "peer_listen", "http_listen")
    ports = {option: f"127.0.0.1:{port}" for option, port in zip(listens, free_ports(len(listens)), strict=True)}
    settings = {"drain_seconds": 1.0, "disk_free_bytes_min": 0, **ports, **options}
    config = NodeConfig(name="n1", data_dir=folder / "data", bootstrap_token_file=file, **settings)
    node = Node(config)
    await node.start()
    try:

        async def governed() -> bool:
            with node.context.store.read() as tables:
                return is_secure(tables) and file.exists()

        await eventually(governed, 60, "the cluster has its first administrator")
        credentials = grpc.ssl_channel_credentials((config.data_dir / "tls" / CA_FILE).read_bytes())
        async with grpc.aio.secure_channel(config.listen, credentials) as channel:
            yield GovernedNode(node, config, file.read_text().strip(), channel)
    finally:
        await node.stop()
