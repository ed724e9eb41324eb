"""`horologe cluster add|promote|remove|leave|replace`: members come and go. What the cluster allows is decided there.

Each of them may be run again after an interruption: what is done already is found done, and the rest follows.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horologe.client.cli.output import Column, print_data
from horologe.client.cli.session import Session, YesOption, connected
from horologe.client.errors import DeadlineExceeded, FailedPrecondition, HorologeError, InvalidArgument, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from horologe.client.client import Client
    from horologe.v1.cluster_service_pb2 import Member

__all__ = ["COLUMNS", "register"]

LOOK_SECONDS = 0.25
"""How often one that waits asks how far the new member is."""
SAY_SECONDS = 2.0
"""How often it says so."""

COLUMNS = (
    Column("NAME", "name"),
    Column("ROLE", "role"),
    Column("ADDRESS", "address"),
    Column("REACHABLE", "reachable"),
    Column("CLUSTER VERSIONS", "cluster_versions", is_wide=True),
    Column("WORKER ADDRESS", "worker_address", is_wide=True),
    Column("PEER ADDRESS", "peer_address", is_wide=True),
    Column("MATCH INDEX", "match_index", is_wide=True),
    Column("PROMOTE", "promote", is_wide=True),
    Column("ID", "id", is_wide=True),
)

CONDITION_COLUMNS = (
    Column("VERSION", "version"),
    Column("REVISION", "revision"),
    Column("CLOCK OFFSET", "clock_offset"),
    Column("DISK FREE", "disk_free_bytes"),
    Column("STATE", "state_bytes", is_wide=True),
    Column("FIRST INDEX", "first_index", is_wide=True),
    Column("STARTED", "start_time", is_wide=True),
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The member's name.")]
PeerAddressOption = Annotated[
    str,
    typer.Option(
        "--peer-address", metavar="HOST:PORT", help="Where the other members reach the new one: its `peer_listen`."
    ),
]
TimeoutOption = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="How long to wait until the new member votes.")
]
RequestIdOption = Annotated[
    str, typer.Option("--request-id", metavar="UUID", help="Makes the call repeatable. Default: a new one.")
]


def register(app: typer.Typer) -> None:
    """Adds these commands to `horologe cluster`."""
    for name, command in (
        ("add", add),
        ("promote", promote),
        ("remove", remove),
        ("leave", leave),
        ("replace", replace),
    ):
        app.command(name)(command)


@connected
def add(
    session: Session,
    name: NameArgument,
    peer_address: PeerAddressOption,
    learner: Annotated[bool, typer.Option("--learner", help="It receives the log, and does not vote.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until it votes.")] = False,
    timeout: TimeoutOption = "10m",
    request_id: RequestIdOption = "",
) -> None:
    """Add a node, and wait until it has caught up and votes. Its own configuration says `join = true`."""
    seconds = _seconds(timeout)
    found = session.client.add_member(name, peer_address, learner=learner, request_id=request_id)
    member = _named(name, found) if learner or no_wait else _wait_until_it_votes(session, name, seconds)
    _print(session, member)


@connected
def promote(session: Session, name: NameArgument, request_id: RequestIdOption = "") -> None:
    """Let a learner vote that has caught up."""
    _print(session, _named(name, session.client.promote_member(name, request_id=request_id)))


@connected
def remove(session: Session, name: NameArgument, yes: YesOption = False, request_id: RequestIdOption = "") -> None:
    """Remove a node for good: it stops by itself, and its name never comes back. A leader hands over first."""
    _confirm(session, name, yes)
    _remove(session, name, request_id)


@connected
def leave(
    session: Session,
    node: Annotated[str, typer.Option("--node", metavar="NAME", help="Default: the node at --address.")] = "",
    yes: YesOption = False,
    request_id: RequestIdOption = "",
) -> None:
    """Remove the node that answers. With several addresses, --node or a single --address says which one."""
    if not node and len(session.client.addresses) > 1:
        raise InvalidArgument(
            f"any of {', '.join(session.client.addresses)} could answer; say which node leaves, with --node or one --address",
            reason="INVALID_FIELD",
        )
    name = node or session.client.cluster_status().node
    _confirm(session, name, yes)
    _remove(session, name, request_id)


@connected
def replace(
    session: Session,
    old: Annotated[str, typer.Argument(metavar="OLD", help="The member that goes, dead or alive.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The name of the one that comes.")],
    peer_address: PeerAddressOption,
    yes: YesOption = False,
    timeout: TimeoutOption = "10m",
) -> None:
    """Add a node, wait until it votes, and then remove another one. Run it again to go on after an interruption."""
    seconds = _seconds(timeout)
    if old == new:
        raise InvalidArgument("a node cannot replace itself: names never come back, choose a new one")
    members = {member.name: member for member in session.client.list_members()}
    if old in members:
        _confirm(session, old, yes)
        session.client.add_member(new, peer_address)
    elif new not in members:
        raise NotFound(f"{old} is not a member of the cluster", reason="MEMBER_NOT_FOUND")
    member = _wait_until_it_votes(session, new, seconds)
    if old in members:
        session.client.remove_member(old)
    if session.is_data:
        print_data(session.output, {"added": _record(member), "removed": old})
    else:
        typer.echo(f"{new} has replaced {old}; the data folder of {old} can be deleted")


def _remove(session: Session, name: str, request_id: str) -> None:
    session.client.remove_member(name, request_id=request_id)
    if session.is_data:
        print_data(session.output, {"name": name, "outcome": "removed"})
    else:
        typer.echo(f"removed {name}; its data folder can be deleted")


def _confirm(session: Session, name: str, yes: bool) -> None:
    question = f"Remove {name} from the cluster for good? Its name never comes back."
    if not yes and session.is_interactive() and not typer.confirm(question, err=True):
        typer.echo("Nothing was changed.", err=True)
        raise typer.Exit(1)


def _wait_until_it_votes(session: Session, name: str, seconds: float) -> Member:
    from horologe.v1.cluster_service_pb2 import Member

    deadline = time.monotonic() + seconds
    said_at = -SAY_SECONDS
    said = ""
    was_there = False
    with ExitStack() as stack:
        eyes = _LeaderEyes(session, stack)
        while True:
            members = {member.name: member for member in eyes.members()}
            member = members.get(name)
            if member is not None and member.role != Member.ROLE_LEARNER:
                return member
            if member is None and was_there:
                raise FailedPrecondition(f"{name} was removed meanwhile", reason="MEMBER_REMOVED")
            was_there = was_there or member is not None
            text = _how_far(name, members)
            now = time.monotonic()
            if now >= deadline:
                raise DeadlineExceeded(
                    f"{text}; it is added and will vote when it has caught up, run this again to wait"
                )
            if text != said and now - said_at >= SAY_SECONDS:
                said, said_at = text, now
                typer.echo(text, err=True)
            session.pause(min(LOOK_SECONDS, deadline - now))


def _how_far(name: str, members: dict[str, Member]) -> str:
    """One line about a member that does not vote yet."""
    member = members.get(name)
    if member is None:
        return f"{name} is being added"
    if not member.reachable:
        return (
            f"{name} is added, but not connected at {member.peer_address}: start it there, with `join = true` and an empty "
            "data folder"
        )
    goal = max(other.match_index for other in members.values())
    if not member.match_index:
        return f"{name} is connected and gets the state"
    if not member.promote:
        return f"{name} is a learner, at entry {member.match_index} of {goal}"
    return f"{name} catches up: entry {member.match_index} of {goal}"


class _LeaderEyes:
    """The members as the leader sees them, for only it knows how far each of them is; else as any node sees them."""

    def __init__(self, session: Session, stack: ExitStack) -> None:
        self._session = session
        self._stack = stack
        self._leaders: dict[str, Client] = {}

    def members(self) -> list[Member]:
        found = list(self._session.client.list_members())
        leader = next((member for member in found if member.match_index), None) or self._leader_of(found)
        if leader is None or leader.match_index or not leader.address:
            return found
        try:
            return list(self._client(leader.address).list_members())
        except HorologeError:
            # It may be gone, or be reachable only for the other nodes.
            return found

    def _leader_of(self, members: Iterable[Member]) -> Member | None:
        from horologe.v1.cluster_service_pb2 import Member

        return next((member for member in members if member.role == Member.ROLE_LEADER), None)

    def _client(self, address: str) -> Client:
        from horologe.client.client import Client

        if address not in self._leaders:
            self._leaders[address] = self._stack.enter_context(Client(address, timeout_seconds=1.0))
        return self._leaders[address]


def _named(name: str, members: Iterable[Member]) -> Member:
    """The member of that name. One that the answering node does not know yet is known by its name alone."""
    from horologe.v1.cluster_service_pb2 import Member

    return next((member for member in members if member.name == name), Member(name=name))


def _print(session: Session, member: Member) -> None:
    session.print_one(_record(member), COLUMNS)


def _record(member: Member) -> dict[str, Any]:
    from horologe.client import records

    return dict(records.member(member))


def _seconds(text: str) -> float:
    from horologe.client import durations

    try:
        return durations.parse(text).total_seconds()
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--timeout") from error
