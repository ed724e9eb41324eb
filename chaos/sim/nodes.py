"""A simulated node: the real `Node` on a simulated machine, over any number of lives.

The machine keeps its folder, its clocks and its disk; a life is a process. What a node is made of is in node/node.py; here is
only what its surroundings are.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import grpc.aio

from horologe.chaos.sim.clocks import SimClock
from horologe.chaos.sim.disk import SimDisk, SimStore
from horologe.chaos.sim.observer import InvariantBrokenError, Observer, WatchedMachine
from horologe.chaos.sim.outside import SimSender
from horologe.chaos.sim.process import Process
from horologe.chaos.sim.rpc_client import SimChannel
from horologe.chaos.sim.rpc_server import SimServer
from horologe.chaos.sim.stepper import SimStepper
from horologe.node.channels import Sender
from horologe.node.config import MemberConfig, NodeConfig
from horologe.node.key_sources import key_source_of
from horologe.node.keyring import Keyring
from horologe.node.node import Node, run_node
from horologe.node.state_stream import through_a_file
from horologe.node.stepper import Stepped, Stepper
from horologe.node.surroundings import Options, Surroundings
from horologe.raft.core import Protections
from horologe.raft.machine import StateMachine
from horologe.raft.replica import Replica
from horologe.raft.step import Outbox, Status
from horologe.raft.store import Store

if TYPE_CHECKING:
    from horologe.chaos.sim.world import World


class SimNode:
    """One machine of the cluster."""

    def __init__(self, world: World, config: NodeConfig, clock: SimClock, randomness: random.Random) -> None:
        self.name = config.name
        self.config = config
        self.clock = clock
        self.disk = SimDisk(random.Random(randomness.getrandbits(64)))
        self.disk.happened = lambda fault: world.count(fault.value)
        self.make_machine: Callable[[str, Observer], StateMachine] = WatchedMachine
        """For scenarios: the program that its next life runs."""
        self.process: Process | None = None
        self.node: Node | None = None
        self.store: SimStore | None = None
        self.failure: BaseException | None = None
        """Why it stopped by itself, if it did."""
        self.is_damaged = False
        """Its file was changed behind its back: it must not start."""
        self._world = world
        self._random = randomness
        self._stop_requested: asyncio.Event | None = None
        self._replica: Replica | None = None
        self._protection_counts: Counter[str] = Counter()
        self._folder_id = f"{randomness.getrandbits(64):016x}"

    @property
    def is_up(self) -> bool:
        """Whether a process runs (it may stand still)."""
        return self.process is not None and self.process.is_alive

    @property
    def status(self) -> Status | None:
        """How the replica stands; None while no process runs."""
        return self.node.context.status() if self.is_up and self.node is not None else None

    def start(self) -> None:
        """Begins a life on what the folder holds."""
        assert not self.is_up, f"{self.name} runs already"
        self._protection_counts = self.all_protection_counts()
        self._replica = None
        self.failure = None
        self.node = None
        process = self.process = self._world.new_process(self.name, self.clock)
        surroundings = _SimSurroundings(self._world, self, process, random.Random(self._random.getrandbits(64)))
        process.on_end.append(self._close_files)
        self._stop_requested = asyncio.Event()
        process.start(self._live(process, surroundings, self._stop_requested))

    def kill(self, *, silently: bool = False) -> None:
        """SIGKILL; `silently`: the whole machine goes dark, and nobody tells the others."""
        if self.process is not None and self.process.is_alive:
            process = self.process
            process.kill()
            self._world.network.process_ended(process, silently=silently)

    def stop(self) -> None:
        """SIGTERM: it leaves in good order."""
        process, requested = self.process, self._stop_requested
        if process is not None and requested is not None:
            process.deliver(requested.set)

    async def _live(self, process: Process, surroundings: Surroundings, stop_requested: asyncio.Event) -> None:
        try:
            await run_node(self.config, stop_requested, self._started, surroundings)
        except InvariantBrokenError:
            raise
        except Exception as error:  # noqa: BLE001 - the node stops, and the world hears why
            self.failure = error
            self._world.node_stopped(self, error)
        if process.is_alive:
            process.kill()
            self._world.network.process_ended(process, silently=False)

    def lose_folder(self) -> None:
        """What was on its disk is gone; the next life begins with an empty folder."""
        assert not self.is_up, f"{self.name} still runs"
        shutil.rmtree(self.config.data_dir, ignore_errors=True)
        self.store = None
        self._folder_id = f"{self._random.getrandbits(64):016x}"

    def stepped(self, replica: Replica) -> None:
        """A step of the life that runs is done."""
        self._replica = replica
        self._world.stepped(self, replica)

    def all_protection_counts(self) -> Counter[str]:
        """How often each protection of the Raft core acted, over all lives."""
        return self._protection_counts + (self._replica.protection_counts if self._replica is not None else Counter())

    def _started(self, node: Node) -> None:
        self.node = node
        if self.is_damaged:
            self._world.problem(InvariantBrokenError("damage is noticed", f"{self.name} started on a damaged file"))

    def _close_files(self) -> None:
        if self.store is not None:
            self.store.crash()
        if self.node is not None:
            self.node.outputs.close()

    def make_store(self, config: NodeConfig, keyring: Keyring) -> SimStore:
        store = SimStore(
            config.data_dir / "state",
            config.name,
            self.disk,
            lambda index, term, checksum: self._world.observer.logged(self.name, index, term, checksum),
            bytes_max=config.store_bytes_max,
            id_=self._folder_id,
            open_cipher=keyring.open,
        )
        store.settled = lambda durable: self._world.observer.settled(self.name, durable)
        self.store = store
        return store


class _SimSurroundings(Surroundings):
    """See node.surroundings; one life of one node."""

    def __init__(self, world: World, node: SimNode, process: Process, randomness: random.Random) -> None:
        self.clock = node.clock
        self.randomness = randomness
        self._key_randomness = random.Random(randomness.getrandbits(64))
        self.state_pieces = through_a_file
        self.machine = node.make_machine(node.name, world.observer)
        self.protections = world.options.protections or Protections()
        self._world = world
        self._node = node
        self._process = process

    def keyring(self, config: NodeConfig) -> Keyring:
        """The trace of a seed must not depend on chance, and states that are sent are in it."""
        source = key_source_of(config)
        return Keyring(config.data_dir / "state", source, self.clock.wall_ms, self._key_randomness.randbytes)

    def open_store(self, config: NodeConfig, keyring: Keyring) -> Store:
        return self._node.make_store(config, keyring)

    def stepper(
        self,
        replica: Replica,
        deliver: Callable[[Outbox], None],
        failed: Callable[[BaseException], None],
        stepped: Stepped,
    ) -> Stepper:
        del stepped  # A step takes no time here.
        stepper = SimStepper(
            self._process,
            self._world.timeline,
            self._node.disk,
            replica,
            deliver,
            failed,
            self._node.stepped,
            lambda: self._world.count("snapshots installed"),
            partial(self._node.kill, silently=True),
        )
        return cast("Stepper", stepper)

    def server(self, interceptors: Sequence[Any], options: Options) -> grpc.aio.Server:
        return cast("grpc.aio.Server", SimServer(self._world.rpc, self._process, interceptors))

    def sender(self, config: NodeConfig) -> Sender:
        return SimSender(self._world.outside, config.name)

    def channel(
        self, address: str, options: Options, credentials: grpc.ChannelCredentials | None = None
    ) -> grpc.aio.Channel:
        return cast("grpc.aio.Channel", SimChannel(self._world.rpc, self._process, address))


def node_config(name: str, members: Sequence[str], folder: Path, **options: Any) -> NodeConfig:
    """The configuration of a simulated node."""
    settings: dict[str, Any] = {"store_bytes_max": 64 << 20, "disk_free_bytes_min": 0, "insecure": True} | options
    return NodeConfig(
        name=name,
        data_dir=folder / name,
        listen=f"{name}:7400",
        peer_listen=f"{name}:7500",
        http_listen="",
        members=tuple(MemberConfig(name=member, peer_address=f"{member}:7500") for member in members),
        **settings,
    )
