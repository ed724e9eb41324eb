"""Who may connect to this node, and what the others have said of themselves.

Here belongs what is decided by a Hello: the identity of a member is its name together with the id of its data folder, never
an address. Streams are in peers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from horologe.peer.v1 import peer_service_pb2
from horologe.raft.cluster_version import FIRST, UnfitProgramError, VersionRange
from horologe.raft.membership import Member
from horologe.raft.reconfiguration import Introduction
from horologe.raft.step import Status

PROTOCOL_VERSION = 1
SAID_MAX = 1_000
SAY_AGAIN_SECONDS = 30.0
"""Who is refused comes back at once, again and again; the log need not say so each time."""

log = structlog.get_logger(__name__)
Hello = peer_service_pb2.Hello
Farewell = peer_service_pb2.Farewell


class ForeignClusterError(Exception):
    """This node's data belongs to another cluster than that of most members."""


class OtherDataError(Exception):
    """This node's data folder is not the one that joined the cluster under its name."""


class MemberRemovedError(Exception):
    """This node was removed from the cluster. It stops in good order."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a connection.

    Attributes:
        complaint: Why it is refused; empty if it is not.
        farewell: What the other side has to be told, if it is its own fault.
    """

    complaint: str = ""
    farewell: Farewell | None = None


class Admission:
    """Judges who connects, and keeps the addresses that were heard."""

    def __init__(
        self,
        hello: Callable[[], Hello],
        status: Callable[[], Status],
        fail: Callable[[BaseException], None],
        configured_addresses: Mapping[str, str],
        monotonic: Callable[[], float],
    ) -> None:
        """`hello` is what this node says of itself; `fail` stops it; `configured_addresses`: of the configuration file;
        `monotonic`: seconds."""
        self._hello = hello
        self._status = status
        self._fail = fail
        self._configured = dict(configured_addresses)
        self._heard: dict[str, str] = {}
        self._foreign: set[str] = set()
        self._monotonic = monotonic
        self._said_at: dict[tuple[str, str], float] = {}

    def peers(self) -> set[str]:
        """Everybody whom this node has to be connected to."""
        own = self._hello().node
        status = self._status()
        # Before it knows any member, a node that joins has only the addresses of its configuration file.
        names = set(status.configuration.by_name) or set(self._configured)
        return names - {own}

    def address_of(self, peer: str) -> str:
        """Where a peer was heard last, or else where it is configured; empty if nobody knows."""
        member = self._status().configuration.by_name.get(peer)
        logged = member.peer_address if member is not None else ""
        return self._heard.get(peer) or self._configured.get(peer) or logged

    def judge(self, expected: str | None, first: peer_service_pb2.PeerMessage | None) -> Verdict:
        """Whether the other side may stay. `expected`: whom we have called; None if we were called."""
        if first is None or first.WhichOneof("kind") != "hello":
            return Verdict("the first message must be a hello")
        verdict = self._judge(expected, first.hello)
        if verdict.complaint:
            if self._may_say(first.hello.node, verdict.complaint):
                log.error("peer refused", peer=first.hello.node, reason=verdict.complaint)
        elif first.hello.peer_address:
            self._heard[first.hello.node] = first.hello.peer_address
        return verdict

    def introduction(self, hello: Hello) -> Introduction:
        """What the leader may have to write down."""
        return Introduction(hello.node, hello.member_id, hello.peer_address, _versions(hello), hello.program)

    def hear_farewell(self, sender: Hello, farewell: Farewell) -> None:
        """The other side has said what is wrong with this node."""
        own = self._hello()
        if own.cluster_id and own.cluster_id != sender.cluster_id:
            return
        if farewell.reason == Farewell.REASON_REMOVED:
            self._fail(MemberRemovedError(farewell.text))
        elif farewell.reason == Farewell.REASON_OTHER_DATA:
            self._fail(OtherDataError(farewell.text))
        elif farewell.reason == Farewell.REASON_UNFIT_PROGRAM:
            self._fail(UnfitProgramError(farewell.text))
        elif farewell.reason == Farewell.REASON_NOT_ADDED and self._may_say(own.node, "not added"):
            log.warning("this node waits until it is added to the cluster", advice=farewell.text)

    def _may_say(self, peer: str, text: str) -> bool:
        """Whether this was not said just now."""
        now = self._monotonic()
        if now - self._said_at.get((peer, text), -SAY_AGAIN_SECONDS) < SAY_AGAIN_SECONDS:
            return False
        if len(self._said_at) > SAID_MAX:
            # Whoever calls under ever new names shall not fill the memory.
            self._said_at.clear()
        self._said_at[peer, text] = now
        return True

    def _judge(self, expected: str | None, hello: Hello) -> Verdict:
        own, status = self._hello(), self._status()
        if hello.node == own.node or (expected is not None and hello.node != expected):
            return Verdict(f"{hello.node!r} answers where {expected or 'another node'!r} is expected")
        if hello.protocol_version != PROTOCOL_VERSION:
            return Verdict(f"{hello.node} speaks protocol {hello.protocol_version}, this node {PROTOCOL_VERSION}")
        if hello.cluster_id and own.cluster_id and hello.cluster_id != own.cluster_id:
            complaint = f"{hello.node} belongs to cluster {hello.cluster_id}, this node to {own.cluster_id}"
            self._meet_foreigner(hello.node, complaint)
            return Verdict(complaint)
        self._foreign.discard(hello.node)
        if hello.node in status.removed:
            text = f"{hello.node} was removed from cluster {own.cluster_id}; names of removed nodes do not come back"
            return Verdict(text, Farewell(reason=Farewell.REASON_REMOVED, text=text))
        verdict = self._judge_membership(hello, own, status)
        return verdict if verdict.complaint else _judge_program(hello, own)

    def _judge_membership(self, hello: Hello, own: Hello, status: Status) -> Verdict:
        members, committed = status.configuration.by_name, status.committed_configuration.by_name
        # As long as the entry that names the folder may still be taken back, nobody has to stop for it.
        is_certain = _has_other_folder(hello, committed)
        if is_certain or _has_other_folder(hello, members):
            text = (
                f"the data folder of {hello.node} is not the one that joined cluster {own.cluster_id} under this name: what it "
                f"had promised is forgotten. Bring the old folder back, or replace the node by one with a new name: "
                f"`horologe cluster replace {hello.node} NEW --peer-address HOST:PORT`"
            )
            return Verdict(text, Farewell(reason=Farewell.REASON_OTHER_DATA, text=text) if is_certain else None)
        # Whoever has our cluster's data may be a member whose entry in the log has not come to us yet.
        has_our_data = bool(own.cluster_id and hello.cluster_id)
        if members and hello.node not in members and not has_our_data:
            text = (
                f"{hello.node!r} is not a member of this cluster (members: {', '.join(sorted(members))}); add it with "
                f"`horologe cluster add {hello.node} --peer-address {hello.peer_address or 'HOST:PORT'}`"
            )
            return Verdict(text, Farewell(reason=Farewell.REASON_NOT_ADDED, text=text) if own.cluster_id else None)
        return Verdict()

    def _meet_foreigner(self, peer: str, complaint: str) -> None:
        """One foreign member is that member's mistake; if most are foreign, it is ours."""
        expected = self.peers()
        if not self._status().configuration.cluster_id:
            # Those whom a recovery gave up may still be in the file, and are no sign that anything is wrong here.
            expected |= set(self._configured) - {self._hello().node}
        if peer in expected:
            self._foreign.add(peer)
        if 2 * len(self._foreign) > len(expected):
            advice = "correct `data_dir` or `members` in the configuration"
            self._fail(ForeignClusterError(f"this node holds the data of another cluster: {complaint}; {advice}"))


def _has_other_folder(hello: Hello, members: Mapping[str, Member]) -> bool:
    """Whether the members of a configuration include this one with another data folder."""
    member = members.get(hello.node)
    return member is not None and bool(member.id) and member.id != hello.member_id


def _judge_program(hello: Hello, own: Hello) -> Verdict:
    """Whether the other side's program can apply the cluster's log. What only ours cannot, the other side has to tell us."""
    version = max(hello.cluster_version, own.cluster_version) or FIRST
    if not own.cluster_version or version in _versions(hello):
        return Verdict()
    text = (
        f"{hello.node} runs horologe {hello.program or 'of before 0.1.0'}, which can apply {_versions(hello)} of a cluster, and "
        f"cluster {own.cluster_id} is at version {version}: start there the program that the other members run"
    )
    return Verdict(text, Farewell(reason=Farewell.REASON_UNFIT_PROGRAM, text=text))


def _versions(hello: Hello) -> VersionRange:
    """What its program can apply. A program of before there were versions says nothing."""
    return VersionRange(hello.oldest_version or FIRST, hello.newest_version or FIRST)
