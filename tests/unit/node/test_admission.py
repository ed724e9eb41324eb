"""Who may connect, and what a node does when it is told that it may not (node/admission.py)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import structlog

from horologe.node.admission import (
    PROTOCOL_VERSION,
    SAY_AGAIN_SECONDS,
    Admission,
    Farewell,
    ForeignClusterError,
    Hello,
    MemberRemovedError,
    OtherDataError,
)
from horologe.peer.v1.peer_service_pb2 import PeerMessage
from horologe.raft.cluster_version import UnfitProgramError
from horologe.raft.membership import Configuration, Member

MEMBERS = Configuration((Member("n1", "a"), Member("n2", "b", "h:2"), Member("n3", "c", "h:3")), removed=("n0",))


@dataclass(frozen=True)
class Standing:
    """As much of a Status as is looked at."""

    configuration: Configuration = MEMBERS
    committed_configuration: Configuration = MEMBERS

    @property
    def removed(self) -> tuple[str, ...]:
        return self.committed_configuration.removed


@dataclass
class Door:
    """The admission of n1."""

    cluster_id: str = "ours"
    standing: Standing = field(default_factory=Standing)
    configured: tuple[str, ...] = ("n1", "n2", "n3")
    failures: list[BaseException] = field(default_factory=list)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.admission = Admission(
            lambda: hello("n1", "a", cluster_id=self.cluster_id, newest_version=2, cluster_version=2),
            lambda: self.standing,  # type: ignore[arg-type, return-value]
            self.failures.append,
            {name: f"file:{name[1:]}" for name in self.configured},
            lambda: self.now,
        )

    def judge(self, caller: Hello, expected: str | None = None) -> tuple[str, int | None]:
        verdict = self.admission.judge(expected, PeerMessage(hello=caller))
        return verdict.complaint, None if verdict.farewell is None else verdict.farewell.reason


def hello(name: str, id_: str = "", *, cluster_id: str = "ours", **fields: object) -> Hello:
    values = {"node": name, "member_id": id_, "cluster_id": cluster_id, "protocol_version": PROTOCOL_VERSION}
    values |= {"newest_version": 2, **fields}
    return Hello(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("caller", "complaint", "farewell"),
    [
        (hello("n2", "b"), "", None),
        # It has lost nothing yet, because it never had anything: a member that has not heard of its cluster.
        (hello("n2", "b", cluster_id=""), "", None),
        (hello("n9", "z"), "", None),
        (
            hello("n9", "z", cluster_id="", peer_address="h:9"),
            "cluster add n9 --peer-address h:9",
            Farewell.REASON_NOT_ADDED,
        ),
        (hello("n2", "other"), "what it had promised is forgotten", Farewell.REASON_OTHER_DATA),
        (hello("n2", "other", cluster_id=""), "what it had promised is forgotten", Farewell.REASON_OTHER_DATA),
        (hello("n0", "x"), "names of removed nodes do not come back", Farewell.REASON_REMOVED),
        (hello("n0", "x", cluster_id=""), "names of removed nodes do not come back", Farewell.REASON_REMOVED),
        (hello("n2", "b", cluster_id="theirs"), "belongs to cluster theirs", None),
        (hello("n1", "a"), "answers where", None),
        (hello("n2", "b", protocol_version=9), "speaks protocol 9", None),
        (hello("n2", "b", oldest_version=3, newest_version=4, cluster_version=3), "", None),
        (
            hello("n2", "b", oldest_version=3, newest_version=4),
            "versions 3 to 4 of a cluster, and cluster ours is at version 2",
            Farewell.REASON_UNFIT_PROGRAM,
        ),
        (
            hello("n2", "b", newest_version=1, cluster_id=""),
            "n2 runs horologe of before 0.1.0, which can apply version 1",
            Farewell.REASON_UNFIT_PROGRAM,
        ),
    ],
)
def test_who_comes_in(caller: Hello, complaint: str, farewell: int | None) -> None:
    said, reason = Door().judge(caller)
    assert complaint in said
    assert bool(said) is bool(complaint)
    assert reason == farewell


def test_whoever_was_called_must_be_the_one_who_answers() -> None:
    door = Door()
    assert "answers where 'n3' is expected" in door.judge(hello("n2", "b"), "n3")[0]
    assert "must be a hello" in door.admission.judge("n2", PeerMessage()).complaint
    assert "must be a hello" in door.admission.judge("n2", None).complaint


def test_what_is_not_committed_condemns_nobody() -> None:
    door = Door(standing=Standing(committed_configuration=Configuration()))
    complaint, farewell = door.judge(hello("n2", "other"))
    # It may not vote on what it has forgotten, but nobody tells it to stop.
    assert "what it had promised is forgotten" in complaint
    assert farewell is None
    assert door.judge(hello("n0", "x")) == ("", None)


def test_what_was_committed_before_still_counts_while_a_change_is_on_its_way() -> None:
    door = Door(standing=Standing(MEMBERS.with_member(Member("n4", "d", is_voter=False)).without("n3")))
    assert door.judge(hello("n2", "other"))[1] == Farewell.REASON_OTHER_DATA
    assert door.judge(hello("n3", "other"))[1] == Farewell.REASON_OTHER_DATA
    assert door.judge(hello("n0", "x"))[1] == Farewell.REASON_REMOVED
    assert door.judge(hello("n3", "c")) == ("", None)
    assert door.judge(hello("n4", "d")) == ("", None)


@pytest.mark.parametrize(
    ("reason", "failure"),
    [
        (Farewell.REASON_REMOVED, MemberRemovedError),
        (Farewell.REASON_OTHER_DATA, OtherDataError),
        (Farewell.REASON_UNFIT_PROGRAM, UnfitProgramError),
    ],
)
def test_a_farewell_of_the_own_cluster_ends_the_node(
    reason: Farewell.Reason.ValueType, failure: type[BaseException]
) -> None:
    door = Door()
    door.admission.hear_farewell(hello("n2", cluster_id="theirs"), Farewell(reason=reason, text="no"))
    assert not door.failures
    door.admission.hear_farewell(hello("n2"), Farewell(reason=reason, text="no"))
    assert [type(error) for error in door.failures] == [failure]


def test_who_was_not_added_says_so_once_in_a_while() -> None:
    door = Door(cluster_id="", standing=Standing(Configuration(), Configuration()))
    with structlog.testing.capture_logs() as lines:
        for _ in range(100):
            door.admission.hear_farewell(hello("n2"), Farewell(reason=Farewell.REASON_NOT_ADDED, text="add it"))
            door.now += SAY_AGAIN_SECONDS / 40
    assert len(lines) == 3
    assert not door.failures


def test_who_is_refused_again_and_again_is_named_once_in_a_while() -> None:
    door = Door()
    with structlog.testing.capture_logs() as lines:
        for _ in range(10):
            door.judge(hello("n0", "x"))
        door.judge(hello("n9", "x", cluster_id=""))
        door.now += SAY_AGAIN_SECONDS
        door.judge(hello("n0", "x"))
    assert [line["peer"] for line in lines] == ["n0", "n9", "n0"]


def test_addresses_that_were_heard_go_before_the_file_and_the_file_before_the_log() -> None:
    door = Door(configured=("n1", "n2"))
    assert (door.admission.address_of("n2"), door.admission.address_of("n3")) == ("file:2", "h:3")
    door.judge(hello("n2", "b", peer_address="new:2"))
    # One that listens on all addresses does not know its own.
    door.judge(hello("n3", "c"))
    assert (door.admission.address_of("n2"), door.admission.address_of("n3")) == ("new:2", "h:3")
    assert door.admission.address_of("n9") == ""
    assert door.admission.peers() == {"n2", "n3"}
    door.standing = Standing(Configuration())
    assert door.admission.peers() == {"n2"}


def test_among_strangers_only_a_node_is_itself_the_stranger() -> None:
    door = Door()
    door.judge(hello("n2", "b", cluster_id="theirs"))
    assert not door.failures
    door.judge(hello("n3", "c", cluster_id="theirs"))
    assert [type(error) for error in door.failures] == [ForeignClusterError]


def test_those_whom_a_recovery_gave_up_are_no_sign_of_anything() -> None:
    recovered = Configuration((Member("n1", "a"),), cluster_id="ours")
    door = Door(standing=Standing(recovered))
    for name in ("n2", "n3"):
        assert "belongs to cluster theirs" in door.judge(hello(name, cluster_id="theirs"))[0]
    assert not door.failures
    door.standing = replace(door.standing, configuration=replace(recovered, cluster_id=""))
    for name in ("n2", "n3"):
        door.judge(hello(name, cluster_id="theirs"))
    assert [type(error) for error in door.failures] == [ForeignClusterError]
