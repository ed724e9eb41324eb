"""What both clients have in common: settings, what is remembered about the cluster, and how methods come by their signatures.

The clients themselves are in `client.py` and `async_client.py`.
"""

from __future__ import annotations

import copy
import functools
import inspect
import os
import random
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Self, TypeVar

from horologe.client import cluster_calls, cluster_context, tls
from horologe.client.calls import Method
from horologe.client.channel import (
    AUTHOR_KEY,
    AUTHORIZATION_KEY,
    LINEARIZABLE_READ,
    TIMEOUT_SECONDS,
    CallPolicy,
    Cluster,
    RpcFailure,
    is_unanswered,
)
from horologe.client.cluster_context import ClusterContext
from horologe.client.errors import DeadlineExceeded, HorologeError
from horologe.client.token import TokenSource
from horologe.client.trace_context import TRACEPARENT_KEY, current_traceparent
from horologe.v1.execution_pb2 import Execution

__all__ = ["WAIT_FIRST_SECONDS", "WAIT_MAX_SECONDS", "BaseClient", "like"]

WAIT_FIRST_SECONDS = 0.05
WAIT_MAX_SECONDS = 1.0
"""Between two looks of `wait_execution`."""

Function = TypeVar("Function", bound=Callable[..., object])


class BaseClient:
    """What the two have in common: settings, and what is remembered about the cluster."""

    def __init__(
        self,
        address: str | Iterable[str] | ClusterContext | None = None,
        namespace: str | None = None,
        *,
        context_file: str | os.PathLike[str] | None = None,
        token: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        tls_dir: str | os.PathLike[str] | None = None,
        server_name: str | None = None,
        insecure: bool | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        unreachable_seconds: float | None = None,
        author: str = "",
    ) -> None:
        if isinstance(address, ClusterContext):
            found = address.for_proof()
        else:
            found = cluster_context.load(
                address,
                namespace,
                context_file,
                token=token,
                ca_file=ca_file,
                tls_dir=tls_dir,
                server_name=server_name,
                insecure=insecure,
            )
        self._context = found
        self.namespace = found.namespace
        """Where bare names are looked up."""
        self.addresses = found.addresses
        """`host:port` of the nodes."""
        self._timeout_seconds = timeout_seconds
        self._unreachable_seconds = unreachable_seconds
        # What metadata can carry.
        self._author = re.sub(r"[^ -~]", "?", author)
        self._is_linearizable = False
        self._jitter: random.Random | None = None
        self._token = TokenSource(found)
        self._cluster = Cluster(found.addresses, explain=lambda details: tls.explain(details, found, tls.utc_now()))
        self._channels: dict[str, Any] = {}
        self._stamps: dict[str, tls.Stamp] = {}
        """Of the certificates that each channel was made with."""
        self._retired: list[Any] = []
        """Channels with old certificates: calls may still be under way on them."""

    @property
    def revision(self) -> int:
        """The highest revision that an answer came from; reads ask for at least this one."""
        return self._cluster.revision

    def with_timeout(self, seconds: float) -> Self:
        """The same client, same connections, with another deadline for each call."""
        other = copy.copy(self)
        other._timeout_seconds = seconds
        return other

    def at(self, address: str, unreachable_seconds: float | None = None) -> Self:
        """The same client, same connections, for this one node. What it has seen before counts for itself only."""
        other = copy.copy(self)
        other._cluster = replace(
            self._cluster, addresses=cluster_context.split_addresses(address), current=0, revision=0
        )
        other._unreachable_seconds = unreachable_seconds
        return other

    def linearizable(self) -> Self:
        """The same client, same connections, with reads that see every write acknowledged before they began, whoever wrote.

        Each such read waits for an entry of the log. Without this, reads see at least what this client has seen before.
        """
        other = copy.copy(self)
        other._is_linearizable = True
        return other

    def _policy(self, method: Method[Any, Any], request: object) -> CallPolicy:
        return CallPolicy(
            self._cluster,
            self._now(),
            self._timeout_seconds,
            request_id=getattr(request, "request_id", ""),
            unreachable_seconds=self._unreachable_seconds,
            is_write=method.is_write,
            jitter=self._jitter,
        )

    def _now(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def _metadata(self, method: Method[Any, Any]) -> tuple[tuple[str, str], ...]:
        token = self._token.read()
        proof = ((AUTHORIZATION_KEY, f"Bearer {token}"),) if token else ()
        # A node that lags behind must still be able to say so.
        if method is cluster_calls.GET_CLUSTER_STATUS:
            return proof
        if self._is_linearizable and not method.is_write:
            return (*proof, *self._cluster.metadata(), LINEARIZABLE_READ)
        said = [(AUTHOR_KEY, self._author)] if self._author and method.is_write else []
        traceparent = current_traceparent() if method.is_write else ""
        if traceparent:
            said.append((TRACEPARENT_KEY, traceparent))
        return (*proof, *self._cluster.metadata(), *said)

    def _renew(self, address: str, failure: RpcFailure) -> bool:
        """Channels go on with the certificates that they were made with. Once those are replaced there is to be a new one."""
        stamp = self._stamps.get(address)
        if stamp is None or not is_unanswered(failure) or stamp == tls.Identity.of(self._context).stamp():
            return False
        del self._stamps[address]
        channel = self._channels.pop(address, None)
        if channel is not None:
            self._retired.append(channel)
        return True

    def _secured(self, address: str, options: tls.Options) -> tuple[Any, list[tuple[str, int | str]]]:
        """Credentials and options of a new channel with TLS."""
        # Before the files are read: what is replaced in between is found out.
        self._stamps[address] = tls.Identity.of(self._context).stamp()
        return tls.secure(self._context, options)

    def _saw(self, answer: object) -> None:
        self._cluster.saw(getattr(answer, "revision", 0))

    def _not_finished(self, execution: Execution, timeout: float) -> HorologeError:
        return DeadlineExceeded(
            f"{execution.name} has not ended within {timeout:g} s",
            metadata={"execution": execution.name},
        )


def like(build: Callable[..., object]) -> Callable[[Function], Function]:
    """Gives a method the name, the documentation and the arguments of its builder, with `self` for the namespace."""

    def decorate(method: Function) -> Function:
        functools.update_wrapper(method, build)
        signature = inspect.signature(build)
        own, *rest = signature.parameters.values()
        method.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[own.replace(name="self", annotation=inspect.Parameter.empty), *rest],
            return_annotation=inspect.Signature.empty,
        )
        del method.__wrapped__  # type: ignore[attr-defined]
        return method

    return decorate
