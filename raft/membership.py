"""Who the members are and who of them votes, as the log says it: the configuration, and the legal changes of it.

Pure: no Raft, no disk. A configuration is in force on a node from the moment in which its entry is in that node's log
(Ongaro's thesis, section 4.1), so the journal keeps them (journal.py) and the core follows them (core.py). When which change
is proposed is decided in reconfiguration.py. One change adds or removes at most one voter: then any two majorities of
neighbouring configurations have a member in common.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from horologe.log.v1 import log_pb2
from horologe.raft.model import Code

CONFIGURATION_COMMAND_TYPE = 16
"""First byte of an entry that holds a configuration. None of the engine's own types: it passes them on as they are."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member.

    Attributes:
        name: Its identity.
        id: Random id of its data folder; empty until it has been seen. A folder with another id has forgotten what this
            member promised.
        peer_address: `host:port` for the other members, as last heard; empty if only the configuration files say it.
        is_voter: Whether it votes; a learner only receives the log.
        promote: A learner that becomes a voter when it has caught up.
    """

    name: str
    id: str = ""
    peer_address: str = ""
    is_voter: bool = True
    promote: bool = False


@dataclass(frozen=True)
class Configuration:
    """All members, by name, and the names of those that left and never come back.

    `cluster_id`: the identity that the cluster got when it was recovered without its majority; empty if it never was.
    """

    members: tuple[Member, ...] = ()
    removed: tuple[str, ...] = ()
    cluster_id: str = ""

    @classmethod
    def of(cls, names: tuple[str, ...]) -> Configuration:
        """The configuration that a new cluster begins with: all of them vote."""
        return cls(tuple(Member(name) for name in sorted(names)))

    @cached_property
    def by_name(self) -> dict[str, Member]:
        """The members."""
        return {member.name: member for member in self.members}

    @cached_property
    def voters(self) -> frozenset[str]:
        """Names of those that vote."""
        return frozenset(member.name for member in self.members if member.is_voter)

    @property
    def majority(self) -> int:
        """How many voters decide."""
        return len(self.voters) // 2 + 1

    def with_member(self, member: Member) -> Configuration:
        """With one member added, or in the place of the one of that name."""
        members = {**self.by_name, member.name: member}
        return replace(self, members=tuple(members[name] for name in sorted(members)))

    def without(self, name: str) -> Configuration:
        """Without a member, for ever."""
        members = tuple(member for member in self.members if member.name != name)
        return replace(self, members=members, removed=tuple(sorted({*self.removed, name})))


class ChangeRefusedError(Exception):
    """The change is not possible.

    Attributes:
        code: Why.
    """

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code


def changed(configuration: Configuration, change: log_pb2.ChangeMembership) -> Configuration:
    """The configuration after a change that somebody asked for; the same one if nothing changes by it.

    Raises ChangeRefusedError.
    """
    match change.WhichOneof("change"):
        case "put":
            return _put(configuration, _member_of(change.put))
        case "promote":
            known = _known(configuration, change.promote)
            return configuration.with_member(replace(known, is_voter=True, promote=False))
        case "remove":
            if change.remove in configuration.removed:
                # What was asked for is so: whoever asks again has not heard the answer.
                return configuration
            known = _known(configuration, change.remove)
            if configuration.voters == {known.name}:
                raise ChangeRefusedError(Code.LAST_VOTER)
            return configuration.without(known.name)
        case _:
            return configuration


def _put(configuration: Configuration, member: Member) -> Configuration:
    if member.name in configuration.removed:
        raise ChangeRefusedError(Code.MEMBER_REMOVED)
    known = configuration.by_name.get(member.name)
    if known is None:
        # A voter without the log would make majorities harder to reach while it brings nothing.
        return configuration.with_member(replace(member, is_voter=False))
    if member.id and known.id and member.id != known.id:
        raise ChangeRefusedError(Code.MEMBER_EXISTS)
    return configuration.with_member(
        replace(
            known,
            id=member.id or known.id,
            peer_address=member.peer_address or known.peer_address,
            promote=known.promote or (member.promote and not known.is_voter),
        )
    )


def _known(configuration: Configuration, name: str) -> Member:
    if name in configuration.removed:
        raise ChangeRefusedError(Code.MEMBER_REMOVED)
    known = configuration.by_name.get(name)
    if known is None:
        raise ChangeRefusedError(Code.MEMBER_NOT_FOUND)
    return known


# --- in the log -------------------------------------------------------------------------------------------------------


def to_message(configuration: Configuration) -> log_pb2.Configuration:
    """As it stands in the log."""
    return log_pb2.Configuration(
        members=[
            log_pb2.Member(
                name=member.name,
                id=member.id,
                peer_address=member.peer_address,
                role=log_pb2.Member.ROLE_VOTER if member.is_voter else log_pb2.Member.ROLE_LEARNER,
                promote=member.promote,
            )
            for member in configuration.members
        ],
        removed=configuration.removed,
        cluster_id=configuration.cluster_id,
    )


def from_message(message: log_pb2.Configuration) -> Configuration:
    """From the log."""
    return Configuration(
        tuple(_member_of(member) for member in message.members), tuple(message.removed), message.cluster_id
    )


def configuration_of(command: bytes) -> Configuration | None:
    """The configuration in an entry of the log, given with its type byte; None if it holds none."""
    if command[0] != CONFIGURATION_COMMAND_TYPE:
        return None
    entry = log_pb2.Entry.FromString(command[1:])
    return from_message(entry.commands[0].change_membership.configuration)


def _member_of(message: log_pb2.Member) -> Member:
    return Member(
        message.name,
        message.id,
        message.peer_address,
        message.role == log_pb2.Member.ROLE_VOTER,
        message.promote,
    )
