"""Which changes of the members are legal and what they make of a configuration (raft/membership.py); and which one a leader
makes next (raft/reconfiguration.py)."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from horologe.log.v1 import log_pb2
from horologe.raft.membership import (
    ChangeRefusedError,
    Configuration,
    Member,
    changed,
    configuration_of,
    from_message,
    to_message,
)
from horologe.raft.model import Code
from horologe.raft.reconfiguration import LOOK_SECONDS, Introduction, Reconfiguration

Change = log_pb2.ChangeMembership
THREE = Configuration((Member("n1", "a"), Member("n2", "b", "h:2"), Member("n3", is_voter=False)), removed=("n0",))


def put(name: str, id_: str = "", address: str = "", *, promote: bool = False, voter: bool = False) -> Change:
    role = log_pb2.Member.ROLE_VOTER if voter else log_pb2.Member.ROLE_LEARNER
    return Change(put=log_pb2.Member(name=name, id=id_, peer_address=address, role=role, promote=promote))


def member_after(change: Change, name: str) -> Member:
    return changed(THREE, change).by_name[name]


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (put("n4", address="h:4", promote=True), Member("n4", "", "h:4", is_voter=False, promote=True)),
        # Nobody begins as a voter.
        (put("n4", voter=True), Member("n4", is_voter=False)),
        # What is not said stays as it was.
        (put("n2"), Member("n2", "b", "h:2")),
        (put("n2", address="h:9"), Member("n2", "b", "h:9")),
        (put("n1", "a"), Member("n1", "a")),
        (put("n3", "c"), Member("n3", "c", is_voter=False)),
        # A voter has nothing left to be promoted to.
        (put("n2", promote=True), Member("n2", "b", "h:2")),
        (put("n3", promote=True), Member("n3", is_voter=False, promote=True)),
        (Change(promote="n3"), Member("n3")),
        (Change(promote="n2"), Member("n2", "b", "h:2")),
    ],
)
def test_a_member_after_a_change(change: Change, after: Member) -> None:
    assert member_after(change, after.name) == after
    others = set(changed(THREE, change).members) - {after}
    assert others == {member for member in THREE.members if member.name != after.name}


def test_who_was_removed_is_removed() -> None:
    assert changed(THREE, Change(remove="n0")) == THREE


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (put("n0"), Code.MEMBER_REMOVED),
        (put("n2", "other"), Code.MEMBER_EXISTS),
        (Change(promote="n9"), Code.MEMBER_NOT_FOUND),
        (Change(promote="n0"), Code.MEMBER_REMOVED),
        (Change(remove="n9"), Code.MEMBER_NOT_FOUND),
    ],
)
def test_what_is_refused(change: Change, code: Code) -> None:
    with pytest.raises(ChangeRefusedError) as refusal:
        changed(THREE, change)
    assert refusal.value.code is code


def test_the_last_voter_stays_and_a_removed_name_is_kept() -> None:
    alone = changed(THREE, Change(remove="n2"))
    assert alone.voters == {"n1"}
    assert alone.removed == ("n0", "n2")
    with pytest.raises(ChangeRefusedError) as refusal:
        changed(alone, Change(remove="n1"))
    assert refusal.value.code is Code.LAST_VOTER
    assert changed(alone, Change(remove="n3")).by_name.keys() == {"n1"}
    assert changed(THREE, Change(record=True)) is THREE


@pytest.mark.parametrize(("voters", "majority"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_majorities(voters: int, majority: int) -> None:
    assert Configuration.of(tuple(f"n{number}" for number in range(voters))).majority == majority


def test_through_the_log_and_back() -> None:
    configuration = Configuration(THREE.members, THREE.removed, "recovered")
    assert from_message(to_message(configuration)) == configuration
    change = Change(configuration=to_message(configuration))
    entry = log_pb2.Entry(commands=[log_pb2.Command(change_membership=change)]).SerializeToString()
    assert configuration_of(b"\x10" + entry) == configuration
    assert configuration_of(b"\x00" + entry) is None
    assert configuration.with_member(Member("n4")).cluster_id == configuration.without("n2").cluster_id == "recovered"


# What a leader does next


@dataclass
class Leader:
    """As much of a core as a Reconfiguration looks at."""

    configuration: Configuration = THREE
    configuration_index: int = 5
    is_changing_members: bool = False
    is_handing_over: bool = False
    caught_up: set[str] = field(default_factory=set)
    needed: set[str] = field(default_factory=set)
    handed_over: int = 0

    @dataclass
    class Settings:
        name: str = "n1"

    settings: Settings = field(default_factory=Settings)

    def has_caught_up(self, name: str) -> bool:
        return name in self.caught_up

    def may_lose(self, name: str) -> bool:
        return name not in self.needed

    def transfer_leadership(self) -> None:
        self.handed_over += 1


def asked(change: Change) -> log_pb2.Command:
    return log_pb2.Command(change_membership=change)


class Turns:
    """A Reconfiguration, asked again and again."""

    def __init__(self, leader: Leader) -> None:
        self.leader = leader
        self.own = Reconfiguration(Introduction("n1", "a", ""))
        self.now = 0.0

    def next(self) -> Change | None:
        self.now += LOOK_SECONDS
        command = self.own.next(self.leader, self.now)  # type: ignore[arg-type]
        if command is None:
            return None
        change = command.change_membership
        if change.HasField("configuration"):
            self.leader.configuration = from_message(change.configuration)
        return change


@pytest.fixture
def turns() -> Turns:
    return Turns(Leader())


def test_changes_are_made_in_the_order_in_which_they_were_asked_for(turns: Turns) -> None:
    others = turns.own.take([asked(put("n4")), log_pb2.Command(barrier=log_pb2.Barrier()), asked(Change(remove="n4"))])
    assert [command.WhichOneof("kind") for command in others] == ["barrier"]
    turns.leader.is_changing_members = True
    assert turns.next() is None
    assert turns.own.is_waiting
    turns.leader.is_changing_members = False
    assert [turns.next(), turns.next()] != [None, None]
    assert turns.leader.configuration.removed == ("n0", "n4")
    assert turns.next() is None
    assert not turns.own.is_waiting


def test_what_waits_is_given_back_when_another_leads(turns: Turns) -> None:
    commands = [asked(put("n4")), asked(put("n5"))]
    turns.own.take(commands)
    assert turns.own.drop() == commands
    assert turns.next() is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (Change(promote="n3"), Code.MEMBER_BEHIND),
        (Change(remove="n2"), Code.QUORUM_AT_RISK),
        (put("n0"), Code.MEMBER_REMOVED),
    ],
)
def test_what_the_leader_refuses_is_in_the_log_with_its_reason(turns: Turns, change: Change, code: Code) -> None:
    turns.leader.needed = {"n2"}
    turns.own.take([asked(change)])
    decided = turns.next()
    assert decided is not None
    assert decided.refusal == code
    assert not decided.HasField("configuration")
    assert turns.leader.configuration is THREE


def test_a_change_that_is_sent_again_brings_no_outcome_along(turns: Turns) -> None:
    """The first leader's entry got lost; the next one decides by the members that are in force then."""
    once = asked(Change(remove="n2"))
    turns.own.take([once])
    assert turns.next() is not None
    assert turns.leader.configuration.voters == {"n1"}
    assert once == asked(Change(remove="n2"))
    stale = asked(Change(remove="n2", configuration=to_message(turns.leader.configuration), refusal=Code.MEMBER_BEHIND))
    turns.leader.configuration = Configuration((Member("n1", "a"), Member("n2", "b"), Member("n4", "d")))
    turns.leader.needed = {"n2"}
    turns.own.take([stale])
    refused = turns.next()
    assert refused is not None
    assert refused.refusal == Code.QUORUM_AT_RISK
    assert not refused.HasField("configuration")
    turns.leader.needed = set()
    turns.own.take([stale])
    done = turns.next()
    assert done is not None
    assert done.refusal == Code.OK
    assert turns.leader.configuration.voters == {"n1", "n4"}


def test_a_leader_does_not_remove_itself(turns: Turns) -> None:
    turns.own.take([asked(Change(remove="n1"))])
    assert [turns.next(), turns.next()] == [None, None]
    assert turns.leader.handed_over == 2
    assert turns.own.is_waiting


def test_a_learner_that_has_caught_up_is_promoted_if_it_shall(turns: Turns) -> None:
    turns.leader.caught_up = {"n3"}
    assert turns.next() is None
    turns.own.take([asked(put("n3", promote=True))])
    turns.next()
    assert turns.leader.configuration.by_name["n3"].promote
    promotion = turns.next()
    assert promotion is not None
    assert promotion.promote == "n3"
    assert turns.leader.configuration.voters == {"n1", "n2", "n3"}


def test_the_leader_writes_down_who_the_members_are_and_what_they_say_of_themselves(turns: Turns) -> None:
    turns.leader.configuration, turns.leader.configuration_index = Configuration.of(("n1", "n2")), 0
    turns.own.introduce([Introduction("n2", "b", "h:2")])
    first = turns.next()
    assert first is not None
    assert first.record
    assert turns.leader.configuration == Configuration((Member("n1", "a"), Member("n2", "b", "h:2")))
    turns.leader.configuration_index = 7
    assert turns.next() is None
    turns.own.introduce([Introduction("n2", "b", "h:3"), Introduction("n9", "z", "h:9")])
    assert turns.next() is not None
    assert turns.leader.configuration.by_name["n2"].peer_address == "h:3"
    # Another folder under that name is not that member, whatever it says.
    turns.own.introduce([Introduction("n2", "other", "h:4")])
    assert turns.next() is None


def test_changes_wait_until_the_log_names_the_members(turns: Turns) -> None:
    turns.leader.configuration_index = 0
    turns.own.take([asked(put("n4"))])
    first = turns.next()
    assert first is not None
    assert first.record
    turns.leader.configuration_index = 7
    second = turns.next()
    assert second is not None
    assert second.put.name == "n4"
