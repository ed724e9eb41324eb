"""One call to a cluster of several nodes: which node, how often, how long, and what its failure means.

Everything here is shared by the synchronous and the asynchronous client. `CallPolicy` decides and does no I/O; the two
clients (`client.py`, `async_client.py`) make the attempts that it names and wait as long as it says.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc import (  # type: ignore[import-untyped, unused-ignore]
    code_pb2,
    error_details_pb2,
    status_pb2,
)

from horologe.client import durations, errors
from horologe.client.errors import HorologeError, Violation

__all__ = [
    "ATTEMPT_SECONDS",
    "AUTHORIZATION_KEY",
    "AUTHOR_KEY",
    "CHANNEL_OPTIONS",
    "HANDSHAKE_FAILED",
    "MIN_REVISION_KEY",
    "TIMEOUT_SECONDS",
    "CallPolicy",
    "Cluster",
    "RpcFailure",
    "is_unanswered",
    "to_error",
]

TIMEOUT_SECONDS = 30.0
"""How long a call may take with all its retries, unless the caller says otherwise."""

ATTEMPT_SECONDS = 2.0
"""How long the first attempt waits for one of several nodes before another is asked; doubled for each attempt.

A node that was cut off or stopped neither answers nor refuses: without this limit it would eat the whole deadline.
Asking twice is safe, because every write carries a request id.
"""

LEADERS_ASKED_MAX = 5
"""How often one call goes from a node to the leader that this node names: leaders change, but not all the time."""

BACKOFF_FIRST_SECONDS = 0.05
BACKOFF_MAX_SECONDS = 2.0

MIN_REVISION_KEY = "horologe-min-revision"
AUTHOR_KEY = "horologe-author"
AUTHORIZATION_KEY = "authorization"
HANDSHAKE_FAILED = "HANDSHAKE_FAILED"
"""The reason of an Unavailable that no node has said: those that are there and we do not come together."""
LINEARIZABLE_READ = ("horologe-read", "linearizable")
_STATUS_DETAILS_KEY = "grpc-status-details-bin"
METHOD_NOT_FOUND = "Method not found!"
"""What gRPC itself says of a call that nobody at the address has."""
WRONG_PORT = (
    "nobody knows this call at that address: it is the port where nodes meet each other (`peer_listen`), or a node of an older "
    "version; people and programs go to `listen`, and workers to `worker_listen`"
)
_NEVER_SENT = ("failed to connect to all addresses", "errors resolving ")
"""How gRPC begins to say that there was no connection, or not even an address."""
CALL_ENDED = "the node ended the call before it was answered, as one that stops does; another one may answer"

CHANNEL_OPTIONS: Sequence[tuple[str, int]] = (
    # How long a connection may take to be made; the default of 20 s is too long to find out that a node is gone.
    ("grpc.min_reconnect_backoff_ms", 1_500),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # The server bounds requests; answers (a page of large jobs) may be larger than the default of 4 MiB.
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # A stream on which nothing comes (a watcher, followed output) must find out that its node is gone without a word.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Nodes are neighbours: a proxy from the environment is never meant for them.
    ("grpc.enable_http_proxy", 0),
    # One connection for each client, so that closing one never touches another.
    ("grpc.use_local_subchannel_pool", 1),
)


class RpcFailure(Protocol):
    """What grpc.RpcError and grpc.aio.AioRpcError have in common, once normalised by the clients."""

    def code(self) -> grpc.StatusCode:
        """The status."""

    def details(self) -> str | None:
        """The text."""

    def trailing_metadata(self) -> Sequence[tuple[str, str | bytes]] | None:
        """The trailers, where the details are."""


def is_unanswered(failure: RpcFailure) -> bool:
    """Whether the connection failed, rather than that a node said no."""
    return failure.code() is grpc.StatusCode.UNAVAILABLE and not any(
        key == _STATUS_DETAILS_KEY for key, _ in failure.trailing_metadata() or ()
    )


def to_error(failure: RpcFailure, request_id: str = "") -> HorologeError:
    """The error that the server meant."""
    status = failure.code().name
    message = failure.details() or status
    reason = ""
    metadata: dict[str, str] = {}
    violations: list[Violation] = []
    retry_after: float | None = None
    for key, value in failure.trailing_metadata() or ():
        if key != _STATUS_DETAILS_KEY or not isinstance(value, bytes):
            continue
        details = _parse_status(value)
        for detail in details.details:
            info = error_details_pb2.ErrorInfo()
            request = error_details_pb2.BadRequest()
            retry = error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                reason, metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(request):
                violations = [Violation(entry.field, entry.description) for entry in request.field_violations]
            elif detail.Unpack(retry):
                retry_after = durations.from_proto(retry.retry_delay).total_seconds()
    if message == METHOD_NOT_FOUND:
        message = WRONG_PORT
    if status == message == "CANCELLED":
        # A node that stops cancels what is still open when its time is up, without a word.
        status, message = "UNAVAILABLE", CALL_ENDED
    return errors.error_class(status, reason)(
        message,
        reason=reason,
        metadata=metadata,
        violations=violations,
        retry_after=retry_after,
        request_id=request_id,
        status=status,
    )


def _parse_status(value: bytes) -> status_pb2.Status:
    try:
        return status_pb2.Status.FromString(value)
    except DecodeError:
        # Details add to the status and the text, which are there in any case.
        return status_pb2.Status(code=code_pb2.UNKNOWN)


def _no_handshake(details: str) -> tuple[str, bool]:
    del details
    return "", True


@dataclass(slots=True)
class Cluster:
    """What one client remembers about the cluster between calls."""

    addresses: Sequence[str]
    current: int = 0
    """Index of the address that answered last, which is asked first."""
    revision: int = 0
    """The highest revision seen in an answer: reads ask for at least this one, so that they see our own writes."""
    explain: Callable[[str], tuple[str, bool]] = field(default=_no_handshake, repr=False)
    """What the details of a connection that was never made mean, and whether trying again can be of use; see `tls.py`."""

    def saw(self, revision: int) -> None:
        """An answer came from this revision."""
        self.revision = max(self.revision, revision)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What travels beside a request."""
        return ((MIN_REVISION_KEY, str(self.revision)),) if self.revision else ()


class CallPolicy:
    """Decides about the attempts of one call. Times are seconds on a monotonic clock."""

    def __init__(
        self,
        cluster: Cluster,
        now: float,
        timeout_seconds: float,
        request_id: str = "",
        unreachable_seconds: float | None = None,
        is_write: bool = False,
        jitter: random.Random | None = None,
    ) -> None:
        self._cluster = cluster
        self._started = now
        self._deadline = now + timeout_seconds
        self._request_id = request_id
        self._unreachable_seconds = unreachable_seconds
        self._is_write = is_write
        # Nobody gains anything by guessing a pause.
        self._jitter = jitter or random.Random()  # nosec B311
        self._attempts = 0
        self._answered = False
        self._may_have_happened = False
        self.address_index = cluster.current
        """The node of the attempt that is to be made now, unless the leader itself is asked."""
        self._leader_address = ""
        self._leaders_asked = 0
        self._handshake = ""
        """What a connection that was never made failed of, where that is known."""
        self._hopeless_count = 0
        """How many connections in a row failed of what does not pass."""

    @property
    def address(self) -> str:
        """`host:port` for the attempt that is to be made now."""
        return self._leader_address or self._cluster.addresses[self.address_index]

    def attempt_timeout(self, now: float) -> float:
        """How long the attempt that is to be made now may take."""
        left = max(self._deadline - now, 0.001)
        if len(self._cluster.addresses) == 1:
            return left
        # Cap the exponent: the deadline is far below 2**16 attempts' worth anyway.
        return min(left, ATTEMPT_SECONDS * 2.0 ** min(self._attempts, 16))

    def succeeded(self) -> None:
        """The attempt was answered: this node is asked first from now on."""
        if not self._leader_address:
            self._cluster.current = self.address_index

    def failed(self, failure: RpcFailure, now: float, *, renewed: bool = False) -> float:
        """What follows a failed attempt: the seconds to wait before the next one, or the error, raised.

        `renewed`: this node will be asked with other certificates.
        """
        error = to_error(failure, self._request_id)
        timed_out = failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        self._note(error, failure, timed_out, renewed)
        self._attempts += 1
        self._leader_address = ""
        if self._may_follow(error) and now < self._deadline:
            self._leaders_asked += 1
            self._leader_address = error.metadata["leader_address"]
            return 0.0
        if not self._may_retry(error, timed_out):
            raise self._last(error) if timed_out else error
        if timed_out or isinstance(error, errors.Unavailable | errors.OutcomeUnknown):
            self.address_index = (self.address_index + 1) % len(self._cluster.addresses)
            self._cluster.current = self.address_index
        wait = self._wait(error)
        is_hopeless = self._hopeless_count >= len(self._cluster.addresses)
        if is_hopeless or now + wait >= self._deadline or self._nobody_there(now):
            raise self._last(error)
        return wait

    def _note(self, error: HorologeError, failure: RpcFailure, timed_out: bool, renewed: bool) -> None:
        details = failure.details() or ""
        never_sent = not error.reason and details.startswith(_NEVER_SENT)
        handshake, may_pass = self._cluster.explain(details) if never_sent else ("", True)
        self._handshake = handshake or self._handshake
        self._hopeless_count = 0 if may_pass or renewed else self._hopeless_count + 1
        if error.reason or not (timed_out or isinstance(error, errors.Unavailable)):
            self._answered = True
        if isinstance(error, errors.OutcomeUnknown):
            self._may_have_happened = True
        elif self._is_write and not error.reason and not never_sent:
            # The connection broke, or time ran out, after the request was on its way.
            self._may_have_happened = timed_out or isinstance(error, errors.Unavailable) or self._may_have_happened

    def _may_follow(self, error: HorologeError) -> bool:
        """Whether only the leader can do it, and the node has said where that one is. It has done nothing."""
        return (
            error.reason == "NOT_LEADER"
            and bool(error.metadata.get("leader_address"))
            and self._leaders_asked < LEADERS_ASKED_MAX
        )

    def _may_retry(self, error: HorologeError, timed_out: bool) -> bool:
        if timed_out and not error.reason:
            return len(self._cluster.addresses) > 1 and (not self._is_write or bool(self._request_id))
        if isinstance(error, errors.OutcomeUnknown):
            return bool(self._request_id)
        if isinstance(error, errors.ResourceExhausted):
            return error.retry_after is not None
        if isinstance(error, errors.Unavailable):
            return not self._may_have_happened or bool(self._request_id)
        return False

    def _wait(self, error: HorologeError) -> float:
        addresses = len(self._cluster.addresses)
        if error.retry_after is not None:
            # Never less than asked; a little more, so that callers do not come back all at once.
            return error.retry_after * self._jitter.uniform(1.0, 1.2)
        if self._attempts < addresses and not isinstance(error, errors.ResourceExhausted):
            return 0.0
        rounds = self._attempts - addresses + 1
        longest = min(BACKOFF_MAX_SECONDS, BACKOFF_FIRST_SECONDS * 2.0 ** min(rounds, 16))
        return self._jitter.uniform(longest / 2, longest)

    def _nobody_there(self, now: float) -> bool:
        if self._unreachable_seconds is None or self._answered or self._attempts < len(self._cluster.addresses):
            return False
        return now - self._started >= self._unreachable_seconds

    def _last(self, error: HorologeError) -> HorologeError:
        """The error for a call whose time, or whose nodes, ran out."""
        where = ", ".join(self._cluster.addresses)
        if self._may_have_happened and self._is_write:
            return errors.OutcomeUnknown(
                f"whether the write happened is not known: {error.message}",
                reason="OUTCOME_UNKNOWN",
                metadata=error.metadata,
                request_id=self._request_id,
                status=error.status,
            )
        if isinstance(error, errors.ResourceExhausted | errors.DeadlineExceeded) or error.reason:
            return error
        if self._handshake:
            message = f"no connection to {where}: {self._handshake}"
            return errors.Unavailable(
                message, reason=HANDSHAKE_FAILED, request_id=self._request_id, status=error.status
            )
        message = f"no node answers at {where}: {_cause(error.message)}"
        return errors.Unavailable(message, request_id=self._request_id, status=error.status)


def _cause(details: str) -> str:
    """gRPC tells the whole story of its attempts, some of it in brackets; the last part is the cause."""
    cause = details.rpartition(": ")[2]
    return cause if "[" in cause else cause.rstrip("]")
