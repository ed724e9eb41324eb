"""Peer messages, looked at before the engine sees them: do they make sense, and what of them is new?

Pure functions over messages and the journal. Nothing here changes anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from horologe.peer.v1 import peer_service_pb2
from horologe.raft.journal import Journal, LogItem
from horologe.raft.membership import CONFIGURATION_COMMAND_TYPE

# The command types that may be in our log: a command of ours, the no-op of a new leader, and a configuration.
REGULAR_COMMAND = 0
NO_OP_COMMAND_TYPE = 1
ALLOWED_COMMAND_TYPES = (REGULAR_COMMAND, NO_OP_COMMAND_TYPE, CONFIGURATION_COMMAND_TYPE)

# The kinds of PeerMessage that belong to Raft; the others on the same stream are the caller's.
RAFT_KINDS = frozenset(
    {
        "append_entries",
        "append_reply",
        "request_vote",
        "vote",
        "request_pre_vote",
        "pre_vote",
        "timeout_now",
        "term_notice",
        "snapshot_offer",
    }
)


def items_of(message: peer_service_pb2.PeerMessage) -> list[LogItem]:
    """The entries in a message, in the engine's form. Reading a command copies it, so this is done once per message."""
    return [(entry.command, entry.index, entry.term) for entry in message.append_entries.entries]


def what_is_wrong(message: peer_service_pb2.PeerMessage, items: list[LogItem]) -> str | None:
    """What makes no sense in a message with these entries, or None. The engine itself checks nothing and fails half-way."""
    kind = message.WhichOneof("kind")
    if kind not in RAFT_KINDS:
        return f"kind is {kind}, which is not a Raft message"
    if message.sender_term < 0:
        return f"sender_term is {message.sender_term}"
    if kind == "append_entries":
        return _what_is_wrong_with_append_entries(message.append_entries, items)
    if kind == "append_reply":
        reply = message.append_reply
        if reply.next_index < 1 or reply.round < 1 or reply.reset == reply.success:
            return (
                f"append_reply has next_index {reply.next_index}, round {reply.round}, "
                f"reset {reply.reset}, success {reply.success}"
            )
        return None
    body = getattr(message, kind)
    if body.term < 1:
        return f"{kind} has term {body.term}"
    if kind in ("request_vote", "request_pre_vote") and (body.last_log_index < 1 or body.last_log_term < 0):
        return f"{kind} has last_log_index {body.last_log_index}, last_log_term {body.last_log_term}"
    return None


def _what_is_wrong_with_append_entries(append: peer_service_pb2.AppendEntries, items: list[LogItem]) -> str | None:
    if append.term < 1 or append.commit_index < 1 or append.previous_index < 1 or append.round < 1:
        return (
            f"append_entries has term {append.term}, commit_index {append.commit_index}, "
            f"previous_index {append.previous_index}, round {append.round}"
        )
    index, term = append.previous_index, append.previous_term
    if term < 0:
        return f"append_entries has previous_term {term}"
    for command, item_index, item_term in items:
        if item_index != index + 1 or not term <= item_term <= append.term:
            return f"append_entries has entry {item_index} of term {item_term} after entry {index} of term {term}"
        if not command or command[0] not in ALLOWED_COMMAND_TYPES:
            return f"append_entries has entry {item_index} of a type that never enters our log"
        index, term = item_index, item_term
    if term > append.term:
        return f"append_entries of term {append.term} has previous_term {term}"
    return None


@dataclass(frozen=True)
class Overlap:
    """What of an AppendEntries message the journal has already.

    Attributes:
        matched_index: The last entry that message and journal have in common.
        matched_term: Its term.
        new_items: The entries after it: missing in the journal, or in conflict with it.
    """

    matched_index: int
    matched_term: int
    new_items: list[LogItem]


def overlap_with(journal: Journal, previous_index: int, previous_term: int, items: list[LogItem]) -> Overlap | None:
    """Where a message's entries leave the journal's, or None when not even the previous entry matches."""
    if not journal.has_entry(previous_index, previous_term):
        return None
    index, term = previous_index, previous_term
    known = 0
    for _, item_index, item_term in items:
        if not journal.has_entry(item_index, item_term):
            break
        index, term = item_index, item_term
        known += 1
    return Overlap(index, term, items[known:])


def append_entries_message(
    term: int, commit_index: int, previous_index: int, previous_term: int, items: list[LogItem], round_number: int
) -> peer_service_pb2.PeerMessage:
    """Build AppendEntries in place, so that each command is copied once."""
    message = peer_service_pb2.PeerMessage()
    append = message.append_entries
    append.term = term
    append.commit_index = commit_index
    append.previous_index = previous_index
    append.previous_term = previous_term
    append.round = round_number
    add = append.entries.add
    for command, index, item_term in items:
        add(index=index, term=item_term, command=command)
    return message


def election_message(message: dict[str, Any]) -> peer_service_pb2.PeerMessage:
    """Put what the engine says in an election into our form.

    Raises:
        ValueError: The engine says something else.
    """
    kind = message["type"]
    if kind == "request_vote":
        request = peer_service_pb2.RequestVote(
            term=message["term"], last_log_index=message["last_log_index"], last_log_term=message["last_log_term"]
        )
        return peer_service_pb2.PeerMessage(request_vote=request)
    if kind == "response_vote":
        return peer_service_pb2.PeerMessage(vote=peer_service_pb2.Vote(term=message["term"]))
    if kind == "timeout_now":
        return peer_service_pb2.PeerMessage(timeout_now=peer_service_pb2.TimeoutNow(term=message["term"]))
    raise ValueError(f"the engine sends a message that we do not know: {kind!r}")
