"""A deterministic world for Raft cores: one clock, a network with faults, nodes that crash. Everything follows from a seed.

The nodes are real cores over real journals, and every message goes through its serialised form. There is no test here, but the
checks that hold in every world are: one leader per term, one entry per index, each applied once per node, nothing lost that was
acknowledged.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from world_network import Network
from world_store import Applied, MemoryStore

from horologe.log.v1 import log_pb2
from horologe.peer.v1 import peer_service_pb2
from horologe.raft.core import CoreSettings, Protections, RaftCore
from horologe.raft.journal import Journal
from horologe.raft.membership import Configuration, to_message

PeerMessage = peer_service_pb2.PeerMessage


class InvariantViolationError(AssertionError):
    """A promise of Raft, or of ours, was broken."""


@dataclass(frozen=True)
class Duties:
    """What the caller of a core must do. Switched off to show what happens when it does not.

    Attributes:
        commit_before_release: Nothing leaves before what it rests on is durable.
        stop_on_failure: An error in a step ends the process without a commit; otherwise the step is tried again.
        outcome_from_apply: A proposal's outcome is told when its index was applied; otherwise losing the leadership is told
            as a failure.
    """

    commit_before_release: bool = True
    stop_on_failure: bool = True
    outcome_from_apply: bool = True


@dataclass
class Node:
    """One life of a node.

    Attributes:
        waiting: Proposals of this life whose outcome is not known: index to (term, payload).
        apply_hook: Called before an entry is applied; may raise.
    """

    name: str
    store: MemoryStore
    core: RaftCore
    waiting: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    apply_hook: Callable[[int, bytes], None] | None = None
    after_apply_hook: Callable[[int, bytes], None] | None = None


class World:
    """A cluster under observation.

    Attributes:
        nodes: The nodes that are alive.
        stores: The disks, also of the dead.
        failures: Nodes that stopped by themselves, with the error.
        acknowledged: Payloads whose proposer was told "done".
        refused: Payloads whose proposer was told "will never happen".
        chosen: index to (term, payload), as first applied anywhere.
        leaders: term to the member that led it.
        snapshots_installed: How often a follower took over another member's state.
    """

    def __init__(
        self,
        names: Iterable[str],
        seed: int = 0,
        protections: Protections | None = None,
        duties: Duties | None = None,
        **settings: Any,
    ) -> None:
        self.names = tuple(names)
        self.beginning = self.names
        self.joining: set[str] = set()
        self.now = 100.0
        self.random = random.Random(seed)
        self.protections = protections or Protections()
        self.duties = duties or Duties()
        self.settings = settings
        self.network = Network()
        self.stores = {name: MemoryStore() for name in self.names}
        self.nodes: dict[str, Node] = {}
        self.failures: list[tuple[str, BaseException]] = []
        self.violations: list[str] = []
        self.acknowledged: set[bytes] = set()
        self.refused: set[bytes] = set()
        self.chosen: dict[int, tuple[int, bytes]] = {}
        self.leaders: dict[int, str] = {}
        self.snapshots_installed = 0
        for name in self.names:
            self.start(name)
        for one, other in self.pairs():
            self.connect(one, other)

    # --- nodes --------------------------------------------------------------------------------------------------------

    def core(self, name: str) -> RaftCore:
        return self.nodes[name].core

    def start(self, name: str) -> Node:
        """Begin a life on what the disk holds. It is connected to nobody."""
        store = self.stores[name]
        journal = Journal(store, guarded=self.protections.journal_guarded)
        core = RaftCore(
            CoreSettings(name=name, members=() if name in self.joining else self.beginning, **self.settings),
            journal,
            lambda index, term, payload: self._applied(name, index, term, payload),
            random.Random(self.random.random()),
            self.now,
            self.protections,
        )
        store.commit()
        self.nodes[name] = Node(name, store, core)
        return self.nodes[name]

    def crash(self, name: str) -> None:
        """End a life as kill -9 or a power cut does: what was not committed is gone."""
        self.nodes.pop(name).store.roll_back()
        self.isolate(name)

    def restart(self, name: str) -> Node:
        """Crash and begin a new life, connected to all."""
        if name in self.nodes:
            self.crash(name)
        node = self.start(name)
        for other in self.nodes:
            if other != name:
                self.connect(name, other)
        return node

    def join(self, name: str) -> None:
        """A new node, which knows of no member, connected to all."""
        self.names += (name,)
        self.joining.add(name)
        self.stores[name] = MemoryStore()
        self.restart(name)

    def change(self, name: str, configuration: Configuration) -> int | None:
        """Propose a configuration in a step of its own."""
        change = log_pb2.ChangeMembership(configuration=to_message(configuration))
        entry = log_pb2.Entry(commands=[log_pb2.Command(change_membership=change)])
        index = self.core(name).propose_configuration(entry.SerializeToString())
        self.nodes[name].store.commit()
        self._release(self.nodes[name])
        return index

    # --- connections --------------------------------------------------------------------------------------------------

    def pairs(self) -> list[tuple[str, str]]:
        return [(one, other) for one in self.names for other in self.names if one < other]

    def connect(self, one: str, other: str) -> None:
        if self.network.is_connected(one, other) or one not in self.nodes or other not in self.nodes:
            return
        self.network.connect(one, other)
        self.core(one).peer_connected(other, self.now)
        self.core(other).peer_connected(one, self.now)
        self._release(self.nodes[one])
        self._release(self.nodes[other])

    def disconnect(self, one: str, other: str) -> None:
        if not self.network.is_connected(one, other):
            return
        self.network.disconnect(one, other)
        for name, peer in ((one, other), (other, one)):
            if name in self.nodes:
                self.core(name).peer_disconnected(peer, self.now)

    def isolate(self, name: str) -> None:
        for other in self.names:
            if other != name:
                self.disconnect(name, other)

    def connect_only(self, *groups: str) -> None:
        """Connect the members within each group (a string of one-letter names), and nobody else."""
        for one, other in self.pairs():
            if any(one in group and other in group for group in groups):
                self.connect(one, other)
            else:
                self.disconnect(one, other)

    # --- time ---------------------------------------------------------------------------------------------------------

    def step(self, name: str, *, commit: bool = True) -> None:
        """One step of one node, as the caller of a core has to do it. Without `commit`, it stops just before that; then crash."""
        node = self.nodes[name]
        try:
            for sender, message in self.network.arrived(name, self.now):
                if not node.core.receive(sender, message, self.now):
                    self.disconnect(name, sender)
            node.core.tick(self.now)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the node
            self.failures.append((name, error))
            if self.duties.stop_on_failure:
                self.crash(name)
                return
        self._note_leader(node)
        if not self.duties.commit_before_release:
            self._release(node)
        if commit:
            node.store.commit()
            self._release(node)

    def run(self, seconds: float, step_seconds: float = 0.01, only: Iterable[str] | None = None) -> None:
        """Let time pass; with `only`, the other nodes stand still."""
        end = self.now + seconds
        chosen = None if only is None else set(only)
        while self.now < end - 1e-9:
            self.now = round(self.now + step_seconds, 6)
            for name in self.names:
                if name in self.nodes and (chosen is None or name in chosen):
                    self.step(name)

    def run_until(
        self, condition: Callable[[], bool], seconds: float = 20.0, only: Iterable[str] | None = None
    ) -> None:
        """Let time pass until something holds; it is a violation if it does not come to hold."""
        end = self.now + seconds
        while not condition():
            if self.now > end:
                raise InvariantViolationError(f"did not come to hold within {seconds} s of simulated time")
            self.run(0.01, only=only)

    # --- load ---------------------------------------------------------------------------------------------------------

    def propose(self, name: str, payload: bytes) -> int | None:
        """Propose in a step of its own; the outcome appears in `acknowledged` or `refused` once it is known."""
        node = self.nodes[name]
        index = node.core.propose(payload)
        if index is not None:
            node.waiting[index] = (node.core.term, payload)
        node.store.commit()
        self._release(node)
        return index

    def leader(self) -> str | None:
        """The leader of the newest term."""
        leading = [node for node in self.nodes.values() if node.core.is_leader]
        return max(leading, key=lambda node: node.core.term).name if leading else None

    def make_leader(self, name: str) -> None:
        """Let time pass until this member leads and its first entry is applied everywhere it is connected to."""
        end = self.now + 60.0
        while not (self.leader() == name and self.core(name).may_serve):
            if self.now > end:
                raise InvariantViolationError(f"{name} did not become leader")
            leader = self.leader()
            if leader not in (None, name):
                self.core(leader or "").transfer_leadership(name)
                self._release(self.nodes[leader or ""])
            self.run(0.1)
        self.run(0.3)

    def delay_election(self, name: str, seconds: float) -> None:
        """Let this member wait at least this long before it stands for election, unless it hears a leader before."""
        self.core(name)._engine.election_deadline = self.now + seconds

    def is_converged(self) -> bool:
        """Whether all members are alive and have the same log, all of it applied."""
        members = self.members()
        cores = [self.core(name) for name in members if name in self.nodes]
        ends = {(core.last_index, core.commit_index, core.applied_index) for core in cores}
        return len(cores) == len(members) and len(ends) == 1 and len(set(next(iter(ends)))) == 1

    def members(self) -> list[str]:
        """Of the newest configuration that a leader has."""
        leader = self.leader()
        return sorted(self.core(leader).configuration.by_name) if leader is not None else list(self.names)

    def install_offered_snapshot(self, name: str) -> bool:
        """Take up a leader's offer, if there is one: its state and log position, our own term and vote, and a new core."""
        source = self.core(name).take_snapshot_offer()
        if source is None or source not in self.nodes:
            return False
        offered = self.core(source)
        index, term = offered.applied_index, offered.term_at(offered.applied_index)
        if term is None or not self.core(name).may_install(index, term):
            return False
        node = self.nodes[name]
        configuration = offered._context.journal.configuration_at(index)
        Journal.reset_to(node.store, index, term, self.core(name).hard_state, configuration)
        node.store.state_replace(self.state(source))
        node.store.commit()
        self.restart(name)
        self.snapshots_installed += 1
        return True

    # --- checks -------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise if anything that must hold did not."""
        problems = self.violations + [f"{name} stopped: {error!r}" for name, error in self.failures]
        for name, store in self.stores.items():
            indexes = [index for index, _, _ in store.state]
            if len(set(indexes)) != len(indexes):
                problems.append(f"{name} applied an entry twice")
        for node in self.nodes.values():
            problems += [
                f"{peer} lost what it had acknowledged to {node.name}" for peer in node.core.members_that_forgot
            ]
        if problems:
            raise InvariantViolationError("; ".join(problems[:5]))

    def check_nothing_lost(self) -> None:
        """After convergence: everything acknowledged is there, nothing refused is."""
        self.check()
        for name in [name for name in self.members() if name in self.nodes]:
            state = {payload for _, _, payload in self.stores[name].state}
            if not self.acknowledged <= state:
                raise InvariantViolationError(f"{name} lacks acknowledged {sorted(self.acknowledged - state)[:3]}")
            if self.refused & state:
                raise InvariantViolationError(f"{name} has refused {sorted(self.refused & state)[:3]}")

    def state(self, name: str) -> list[Applied]:
        return self.stores[name].state

    def payloads(self, name: str) -> list[bytes]:
        return [payload for _, _, payload in self.stores[name].state]

    # --- inside -------------------------------------------------------------------------------------------------------

    def _applied(self, name: str, index: int, term: int, payload: bytes) -> None:
        node = self.nodes[name]
        if node.apply_hook is not None:
            node.apply_hook(index, payload)
        if self.chosen.setdefault(index, (term, payload)) != (term, payload):
            self.violations.append(
                f"{name} applied {payload[:20]!r} at {index}, elsewhere it was {self.chosen[index][1][:20]!r}"
            )
        node.store.state_add(index, term, payload)
        if node.after_apply_hook is not None:
            node.after_apply_hook(index, payload)

    def _note_leader(self, node: Node) -> None:
        if node.core.is_leader and self.leaders.setdefault(node.core.term, node.name) != node.name:
            self.violations.append(f"{node.name} and {self.leaders[node.core.term]} both lead term {node.core.term}")

    def _release(self, node: Node) -> None:
        outbox, node.core.outbox = node.core.outbox, []
        for receiver, message in outbox:
            self.network.send(node.name, receiver, message, self.now)
        applied_index = node.core.applied_index
        for index in [index for index in node.waiting if index <= applied_index]:
            term, payload = node.waiting.pop(index)
            done = self.chosen.get(index) == (term, payload)
            (self.acknowledged if done else self.refused).add(payload)
        if not self.duties.outcome_from_apply and not node.core.is_leader:
            self.refused.update(payload for _, payload in node.waiting.values())
            node.waiting.clear()
