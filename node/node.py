"""The composition root: one node, put together. Nobody else knows all the parts.

Tests and `horologe dev` make the same object that `horologe node run` makes, with ports of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from horologe.log.v1 import log_pb2
from horologe.node import encryption_check
from horologe.node.access_control import AccessControl
from horologe.node.admission import MemberRemovedError
from horologe.node.audit_checkpoints import Checkpoints
from horologe.node.background import persistent
from horologe.node.backups import Backups
from horologe.node.barriers import Barriers
from horologe.node.call_meter import CallMeter
from horologe.node.clock import ClusterClock
from horologe.node.config import NodeConfig
from horologe.node.connections import (
    MESSAGE_BYTES_MAX,
    WORKER_MESSAGE_BYTES_MAX,
    api_options,
    handshake_option,
)
from horologe.node.context import NodeContext
from horologe.node.digests import StateDigests
from horologe.node.encryption import Encryption
from horologe.node.forecast_service import Forecasts
from horologe.node.gateway import Gateway
from horologe.node.http.app import make_app
from horologe.node.http.parts import HttpParts
from horologe.node.http.server import HttpServer
from horologe.node.ids import new_uuid
from horologe.node.interceptors import LinearizableInterceptor, MinRevisionInterceptor, UnexpectedErrorInterceptor
from horologe.node.local_calls import LocalCalls
from horologe.node.log_levels import LogLevels
from horologe.node.metrics import Metrics
from horologe.node.metrics_collector import NodeCollector
from horologe.node.notifier import Messenger, Notifier
from horologe.node.output_copies import OutputCopies
from horologe.node.outputs import OutputStore
from horologe.node.peer_access import PeerAccessInterceptor
from horologe.node.peer_outputs import PeerOutputs
from horologe.node.peers import CHANNEL_OPTIONS, PeerNetwork
from horologe.node.planner import LeaderPlanner, PlannerSettings
from horologe.node.proposals import ProposalError, Proposals
from horologe.node.services import SERVICES, Services
from horologe.node.surroundings import Surroundings
from horologe.node.tls import NodeTls, check_tls_versions, identity_of
from horologe.node.tls_folder import CA_FILE, TlsError
from horologe.node.worker_service import WorkerService
from horologe.peer.v1 import peer_service_pb2_grpc
from horologe.raft.access import is_secure
from horologe.raft.core import CoreSettings
from horologe.raft.machine import cluster_id_of
from horologe.raft.model import Code
from horologe.raft.replica import Replica
from horologe.raft.step import Inbox, Outbox
from horologe.raft.store import Store

HOUSEKEEPING_SECONDS = 0.5
NAMING_SECONDS = 2.0
"""So long the first leader of a new cluster waits for members that have not said yet which versions they can apply."""
LEADERLESS_SHARE = 0.3
"""A gateway without a leader for this part of a lease term sends its workers elsewhere, while their leases still hold."""
log = structlog.get_logger(__name__)


class PortInUseError(Exception):
    """The address cannot be bound."""


class NodeRemovedError(Exception):
    """The node was removed from its cluster and has stopped in good order."""


class NodeFailedError(Exception):
    """The node could not be sure of its state and stopped."""


class Node:
    """One node of the cluster, in this process and on this event loop."""

    def __init__(self, config: NodeConfig, surroundings: Surroundings | None = None) -> None:
        """Opens the data folder. Raises StoreError, CorruptLogError, UnfitProgramError, or TlsError about certificates."""
        self.config = config
        self._surroundings = surroundings = surroundings or Surroundings()
        clock, metrics = surroundings.clock, Metrics()
        self._tls = NodeTls.of_node(config)
        self._keyring = surroundings.keyring(config)
        store = self._open_store()
        store.around_commit = metrics.timed_commit(clock.monotonic)
        self._replica = self._make_replica(store)
        self._stepper = surroundings.stepper(self._replica, self._deliver, self._fail, self._stepped)
        self.context = NodeContext(
            config=config,
            clock=ClusterClock(clock, lambda: self._replica.status.clock_correction_ms),
            store=store,
            proposals=Proposals(
                config.name,
                clock,
                lambda commands: self._stepper.submit(Inbox(commands=commands)),
                metrics.commit_latency.observe,
            ),
            metrics=metrics,
            digests=StateDigests(clock),
            status=lambda: self._replica.status,
            submit=self._stepper.submit,
            randomness=surroundings.randomness,
            client_addresses={config.name: config.advertised},
            worker_addresses={config.name: config.worker_advertised},
            certificate_expires_ms=self._certificate_expires_ms,
            started_ms=clock.wall_ms(),
        )
        self.context.observations.begin(self.context.clock.wall_ms())
        self.outputs = OutputStore(
            config.data_dir / "outputs",
            self.context.clock,
            retention_days=config.output_retention_days,
            cipher=store.cipher,
        )
        self._encryption = Encryption(self.context, self._keyring, self.outputs)
        self._peers = PeerNetwork(
            self.context,
            self._stepper.install,
            PeerOutputs(self.context, self.outputs),
            self._fail,
            surroundings,
            self._tls,
            self._keyring,
        )
        self._copies = OutputCopies(self.context, self.outputs, self._peers.stub_of)
        self._access = AccessControl.of(self.context, identity_of)
        self.gateway = Gateway(
            self.context, self.outputs, self._copies, None if self._access is None else self._access.denials.note
        )
        self._checkpoints = Checkpoints(self.context)
        self.context.tracing = surroundings.tracing(store, self.context.clock, config, metrics)
        self._sender = surroundings.sender(config)
        self._messenger = Messenger(self.context, self._sender)
        metrics.add(NodeCollector(self.context, self.gateway, self._access, self._tls))
        self._forecasts = Forecasts(self.context)
        self._backups = Backups(self.context, self._keyring.source)
        self._levels = LogLevels(clock.monotonic)
        self._health = health.aio.HealthServicer()
        self._failure: asyncio.Future[BaseException] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._servers: list[grpc.aio.Server] = []
        self._http: HttpServer | None = None

    def _certificate_expires_ms(self) -> int:
        return 0 if self._tls is None else int(self._tls.files.expires.timestamp() * 1000)

    def _make_replica(self, store: Store) -> Replica:
        config, surroundings = self.config, self._surroundings
        planner = LeaderPlanner(
            PlannerSettings(
                lease_term_seconds=config.lease_term_ms / 1000,
                clock_drift=config.clock_drift,
                history_retention_seconds=config.history_retention_days * 86_400,
                audit_retention_seconds=config.audit_retention_days * 86_400,
            ),
            surroundings.randomness,
        )
        settings = CoreSettings(
            name=config.name,
            members=() if config.join else tuple(member.name for member in config.members),
            heartbeat_ms=config.heartbeat_ms,
            election_timeout_ms_min=config.election_timeout_ms_min,
            election_timeout_ms_max=config.election_timeout_ms_max,
            commit_notice_ms=min(config.pulse_ms, config.heartbeat_ms),
        )
        return Replica(
            store,
            settings,
            planner,
            surroundings.randomness,
            surroundings.clock.monotonic(),
            pulse_seconds=config.pulse_ms / 1000,
            log_entries_kept=config.log_entries_kept,
            peer_address=config.peer_advertised,
            machine=surroundings.machine,
            protections=surroundings.protections,
            clock_skew_ms_max=config.clock_skew_ms_max,
            version_settle_seconds=config.version_settle_seconds,
        )

    def _open_store(self) -> Store:
        """The node's state, after a look at whether it is whole, and whether what is written comes to the disk encrypted."""
        config, surroundings = self.config, self._surroundings
        store = surroundings.open_store(config, self._keyring)
        try:
            store.check()
            with store.read() as tables:
                surroundings.machine.program.check(tables)
            _check_openness(store, config)
            encryption_check.prove(
                config.data_dir / "check", self._keyring, surroundings.clock, lambda: surroundings.keyring(config)
            )
        except BaseException:
            store.close()
            raise
        return store

    async def start(self) -> None:
        """Binds the ports and begins to step. Raises PortInUseError, or TlsError."""
        self._failure = asyncio.get_running_loop().create_future()
        self.context.store.report = self._fail_from_anywhere
        config, workers = self.config, WorkerService(self.context, self.gateway)
        if self._tls is None:
            self._bind(self._api_server(workers, WORKER_MESSAGE_BYTES_MAX), "listen", None)
            self._bind(self._peer_server(), "peer_listen", None)
        else:
            for_anybody = self._tls.server_credentials(client_certificates=False)
            # No worker gets as far as the stream there: that takes a certificate, and nobody is asked for one.
            port = self._bind(self._api_server(workers, MESSAGE_BYTES_MAX), "listen", for_anybody)
            for_workers = self._api_server(workers, WORKER_MESSAGE_BYTES_MAX)
            for server, option in ((for_workers, "worker_listen"), (self._peer_server(), "peer_listen")):
                self._bind(server, option, self._tls.server_credentials(client_certificates=True))
        if config.http_listen:
            self._http = self._http_server(workers)
        self._stepper.start()
        for server in self._servers:
            await server.start()
        if self._http is not None:
            await self._http.start()
        self._peers.start()
        work: list[Callable[[], Coroutine[Any, Any, None]]] = [
            self._keep_house,
            self._name_the_cluster,
            self.outputs.keep_retention,
            self._copies.pay_debts,
            self._encryption.keep,
            self._checkpoints.keep_telling,
            Notifier(self.context, self._messenger).keep_telling,
        ]
        if self._access is not None:
            work += self._access.background()
        if self._tls is not None:
            work.append(self._tls.keep)
        self._tasks = [asyncio.create_task(persistent(each), name=each.__qualname__) for each in work]
        if self._tls is None:
            log.warning(
                "INSECURE: no TLS, and nobody is asked who they are: whoever reaches the ports of this node may do everything, "
                "and runs code on every worker",
                option="insecure",
            )
            log.info("node started", listen=config.listen, peer_listen=config.peer_listen)
            return
        log.info(
            "node started",
            listen=config.listen,
            worker_listen=config.worker_listen,
            peer_listen=config.peer_listen,
            ca_file=str(self._tls.folder / CA_FILE),
        )
        await asyncio.to_thread(check_tls_versions, config.listen, port)

    async def wait_failed(self) -> None:
        """Returns never, or raises NodeFailedError or NodeRemovedError."""
        assert self._failure is not None
        error = await asyncio.shield(self._failure)
        if isinstance(error, MemberRemovedError):
            raise NodeRemovedError(str(error)) from error
        raise NodeFailedError(str(error) or type(error).__name__) from error

    async def stop(self, drain_seconds: float | None = None) -> None:
        """Leaves in good order: answers what is under way, hands the leadership over, then ends."""
        drain_seconds = self.config.drain_seconds if drain_seconds is None else drain_seconds
        self.context.is_draining = True
        removed = self.context.removed.is_set()
        failed = self._failure is not None and self._failure.done() and not removed
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        if not failed:
            if not removed:
                with suppress(TimeoutError):
                    async with asyncio.timeout(drain_seconds):
                        await self._hand_over()
            self.gateway.end_sessions(self.gateway.numbers(), "the node stops: connect to another one")
        self.context.stopping.set()
        if self._http is not None:
            await self._http.stop()
        # The peers' port goes last: without it nothing that is written now would come back.
        for server in self._servers[:-1]:
            await server.stop(0 if failed else min(1.0, drain_seconds))
        if self._access is not None and not failed:
            await self._access.stop()
        for server in self._servers[-1:]:
            await server.stop(0 if failed else min(1.0, drain_seconds))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._sender.close()
        await self._copies.stop()
        await self._peers.stop()
        await asyncio.to_thread(self._stepper.stop)
        await self.context.digests.stop()
        await self._forecasts.stop()
        self._levels.undo_all()
        if self.context.tracing is not None:
            await asyncio.to_thread(self.context.tracing.stop)
        self.outputs.close()
        if not failed:
            self._checkpoints.tell()
            self.context.store.close()
        log.info("node stopped")

    # After each step

    def _stepped(self, began: float, ended: float, *, wrote: bool) -> None:
        """On the thread that steps."""
        self.context.metrics.stepped(began, ended, wrote=wrote)
        self._replica.step_took(ended - began)

    def _deliver(self, outbox: Outbox) -> None:
        self._peers.deliver(outbox)
        proposals, gateway = self.context.proposals, self.gateway
        if outbox.checkpoints:
            self.context.digests.take(outbox.checkpoints)
        if outbox.results:
            proposals.resolve(outbox.results)
        if outbox.refused:
            proposals.refuse(outbox.refused)
            self.context.metrics.refused_writes.inc(sum(overloaded for _, overloaded in outbox.refused))
        if outbox.leader_changed:
            status = self._replica.status
            log.info("leader", leader=status.leader, term=status.term)
            proposals.resend(leader_changed=True)
        if outbox.resealed is not None:
            self._encryption.resealed(outbox.resealed)
        if outbox.state_replaced:
            gateway.resync()
            self.context.observations.begin(self.context.clock.wall_ms())
        changed: list[int] = []
        for effects in outbox.effects:
            gateway.deliver(effects)
            if self.context.changes:
                changed += effects.changed
        self.context.observations.note(outbox.effects)
        if self.context.tracing is not None and self._replica.status.is_leader:
            self.context.tracing.note(outbox.effects)
        if outbox.renewed:
            gateway.renewed(outbox.renewed)
        if outbox.gone:
            gateway.end_sessions(outbox.gone, "the session is over: connect again")
        if changed:
            for queue in self.context.changes:
                queue.put_nowait(changed)
        if outbox.effects or outbox.state_replaced:
            self.context.wake_readers()

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, MemberRemovedError):
            self.context.removed.set()
            log.warning("this node was removed from the cluster and stops", reason=str(error))
        else:
            log.critical("the node cannot be sure of its state and stops", error=str(error), exc_info=error)
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(error)

    def _fail_from_anywhere(self, error: BaseException) -> None:
        if self._failure is not None:
            self._failure.get_loop().call_soon_threadsafe(self._fail, error)

    # In the background

    async def _keep_house(self) -> None:
        serving: bool | None = None
        leader_seen_at = self.context.clock.monotonic()
        while True:
            self.context.proposals.resend(leader_changed=False)
            has_leader = bool(self._replica.status.leader)
            now = self.context.clock.monotonic()
            if has_leader:
                leader_seen_at = now
            elif now - leader_seen_at > self.config.lease_term_ms * LEADERLESS_SHARE / 1000:
                # Nobody renews leases here; another node may still reach the leader.
                self.gateway.end_sessions(self.gateway.numbers(), "this node finds no leader: try another one")
            if has_leader is not serving:
                serving = has_leader
                state = health_pb2.HealthCheckResponse
                await self._set_health(state.SERVING if serving else state.NOT_SERVING)
            await asyncio.sleep(HOUSEKEEPING_SECONDS)

    async def _name_the_cluster(self) -> None:
        """The first entry of a new cluster gives it its identity. Whoever comes first wins; the others find it named.

        It begins with the version of the newest program if all members can apply it; if some are not there to say so after a
        while, with the one before.
        """
        versions = self._surroundings.machine.program.versions
        patient_until = 0.0
        while True:
            with self.context.store.read() as tables:
                if cluster_id_of(tables):
                    return
            if self._replica.status.may_serve:
                now = self.context.clock.monotonic()
                patient_until = patient_until or now + NAMING_SECONDS
                if not await self._propose_name(versions.newest) and now >= patient_until:
                    await self._propose_name(versions.oldest)
            await asyncio.sleep(0.05)

    async def _propose_name(self, version: int) -> bool:
        """False if members are in the way of this version; otherwise the cluster has a name, or will have one, or none leads."""
        name = str(new_uuid(self.context.randomness))
        command = log_pb2.Command(bootstrap=log_pb2.Bootstrap(cluster_id=name, version=version))
        with suppress(ProposalError):
            return (await self.context.proposals.propose(command, 5.0)).code is not Code.VERSION_NOT_READY
        return True

    async def _hand_over(self) -> None:
        await self.gateway.drained()
        status = self._replica.status
        while status.is_leader and len(status.configuration.voters) > 1 and status.connected:
            self._stepper.submit(Inbox(transfer_to=""))
            for _ in range(100):
                await asyncio.sleep(0.01)
                status = self._replica.status
                if not status.is_leader:
                    break

    async def _set_health(self, state: Any) -> None:
        for name in ("", *SERVICES):
            await self._health.set(name, state)

    def _bind(self, server: grpc.aio.Server, option: str, credentials: grpc.ServerCredentials | None) -> int:
        address = getattr(self.config, option)
        self._servers.append(server)
        try:
            if credentials is None:
                return server.add_insecure_port(address)
            return server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise _not_bound(address, option) from error

    def _http_server(self, workers: WorkerService) -> HttpServer:
        calls = LocalCalls(self._interceptors())
        self._services(workers).add_to(calls)
        try:
            return HttpServer(make_app(HttpParts(self.context, calls)), self.config.http_listen, self._tls)
        except OSError as error:
            raise _not_bound(self.config.http_listen, "http_listen") from error

    def _peer_server(self) -> grpc.aio.Server:
        interceptors = [PeerAccessInterceptor(self._peers.peers, self.context.clock)] if self._tls is not None else []
        options = [*CHANNEL_OPTIONS, handshake_option(), ("grpc.so_reuseport", 0)]
        server = self._surroundings.server(interceptors, options)
        peer_service_pb2_grpc.add_PeerServiceServicer_to_server(self._peers, server)
        return server

    def _interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        """What every call passes, from the outermost on."""
        return [
            UnexpectedErrorInterceptor(),
            CallMeter(self.context.metrics),
            *(self._access.outer if self._access is not None else ()),
            # Nobody makes traces who is not known.
            *(self.context.tracing.guards() if self.context.tracing is not None else ()),
            MinRevisionInterceptor(self.context),
            LinearizableInterceptor(Barriers(self.context.proposals)),
            *(self._access.inner if self._access is not None else ()),
        ]

    def _services(self, workers: WorkerService) -> Services:
        return Services(
            self.context,
            self.outputs,
            self._peers.stub_of,
            workers,
            self._checkpoints,
            self._encryption,
            self._messenger,
            self._forecasts,
            self._backups,
            self._levels,
        )

    def _api_server(self, workers: WorkerService, message_bytes_max: int) -> grpc.aio.Server:
        server = self._surroundings.server(self._interceptors(), api_options(message_bytes_max))
        self._services(workers).add_to(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        return server


def _not_bound(address: str, option: str) -> PortInUseError:
    return PortInUseError(
        f"{address} cannot be bound: another process has it, or it is no address of this machine; "
        f"change `{option}`, or stop that process"
    )


def _check_openness(store: Store, config: NodeConfig) -> None:
    """What was written under the protection of rights is not shown to everybody because of one word. Raises TlsError."""
    with store.read() as tables:
        if config.insecure and is_secure(tables):
            raise TlsError(
                f"insecure: {config.data_dir} is of a secure cluster, and without security everybody could read it and run its "
                "jobs; start without `insecure`, or with another `data_dir`"
            )


async def run_node(
    config: NodeConfig,
    stop_requested: asyncio.Event,
    started: Callable[[Node], None],
    surroundings: Surroundings | None = None,
) -> None:
    """Runs a node until `stop_requested` is set.

    Raises NodeFailedError if it had to stop by itself, NodeRemovedError if the cluster goes on without it.
    """
    node = Node(config, surroundings)
    try:
        await node.start()
        started(node)
        waiters = [asyncio.create_task(node.wait_failed()), asyncio.create_task(stop_requested.wait())]
        done, pending = await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        for task in done:
            task.result()
    finally:
        await node.stop()
