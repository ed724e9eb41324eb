"""The leader's part in changes of the members: which change is proposed next, and when.

Here belongs what the leader knows beside the log: changes that were asked for and wait their turn, and how the other nodes
have introduced themselves. What a change does is in membership.py; that only one is on its way is the core's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from horologe.log.v1 import log_pb2
from horologe.raft.cluster_version import UNSAID, VersionRange
from horologe.raft.core import RaftCore
from horologe.raft.membership import ChangeRefusedError, Configuration, Member, changed, to_message
from horologe.raft.model import Code

LOOK_SECONDS = 0.1
"""How often the leader looks for a change that it has to make by itself."""


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a node says of itself when it connects."""

    name: str
    id: str
    peer_address: str
    versions: VersionRange = UNSAID
    """What its program can apply."""
    program: str = ""
    """The version of its program, for people."""


class Reconfiguration:
    """Changes of the members, one after the other in the order in which they were asked for."""

    def __init__(self, own: Introduction) -> None:
        self.known = {own.name: own}
        """As they said when they connected last. Never changed, only replaced: other threads read it."""
        self._waiting: deque[log_pb2.Command] = deque()
        self._look_at = 0.0

    @property
    def is_waiting(self) -> bool:
        """Whether somebody has asked for a change."""
        return bool(self._waiting)

    def introduce(self, introductions: Iterable[Introduction]) -> None:
        """Nodes have said who they are."""
        said = {introduction.name: introduction for introduction in introductions}
        if said:
            self.known = self.known | said

    def take(self, commands: Iterable[log_pb2.Command]) -> list[log_pb2.Command]:
        """Keeps the commands that change the members for their turn; answers the others."""
        others: list[log_pb2.Command] = []
        for command in commands:
            (self._waiting if command.HasField("change_membership") else others).append(command)
        return others

    def drop(self) -> list[log_pb2.Command]:
        """This node does not lead any more: what has waited in vain."""
        waiting, self._waiting = list(self._waiting), deque()
        return waiting

    def next(self, core: RaftCore, now: float) -> log_pb2.Command | None:
        """The change to append now, with its outcome filled in, or None. To be asked on a leader that may serve.

        A configuration of None in it means that it was refused, or changes nothing.
        """
        if core.is_changing_members or core.is_handing_over:
            return None
        if self._waiting and core.configuration_index:
            command = self._waiting[0]
            if command.change_membership.remove == core.settings.name and len(core.configuration.voters) > 1:
                # Whoever leads next removes this one: a leader that is no member would count majorities without itself.
                core.transfer_leadership()
                return None
            self._waiting.popleft()
            return _decided(core, command)
        if now < self._look_at:
            return None
        self._look_at = now + LOOK_SECONDS
        change = self._own_change(core)
        return None if change is None else log_pb2.Command(change_membership=change)

    def _own_change(self, core: RaftCore) -> log_pb2.ChangeMembership | None:
        """What the leader has to change by itself."""
        configuration = core.configuration
        if not core.configuration_index:
            # From now on the log says who the members are, and no longer the configuration files.
            change = log_pb2.ChangeMembership(record=True)
            change.configuration.CopyFrom(to_message(self._with_what_is_known(configuration)))
            return change
        for member in configuration.members:
            introduced = self._introduced(member)
            if introduced != member:
                return _change(configuration, log_pb2.ChangeMembership(put=_message(introduced)))
            if member.promote and not member.is_voter and core.has_caught_up(member.name):
                return _change(configuration, log_pb2.ChangeMembership(promote=member.name))
        return None

    def _introduced(self, member: Member) -> Member:
        known = self.known.get(member.name)
        if known is None or (member.id and known.id != member.id):
            return member
        return Member(member.name, known.id, known.peer_address or member.peer_address, member.is_voter, member.promote)

    def _with_what_is_known(self, configuration: Configuration) -> Configuration:
        return replace(configuration, members=tuple(self._introduced(member) for member in configuration.members))


def _decided(core: RaftCore, asked: log_pb2.Command) -> log_pb2.Command:
    """What somebody asked for, with what becomes of it.

    A copy that begins without any outcome: whoever asked keeps its own and sends it again when this one got lost with its
    leader. By then other members may be in force, and a configuration from before must not come back with it.
    """
    command = log_pb2.Command()
    command.CopyFrom(asked)
    change, before = command.change_membership, core.configuration
    change.ClearField("configuration")
    change.ClearField("refusal")
    try:
        after = changed(before, change)
        if change.promote and change.promote not in before.voters and not core.has_caught_up(change.promote):
            raise ChangeRefusedError(Code.MEMBER_BEHIND)
        if change.remove and change.remove in before.voters and not core.may_lose(change.remove):
            raise ChangeRefusedError(Code.QUORUM_AT_RISK)
    except ChangeRefusedError as refusal:
        change.refusal = refusal.code
    else:
        if after != before:
            change.configuration.CopyFrom(to_message(after))
    return command


def _change(configuration: Configuration, change: log_pb2.ChangeMembership) -> log_pb2.ChangeMembership:
    change.configuration.CopyFrom(to_message(changed(configuration, change)))
    return change


def _message(member: Member) -> log_pb2.Member:
    return to_message(Configuration((member,))).members[0]
