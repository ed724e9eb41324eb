"""Who calls: what a node has found out about the other end of a call.

Found out in authentication.py, kept here for as long as the call lasts, and written into every command that the call makes.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum

from horologe.log.v1 import log_pb2
from horologe.raft.access import ALL, Rights


class CallerKind(Enum):
    """What part the caller has, as its certificate or token says."""

    ANYBODY = "anybody"
    """The node runs without security: nothing was proved, and everything is allowed."""
    CLIENT = "client"
    WORKER = "worker"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class Caller:
    """The other end of one call."""

    kind: CallerKind = CallerKind.ANYBODY
    principal: str = ""
    """Of a client its name; `worker:NAME`, `node:NAME` of the others."""
    proof: str = "none"
    """`token`, `certificate` or `oidc`."""
    token: str = ""
    """The token's id."""
    certificate: str = ""
    """SHA-256 of the certificate, hexadecimal."""
    source: str = ""
    """The address that the call came from."""
    groups: tuple[str, ...] | None = None
    """None: the identity provider was not asked."""
    expire_time_ms: int = 0
    """When what the identity provider said is of no use any more; 0: something else says so."""
    queues: tuple[str, ...] = ()
    """Of a worker: the only queues that it may take from; empty: any."""
    rights: Rights = ALL
    """As of the beginning of the call, cut down to the token's scope. The state decides by itself again."""
    revision: int = 0
    """Of the state that the rights were read from, or older."""
    method: str = ""
    """What is called, as `JobService.DeleteJob`."""

    def actor(self) -> log_pb2.Actor:
        """As it goes into a command."""
        return log_pb2.Actor(
            principal=self.principal,
            token=self.token,
            certificate=self.certificate,
            source=self.source,
            groups=self.groups or (),
            has_groups=self.groups is not None,
            method=self.method,
        )

    def sign(self, command: log_pb2.Command) -> None:
        """Says in a command who has asked for it, where that is known."""
        if self.principal:
            command.actor.CopyFrom(self.actor())


CALLER: ContextVar[Caller] = ContextVar("caller")
"""Set for the time of a call; not set where nobody calls."""


def current_caller() -> Caller:
    """The caller of the call that is being served, or anybody."""
    return CALLER.get(Caller())
