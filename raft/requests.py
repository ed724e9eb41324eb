"""Request ids: the same write sent again gets the first answer, on any node, after any failover."""

from __future__ import annotations

from struct import Struct

from horologe.log.v1 import log_pb2
from horologe.raft.model import Code, Result
from horologe.raft.state import State

REQUEST_RETENTION_MS = 24 * 3600 * 1000
"""A repetition is recognised for a day: longer than any client keeps trying."""

_TIME_KEY = Struct(">Q16s")
FORGET_PER_REQUEST = 2
"""Old ids dropped with each new one, so that the table shrinks faster than it grows, at a bounded cost per command."""


def first_answer(state: State, command: log_pb2.Command) -> Result | None:
    raw = state.tables.request.get(command.request_id)
    if raw is None:
        return None
    record = log_pb2.RequestRecord.FromString(bytes(raw))
    if record.digest != command.request_digest or record.principal != command.actor.principal:
        return Result(Code.REQUEST_ID_REUSED)
    return Result(Code(record.code), tuple(record.numbers), record.text)


def remember(state: State, command: log_pb2.Command, result: Result) -> None:
    record = log_pb2.RequestRecord(
        code=result.code,
        numbers=result.numbers,
        text=result.text,
        time_ms=state.now_ms,
        digest=command.request_digest,
        principal=command.actor.principal,
    )
    state.tables.request.put(command.request_id, record.SerializeToString(deterministic=True))
    state.tables.request_time.put(_TIME_KEY.pack(state.now_ms, command.request_id), b"")
    _forget_old(state)


def _forget_old(state: State) -> None:
    old: list[bytes] = []
    for key, _ in state.tables.request_time.scan():
        if len(old) >= FORGET_PER_REQUEST or _TIME_KEY.unpack(key)[0] + REQUEST_RETENTION_MS > state.now_ms:
            break
        old.append(bytes(key))
    for key in old:
        state.tables.request_time.delete(key)
        state.tables.request.delete(_TIME_KEY.unpack(key)[1])
