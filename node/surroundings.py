"""What a node stands on: the clocks, the chance, the disk, the threads and the network of its machine.

The composition root (node.py) takes all of it from here, so that a simulated machine can be put under the same node. No
decisions of the node's own belong here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import grpc

from horologe.node.channels import NetworkSender, Sender
from horologe.node.clock import Clock, process_clock
from horologe.node.config import NodeConfig
from horologe.node.key_sources import key_source_of
from horologe.node.keyring import Keyring
from horologe.node.metrics import Metrics
from horologe.node.state_stream import StatePieces, through_a_pipe
from horologe.node.stepper import Stepped, Stepper
from horologe.raft.core import Protections
from horologe.raft.machine import StateMachine
from horologe.raft.replica import Replica
from horologe.raft.step import Outbox
from horologe.raft.store import Store

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from horologe.node.tracing import Tracing

Options = Sequence[tuple[str, Any]]


class Surroundings:
    """This machine. Each attribute and method is one thing that another machine would do differently."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or process_clock()
        self.randomness = random.Random()  # nosec B311
        """Backoffs, election timeouts, ids: whatever must differ between nodes. Nothing that must not be guessed."""
        self.state_pieces: StatePieces = through_a_pipe
        """How the state is read for another node."""
        self.machine = StateMachine()
        self.protections = Protections()

    def keyring(self, config: NodeConfig) -> Keyring:
        """The node's keys, not read yet."""
        return Keyring(config.data_dir / "state", key_source_of(config), self.clock.wall_ms)

    def open_store(self, config: NodeConfig, keyring: Keyring) -> Store:
        """The node's state. Raises StoreError if it, or its keys, cannot be used."""
        return Store(config.data_dir / "state", config.name, bytes_max=config.store_bytes_max, open_cipher=keyring.open)

    def stepper(
        self,
        replica: Replica,
        deliver: Callable[[Outbox], None],
        failed: Callable[[BaseException], None],
        stepped: Stepped,
    ) -> Stepper:
        """What runs the replica's steps; see stepper.Stepper."""
        return Stepper(replica, self.clock, deliver, failed, stepped)

    def span_exporter(self, config: NodeConfig) -> SpanExporter | None:
        """Where traces go; None: nowhere."""
        if not config.tracing_endpoint:
            return None
        from horologe.node.tracing import otlp_exporter  # Needs OpenTelemetry, which is an extra.

        return otlp_exporter(config)

    def tracing(self, store: Store, clock: Clock, config: NodeConfig, metrics: Metrics) -> Tracing | None:
        """What sends them."""
        exporter = self.span_exporter(config)
        if exporter is None:
            return None
        from horologe.node.tracing import Tracing

        return Tracing(store, clock, config, metrics, exporter)

    def server(self, interceptors: Sequence[grpc.aio.ServerInterceptor], options: Options) -> grpc.aio.Server:
        """A server that listens nowhere yet."""
        return grpc.aio.server(interceptors=interceptors, options=options)

    def sender(self, config: NodeConfig) -> Sender:
        """What carries notifications to those who are not of the cluster."""
        return NetworkSender(config)

    def channel(
        self, address: str, options: Options, credentials: grpc.ChannelCredentials | None = None
    ) -> grpc.aio.Channel:
        """A connection to another node, made when it is first used; in plaintext if there are no credentials."""
        if credentials is None:
            return grpc.aio.insecure_channel(address, options=options)
        return grpc.aio.secure_channel(address, credentials, options=options)
