"""The Raft core of one member: pysyncobj as the engine, with what it lacks put around it.

No disk (see journal.py), no network, no clock and no thread: the caller hands in messages and the time, and takes messages out.
The engine is in core_engine.py. How entries travel is in replication.py, who leads in elections.py, what the caller may ask in
core_view.py, plain book-keeping in core_context.py, core_peers.py, core_messages.py.

The caller's duties, in this order, for every step:
 1. begin a write transaction of the store that the journal writes to;
 2. `receive` the messages that came in, `tick`, `propose`; `apply` is called back from `tick`;
 3. commit. If anything raised, do not commit: end the process (the journal in memory is ahead of the disk);
 4. only now take `outbox` and send it, each peer's messages in order; report `peer_connected` and `peer_disconnected` as
    connections come and go, and end the connection when `receive` returns False.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from horologe.peer.v1 import peer_service_pb2
from horologe.raft.core_context import Context, PeerMessage
from horologe.raft.core_engine import EngineMember, Pysyncobj, ambient
from horologe.raft.core_messages import REGULAR_COMMAND, election_message, items_of, what_is_wrong
from horologe.raft.core_peers import Arrival, Peer
from horologe.raft.core_settings import CoreSettings, CoreStoppedError, Protections, RaftInvariantError
from horologe.raft.core_view import CoreView
from horologe.raft.journal import NO_OP_COMMAND, Journal, LogItem
from horologe.raft.membership import CONFIGURATION_COMMAND_TYPE, Configuration

__all__ = ["CoreSettings", "CoreStoppedError", "Protections", "RaftCore", "RaftInvariantError"]

logger = logging.getLogger(__name__)


class RaftCore(CoreView):
    """One member's Raft. See the top of this file for the order of calls.

    `apply(index, term, payload)` is called for every committed payload, in order, exactly once per index over all restarts of
    the same journal. It runs inside `tick`, inside the caller's transaction. If it raises, the core is stopped: an entry is
    never tried again and never skipped. What has no result for domain reasons is `apply`'s own business, not an exception.

    The core tells nobody how a proposal ended. Whoever waits for one compares (index, term) when `apply` reaches that index:
    equal means done, different means it never happened. Losing the leadership in between says nothing either way.

    Not safe for use by several threads at once; several cores may live in one process, each on its own thread.

    A journal that was just `reset_to` (a snapshot was installed) is as good as any other.
    """

    def __init__(
        self,
        settings: CoreSettings,
        journal: Journal,
        apply: Callable[[int, int, bytes], None],
        random: random.Random,
        now_seconds: float,
        protections: Protections | None = None,
    ) -> None:
        protections = protections or Protections()
        self._journal = journal
        self._apply = apply
        self._failure: BaseException | None = None
        self._followed: Configuration | None = None
        self._has_put_off = False
        """The last tick has left committed entries for this one."""
        self._log_end = journal.last_index
        """Of the last tick."""
        ambient.now, ambient.chance = now_seconds, random
        self._engine = Pysyncobj(self, settings, protections, journal)
        self._peers: dict[str, Peer] = {}
        beginning = Configuration.of(settings.members)
        super().__init__(
            Context(settings, protections, journal, self._engine, self._peers, random, now_seconds, beginning)
        )
        self._beginning = beginning
        self._follow_configuration()

    # --- what the caller does -----------------------------------------------------------------------------------------

    def peer_connected(self, peer: str, now: float) -> None:
        """A connection to another node came up. Its messages are numbered from 1, in both directions.

        The caller has made sure that it belongs to this cluster; the log may not name it yet.
        """
        with self._at(now):
            known = self._peers.setdefault(peer, Peer(peer, EngineMember(peer)))
            known.begin_epoch()
            self._engine.connected(known)
            if self.is_leader:
                self._replication.send_to(known, heartbeat=True)

    def peer_disconnected(self, peer: str, now: float) -> None:
        """The connection is gone; nothing that it carried may be delivered any more."""
        known = self._peers.get(peer)
        if known is None:
            return
        with self._at(now):
            known.end_epoch()
            self._engine.disconnected(known)
            if not known.is_member:
                del self._peers[peer]

    def receive(self, peer: str, message: PeerMessage, now: float) -> bool:
        """Take in a Raft message from a member whose identity the caller has verified.

        Returns:
            False when the connection must be ended: the sender is no member, messages were lost, or one makes no sense. The
            message then had no effect, and no further one of this epoch will have any.
        """
        with self._at(now):
            known = self._peers.get(peer)
            if known is None:
                self.counters["not_connected"] += 1
                return False
            if self.protections.epochs_checked:
                arrival = known.arrived(message.sequence)
                if arrival is not Arrival.NEXT:
                    self.counters[f"message_{arrival.name.lower()}"] += 1
                    return arrival is Arrival.REPEATED
            items = items_of(message)
            complaint = what_is_wrong(message, items) if self.protections.messages_validated else None
            if complaint is not None:
                self.counters["message_malformed"] += 1
                logger.error("message from %s refused: %s", peer, complaint)
                known.abandon_epoch()
                return False
            self._dispatch(known, message, items)
            self._follow_configuration()
            return True

    def tick(self, now: float) -> None:
        """Let time act: elections, heartbeats, commit, apply."""
        with self._at(now):
            self._elections.before_tick()
            self._engine.tick()
            self._replication.tell_commits_when_due()
            self._elections.after_tick()

    def tell_commit(self, peers: Iterable[str]) -> None:
        """On the leader: tell these followers at once how far the log is committed. Others learn it with the next entries."""
        with self._at(self._context.now):
            for name in peers:
                peer = self._peers.get(name)
                if peer is not None and self.is_leader:
                    self._replication.tell_commit(peer)

    def propose(self, payload: bytes) -> int | None:
        """Append a payload to the log; the messages that carry it are in the outbox at once.

        Returns:
            The index that it will have if it becomes committed (together with `term`), or None when this member does not lead
            or is handing over the leadership.

        Raises:
            ValueError: The payload does not fit into `append_bytes_max`; the caller must split it.
        """
        if len(payload) >= self.settings.append_bytes_max:
            raise ValueError(
                f"the payload has {len(payload)} bytes, must be less than append_bytes_max "
                f"({self.settings.append_bytes_max}): split it"
            )
        return self._propose(payload, REGULAR_COMMAND)

    def propose_configuration(self, payload: bytes) -> int | None:
        """Append an entry whose one command holds the next configuration; it is in force here at once.

        It must differ from the one in force by at most one voter.

        Returns:
            As `propose`; None also while the change before is not applied, or nothing of the own term is: then two majorities
            that have no member in common could decide.
        """
        changing = self.is_changing_members or not self._journal.has_entry(self.applied_index, self.term)
        if changing and self.protections.one_change_at_a_time:
            return None
        return self._propose(payload, CONFIGURATION_COMMAND_TYPE)

    def _propose(self, payload: bytes, command_type: int) -> int | None:
        with self._at(self._context.now):
            if not self.is_leader or self.is_handing_over:
                return None
            index = self._journal.last_index + 1
            self._engine.append(payload, command_type)
            if self._journal.last_index != index:
                raise RaftInvariantError(f"entry {index} was not appended; the log ends at {self._journal.last_index}")
            return index

    def transfer_leadership(self, target: str | None = None) -> bool:
        """Begin to hand over the leadership, to the named member or to the one that is furthest.

        Proposals are refused from now on. Once the target has the whole log it is told to take over; if that does not happen
        within an election timeout, the transfer is given up and proposals are taken again.

        Returns:
            Whether it began: False when this member does not lead, or no such member is connected.
        """
        with self._at(self._context.now):
            return self.is_leader and self._elections.begin_transfer(target)

    def compact(self, keep_from_index: int) -> None:
        """Drop the log before `keep_from_index`. What is not applied, and the last two entries, stay in any case."""
        with self._at(self._context.now):
            self._journal.compact(keep_from_index)

    # --- inside -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _at(self, now: float) -> Iterator[None]:
        """Give the engine our time and chance; whatever goes wrong inside stops the core."""
        if self._failure is not None and self.protections.failures_stop_the_core:
            raise CoreStoppedError("the Raft core met an error and must not go on; end the process") from self._failure
        self._context.now = max(self._context.now, now)
        ambient.now, ambient.chance = self._context.now, self._context.chance
        try:
            yield
        except BaseException as error:
            self._failure = error
            raise

    def _follow_configuration(self) -> None:
        """Let the newest configuration in the log be the one that counts votes and acknowledgements."""
        logged = self._journal.configuration
        configuration = logged.configuration if logged is not None else self._beginning
        if configuration is self._followed:
            return
        self._followed = self._context.configuration = configuration
        for name in configuration.by_name:
            if name != self.settings.name:
                self._peers.setdefault(name, Peer(name, EngineMember(name)))
        for peer in list(self._peers.values()):
            was_member = peer.is_member
            peer.is_member = peer.name in configuration.by_name
            peer.is_voter = peer.name in configuration.voters
            if peer.is_member and not was_member:
                self._replication.begin_sending_to(peer)
            elif not peer.is_member and not peer.connected:
                del self._peers[peer.name]
        members = sorted((peer for peer in self._peers.values() if peer.is_member), key=lambda peer: peer.name)
        self._engine.set_members(
            [peer for peer in members if peer.is_voter], [peer for peer in members if not peer.is_voter]
        )

    def _dispatch(self, peer: Peer, message: PeerMessage, items: list[LogItem]) -> None:
        kind = message.WhichOneof("kind")
        if kind == "append_entries":
            self._on_append_entries(peer, message.append_entries, items)
        elif kind == "append_reply":
            self._replication.on_append_reply(peer, message.append_reply, message.sender_term)
        elif kind == "request_vote":
            self._elections.on_request_vote(peer, message.request_vote)
        elif kind == "vote":
            self._elections.on_vote(peer, message.vote.term)
        elif kind == "request_pre_vote":
            self._elections.on_request_pre_vote(peer, message.request_pre_vote)
        elif kind == "pre_vote":
            self._elections.on_pre_vote(peer, message.pre_vote.term)
        elif kind == "timeout_now":
            self._elections.told_to_take_over(message.timeout_now.term)
            self._engine.deliver(peer, {"type": "timeout_now", "term": message.timeout_now.term})
        elif kind == "term_notice":
            self._elections.on_term_notice(peer, message.term_notice.term)
        elif kind == "snapshot_offer":
            self._replication.on_snapshot_offer(peer, message.snapshot_offer.term)

    def _on_append_entries(self, peer: Peer, append: peer_service_pb2.AppendEntries, items: list[LogItem]) -> None:
        if append.term < self.term:
            self._context.post_term_notice(peer)
            return
        if append.term == self.term and self.is_leader:
            raise RaftInvariantError(f"{peer.name} leads term {self.term}, and so do we")
        self._elections.leader_heard()
        self._replication.on_append_entries(peer, append, items)

    # --- what the engine calls ----------------------------------------------------------------------------------------

    def engine_changed_state(self, is_leader: bool) -> None:
        """For the engine only."""
        self._elections.end_transfer()
        if is_leader:
            self._replication.begin_leading()

    def engine_replicates(self) -> None:
        """For the engine only."""
        # A configuration that was appended just now is in force before it leaves: whom it removes must not get it. That one
        # would neither vote nor stand any more, and may be needed should the entry get lost with this leader.
        self._follow_configuration()
        self._replication.send_to_all()

    def engine_may_apply(self) -> bool:
        """For the engine only. New entries are acknowledged when the step ends, and what is committed may take long to apply: the
        leader would wait for that, and the follower then for as much on the leader, one working while the other does nothing. So
        what takes long is applied in the next step, and then in any case.
        """
        has_grown = self._journal.last_index > self._log_end and not self.is_leader
        self._log_end = self._journal.last_index
        self._has_put_off = has_grown and not self._has_put_off and self._takes_long_to_apply()
        return not self._has_put_off

    def _takes_long_to_apply(self) -> bool:
        size_bytes = 0
        for index in range(self.applied_index + 1, self.commit_index + 1):
            item = self._journal.entry_at(index)
            size_bytes += 0 if item is None else len(item[0])
            if size_bytes >= self.settings.acknowledge_first_bytes:
                return True
        return False

    def engine_applies(self, index: int, command: bytes) -> None:
        """For the engine only."""
        item = self._journal.entry_at(index)
        if item is None or item[0] is not command:
            raise RaftInvariantError(f"the engine applies something else than entry {index}")
        if self.protections.apply_in_sequence and index != self._journal.applied_index + 1:
            raise RaftInvariantError(f"entry {index} would be applied after entry {self._journal.applied_index}")
        if command[0] in (REGULAR_COMMAND, CONFIGURATION_COMMAND_TYPE):
            self._apply(index, item[2], command[1:])
        elif command[:1] != NO_OP_COMMAND and self.protections.static_membership:
            raise RaftInvariantError(f"entry {index} is of a type ({command[0]}) that never enters our log")
        self._journal.set_applied_index(index)

    def engine_sends(self, peer: str, message: dict[str, Any]) -> None:
        """For the engine only."""
        known = self._peers.get(peer)
        if known is None:
            return
        if message["type"] == "next_node_idx":
            index = message["next_node_idx"]
            self._replication.post_reply(known, index, reset=message["reset"], success=message["success"])
        else:
            posted = election_message(message)
            if message["type"] == "request_vote":
                posted.request_vote.hand_over = self._elections.is_taking_over(message["term"])
            self._context.post(known, posted)
