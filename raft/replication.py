"""How entries get from the leader to the followers: what is sent, what is acknowledged, and which claims are believed.

The engine decides what is committed; this part decides what the engine gets to see. Elections are in elections.py.
"""

from __future__ import annotations

import logging

from horologe.peer.v1 import peer_service_pb2
from horologe.raft.core_context import Context, PeerMessage
from horologe.raft.core_messages import append_entries_message, overlap_with
from horologe.raft.core_peers import InFlight, Peer
from horologe.raft.core_settings import RaftInvariantError
from horologe.raft.journal import LogItem

logger = logging.getLogger(__name__)


class Replication:
    """The log's way between one member and its peers, in both roles."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._round = 0
        self._answering_round = 0
        self._answer_wanted = True
        self._commit_notice_at: float | None = None
        self._snapshot_offered_by: str | None = None
        self.leader_commit_index = 0
        """The last entry that a leader has said to be committed; our log may not reach it yet."""

    # --- the leader sends ---------------------------------------------------------------------------------------------

    def begin_leading(self) -> None:
        """This member became leader: forget what was in flight in earlier terms."""
        for peer in self._context.peers.values():
            peer.begin_leading(self._round + 1)

    def begin_sending_to(self, peer: Peer) -> None:
        """A member has joined while this one leads."""
        peer.begin_leading(self._round + 1)

    def send_to_all(self) -> None:
        """A heartbeat is due, or there is something new.

        Entries leave at once. A new commit index goes along with them; where there are none it waits a moment for the next ones,
        because a message costs both sides more than what it says is worth to most of them.
        """
        context, engine = self._context, self._context.engine
        is_due = context.now > engine.heartbeat_at or not context.settings.commit_notice_ms
        peers = [peer for peer in context.peers.values() if peer.connected and peer.is_member]
        rounds_before = self._round
        silent = 0
        for peer in peers:
            self.send_to(peer, heartbeat=is_due)
            silent += self._round == rounds_before
            rounds_before = self._round
        if is_due or not silent:
            engine.heartbeat_sent(context.now + context.settings.heartbeat_seconds)
        if all(peer.told_commit_index == engine.commit_index for peer in peers):
            self._commit_notice_at = None
        elif self._commit_notice_at is None:
            self._commit_notice_at = context.now + context.settings.commit_notice_seconds

    @property
    def commit_notice_at(self) -> float | None:
        """When the leader tells by itself how far the log is committed; None if everybody has been told."""
        return self._commit_notice_at

    def tell_commits_when_due(self) -> None:
        """Tell those that nothing has told them yet, once they have waited for entries long enough."""
        if self._commit_notice_at is not None and self._context.now >= self._commit_notice_at:
            self._commit_notice_at = None
            if self._context.engine.is_leader:
                for peer in self._context.peers.values():
                    self.tell_commit(peer)

    def tell_commit(self, peer: Peer) -> None:
        """Tell a follower how far the log is committed, unless it has been told."""
        engine = self._context.engine
        if not peer.connected or not peer.is_member or peer.told_commit_index >= engine.commit_index:
            return
        previous_index = engine.next_index(peer) - 1
        if self._context.journal.entry_at(previous_index) is not None:
            self._post_append_entries(peer, previous_index, [], commit_only=True)

    def send_to(self, peer: Peer, *, heartbeat: bool) -> None:
        """Send what the peer lacks, as far as its budget goes; with `heartbeat`, a message even if there is nothing."""
        if not peer.connected or not peer.is_member:
            return
        engine, journal, settings = self._context.engine, self._context.journal, self._context.settings
        next_index = engine.next_index(peer)
        if next_index <= journal.first_index:
            if heartbeat:
                self._probe(peer)
            return
        peer.probe_round = None
        while next_index <= journal.last_index and peer.in_flight_bytes < settings.peer_bytes_max:
            items = journal.entries_from(next_index, settings.append_bytes_max)
            self._post_append_entries(peer, next_index - 1, items)
            next_index = items[-1][1] + 1
            engine.set_next_index(peer, next_index)
            heartbeat = False
        if heartbeat:
            self._post_append_entries(peer, next_index - 1, [])

    def _probe(self, peer: Peer) -> None:
        """The peer asks for entries that we no longer have. It may have them all the same: ask for our first one."""
        if peer.probe_round is None:
            peer.probe_round = self._round + 1
        self._post_append_entries(peer, self._context.journal.first_index, [])

    def _post_append_entries(
        self, peer: Peer, previous_index: int, items: list[LogItem], *, commit_only: bool = False
    ) -> None:
        engine, journal = self._context.engine, self._context.journal
        previous = journal.entry_at(previous_index)
        if previous is None:
            raise RaftInvariantError(
                f"entry {previous_index} is not in the log ({journal.first_index} to {journal.last_index})"
            )
        self._round += 1
        peer.told_commit_index = engine.commit_index
        message = append_entries_message(
            engine.term, engine.commit_index, previous_index, previous[2], items, self._round
        )
        if commit_only:
            message.append_entries.commit_only = True
        else:
            entry_bytes = sum(len(item[0]) for item in items)
            peer.sent(InFlight(self._round, self._context.now, entry_bytes, previous_index))
        self._context.post(peer, message)

    # --- the leader hears replies -------------------------------------------------------------------------------------

    def on_append_reply(self, peer: Peer, reply: peer_service_pb2.AppendReply, sender_term: int) -> None:
        """An answer to one of our messages: believed only in the term that it was given in."""
        engine, protections = self._context.engine, self._context.protections
        if not engine.is_leader or not peer.is_member:
            return
        if protections.stale_replies_dropped and sender_term != engine.term:
            self._context.counters["stale_reply"] += 1
            return
        answered = peer.answered(reply.round)
        answered_at = engine.answered_at(peer)
        if answered is not None:
            # An answer proves that the peer followed us when the question was sent; how long the answer took proves nothing.
            answered_at = max(answered_at, answered.sent_at_seconds)
        if not reply.reset or self._accept_reset(peer, reply, answered):
            self._deliver_reply(peer, reply)
        if protections.check_quorum:
            engine.set_answered_at(peer, answered_at)
        if not reply.reset or protections.resets_in_order:
            # Go on at once. (If every reset were believed, each would set off a volley that brings more resets.)
            self.send_to(peer, heartbeat=False)

    def _accept_reset(self, peer: Peer, reply: peer_service_pb2.AppendReply, answered: InFlight | None) -> bool:
        """Whether to go back for this peer; notes what else the reset tells about it."""
        context = self._context
        if answered is not None and reply.next_index <= answered.previous_index <= context.engine.match_index(peer):
            self._note_forgotten(peer)
        probed = peer.probe_round is not None and reply.round >= peer.probe_round
        if probed and reply.next_index <= context.journal.first_index:
            self._offer_snapshot(peer)
        if context.protections.resets_in_order and reply.round < peer.reset_floor:
            context.counters["old_reset"] += 1
            return False
        peer.reset_floor = self._round + 1
        return True

    def _note_forgotten(self, peer: Peer) -> None:
        if peer.name not in self._context.members_that_forgot:
            logger.critical("%s lost entries that it had acknowledged; it must rejoin under a new name", peer.name)
        self._context.members_that_forgot.add(peer.name)

    def _deliver_reply(self, peer: Peer, reply: peer_service_pb2.AppendReply) -> None:
        engine, protections = self._context.engine, self._context.protections
        next_index_before = engine.next_index(peer)
        next_index = reply.next_index
        if reply.reset and protections.resets_clamped:
            next_index = max(next_index, engine.match_index(peer) + 1)
        message = {"type": "next_node_idx", "next_node_idx": next_index, "reset": reply.reset, "success": reply.success}
        engine.deliver(peer, message)
        if protections.next_index_kept and not reply.reset:
            engine.set_next_index(peer, max(next_index_before, engine.next_index(peer)))

    def _offer_snapshot(self, peer: Peer) -> None:
        """Our log does not reach back to the peer: offer the state, not more often than once per election timeout."""
        context = self._context
        if context.now - peer.offered_at_seconds >= context.settings.election_timeout_seconds_max:
            peer.offered_at_seconds = context.now
            offer = peer_service_pb2.SnapshotOffer(term=context.engine.term)
            context.post(peer, PeerMessage(snapshot_offer=offer))

    # --- the follower -------------------------------------------------------------------------------------------------

    def on_append_entries(self, peer: Peer, append: peer_service_pb2.AppendEntries, items: list[LogItem]) -> None:
        """Entries, or a heartbeat, from the leader of our term or of a newer one."""
        context = self._context
        self._answering_round = append.round
        self._answer_wanted = not append.commit_only
        self.leader_commit_index = max(self.leader_commit_index, append.commit_index)
        message = {
            "type": "append_entries",
            "term": append.term,
            "commit_index": append.commit_index,
            "prevLogIdx": append.previous_index,
            "prevLogTerm": append.previous_term,
            "entries": items,
        }
        overlap = None
        if context.protections.keep_matching_tail:
            overlap = overlap_with(context.journal, append.previous_index, append.previous_term, items)
        if overlap is None:
            context.engine.deliver(peer, message)
        elif overlap.new_items:
            # The engine cuts off everything after the previous entry: begin where the two logs part.
            message.update(
                prevLogIdx=overlap.matched_index, prevLogTerm=overlap.matched_term, entries=overlap.new_items
            )
            context.engine.deliver(peer, message)
        else:
            self._on_known_entries(peer, append, overlap.matched_index)

    def _on_known_entries(self, peer: Peer, append: peer_service_pb2.AppendEntries, matched_index: int) -> None:
        """Everything in the message is in our log already. The engine would cut off what follows; it only gets a heartbeat."""
        context = self._context
        commit_index = append.commit_index
        if context.protections.commit_only_verified:
            commit_index = max(context.engine.commit_index, min(commit_index, matched_index))
        heartbeat = {"type": "append_entries", "term": append.term, "commit_index": commit_index, "entries": []}
        context.engine.deliver(peer, heartbeat)
        if context.journal.last_index > matched_index:
            context.counters["tail_kept"] += 1
        acknowledged = matched_index if context.protections.acknowledge_only_verified else context.journal.last_index
        self.post_reply(peer, acknowledged + 1, reset=False, success=True)

    def post_reply(self, peer: Peer, next_index: int, *, reset: bool, success: bool) -> None:
        """Answer the message that is being handled."""
        if success and not self._answer_wanted:
            return
        if reset and self._context.protections.reset_hint_at_commit:
            # What is committed matches in any case: repair takes one round trip.
            next_index = min(next_index, self._context.engine.commit_index + 1)
        reply = peer_service_pb2.AppendReply(
            next_index=next_index, reset=reset, success=success, round=self._answering_round
        )
        self._context.post(peer, PeerMessage(append_reply=reply))

    def on_snapshot_offer(self, peer: Peer, term: int) -> None:
        """The leader's log does not reach back to us."""
        if term < self._context.engine.term:
            self._context.post_term_notice(peer)
        elif peer.name == self._context.engine.leader:
            self._snapshot_offered_by = peer.name

    @property
    def snapshot_offered_by(self) -> str | None:
        """Who offered us a snapshot that was not taken up yet."""
        return self._snapshot_offered_by

    def take_snapshot_offer(self) -> str | None:
        """Take the offer up."""
        offered_by, self._snapshot_offered_by = self._snapshot_offered_by, None
        return offered_by
