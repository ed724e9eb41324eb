"""What is said of a namespace as a whole. A namespace comes into being with its first job, or when something is said of it."""

from __future__ import annotations

from horologe.log.v1 import log_pb2
from horologe.raft.limits import change_max
from horologe.raft.model import Code, Result
from horologe.raft.permits import LimitKind, limit_of
from horologe.raft.state import State


def set_namespace(state: State, command: log_pb2.SetNamespace) -> Result:
    """Changes what the command names, and leaves the rest. Answers (namespace,)."""
    number = state.namespace_number(command.name)
    record = read_namespace(state, command.name)
    if command.HasField("max_running"):
        record.max_running = command.max_running
        change_max(state, limit_of(LimitKind.NAMESPACE, number), command.max_running)
    kept = state.keeping.of(number)
    if command.HasField("history_ms"):
        kept.history_ms = command.history_ms
    if command.HasField("dead_letters_ms"):
        kept.dead_letters_ms = command.dead_letters_ms
    if command.HasField("history_count_max"):
        kept.count_max = command.history_count_max
    write_namespace(state, command.name, record)
    return Result(Code.OK, (number,))


def read_namespace(state: State, name: str) -> log_pb2.NamespaceRecord:
    """The record of a namespace, which is made if it is new."""
    state.namespace_number(name)
    return log_pb2.NamespaceRecord.FromString(bytes(state.tables.namespace.get(name.encode()) or b""))


def write_namespace(state: State, name: str, record: log_pb2.NamespaceRecord) -> None:
    state.tables.namespace.put(name.encode(), record.SerializeToString(deterministic=True))
