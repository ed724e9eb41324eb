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
from typing import Any, Self, TypeVar

from horologe.client import cluster_calls, cluster_context
from horologe.client.calls import Method
from horologe.client.channel import AUTHOR_KEY, LINEARIZABLE_READ, TIMEOUT_SECONDS, CallPolicy, Cluster
from horologe.client.errors import DeadlineExceeded, HorologeError
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
        address: str | Iterable[str] | None = None,
        namespace: str | None = None,
        *,
        context_file: str | os.PathLike[str] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        unreachable_seconds: float | None = None,
        author: str = "",
    ) -> None:
        found = cluster_context.load(address, namespace, context_file)
        self.namespace = found.namespace
        """Where bare names are looked up."""
        self.addresses = found.addresses
        """`host:port` of the nodes."""
        self._timeout_seconds = timeout_seconds
        self._unreachable_seconds = unreachable_seconds
        # What metadata can carry.
        self._author = re.sub(r"[^ -~]", "?", author)
        self._is_linearizable = False
        self._cluster = Cluster(found.addresses)
        self._channels: dict[str, Any] = {}
        self._jitter: random.Random | None = None

    @property
    def revision(self) -> int:
        """The highest revision that an answer came from; reads ask for at least this one."""
        return self._cluster.revision

    def with_timeout(self, seconds: float) -> Self:
        """The same client, same connections, with another deadline for each call."""
        other = copy.copy(self)
        other._timeout_seconds = seconds
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
        # A node that lags behind must still be able to say so.
        if method is cluster_calls.GET_CLUSTER_STATUS:
            return ()
        if self._is_linearizable and not method.is_write:
            return (*self._cluster.metadata(), LINEARIZABLE_READ)
        if self._author and method.is_write:
            return (*self._cluster.metadata(), (AUTHOR_KEY, self._author))
        return self._cluster.metadata()

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
