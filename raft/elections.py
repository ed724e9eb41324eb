"""Who leads, and who may disturb a working leader: pre-vote, stickiness, votes counted once, term notices, handing over.

The engine holds the elections; this part decides when it may begin one and which requests and votes it gets to see.
"""

from __future__ import annotations

from horologe.peer.v1 import peer_service_pb2
from horologe.raft.core_context import ELECTION_NOW, Context, PeerMessage
from horologe.raft.core_peers import Peer

NEVER = float("-inf")


class Elections:
    """One member's part in elections."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._leader_heard_at_seconds = NEVER
        self._pre_vote_term: int | None = None
        self._pre_votes: set[str] = set()
        self._votes: set[tuple[str, int]] = set()
        self._transfer_target: Peer | None = None
        self._transfer_deadline_seconds = 0.0
        self._transfer_sent_to: str | None = None
        self._successor_term = 0

    # --- the leader we hear -------------------------------------------------------------------------------------------

    def leader_heard(self) -> None:
        """A message of the leader of our term, or of a newer one, came in: an election of our own is off."""
        self._leader_heard_at_seconds = self._context.now
        self._pre_vote_term = None

    def leader_silent_seconds(self) -> float:
        """For how long the leader has not spoken to us."""
        return self._context.now - self._leader_heard_at_seconds

    def _term_begins(self) -> None:
        """A newer term exists; its leader, if there is one, is yet to be heard."""
        self._leader_heard_at_seconds = NEVER
        self._pre_vote_term = None

    def _is_loyal_against(self, candidate: Peer) -> bool:
        """Whether we stand by a leader that works. A leader that is handing over lets its successor through."""
        context = self._context
        if not context.protections.leader_stickiness or candidate.name == self._transfer_sent_to:
            return False
        if context.engine.is_leader:
            return context.heard_quorum(context.now)
        return self.leader_silent_seconds() < context.settings.election_timeout_seconds_min

    # --- before an election -------------------------------------------------------------------------------------------

    def before_tick(self) -> None:
        """The engine begins an election when its deadline has passed: before that, ask whether it could be won."""
        context = self._context
        deadline = context.engine.election_deadline
        if context.engine.is_leader or deadline >= context.now:
            return
        if not context.is_voter and context.protections.newcomers_wait:
            # Also when a leader tells it to: by the log that it has, it must not lead.
            context.engine.election_deadline = context.now + context.settings.election_timeout_seconds_max
            return
        if not context.protections.pre_vote:
            return
        voting_peers = context.voting_peers()
        connected = not voting_peers or any(peer.connected for peer in voting_peers)
        if deadline <= ELECTION_NOW and connected:
            return
        shortest, longest = context.settings.election_timeout_seconds_min, context.settings.election_timeout_seconds_max
        context.engine.election_deadline = context.now + shortest + (longest - shortest) * context.chance.random()
        if connected:
            self._ask()

    def _ask(self) -> None:
        context = self._context
        self._pre_vote_term = context.engine.term + 1
        self._pre_votes = set()
        for peer in context.voting_peers():
            request = peer_service_pb2.RequestPreVote(
                term=self._pre_vote_term,
                last_log_index=context.journal.last_index,
                last_log_term=context.journal.last_term,
            )
            context.post(peer, PeerMessage(request_pre_vote=request))
        self._count_pre_vote(context.settings.name)

    def on_request_pre_vote(self, peer: Peer, request: peer_service_pb2.RequestPreVote) -> None:
        """Another member asks whether it would get our vote. Saying yes binds us to nothing."""
        context = self._context
        if request.term <= context.engine.term:
            context.post_term_notice(peer)
            return
        if not context.may_vote():
            context.counters["vote_refused_by_newcomer"] += 1
            return
        own_log_end = (context.journal.last_term, context.journal.last_index)
        if (request.last_log_term, request.last_log_index) >= own_log_end and not self._is_loyal_against(peer):
            context.post(peer, PeerMessage(pre_vote=peer_service_pb2.PreVote(term=request.term)))

    def on_pre_vote(self, peer: Peer, term: int) -> None:
        """Another member would vote for us."""
        engine = self._context.engine
        if term == self._pre_vote_term == engine.term + 1 and not engine.is_leader and self._counts(peer):
            self._count_pre_vote(peer.name)

    def _count_pre_vote(self, name: str) -> None:
        self._pre_votes.add(name)
        if len(self._pre_votes) >= self._context.configuration.majority:
            self._pre_vote_term = None
            self._context.engine.election_deadline = ELECTION_NOW

    # --- the election -------------------------------------------------------------------------------------------------

    def on_request_vote(self, peer: Peer, request: peer_service_pb2.RequestVote) -> None:
        """Another member stands for election."""
        context = self._context
        if request.term < context.engine.term:
            context.post_term_notice(peer)
            return
        if not context.may_vote():
            context.counters["vote_refused_by_newcomer"] += 1
            return
        if not request.hand_over and self._is_loyal_against(peer):
            context.counters["vote_refused_for_leader"] += 1
            return
        if request.term > context.engine.term:
            self._term_begins()
        message = {
            "type": "request_vote",
            "term": request.term,
            "last_log_index": request.last_log_index,
            "last_log_term": request.last_log_term,
        }
        context.engine.deliver(peer, message)

    def on_vote(self, peer: Peer, term: int) -> None:
        """Another member voted for us. The engine only counts messages."""
        context = self._context
        if term != context.engine.term:
            return
        if not self._counts(peer):
            context.counters["vote_of_no_voter"] += 1
            return
        if context.protections.votes_counted_once:
            if (peer.name, term) in self._votes:
                context.counters["vote_repeated"] += 1
                return
            # Votes of older terms can no longer count.
            self._votes = {vote for vote in self._votes if vote[1] == term} | {(peer.name, term)}
        context.engine.deliver(peer, {"type": "response_vote", "term": term})

    def _counts(self, peer: Peer) -> bool:
        """Whether a member's vote counts by the configuration that we have."""
        return peer.is_voter or not self._context.protections.voters_only

    def on_term_notice(self, peer: Peer, term: int) -> None:
        """A newer term exists. The engine adopts it, and steps down, when it hears a request for a vote that it cannot grant."""
        if term > self._context.engine.term:
            self._term_begins()
            request = {"type": "request_vote", "term": term, "last_log_index": 0, "last_log_term": -1}
            self._context.engine.deliver(peer, request)

    # --- handing over -------------------------------------------------------------------------------------------------

    @property
    def is_handing_over(self) -> bool:
        """Whether this leader waits for its successor to take over."""
        return self._transfer_target is not None

    def told_to_take_over(self, term: int) -> None:
        """The leader of this term hands over to us: the election that follows is in its name."""
        self._successor_term = term + 1

    def is_taking_over(self, term: int) -> bool:
        """Whether we stand for this term because its last leader wanted us to."""
        return term == self._successor_term

    def begin_transfer(self, target: str | None) -> bool:
        """Choose a successor, and tell it to take over as soon as it has the whole log.

        Nobody is chosen who has not answered lately: a connection can outlive the one at its other end.
        """
        context = self._context
        connected = [peer for peer in context.voting_peers() if peer.connected]
        candidates = [
            peer
            for peer in connected
            if peer.name == target or (target is None and context.answered_lately(peer, context.now))
        ]
        if not candidates:
            return False
        self._transfer_target = max(candidates, key=lambda peer: (context.engine.match_index(peer), peer.name))
        self._transfer_deadline_seconds = context.now + context.settings.election_timeout_seconds_max
        self._transfer_sent_to = None
        self.after_tick()
        return True

    def end_transfer(self) -> None:
        """We gained or lost the leadership."""
        self._transfer_target = self._transfer_sent_to = None

    def after_tick(self) -> None:
        """Go on with handing over, or give it up after an election timeout."""
        context, target = self._context, self._transfer_target
        if target is None:
            return
        if context.now > self._transfer_deadline_seconds or not target.connected:
            self.end_transfer()
        elif self._transfer_sent_to is None and context.engine.match_index(target) == context.journal.last_index:
            self._transfer_sent_to = target.name
            context.engine.tell_to_take_over(target)
