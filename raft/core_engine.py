"""The engine, pysyncobj, behind names of our own: here belongs everything that touches it, and nothing else touches it.

What an engine is for the parts of a core says core_context.py; what they make of it, core.py.

What we depend on inside pysyncobj 0.3.17 (tests/raft/test_engine_contract.py fails when any of it changes):

    replaced before and after import
      pysyncobj.monotonic                module  the clock: every other module takes it by name from here
      pysyncobj.syncobj.random           global  the random source of election timeouts
      pysyncobj.syncobj.createJournal    global  lets a Journal object in where a file name is expected (conf.journalFile)
      pysyncobj.syncobj.createPoller     global  would open descriptors; we have no sockets
      pysyncobj.syncobj.PIPE_NOTIFIER_ENABLED    would open two pipes per engine and never close them
    overridden in the subclass
      _SyncObj__applyLogEntries          applies all that is committed, and unpickles it; ours hands bytes to `apply`, and stops
                                         after so many in one tick
      _SyncObj__sendAppendEntries        pushes without limit, from a dump file when the log is too short; ours has a budget
                                         per peer and offers a snapshot
      _SyncObj__tryLogCompaction         pickles the state; ours does nothing (see `compact`)
    called
      _applyCommand, _checkCommandsToApply       queue a command and append it, without waiting for the next tick
      _isLeader, _getLeader, _getTerm
    read and written
      _SyncObj__raftElectionDeadline     pre-vote: the engine must not start an election unless we let it
      _SyncObj__raftNextIndex            a reply to an older message would move it back
      _SyncObj__lastResponseTime         check-quorum counts from the sending of what was answered, not from the answer's arrival
      _SyncObj__newAppendEntriesTime     when the next heartbeat is due
      _SyncObj__raftMatchIndex           read: what each follower has acknowledged
      _SyncObj__raftLastApplied          counts what our own applying has come to; after a restart, where the state stands
      _SyncObj__otherNodes               who votes beside this member: the engine's own changes of it are unsafe
      _SyncObj__readonlyNodes            who receives the log and does not vote
    message dictionaries: request_vote, response_vote, append_entries (with and without prevLogIdx), next_node_idx, timeout_now
"""

from __future__ import annotations

import random
import sys
import threading
import types
import zlib
from collections.abc import Callable
from typing import Any

from horologe.raft.core_context import EngineOwner
from horologe.raft.core_messages import REGULAR_COMMAND
from horologe.raft.core_peers import Peer
from horologe.raft.core_settings import CoreSettings, Protections, RaftInvariantError
from horologe.raft.elections import NEVER
from horologe.raft.journal import Journal

PILE_ENTRIES = 16
"""For each so many entries that are committed and not applied, a tick applies as much again,"""
BITES_MAX = 4
"""up to so many times `apply_bytes_max`: some 100 ms."""


class Ambient(threading.local):
    """Time and chance of the call that this thread is in. Several cores may live in one process, each with its own thread."""

    now = 0.0
    chance: random.Random

    def random(self) -> float:
        """Stands in for the module `random`, of which the engine uses this one function."""
        return self.chance.random()


ambient = Ambient()


def _load_engine() -> Any:
    if "pysyncobj" in sys.modules:
        raise ImportError("pysyncobj was imported before horologe.raft.core_engine; only that module may import it")
    clock = types.ModuleType("pysyncobj.monotonic")
    clock.monotonic = lambda: ambient.now  # type: ignore[attr-defined]
    sys.modules["pysyncobj.monotonic"] = clock
    import pysyncobj.syncobj as engine_module

    engine_module.random = ambient
    engine_module.createJournal = lambda journal: journal
    engine_module.createPoller = lambda _: _NoPoller()
    engine_module.PIPE_NOTIFIER_ENABLED = False
    return engine_module


class _NoPoller:
    def poll(self, timeout_seconds: float) -> None:
        """There is nothing to poll: messages come in through `receive`."""


_engine_module = _load_engine()


class EngineMember(_engine_module.Node):  # type: ignore[misc, name-defined]
    """A member by name. Its hash is the same in every process, since the engine iterates over sets of members."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._hash = zlib.crc32(name.encode())

    def __hash__(self) -> int:
        return self._hash


class _Outbound(_engine_module.Transport):  # type: ignore[misc, name-defined]
    """Hands what the engine wants to send to the core."""

    def __init__(self, send: Callable[[str, dict[str, Any]], None]) -> None:
        super().__init__(None, None, None)
        self._send = send

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        self._send(node.id, message)
        return True


class _SyncObj(_engine_module.SyncObj):  # type: ignore[misc, name-defined]
    """The engine with three of its methods replaced."""

    def __init__(self, owner: EngineOwner, settings: CoreSettings, conf: Any, transport: _Outbound) -> None:
        self._owner = owner
        self._journal: Journal = conf.journalFile
        self._apply_bytes_max = settings.apply_bytes_max
        super().__init__(EngineMember(settings.name), [], conf=conf, nodeClass=EngineMember, transport=transport)

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        """Answers whether anything was applied: then the engine tells the followers."""
        if not self._owner.engine_may_apply():
            return False
        first, size_bytes = self.raftLastApplied + 1, 0
        pile = self.raftCommitIndex - self.raftLastApplied
        # Whoever falls behind takes larger bites, or might never come up with the others again.
        bytes_max = self._apply_bytes_max * min(BITES_MAX, 1 + pile // PILE_ENTRIES)
        for index in range(first, self.raftCommitIndex + 1):
            item = self._journal.entry_at(index)
            if item is None:
                raise RaftInvariantError(f"entry {index} is committed, and not in the log")
            self._owner.engine_applies(index, item[0])
            self._SyncObj__raftLastApplied = index
            size_bytes += len(item[0])
            if size_bytes >= bytes_max:
                break
        return size_bytes > 0

    def _SyncObj__sendAppendEntries(self) -> None:  # noqa: N802
        self._owner.engine_replicates()

    def _SyncObj__tryLogCompaction(self) -> None:  # noqa: N802
        """The log is compacted by `RaftCore.compact`."""


class Pysyncobj:
    """The engine behind names of our own (see core_context.Engine): only here is read and written what is private in it."""

    def __init__(self, owner: EngineOwner, settings: CoreSettings, protections: Protections, journal: Journal) -> None:
        leader_state = _engine_module._RAFT_STATE.LEADER
        conf = _engine_module.SyncObjConf(
            autoTick=False,
            useFork=False,
            # An entry leaves in the call that added it; the caller coalesces.
            appendEntriesUseBatch=False,
            dynamicMembershipChange=not protections.static_membership,
            commandsWaitLeader=False,
            journalFile=journal,
            appendEntriesPeriod=settings.heartbeat_seconds,
            raftMinTimeout=settings.election_timeout_seconds_min,
            raftMaxTimeout=settings.election_timeout_seconds_max,
            leaderFallbackTimeout=settings.election_timeout_seconds_max if protections.check_quorum else 30.0,
            connectionTimeout=settings.election_timeout_seconds_max,
            onStateChanged=lambda _, state: owner.engine_changed_state(state == leader_state),
        )
        self._journal = journal
        self._transport = _Outbound(owner.engine_sends)
        self._engine = _SyncObj(owner, settings, conf, self._transport)
        if protections.applied_index_restored:
            self._engine._SyncObj__raftLastApplied = journal.applied_index

    @property
    def is_leader(self) -> bool:
        return bool(self._engine._isLeader())

    @property
    def leader(self) -> str | None:
        node = self._engine._getLeader()
        return None if node is None else str(node.id)

    @property
    def term(self) -> int:
        return int(self._engine._getTerm())

    @property
    def commit_index(self) -> int:
        return int(self._engine.raftCommitIndex)

    @property
    def applied_index(self) -> int:
        return int(self._engine.raftLastApplied)

    @property
    def election_deadline(self) -> float:
        return float(self._engine._SyncObj__raftElectionDeadline)

    @election_deadline.setter
    def election_deadline(self, deadline: float) -> None:
        self._engine._SyncObj__raftElectionDeadline = deadline

    def tick(self) -> None:
        self._engine.doTick(0.0)

    def append(self, payload: bytes, command_type: int = REGULAR_COMMAND) -> None:
        self._engine._applyCommand(payload, None, command_type)
        self._engine._checkCommandsToApply()

    def deliver(self, peer: Peer, message: dict[str, Any]) -> None:
        self._transport._onMessageReceived(peer.node, message)

    def connected(self, peer: Peer) -> None:
        self._transport._onNodeConnected(peer.node)

    def disconnected(self, peer: Peer) -> None:
        self._transport._onNodeDisconnected(peer.node)

    @property
    def heartbeat_at(self) -> float:
        return float(self._engine._SyncObj__newAppendEntriesTime)

    def heartbeat_sent(self, next_heartbeat_at: float) -> None:
        self._engine._SyncObj__newAppendEntriesTime = next_heartbeat_at

    def match_index(self, peer: Peer) -> int:
        return int(self._engine._SyncObj__raftMatchIndex[peer.node])

    def next_index(self, peer: Peer) -> int:
        return int(self._engine._SyncObj__raftNextIndex[peer.node])

    def set_next_index(self, peer: Peer, index: int) -> None:
        self._engine._SyncObj__raftNextIndex[peer.node] = index

    def answered_at(self, peer: Peer) -> float:
        return float(self._engine._SyncObj__lastResponseTime[peer.node])

    def set_answered_at(self, peer: Peer, seconds: float) -> None:
        self._engine._SyncObj__lastResponseTime[peer.node] = seconds

    def set_members(self, voters: list[Peer], learners: list[Peer]) -> None:
        engine = self._engine
        engine._SyncObj__otherNodes = {peer.node for peer in voters}
        engine._SyncObj__readonlyNodes = {peer.node for peer in learners}
        members = engine._SyncObj__otherNodes | engine._SyncObj__readonlyNodes
        for table, value in (
            (engine._SyncObj__raftNextIndex, len(self._journal) + self._journal.first_index),
            (engine._SyncObj__raftMatchIndex, 0),
            # Nothing was heard of it yet: it counts for no majority before it has answered.
            (engine._SyncObj__lastResponseTime, NEVER),
        ):
            for node in [node for node in table if node not in members]:
                del table[node]
            for node in members:
                table.setdefault(node, value)

    def tell_to_take_over(self, peer: Peer) -> None:
        self._engine.transferLeadership(peer.node)
