"""How every write goes into the cluster: the request id, the space on the disk, the proposal, the result or the error."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from horologe.log.v1 import log_pb2
from horologe.node import errors, refusals
from horologe.node.callers import current_caller
from horologe.node.context import NodeContext
from horologe.node.errors import ApiError
from horologe.node.names import shorten
from horologe.node.proposals import ProposalError
from horologe.raft.commands import COMMAND_BYTES_MAX
from horologe.raft.model import Code, Result
from horologe.v1 import job_pb2

PROPOSE_SECONDS_MAX = 20.0
ANSWER_SECONDS = 0.05
"""Kept back from the caller's deadline, so that the caller hears why there is no result."""
DISK_CHECK_SECONDS = 1.0
DISK_RETRY_SECONDS = 10.0
AUTHOR_KEY = "horologe-author"
"""Metadata in which a caller says who it is, where nothing proves it. It is kept with what the caller writes."""
AUTHOR_LENGTH_MAX = 200
RACES_MAX = 5
"""How often a write that rests on what it read is computed anew because somebody came in between."""
COMMAND_ENVELOPE_BYTES = 200
"""Room for what is added to a command on its way."""

Context = grpc.aio.ServicerContext[Any, Any]


class DiskGuard:
    """Refuses writes that need space when the disk is nearly full, so that those which free it still go through."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._checked_at: float | None = None
        self._free_bytes = 0

    def check(self) -> None:
        """Raises an ApiError if there is too little space; looks at most once per second."""
        now = self._node.clock.monotonic()
        if self._checked_at is None or now - self._checked_at >= DISK_CHECK_SECONDS:
            self._checked_at = now
            self._free_bytes = shutil.disk_usage(self._node.store.folder).free
        needed = self._node.config.disk_free_bytes_min
        if self._free_bytes < needed:
            raise ApiError(
                "DISK_FULL",
                f"node {self._node.config.name} has {self._free_bytes >> 20} MiB of free disk and needs {needed >> 20}; "
                "nothing was changed, free space on it or try another node",
                metadata={"node": self._node.config.name, "free_bytes": str(self._free_bytes)},
                retry_seconds=DISK_RETRY_SECONDS,
            )


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """What makes a write repeatable: its id, and a digest of what was asked for."""

    id: bytes
    digest: bytes

    @classmethod
    def of(cls, method: str, request: Message) -> WriteRequest:
        """From the request's `request_id`; without one, an id of our own makes the way into the log safe to repeat.

        Raises an ApiError if the id is not a UUID.
        """
        text: str = getattr(request, "request_id")  # noqa: B009 - not on Message
        # Without the id, which goes back at once: a copy of a thousand jobs would be the price of leaving it there.
        request.ClearField("request_id")
        try:
            content = method.encode() + b"\0" + request.SerializeToString(deterministic=True)
        finally:
            request.request_id = text  # type: ignore[attr-defined]
        digest = hashlib.sha256(content).digest()
        if not text:
            return cls(uuid.uuid4().bytes, digest)
        try:
            return cls(uuid.UUID(text).bytes, digest)
        except ValueError:
            raise errors.invalid_field(
                "request_id", f"{shorten(text)} is no UUID; make one for each request, and keep it for repetitions"
            ) from None

    def attempt(self, number: int) -> WriteRequest:
        """The request under an id for our own `number`th try.

        The state machine remembers an answer under its id, a refusal too; and the caller who repeats the request must come by
        the same ids in the same order.
        """
        return (
            self if number == 0 else WriteRequest(uuid.uuid5(uuid.UUID(bytes=self.id), str(number)).bytes, self.digest)
        )


class Writer:
    """Proposes commands for the services of one node."""

    def __init__(self, context: NodeContext) -> None:
        self._node = context
        self._disk = DiskGuard(context)

    def first_answer(self, request: WriteRequest) -> Result | None:
        """What the request was answered when it came before, as far as this node knows.

        Asked before anything else is looked at: a repetition gets the first answer even if it would be refused today.
        """
        with self._node.store.read() as tables:
            raw = tables.request.get(request.id)
        if raw is None:
            return None
        record = log_pb2.RequestRecord.FromString(bytes(raw))
        if record.digest != request.digest or record.principal != current_caller().principal:
            return Result(Code.REQUEST_ID_REUSED)
        return Result(Code(record.code), tuple(record.numbers), record.text)

    async def propose(
        self, command: log_pb2.Command, request: WriteRequest, context: Context, *, needs_space: bool = False
    ) -> Result:
        """The command's result, whatever it is. Raises an ApiError if there is none."""
        if needs_space:
            self._disk.check()
        command.request_id, command.request_digest = request.id, request.digest
        current_caller().sign(command)
        size = command.ByteSize() + COMMAND_ENVELOPE_BYTES
        if size > COMMAND_BYTES_MAX:
            raise errors.invalid_field(
                "jobs", f"the request makes a command of {size} bytes; at most {COMMAND_BYTES_MAX} fit, split it"
            )
        try:
            return await self._node.proposals.propose(command, propose_seconds(context))
        except ProposalError as error:
            raise errors.of_proposal(error) from error

    async def settle(
        self, command: log_pb2.Command, request: WriteRequest, context: Context, *, needs_space: bool = False
    ) -> Result:
        """As `propose`, for callers who only want the good result: any other is raised as its ApiError."""
        return accepted(await self.propose(command, request, context, needs_space=needs_space))

    async def race(
        self,
        write: WriteRequest,
        propose: Callable[[WriteRequest], Awaitable[Result]],
        *,
        give_up_at_once: bool = False,
        jobs: Sequence[job_pb2.Job] = (),
    ) -> Result:
        """The good result of a write that rests on what it read, tried again while others come in between.

        `give_up_at_once`: what the caller itself expected has changed, so that trying again would not help. A repetition
        of the request walks over the answers of its first tries to the one that counted. `jobs`: what the request is about.
        """
        result = Result(Code.ETAG_MISMATCH)
        for number in range(RACES_MAX):
            mine = write.attempt(number)
            answered = self.first_answer(mine)
            result = await propose(mine) if answered is None else answered
            if result.code != Code.MOVED_ON and (result.code != Code.ETAG_MISMATCH or give_up_at_once):
                break
        return accepted(result, jobs)


def accepted(result: Result, jobs: Sequence[job_pb2.Job] = ()) -> Result:
    """The result if it is OK; else raises what it means to a request with these jobs."""
    if result.code != Code.OK:
        raise refusals.of_batch(result, jobs)
    return result


def author_of(context: Context) -> str:
    """Who the caller is; where nothing is proved, who it says it is. Empty if it does not say."""
    principal = current_caller().principal
    if principal:
        return principal[:AUTHOR_LENGTH_MAX]
    for key, value in context.invocation_metadata() or ():
        if key == AUTHOR_KEY:
            text = value.decode(errors="replace") if isinstance(value, bytes) else value
            return text[:AUTHOR_LENGTH_MAX]
    return ""


def propose_seconds(context: Context) -> float:
    """How long a call may wait for the cluster: until shortly before its caller stops waiting."""
    remaining = context.time_remaining()
    if remaining is None:
        return PROPOSE_SECONDS_MAX
    return max(0.001, min(PROPOSE_SECONDS_MAX, remaining - min(ANSWER_SECONDS, remaining * 0.1)))
