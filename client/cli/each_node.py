"""Asking each node by itself: what is not replicated has to be asked for, or done, on every one of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from horologe.client.cli.session import Session
from horologe.client.errors import HorologeError, NotFound, Unavailable

if TYPE_CHECKING:
    from horologe.client.client import Client

__all__ = ["Told", "each_node"]

UNREACHABLE_SECONDS = 3.0


class _OfNode(Protocol):
    @property
    def node(self) -> str: ...


Answer = TypeVar("Answer", bound=_OfNode)


class Told(Generic[Answer]):
    """What one node has said."""

    def __init__(self, node: str, answer: Answer | None, error: str = "") -> None:
        self.node = node
        self.answer = answer
        """None if it has not."""
        self.error = error


def each_node(session: Session, ask: Callable[[Client], Answer], only: Collection[str] = ()) -> Iterator[Told[Answer]]:
    """Asks all members, or some of them by name. NotFound for a name that no member has."""
    members = list(session.client.list_members())
    unknown = sorted(set(only) - {member.name for member in members})
    if unknown:
        raise NotFound(f"{unknown[0]} is not a member of the cluster", reason="MEMBER_NOT_FOUND")
    for member in members:
        if only and member.name not in only:
            continue
        try:
            if not member.address:
                raise Unavailable("nobody knows its address: it is not connected")
            answer = ask(session.client.at(member.address, unreachable_seconds=UNREACHABLE_SECONDS))
            if answer.node != member.name:
                raise Unavailable(f"{member.address} is node {answer.node}")
            yield Told(member.name, answer)
        except HorologeError as error:
            yield Told(member.name, None, str(error).splitlines()[0])
